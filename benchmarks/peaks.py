"""What it costs to keep where features fire: processor time of reading with and without it, and bytes stored.

    python -m benchmarks.peaks [--repeats N]

Reads 48 queries of the shape ``cpu`` of ``benchmarks/shapes.py`` after its longest demonstrations, one draw, one
thread; with and without in turn, so that neighbours on the machine disturb both alike.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).parent))  # shapes imports its neighbours as speed.py's own folder has them
from shapes import SHAPES, build_model, build_queries, build_sae, hook_point  # noqa: E402

from lm_eval_sts.evidence.profiles import PROFILES  # noqa: E402
from lm_eval_sts.features.reader import Reader  # noqa: E402
from lm_eval_sts.features.sums import RunningPeak  # noqa: E402

QUERIES = 48


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    shape, device = SHAPES["cpu"], torch.device("cpu")
    model = build_model(shape, device)
    point = hook_point(shape, model)
    queries = build_queries(QUERIES, shape.demos[-1], model)
    sys.stdout.write("| SAE | seconds without | with | more (medians) | bytes stored, more |\n|---|---|---|---|---|\n")
    for name in shape.saes:
        reader = Reader(model, point, build_sae(shape, name, model, point))
        prefixes = reader.prefixes(queries)
        tensors = PROFILES.pack(reader.read(queries, prefixes))
        size = sum(array.nbytes for key, array in tensors.items() if not key.startswith("peak"))
        more = sum(array.nbytes for key, array in tensors.items() if key.startswith("peak"))
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(args.repeats):
            for kept in (False, True):
                with patch.object(RunningPeak, "see", RunningPeak.see if kept else lambda *_: None):
                    start = process_time()
                    reader.read(queries, prefixes)
                    seconds[kept].append(process_time() - start)
        without, kept_too = (statistics.median(seconds[kept]) for kept in (False, True))
        sys.stdout.write(
            f"| {name} | {without:.2f} | {kept_too:.2f} | {kept_too / without - 1:+.1%} | {more / size:+.0%} |\n"
        )


if __name__ == "__main__":
    main()
