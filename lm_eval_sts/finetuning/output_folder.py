"""A run's output folder: whose it is, and from where a killed run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.files import LOCK, file_hashes, locked, write_atomically
from lm_eval_sts.finetuning.tuned import TunedManifest, read_tuned
from lm_eval_sts.records import read_json

CLAIM: Final = "sts_finetune_claim.json"
"""Says which settings the folder belongs to, from the first moment on."""

COMPLETE: Final = "complete"
"""A file in a checkpoint: everything of it had been written, and had these hashes."""


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        finished: The manifest of a run that is already done.
        checkpoint: The checkpoint to go on from; None to begin at the first step.
        notes: What happened to this run before, for the manifest.
    """

    finished: TunedManifest | None = None
    checkpoint: Path | None = None
    notes: tuple[str, ...] = ()


def check_output(output: Path) -> None:
    """Looks whether a folder can be a run's: it is not there, empty, or was begun by one.

    Raises:
        SettingsError: It holds something else, or is not a folder.
    """
    try:
        foreign = output.exists() and not (output.is_dir() and ((output / CLAIM).is_file() or _is_empty(output)))
    except OSError as error:
        raise _unwritable(output, error) from error
    if foreign:
        raise SettingsError(
            f"output {output} exists and was not begun by lm-eval-sts finetune: choose another --output"
        )


def _is_empty(output: Path) -> bool:
    """Whether it holds nothing, or only what a run that was killed before its claim leaves."""
    return all(path.name == LOCK or path.name.startswith(f".{CLAIM}.") for path in output.iterdir())


def hold(output: Path, until: ExitStack) -> None:
    """Holds the output folder against every other process, before anything in it is read.

    Args:
        output: Made where it is missing.
        until: Gives the folder up.

    Raises:
        BusyError: Another process writes there.
        SettingsError: It cannot be written.
    """
    try:
        until.enter_context(locked(output))
    except OSError as error:
        raise _unwritable(output, error) from error


def _unwritable(output: Path, error: OSError) -> SettingsError:
    return SettingsError(f"cannot write to output {output}: {error.strerror or error}: choose another")


def claim(output: Path, settings: Mapping[str, Any]) -> Start:
    """Takes the output folder for a run with these settings, or finds that run in it.

    Checkpoints that were not written to their end or are damaged are removed; damaged ones are noted.

    Args:
        output: The folder, which this process holds.
        settings: All that decides what comes out, as flat JSON values by name.

    Raises:
        SettingsError: The folder holds a run with other settings, or something else.
        RecordError: Its files are not valid.
    """
    check_output(output)
    path = output / CLAIM
    if not path.is_file():
        _write(path, {"settings": settings, "notes": []})
        return Start()
    found = read_json(path)
    _check_same(output, found, settings)
    before = tuple(str(note) for note in found.get("notes", ()))
    if any(output.glob("*.safetensors")) and (finished := read_tuned(output)):
        remove_checkpoints(output)
        return Start(finished)
    whole, broken = _sort_out(output)
    if not broken:
        return Start(checkpoint=whole, notes=before)
    then = f"went on from {whole.name}" if whole else "began again at its first step"
    notes = (*before, f"{', '.join(folder.name for folder in broken)} of this run had been damaged: it {then}")
    # Before they are removed: a kill must not make the note untrue.
    _write(path, {"settings": settings, "notes": list(notes)})
    for folder in broken:
        shutil.rmtree(folder)
    return Start(checkpoint=whole, notes=notes)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    try:
        write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def _check_same(output: Path, found: Any, settings: Mapping[str, Any]) -> None:
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        raise RecordError(f"{output / CLAIM} is not a claim of lm-eval-sts finetune: choose another --output")
    before = found["settings"]
    changed = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    if not changed:
        return
    shown = "; ".join(f"{name} was {before.get(name)}, now {settings.get(name)}" for name in changed[:3])
    more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
    raise SettingsError(
        f"output {output} holds a run with other settings ({shown}{more}): choose another --output, or remove it"
    )


def _sort_out(output: Path) -> tuple[Path | None, list[Path]]:
    """The newest whole checkpoint, and newer ones that are damaged; removes those that were never complete."""
    found = [folder for folder in output.glob("checkpoint-*") if folder.name.rpartition("-")[2].isdigit()]
    broken: list[Path] = []
    for folder in sorted(found, key=checkpoint_step, reverse=True):
        if not (folder / COMPLETE).exists():
            shutil.rmtree(folder)
        elif is_whole(folder):
            return folder, broken
        else:
            broken.append(folder)
    return None, broken


def checkpoint_step(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def mark_complete(checkpoint: Path) -> None:
    """Writes down that everything of a checkpoint is there, with the hashes of its files."""
    write_atomically(checkpoint / COMPLETE, json.dumps(_hashes(checkpoint), indent=2).encode())


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint's files are those that were there when it was complete."""
    try:
        return bool(read_json(checkpoint / COMPLETE) == _hashes(checkpoint))
    except (OSError, RecordError):
        return False


def _hashes(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint, by its path in it."""
    return file_hashes(checkpoint, (p for p in checkpoint.rglob("*") if p.is_file() and p != checkpoint / COMPLETE))


def remove_checkpoints(output: Path) -> None:
    """Removes the checkpoints of a run that is done."""
    for folder in output.glob("checkpoint-*"):
        shutil.rmtree(folder)
