"""What ``lm-eval-sts plan`` takes its times from: runs of known work, timed.

    python -m benchmarks.plan_costs            measures on this CPU and writes lm_eval_sts/planning/measurements.json
    python -m benchmarks.plan_costs --check    shows what the stored measurements say of shapes left out of the fit

On a CPU, random models of five shapes are read, fine-tuned, asked for log-likelihoods and made to write, with one
thread, in processor time. The figures of an accelerator are those of ``benchmarks/speed.py`` on an H200.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import torch
from transformers import AutoTokenizer, LlamaConfig, PreTrainedModel

sys.path.insert(0, str(Path(__file__).parent))
from shapes import QUERY_TOKENS, SHAPES, Shape, build_model, build_queries, build_sae, hook_point

from lm_eval_sts.examples import from_pair
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.files import write_atomically
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.planning.devices import Device, calibrated_cpu, find_device
from lm_eval_sts.planning.shapes import shape_of
from lm_eval_sts.planning.timing import MEASUREMENTS_FILE, Measurement, Measurements, fit, leave_one_out
from lm_eval_sts.planning.work import Runs, Work, encoding, forward, generating

VOCABULARY: Final = 4096
REPEATS: Final = 3


def _small(width: int, inner: int, layers: int, d_sae: int) -> Shape:
    def config() -> LlamaConfig:
        return LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            num_key_value_heads=width // 64,
            max_position_embeddings=4096,
            tie_word_embeddings=False,
        )

    return Shape(config, torch.float32, 3 * layers // 4 - 1, d_sae, ("jumprelu",), (0, 256, 1024), queries=48)


CPU_SHAPES: Final = {
    "128 wide, 8 deep": _small(128, 512, 8, 2048),
    "256 wide, 8 deep": _small(256, 1024, 8, 8192),
    "384 wide, 4 deep": _small(384, 1024, 4, 4096),
    "512 wide, 6 deep": _small(512, 2048, 6, 4096),
    "768 wide, 4 deep": _small(768, 3072, 4, 8192),
}

GPU: Final = "h200"
GPU_FIGURES: Final = {
    ("gemma-2-9b", 0): 7.6,
    ("gemma-2-9b", 2000): 12.2,
    ("gemma-2-9b", 8000): 26.0,
    ("llama-3-8b", 8000): 14.1,
    ("qwen2.5-7b", 8000): 14.0,
}
"""Shape and demonstration tokens to milliseconds a query: one H200, 157 queries of 64 tokens, torch 2.11.0."""


@dataclass(frozen=True)
class Timed:
    """Work that was done, and the seconds that it took."""

    work: Work
    seconds: float


def reading_work(shape: Shape, model: PreTrainedModel, demos: int, *, copies: bool) -> Work:
    """Of reading the shape's queries, without demonstrations and with one draw."""
    runs = Runs.of([(0, QUERY_TOKENS)] * shape.queries + [(0, demos)] + [(demos, demos + QUERY_TOKENS)] * shape.queries)
    counted = shape_of(model, "")
    read = forward(counted, runs, shape.layer + 1, copies=copies)
    return read + encoding(counted.width, shape.d_sae, 2 * QUERY_TOKENS * shape.queries)


def gpu_measurements() -> list[Measurement]:
    """The figures of an accelerator, beside the floor of the same work."""
    device = find_device(GPU)
    found = []
    for (name, demos), milliseconds in GPU_FIGURES.items():
        shape = SHAPES[name]
        model = build_model(shape, torch.device("meta"))
        timed = Timed(reading_work(shape, model, demos, copies=True), milliseconds * shape.queries / 1e3)
        found.append(_measurement("reading", "gpu", device, name, f"{demos} demonstration tokens", timed, 2))
    return found


def _measurement(activity: Any, on: Any, device: Device, shape: str, what: str, timed: Timed, item: int) -> Measurement:
    return Measurement(
        activity=activity,
        on=on,
        device=device.name,
        shape=shape,
        what=what,
        computing=round(timed.work.computing(device, item), 6),
        moving=round(timed.work.moving(device), 6),
        calls=round(timed.work.calls / 1e3, 3),
        seconds=round(timed.seconds, 4),
    )


def _seconds(work: Callable[[], object]) -> float:
    """Processor seconds, the least of some runs."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def reading(shape: Shape, model: PreTrainedModel, folder: Path) -> Iterator[tuple[str, Timed]]:
    """With 0 to 1,024 tokens of demonstrations."""
    point = hook_point(shape, model)
    sae = build_sae(shape, shape.saes[0], model, point)
    reader = Reader(model, point, sae)
    for demos in shape.demos:
        queries = build_queries(shape.queries, demos, model)
        reader.read(queries[:4], reader.prefixes(queries))  # what is done once in a process
        seconds = _seconds(lambda q=queries: reader.read(q, reader.prefixes(q)))
        yield f"{demos} demonstration tokens", Timed(reading_work(shape, model, demos, copies=False), seconds)


def training(shape: Shape, model: PreTrainedModel, folder: Path) -> Iterator[tuple[str, Timed]]:
    """A few steps of LoRA and of full fine-tuning, without what comes before the first step and after the last."""
    from lm_eval_sts.data import SftSet
    from lm_eval_sts.finetuning.finetune import finetune
    from lm_eval_sts.finetuning.recipes import make_recipe
    from lm_eval_sts.planning.training import training_work

    sft_set = SftSet("random", tuple(from_pair("p" * 40, f"{i:0100d}") for i in range(64)))
    for method in ("lora", "full"):
        made = []
        for steps in (2, 8):
            recipe = make_recipe(method=method, learning_rate=1e-5, max_steps=steps, batch_size=8, dtype="float32")
            start = time.process_time()
            with tempfile.TemporaryDirectory() as output:
                finetune(str(folder), sft_set, Path(output) / "tuned", recipe, 0, save_steps=0)
            made.append(time.process_time() - start)
        tokens = _tokens(folder, sft_set)
        runs = Runs.of([(0, tokens)] * 48)
        work = training_work(shape_of(model, ""), runs, runs.tokens, method, checkpointing=False, passes=6)
        yield method, Timed(work, made[1] - made[0])


def _tokens(folder: Path, sft_set: Any) -> int:
    from lm_eval_sts.finetuning.training_data import LengthLimit, tokenise

    return tokenise(sft_set, AutoTokenizer.from_pretrained(folder), LengthLimit(None, "")).longest


def scoring(shape: Shape, model: PreTrainedModel, folder: Path) -> Iterator[tuple[str, Timed]]:
    """Log-likelihoods of one option each of 48 prompts of 256 tokens, as lm-eval's own model takes them."""
    lm = _lm(folder, 16)
    asked = [SimpleNamespace(args=("q" * 250 + f"{i:05d}", f" {i:07d}")) for i in range(48)]
    lengths = [len(lm.tok_encode(context + answer)) - 1 for context, answer in (a.args for a in asked)]
    lm.loglikelihood(asked[:16], disable_tqdm=True)
    seconds = _seconds(lambda: lm.loglikelihood(asked, disable_tqdm=True))
    yield (
        "256 tokens",
        Timed(forward(shape_of(model, ""), Runs.of((0, n) for n in lengths), head=sum(lengths)), seconds),
    )


def writing(shape: Shape, model: PreTrainedModel, folder: Path) -> Iterator[tuple[str, Timed]]:
    """32 tokens after each of 16 prompts of 128 tokens, one and eight at once."""
    options = {"until": ["\0"], "max_gen_toks": 32, "do_sample": False}
    asked = [SimpleNamespace(args=("q" * 120 + f"{i:06d}", options)) for i in range(16)]
    for rows in (1, 8):
        lm = _lm(folder, rows)
        lm.model.generation_config.eos_token_id = None
        length = len(lm.tok_encode(asked[0].args[0]))
        lm.generate_until(asked[:8], disable_tqdm=True)
        seconds = _seconds(lambda lm=lm: lm.generate_until(asked, disable_tqdm=True))
        work = generating(shape_of(model, ""), Runs.of([(0, length)] * 16), 32, rows)
        yield f"{rows} at once", Timed(work, seconds)


def _lm(folder: Path, rows: int) -> Any:
    from lm_eval_sts.outcomes.model_loading import load_model

    return load_model({"pretrained": str(folder), "dtype": "float32"}, rows, "cpu", share_prefix=False)


WAYS: Final = {"reading": reading, "training": training, "scoring": scoring, "generating": writing}


def cpu_measurements(activities: list[str]) -> Iterator[Measurement]:
    """One thread of this machine; the floor is at the rate that is timed beside each run."""
    tokenizer = AutoTokenizer.from_pretrained(asset("micro/model"))
    for name, shape in CPU_SHAPES.items():
        model = build_model(shape, torch.device("cpu"))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            for activity in activities:
                before = calibrated_cpu(time.process_time)
                for what, timed in WAYS[activity](shape, model, folder):
                    after = calibrated_cpu(time.process_time)
                    device = before if before.half > after.half else after
                    found = _measurement(activity, "cpu", device, name, what, timed, 4)
                    say(
                        f"{activity}, {name}, {what}: {found.seconds:.2f} s, {found.computing:.2f} + {found.moving:.2f}"
                    )
                    yield found
                    before = after


def starting() -> dict[str, float]:
    """Processor seconds of each command where next to nothing is to be done."""
    with tempfile.TemporaryDirectory() as scratch:
        tuned, sft_set = f"{scratch}/tuned", "micro/sft/laws-home-long"
        settings = {"sts": {"sft_set": sft_set, "predictors": ["null_constant"]}}
        main = [sys.executable, "-c", "from lm_eval_sts.cli import main; main()"]
        commands = {
            "predict": [
                *(sys.executable, "-m", "lm_eval", "--model", "hf", "--device", "cpu", "--tasks", "sts_micro"),
                *("--model_args", f"pretrained={asset('micro/model')}", "--metadata", json.dumps(settings)),
            ],
            "finetune": [
                *(*main, "finetune", "--model", "micro/model", "--sft_set", sft_set, "--output", tuned),
                *("--max_steps", "4", "--batch_size", "1"),
            ],
            "measure": [
                *(*main, "measure", "--base", "micro/model", "--tuned", tuned, "--device", "cpu", "--tasks", "micro"),
                *("--limit", "1", "--share_prefix", "--no_cache", "--output", f"{scratch}/outcome.json"),
            ],
        }
        found = {}
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found[name] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
        return found


def show_errors(runs: list[Measurement]) -> None:
    """What a fit without a shape says of it, over what was measured there."""
    for on in ("gpu", "cpu"):
        for activity in WAYS:
            there = [run for run in runs if (run.on, run.activity) == (on, activity)]
            if not there:
                continue
            a, b, c = fit(there)
            say(f"{on}, {activity}: {a:.2f} computing + {b:.2f} moving + {c:.2f} s a thousand calls")
            for shape, ratios in leave_one_out(there).items():
                say(f"  without {shape}: {', '.join(f'{ratio:.2f}' for ratio in ratios)} of the measured time")


def say(line: str) -> None:
    """Writes a line to the terminal at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="measure nothing")
    parser.add_argument("--activities", nargs="+", choices=list(WAYS), default=list(WAYS), help="keep the others")
    args = parser.parse_args()
    torch.set_num_threads(1)
    stored = None
    if MEASUREMENTS_FILE.exists():
        stored = Measurements.model_validate_json(MEASUREMENTS_FILE.read_bytes())
    if not args.check:
        kept = [] if stored is None else [r for r in stored.runs if r.on == "cpu" and r.activity not in args.activities]
        runs = (*gpu_measurements(), *kept, *cpu_measurements(args.activities))
        begin = starting() if stored is None or len(args.activities) == len(WAYS) else stored.starting
        stored = Measurements(command="python -m benchmarks.plan_costs", starting=begin, runs=runs)
        write_atomically(MEASUREMENTS_FILE, (stored.model_dump_json(indent=1) + "\n").encode())
    assert stored is not None, "nothing was measured yet"
    show_errors(list(stored.runs))


if __name__ == "__main__":
    main()
