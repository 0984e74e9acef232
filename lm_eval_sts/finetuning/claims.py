"""A run's output folder: whose it is, and from where a killed run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.files import hash_json, write_atomically
from lm_eval_sts.finetuning.tuned import TunedManifest, read_tuned
from lm_eval_sts.records import read_json

CLAIM: Final = "sts_finetune_claim.json"
"""Says which settings the folder belongs to, from the first moment on."""

COMPLETE: Final = "complete"
"""A file in a checkpoint: everything of it had been written."""


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        finished: The manifest of a run that is already done.
        checkpoint: The checkpoint to go on from; None to begin at the first step.
    """

    finished: TunedManifest | None = None
    checkpoint: Path | None = None


def claim(output: Path, settings: Mapping[str, Any]) -> Start:
    """Takes the output folder for a run with these settings, or finds that run in it.

    Args:
        output: The folder; made where it is missing.
        settings: All that decides what comes out, as flat JSON values by name.

    Raises:
        SettingsError: The folder holds a run with other settings, or something else.
        RecordError: Its files are not valid.
    """
    path = output / CLAIM
    key = hash_json(settings)
    if path.is_file():
        _check_same(output, read_json(path), key, settings)
        finished = read_tuned(output) if any(output.glob("*.safetensors")) else None
        return Start(finished, None if finished else _latest_checkpoint(output))
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise SettingsError(
            f"output {output} exists and was not begun by lm-eval-sts finetune: choose another --output"
        )
    text = json.dumps({"key": key, "settings": settings}, indent=2) + "\n"
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise SettingsError(f"cannot write to output {output}: {error.strerror or error}: choose another") from error
    return Start()


def _check_same(output: Path, found: Any, key: str, settings: Mapping[str, Any]) -> None:
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        raise RecordError(f"{output / CLAIM} is not a claim of lm-eval-sts finetune: choose another --output")
    if found.get("key") == key:
        return
    before = found["settings"]
    changed = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    shown = "; ".join(f"{name} was {before.get(name)}, now {settings.get(name)}" for name in changed[:3])
    more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
    raise SettingsError(
        f"output {output} holds a run with other settings ({shown}{more}): choose another --output, or remove it"
    )


def _latest_checkpoint(output: Path) -> Path | None:
    """The last checkpoint that was written whole; removes those that were not."""
    found = [folder for folder in output.glob("checkpoint-*") if folder.name.rpartition("-")[2].isdigit()]
    whole = [folder for folder in found if (folder / COMPLETE).is_file()]
    for folder in found:
        if folder not in whole:
            shutil.rmtree(folder)
    return max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def remove_checkpoints(output: Path) -> None:
    """Removes the checkpoints of a run that is done."""
    for folder in output.glob("checkpoint-*"):
        shutil.rmtree(folder)
