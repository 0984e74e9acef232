"""The demo: the main job on the micro world, as a user would run it, with a reading of the result."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from lm_eval_sts.errors import StsError
from lm_eval_sts.records import Prediction
from lm_eval_sts.shipped import resolve
from lm_eval_sts.verdict.results import read_predictions

_SHOWN = 5

_MEANING = """\
Fine-tuning on [bold]{sft_set}[/bold] ({n_examples} examples) is predicted to change the accuracy of these domains \
most, up or down:
  {most}
and of these least:
  {least}
STS took the {n_features} SAE features that move most when SFT answers are shown in context ({stability:.0%} of them \
are selected again when the queries are resampled) and measured how much each domain's own worked examples move them. \
Higher means a larger change is expected; the score has no unit and no sign.
This is a small synthetic world with a model of about a million parameters: it shows that everything runs, not how \
well STS predicts."""

_NEXT = """\
lm_eval --model hf --model_args pretrained=google/gemma-2-9b-it,dtype=bfloat16 --apply_chat_template \\
        --tasks sts_mmlu_pro --batch_size auto --output_path results/ \\
        --metadata '{"sts": {"sae": "gemma-scope-9b-it-res/layer_31/width_131k/average_l0_13",
                             "sft_set": "your_sft_set.jsonl"}}'"""


def run_demo(output: Path) -> None:
    """Runs ``lm_eval --tasks sts_micro`` and explains what it printed.

    Args:
        output: Folder for lm-eval's result files.

    Raises:
        StsError: lm-eval failed; its own message stands above.
    """
    console = Console()
    arguments = ["--model", "hf", "--model_args", f"pretrained={resolve('micro/model')}", "--tasks", "sts_micro"]
    arguments += ["--batch_size", "auto", "--output_path", str(output)]
    console.print("[bold]Running[/bold] lm_eval", shlex.join(arguments), highlight=False, soft_wrap=True)
    # For a model this small, threads cost more than they save, above all on a busy machine.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    before = set(output.rglob("results_*.json"))
    done = subprocess.run([sys.executable, "-m", "lm_eval", *arguments], check=False, env=environment)
    if done.returncode != 0:
        raise StsError(f"lm_eval ended with exit code {done.returncode}: see its last line above")
    written = set(output.rglob("results_*.json")) - before  # results of earlier runs may lie beside it
    predictions = {p.predictor: p for p in read_predictions(*written)}
    explain(console, predictions["sts_icl"])


def explain(console: Console, prediction: Prediction) -> None:
    """Says what a prediction means and what to do next.

    Args:
        console: Where to.
        prediction: One of the STS family, which has a selection.
    """
    assert prediction.selection is not None
    ranked = sorted(prediction.domains, key=lambda name: -prediction.domains[name].score)

    def listed(names: list[str]) -> str:
        return ", ".join(f"{name} ({prediction.domains[name].score:.3f})" for name in names)

    sft_set = prediction.setting.sft_set
    meaning = _MEANING.format(
        sft_set=sft_set.name,
        n_examples=sft_set.n_examples,
        most=listed(ranked[:_SHOWN]),
        least=listed(ranked[-_SHOWN:]),
        n_features=prediction.selection.n_features,
        stability=prediction.selection.draws[0].stability or 0.0,
    )
    console.print("\n[bold]What this says[/bold]")
    console.print(meaning, highlight=False)
    console.print("\n[bold]Next, with your own model and SFT set[/bold]")
    console.print(_NEXT, highlight=False, markup=False, soft_wrap=True)
