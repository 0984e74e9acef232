"""What each predictor costs on the micro world: tokens forwards and backwards, and seconds.

    python -m benchmarks.predictor_costs --tuned FOLDER      writes lm_eval_sts/predictors/costs.json

Predictors that need the same parts of the evidence cost the same, so one run of ``sts_micro`` (28 domains, default
budgets, nothing stored beforehand) is made for each combination of needs. Tokens are counted where they pass: a token
through one decoder block is 1 / blocks of a token through the model, so that passes that stop at the SAE's layer count
for what they are. Seconds are processor time of one thread, less those of a run that reads nothing. Fine-tuning and
measuring, which a prediction saves, are counted in the same way.

``--tuned`` is a folder of tuned models by SFT set (``tuned/shipped`` of the work folder of ``lm-eval-sts study run
studies/micro.yaml`` with ``keep_weights``); ``--more_saes`` are SAEs of other layers (``python -m microworld variants
FOLDER sae-layer0 …``), without which the predictors of several layers are left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time
from typing import Any, Final

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_hook

from lm_eval_sts.files import write_atomically
from lm_eval_sts.harness.predicting import load_model, predict
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.predictors.registry import get_predictor, names
from lm_eval_sts.study.design import Study, read_study
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.jobs import Work, named
from microworld.split import read_split

OUTPUT: Final = Path(__file__).parents[1] / "lm_eval_sts" / "predictors" / "costs.json"
STUDY: Final = Path(__file__).parents[1] / "studies" / "micro.yaml"
SUBMISSIONS: Final = Path(__file__).parents[1] / "leaderboard" / "submissions"
"""What fitted predictors learn of their parts."""
SFT_SET: Final = "add-home-short"
_BLOCK: Final = "LlamaDecoderLayer"
_BLOCKS: Final = 4


@dataclass(frozen=True)
class Spent:
    """Tokens through the whole model, and processor seconds."""

    forward_tokens: float
    backward_tokens: float
    seconds: float

    def less(self, other: Spent) -> Spent:
        """What was spent beyond another run."""
        return Spent(
            round(self.forward_tokens - other.forward_tokens, 1),
            round(self.backward_tokens - other.backward_tokens, 1),
            round(max(0.0, self.seconds - other.seconds), 1),
        )


@contextmanager
def counted() -> Iterator[Callable[[], Spent]]:
    """Counts what passes through decoder blocks, of any model in this process."""
    tokens = {"forward": 0, "backward": 0}

    def forward(module: torch.nn.Module, args: Any, output: Any) -> None:
        if type(module).__name__ == _BLOCK:
            hidden = output if isinstance(output, torch.Tensor) else output[0]
            tokens["forward"] += hidden.shape[0] * hidden.shape[1]

    def backward(module: torch.nn.Module, inputs: Any, outputs: Any) -> None:
        if type(module).__name__ == _BLOCK:
            tokens["backward"] += outputs[0].shape[0] * outputs[0].shape[1]

    started = process_time()
    handles = [register_module_forward_hook(forward), register_module_full_backward_hook(backward)]
    try:
        yield lambda: Spent(tokens["forward"] / _BLOCKS, tokens["backward"] / _BLOCKS, process_time() - started)
    finally:
        for handle in handles:
            handle.remove()


def kinds(*, layers: bool) -> dict[str, list[str]]:
    """Predictors that cost the same.

    Args:
        layers: Whether there are SAEs for those of several layers.
    """
    found: dict[str, list[str]] = {}
    for name in names():
        needs = get_predictor(name).needs
        if "layers" in needs and not layers:
            continue
        key = "+".join(sorted(needs))
        if "trial_runs" in needs or name.startswith("embedding"):
            key = name if "trial_runs" in needs else "embedding"
        found.setdefault(key, []).append(name)
    return found


def cost(study: Study, lm: Any, predictors: list[str], tuned: Path, more_saes: Sequence[Path] = ()) -> Spent:
    """One run with nothing stored beforehand."""
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {
            "sft_set": f"micro/sft/{SFT_SET}",
            "predictors": predictors,
            "profiles_dir": folder,
            "sae": "micro/sae",
            "more_saes": [str(path) for path in more_saes],
            "probing_recipe": study.recipes["main"].changes,
            "tuned": str(tuned / f"{SFT_SET}.seed0"),
            "development": [f"micro/{name}" for name in read_split().development],
            "development_predictions": [str(SUBMISSIONS)],
        }
        if any("trial_runs" in get_predictor(name).needs for name in predictors):
            (step,) = {int(name.removeprefix("probing_")) if name.startswith("probing_") else 20 for name in predictors}
            settings["probing_steps"] = [step]
        with counted() as spent:
            predict(lm, study.predict.tasks, settings)
            return spent()


def training_and_measuring(study: Study) -> Spent:
    """One fine-tuning run of the study and its measurement."""
    with tempfile.TemporaryDirectory() as folder, counted() as spent:
        worker = Worker(study, Work(Path(folder)))
        worker.do(named(study, "base/shipped"))
        before = spent()
        worker.do(named(study, f"tune/shipped/{SFT_SET}.seed0"))
        return spent().less(before)


def main() -> None:
    """Runs every kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuned", type=Path, required=True)
    parser.add_argument("--more_saes", type=Path, nargs="*", default=[])
    parser.add_argument("--hardware", default=f"one thread of {platform.machine()}")
    args = parser.parse_args()
    torch.set_num_threads(1)
    study = read_study(STUDY)
    lm = load_model({"pretrained": str(asset("micro/model")), "dtype": "float32"}, "cpu", 64)
    cost(study, lm, ["null_constant"], args.tuned)  # imports and tokens
    nothing = cost(study, lm, ["null_constant"], args.tuned)
    costs: dict[str, Any] = {}
    for key, same in kinds(layers=bool(args.more_saes)).items():
        more = args.more_saes if "layers" in key else ()
        spent = cost(study, lm, same, args.tuned, more).less(nothing)
        costs |= {name: asdict(spent) for name in same}
        sys.stdout.write(f"{key}: {spent}\n")
        sys.stdout.flush()
    content = {
        "command": "python -m benchmarks.predictor_costs --tuned FOLDER --more_saes FOLDER ...",
        "hardware": args.hardware,
        "what": f"sts_micro with micro/sft/{SFT_SET}, default budgets, nothing stored beforehand",
        "recipe": study.recipes["main"].made().model_dump(mode="json", exclude_none=True),
        "finetune_and_measure": asdict(training_and_measuring(study)),
        "predictors": {name: costs[name] for name in names() if name in costs},
    }
    write_atomically(OUTPUT, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
