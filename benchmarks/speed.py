"""How fast the reader is: against the direct way, against the arithmetic floor, and its peak of memory.

``python benchmarks/speed.py --help``; see README.md in this folder for what is compared with what.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from floor import count
from shapes import SHAPES, Shape, build_model, build_queries, build_sae, hook_point
from torch import Tensor
from transformers import PreTrainedModel

from lm_eval_sts.evidence.profiles import PROFILES
from lm_eval_sts.evidence.reading import Reading, read_all
from lm_eval_sts.evidence.store import Store
from lm_eval_sts.features.hooks import HookPoint, find_blocks
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import LoadedSae

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Seconds:
    """One timing: wall-clock seconds, and seconds of processor time of this process."""

    wall: float
    cpu: float


def timed(work: Callable[[], object], device: torch.device) -> Seconds:
    """Runs ``work`` once; on an accelerator, until it has finished there."""
    _synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    _synchronize(device)
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def direct(model: PreTrainedModel, point: HookPoint, sae: LoadedSae, queries: Sequence[Query]) -> list[Tensor]:
    """The direct way: whole prompts one by one, the whole model, every token encoded, dense rows kept, then sums.

    Returns:
        Σ h, Σ h² over the scored tokens, then for every draw Σ (h' − h), Σ (h' − h)², each [queries, d_sae], float64.
    """
    caught: list[Tensor] = []

    def catch(module: object, args: object, output: Any) -> None:  # noqa: ANN401 - as PyTorch calls it
        caught.append(output[0] if isinstance(output, tuple) else output)

    readings = [[q.plain for q in queries], *zip(*(q.contexts for q in queries), strict=True)]
    kept: list[list[Tensor]] = [[] for _ in readings]
    handle = model.get_submodule(point.module).register_forward_hook(catch)
    try:
        with torch.inference_mode():
            for prompts, rows in zip(readings, kept, strict=True):
                for ids in prompts:
                    model(input_ids=torch.tensor([ids], device=point.device), use_cache=False)
                    rows.append(sae.encode(caught.pop()[0]))
    finally:
        handle.remove()
    dense = [torch.cat(rows) for rows in kept]
    starts = [list(accumulate((len(ids) for ids in prompts), initial=0)) for prompts in readings]
    sums: list[list[Tensor]] = [[] for _ in range(2 * len(readings))]
    for i, query in enumerate(queries):
        scored = torch.tensor(query.scored, device=point.device)
        h = dense[0][starts[0][i] + scored]
        for k, prompts in enumerate(readings):
            values = h if k == 0 else dense[k][starts[k][i] + scored + len(prompts[i]) - len(query.plain)] - h
            sums[2 * k].append(values.sum(dim=0, dtype=torch.float64))
            sums[2 * k + 1].append(values.square().sum(dim=0, dtype=torch.float64))
    return [torch.stack(rows) for rows in sums]


def difference(profile: Profile, direct_sums: Sequence[Tensor]) -> float:
    """Largest difference between our sums and the direct way's, relative to the largest sum of its kind."""
    ours = [part for sums in (profile.features, *profile.shifts) for part in (sums.sum, sums.squares)]
    errors = []
    for got, expected in zip(ours, direct_sums, strict=True):
        wanted = expected.cpu().numpy()
        errors.append(np.abs(got.toarray()[: len(wanted)] - wanted).max() / max(np.abs(wanted).max(), 1e-30))
    return float(max(errors))


def matrix_rate(side: int, dtype: torch.dtype, device: torch.device, *, cpu_time: bool) -> float:
    """Floating-point operations a second of a square matrix product, the median of five."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    torch.mm(a, b)
    runs = [timed(lambda: torch.mm(a, b), device) for _ in range(5)]
    return 2 * side**3 / statistics.median(r.cpu if cpu_time else r.wall for r in runs)


def own_rates(model: PreTrainedModel, point: HookPoint, sae: LoadedSae, *, cpu_time: bool) -> tuple[float, float]:
    """As :func:`matrix_rate`, of the products that a block's weights and the SAE's encoder really are.

    They are as wide as the model, not thousands square, so this is what the library for matrix products gives here.
    """
    tokens = 512 if point.device.type == "cpu" else 4096
    linears = [m for m in find_blocks(model)[1][point.layer or 0].modules() if isinstance(m, torch.nn.Linear)]

    def rate(weights: Sequence[Tensor]) -> float:
        inputs = {w.shape[1]: torch.randn(tokens, w.shape[1], device=point.device).to(w.dtype) for w in weights}

        def products() -> None:
            for w in weights:
                torch.mm(inputs[w.shape[1]], w.T)

        products()
        runs = [timed(products, point.device) for _ in range(9)]
        flops = 2 * tokens * sum(w.numel() for w in weights)
        return flops / statistics.median(r.cpu if cpu_time else r.wall for r in runs)

    return rate([m.weight for m in linears]), rate([sae.sae.W_enc.T])


def measure(
    shape: Shape, device: torch.device, repeats: int, baseline: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """All timings of one shape, one record for each SAE architecture and number of demonstration tokens.

    Args:
        shape: What is measured.
        device: Where.
        repeats: How many times.
        baseline: What another version measured of this shape, to stand beside.
    """
    # A single thread is timed by its processor time, which other processes on the machine lengthen less.
    cpu_time = device.type == "cpu" and torch.get_num_threads() == 1
    model = build_model(shape, device)
    point = hook_point(shape, model)
    records = []
    for architecture in shape.saes:
        sae = build_sae(shape, architecture, model, point)
        for demos, draws in shape.plan():
            queries = build_queries(shape.queries, demos, model, draws)
            few = queries[: shape.direct]
            flops = count(model, point, sae, queries)
            reader = Reader(model, point, sae)
            sums, profile = direct(model, point, sae, few), reader.read(few, reader.prefixes(few))  # warm
            record: dict[str, Any] = {
                "sae": architecture,
                "d_sae": shape.d_sae,
                "layer": shape.layer,
                "demos": demos,
                "draws": draws,
                "queries": len(queries),
                "direct_queries": len(few),
                "clock": "cpu" if cpu_time else "wall",
                "flops": asdict(flops),
                "relative_difference": difference(profile, sums),
                "load": [busy()],
                "runs": [],
            }
            for _ in range(repeats):
                rates = [_rates(shape, device, cpu_time)]
                ours = timed(lambda r=reader, q=queries: r.read(q, r.prefixes(q)), device)
                rates.append(_rates(shape, device, cpu_time))
                straight = timed(lambda s=sae, q=few: direct(model, point, s, q), device)
                rates.append(_rates(shape, device, cpu_time))
                block_rate, encoder_rate = own_rates(model, point, sae, cpu_time=cpu_time)
                model_rate, sae_rate = (statistics.median(r) for r in zip(*rates, strict=True))
                record["runs"].append(
                    {
                        "ours": asdict(ours),
                        "direct": asdict(straight),
                        "model_flops_a_second": model_rate,
                        "sae_flops_a_second": sae_rate,
                        "block_flops_a_second": block_rate,
                        "encoder_flops_a_second": encoder_rate,
                        "floor": flops.model / model_rate + flops.sae / sae_rate,
                        "own_shapes": flops.weights / block_rate
                        + flops.attention / model_rate
                        + flops.sae / encoder_rate,
                    }
                )
            record["load"].append(busy())
            records.append(record)
            say(row(record) + (beside(record, baseline) if baseline else ""))
            say(
                "  load {:.1f} to {:.1f}, ours had {:.0%} of a core".format(
                    *record["load"], share_of_time(record["runs"])
                )
            )
    return records


def _rates(shape: Shape, device: torch.device, cpu_time: bool) -> tuple[float, float]:
    sae = matrix_rate(shape.matrix, torch.float32, device, cpu_time=cpu_time)
    model = sae if shape.dtype == torch.float32 else matrix_rate(shape.matrix, shape.dtype, device, cpu_time=cpu_time)
    return model, sae


def memory(shape: Shape, n: int, device: torch.device) -> dict[str, Any]:
    """Peak memory beyond the model, the SAE and the questions' token ids while ``n`` queries are read and stored.

    To be called in a process of its own. On a CPU it is the process's resident memory (Linux only).
    """
    model = build_model(shape, device)
    point = hook_point(shape, model)
    sae = build_sae(shape, shape.saes[0], model, point)
    queries = build_queries(n, shape.demos[-1], model)
    reader = Reader(model, point, sae)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
        before = _status("VmRSS")

    def start() -> Callable[[slice], Profile]:
        prefixes = reader.prefixes(queries)
        return lambda part: reader.read(queries[part], prefixes)

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), "speed", {"n": n})
        read_all([Reading("speed", store, [q.row_id for q in queries], start, PROFILES)])
    after = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")
    return {"sae": shape.saes[0], "demos": shape.demos[-1], "queries": n, "peak_bytes": after - before}


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024


HEADER = (
    "| SAE | d_sae | demo tokens | draws | ours, ms a query | direct, ms a query | direct / ours | ours / floor "
    "| ours / own shapes |\n|---|---|---|---|---|---|---|---|---|"
)


def row(record: dict[str, Any]) -> str:
    """One line of the table: medians, with the least and the most in brackets."""
    clock, runs = record["clock"], record["runs"]
    ours = [1e3 * r["ours"][clock] / record["queries"] for r in runs]
    straight = [1e3 * r["direct"][clock] / record["direct_queries"] for r in runs]
    faster = [d / o for o, d in zip(ours, straight, strict=True)]
    above = [[r["ours"][clock] / r[floor] for r in runs] for floor in ("floor", "own_shapes")]
    cells = [
        record["sae"],
        f"{record['d_sae']:,}",
        f"{record['demos']:,}",
        str(record["draws"]),
        *(_spread(values) for values in (ours, straight, faster, *above)),
    ]
    return "| " + " | ".join(cells) + " |"


def _spread(values: list[float]) -> str:
    def number(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    return f"{number(statistics.median(values))} ({number(min(values))} to {number(max(values))})"


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.exists() else None
    return {
        "cpu": found[1] if found else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("lm-eval-sts", "torch", "transformers", "sae-lens")},
    }


def busy() -> float:
    """Processes that ran or waited to, the last minute's mean: the machine's load."""
    return os.getloadavg()[0]


def share_of_time(runs: Sequence[dict[str, Any]]) -> float:
    """Processor time over wall time of our way: 1 on a quiet core, less where others had a part of it."""
    return statistics.median(r["ours"]["cpu"] / r["ours"]["wall"] for r in runs)


def beside(record: dict[str, Any], baseline: dict[str, Any] | None) -> str:
    """Cells of what another version measured of the same: ours, and ours over its floor."""
    keys = ("sae", "d_sae", "layer", "demos", "draws", "queries")
    same = [r for r in (baseline or {}).get("speed", []) if all(r[key] == record[key] for key in keys)]
    if not same:
        return " – | – |"
    clock, runs = same[0]["clock"], same[0]["runs"]
    ours = [1e3 * r["ours"][clock] / same[0]["queries"] for r in runs]
    return f" {_spread(ours)} | {_spread([r['ours'][clock] / r['floor'] for r in runs])} |"


def say(line: str) -> None:
    """Writes a line to the terminal at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _memory_apart(name: str, n: int, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--device", args.device, "--threads", str(args.threads)]
    command += ["--shapes", name, "--memory-of", str(n)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), help="default: cpu, or the three models on cuda")
    parser.add_argument("--saes", nargs="+", help="only these SAE architectures of the shapes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/speed-DEVICE.json")
    parser.add_argument("--baseline", type=Path, help="another version's results.json, whose figures stand beside")
    parser.add_argument("--no-memory", action="store_true", help="times only")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    names = args.shapes or (["cpu"] if device.type == "cpu" else ["llama-3-8b", "qwen2.5-7b", "gemma-2-9b"])
    if args.memory_of:
        say(json.dumps(memory(SHAPES[names[0]], args.memory_of, device)))
        return
    output = args.output or RESULTS / f"speed-{device.type}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    baseline = json.loads(args.baseline.read_text(encoding="utf-8")) if args.baseline else {}
    report: dict[str, Any] = {"machine": machine(device), "shapes": {}}
    for name in names:
        before = baseline.get("shapes", {}).get(name)
        first, second = HEADER.split("\n")
        say(f"\n{name}\n\n{first}{' before: ours | before: ours / floor |' if before else ''}")
        say(second + ("---|---|" if before else ""))
        shape = replace(SHAPES[name], saes=tuple(args.saes)) if args.saes else SHAPES[name]
        result = {"speed": measure(shape, device, args.repeats, before), "memory": []}
        gc.collect()
        torch.cuda.empty_cache()  # the memory runs are processes of their own
        for n in () if args.no_memory else SHAPES[name].memory:
            result["memory"].append(_memory_apart(name, n, args))
            say(f"{n} queries: peak {result['memory'][-1]['peak_bytes'] / 2**20:.0f} MiB beyond the model's")
        report["shapes"][name] = result
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
