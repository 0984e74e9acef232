"""Small models and tasks for real lm-eval runs, with an index of a few tasks only: scanning all of them takes lm-eval
half a minute."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lm_eval_sts.commands.measure import measure
from lm_eval_sts.harness.discovery import tasks_path
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.outcomes.measure import Conditions, evaluate_model
from lm_eval_sts.outcomes.runs import Run

MICRO_TASKS = ["micro_law_torts", "micro_math_algebra", "micro_history_modern"]
SUBJECTS = ("law", "history")
QUESTIONS = Path(__file__).parents[3] / "shared" / "data" / "mmlu_pro"


app = typer.Typer(pretty_exceptions_enable=False)
app.command()(measure)


def command(*arguments: object) -> str:
    """The command ``lm-eval-sts measure``; its output."""
    with few_tasks():
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@contextmanager
def few_tasks() -> Iterator[None]:
    """Lets lm-eval's task managers find our tasks and those of ``--include_path`` only."""
    from lm_eval.tasks import TaskManager

    original = TaskManager.__init__

    def quick(self, *args, include_path=None, **options):
        given = [include_path] if isinstance(include_path, (str, Path)) else list(include_path or [])
        original(self, *args, **options | {"include_defaults": False, "include_path": [str(tasks_path()), *given]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskManager, "__init__", quick)
        yield


def lm_eval_command(*arguments: str) -> None:
    """The command ``lm_eval``, in this process."""
    from lm_eval.__main__ import cli_evaluate

    with pytest.MonkeyPatch.context() as patch, few_tasks():
        patch.setattr("sys.argv", ["lm_eval", *arguments])
        cli_evaluate()


def mmlu_pro_tasks(folder: Path, subjects: Sequence[str] = SUBJECTS) -> Path:
    """Task files of lm-eval's own ``mmlu_pro``, with its questions taken from a folder instead of the hub."""
    import lm_eval.tasks

    own = Path(lm_eval.tasks.__file__).parent / "mmlu_pro"
    folder.mkdir(parents=True)
    for subject in subjects:
        name = f"mmlu_pro_{subject}"
        text = f"include: {own / f'{name}.yaml'}\ntask: {name}\ndataset_path: {QUESTIONS}\n"
        (folder / f"{name}.yaml").write_text(text)
    listed = "".join(f"  - mmlu_pro_{subject}\n" for subject in subjects)
    (folder / "group.yaml").write_text(f"group: mmlu_pro\ntask:\n{listed}metadata:\n  version: 2.0\n")
    return folder


def local_task(folder: Path, *, questions: int = 4, extra: str = "", generates: bool = False) -> Path:
    """A task ``local`` on a file of questions beside it; the folder for ``--include_path``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_questions(folder / "questions.jsonl", [f"{i} + {i} =" for i in range(questions)])
    how = (
        "output_type: generate_until\ndoc_to_target: '{{options[answer]}}'\n"
        "generation_kwargs: {until: ['='], max_gen_toks: 4}\nmetric_list: [{metric: exact_match}]\n"
        if generates
        else "output_type: multiple_choice\ndoc_to_target: answer\ndoc_to_choice: options\n"
    )
    (folder / "local.yaml").write_text(
        f"task: local\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/questions.jsonl}}}}\n"
        f"test_split: test\nnum_fewshot: 0\ndoc_to_text: question\n{how}{extra}"
    )
    return folder


def write_questions(file: Path, questions: Sequence[str]) -> None:
    rows = [{"question": q, "options": [" 1", " 2", " 4"], "answer": i % 3} for i, q in enumerate(questions)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def perturbed(model: str, folder: Path, seed: int, size: float = 0.05) -> str:
    """A whole model that differs from another one in every weight, as if fine-tuned."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tuned = AutoModelForCausalLM.from_pretrained(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(size * parameter.std() * torch.randn(parameter.shape, generator=generator))
    tuned.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


def adapter(model: str, folder: Path, seed: int) -> str:
    """A LoRA adapter that changes what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    tuned.save_pretrained(folder)
    return str(folder)


def micro_model() -> str:
    """The shipped model's folder."""
    return str(asset("micro/model"))


def evaluate_local(model: object, output: Path, tasks: Path, **options: Any) -> Run:
    """Measures a model, named or by arguments, on a :func:`local_task`."""
    args = model if isinstance(model, dict) else {"pretrained": str(model)}
    conditions = Conditions(include_path=tasks, **options.pop("conditions", {}))
    with few_tasks():
        return evaluate_model(args, ["local"], output, conditions, **{"use_cache": False, "device": "cpu"} | options)
