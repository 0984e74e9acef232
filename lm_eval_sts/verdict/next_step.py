"""Commands that a run or a plan proposes, in parts that a shell takes as they are."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lm_eval_sts.records import UNKNOWN, Prediction
from lm_eval_sts.texts import printable

_SFT_OPTIONS: Final = ("sft_name", "sft_columns", "sft_split", "sft_revision")
"""Settings of a run that are options of ``lm-eval-sts finetune`` under the same name."""

_SAMPLING_OPTIONS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("verifier", "answer", "pattern")),
    **{"samples": 8, "keep": 1, "temperature": 1.0, "top_p": 1.0, "max_tokens": 256},
}
"""Settings of sampling that are options of ``lm-eval-sts sample`` under the same name, and what they are by default."""

SAMPLED: Final = "sampled.jsonl"
"""Where the next command writes an SFT set whose responses are sampled."""

_INDENT: Final = " " * 5


def default_delimiter(model: str) -> str:
    """What ``lm-eval-sts finetune`` puts between prompt and response of a model where it is told nothing else."""
    return " " if model == "micro/model" else "\n"


def finetune_command(
    model: str, sft_set: str, *, revision: str | None, settings: Mapping[str, Any], program: str = "lm-eval-sts"
) -> tuple[str, ...]:
    """What fine-tunes a model on the SFT set of a run, read as the run reads it.

    Args:
        model: Hub id, folder, or ``micro/model``.
        sft_set: Hub id, file, folder or shipped name.
        revision: Hub revision of the model; None or ``unknown``: the newest.
        settings: Of the run that predicts.
        program: What runs it.
    """
    options: list[tuple[str, ...]] = [("--model", model)]
    if revision not in (None, UNKNOWN):
        options.append(("--revision", str(revision)))
    options.append(("--sft_set", sft_set))
    for name in _SFT_OPTIONS:
        if (value := settings.get(name)) is not None:
            options.append((f"--{name}", *map(str, value if isinstance(value, (list, tuple)) else [value])))
    delimiter = settings.get("sft_response_delimiter", "\n")
    if delimiter != default_delimiter(model):
        options.append(("--response_delimiter", _escaped(delimiter)))
    options += [("--output", "tuned/"), ("--seed", "0")]
    return (f"{program} finetune", *map(shlex.join, options))


def sample_command(prediction: Prediction) -> tuple[str, ...]:
    """What writes the SFT set of a run whose responses were sampled, of all its prompts.

    Args:
        prediction: Of that run.
    """
    setting, settings = prediction.setting, prediction.provenance.settings
    sampling, model = settings["sampling"], setting.model.name
    options: list[tuple[str, ...]] = [("--model", model)]
    if setting.model.revision != UNKNOWN:
        options.append(("--model_args", f"revision={setting.model.revision}"))
    if setting.prompt.chat_template_hash is not None:
        options.append(("--apply_chat_template",))
    if setting.prompt.system_instruction is not None:
        options.append(("--system_instruction", setting.prompt.system_instruction))
    if settings["sft_answers"] != "verified":
        options.append(("--answers", settings["sft_answers"]))
    for name, usual in _SAMPLING_OPTIONS.items():
        if (value := sampling[name]) != usual:
            options.append((f"--{name}", str(value)))
    options += [("--stop", _escaped(text)) for text in sampling["stop"]]
    delimiter, end = settings["sft_response_delimiter"], settings["sft_example_delimiter"]
    if delimiter != default_delimiter(model):
        options.append(("--response_delimiter", _escaped(delimiter)))
    if end != "\n\n":
        options.append(("--example_delimiter", _escaped(end)))
    for option, name in {"--name": "sft_name", "--split": "sft_split", "--prompts_revision": "sft_revision"}.items():
        if (value := settings.get(name)) is not None:
            options.append((option, str(value)))
    prompts = str(settings.get("sft_set") or setting.sft_set.name)
    return ("lm-eval-sts sample", *map(shlex.join, [(prompts,), *options, ("--output", SAMPLED)]))


def _escaped(text: str) -> str:
    return text.replace("\n", "\\n").replace("\t", "\\t")


def broken(parts: Iterable[str], width: int, before: str) -> list[str]:
    """A command over several lines, each but the last ending in a backslash; none is wider, but where a part is.

    Args:
        parts: Of the command.
        width: Columns.
        before: What stands before it in the first line.
    """
    lines, line = [], before
    for i, part in enumerate(map(printable, parts)):
        if i and len(line) + len(part) + 3 > width:
            lines.append(f"{line} \\")
            line = _INDENT
        line += f" {part}"
    return [*lines, line]
