"""Fine-tuning that is killed, whose checkpoints are damaged, or whose folder another process wants."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import Trainer

from lm_eval_sts.errors import BusyError, SettingsError
from lm_eval_sts.files import LOCK, locked
from lm_eval_sts.finetuning import finetune as finetuning
from lm_eval_sts.finetuning import trainer_setup as setup
from lm_eval_sts.finetuning.output_folder import CLAIM, COMPLETE, check_output, claim, mark_complete
from lm_eval_sts.finetuning.training_checks import Checkpoints, FiniteSteps
from lm_eval_sts.finetuning.tuned import MANIFEST, read_tuned
from tests.finetuning.tuning import LORA, tune
from tests.messages import says


class Killed(BaseException):
    """Nothing of ours or of the libraries runs any more."""


def tune_until_killed(owner, name: str, folder: Path, values: dict, *, at_step: int | None = None, then=None) -> None:
    """Begins a run, or goes on with it, and kills it where something is called: before it, or after ``then``."""
    original = getattr(owner, name)

    def kill(*args, **kwargs):
        trainer = args[0]
        state = trainer.state if isinstance(trainer, Trainer) else args[2] if isinstance(trainer, Checkpoints) else None
        if at_step is not None and state.global_step != at_step:
            return original(*args, **kwargs)
        if then is not None:
            then(original, *args, **kwargs)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, kill)
        with pytest.raises(Killed):
            tune(folder, values, save_steps=2)


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = adapter(one), adapter(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def run(original, *args, **kwargs):
    original(*args, **kwargs)


def save_half(original, trainer, output):
    original(trainer, output)
    weights = output / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


# Three steps an epoch: a run that ends in the middle of an epoch, by steps and by epochs, and one that ends with it.
LENGTHS = {"steps": {"max_steps": 5}, "part epochs": {"epochs": 1.5}, "whole epochs": {"epochs": 2, "batch_size": 4}}


def of_length(length: str) -> dict:
    return {**{key: value for key, value in LORA.items() if key != "max_steps"}, **LENGTHS[length]}


@pytest.mark.parametrize("length", LENGTHS)
def test_a_run_that_is_killed_after_its_last_checkpoint_trains_no_more(length, tmp_path):
    values, whole, killed = of_length(length), tmp_path / "whole", tmp_path / "killed"
    expected = tune(whole, values)
    last = expected.steps
    tune_until_killed(Checkpoints, "on_save", killed, values, at_step=last, then=run)
    assert (killed / f"checkpoint-{last}" / COMPLETE).is_file()
    resumed = tune(killed, values, save_steps=2)
    assert (resumed.steps, resumed.loss_curve, resumed.notes) == (last, expected.loss_curve, expected.notes)
    assert same(killed, whole)


def test_wherever_a_run_is_killed_it_ends_with_the_same_weights(tmp_path):
    values, whole, killed = of_length("part epochs"), tmp_path / "whole", tmp_path / "killed"
    expected = tune(whole, values)
    tune_until_killed(Trainer, "_save_optimizer_and_scheduler", killed, values, at_step=2)  # in the middle of a save
    tune_until_killed(FiniteSteps, "training_step", killed, values, at_step=3)  # between two steps
    tune_until_killed(Checkpoints, "on_save", killed, values, at_step=4)  # saved whole, and not marked
    tune_until_killed(Checkpoints, "on_save", killed, values, at_step=4, then=run)
    tune_until_killed(setup, "save_model", killed, values)
    tune_until_killed(setup, "save_model", killed, values, then=save_half)
    tune_until_killed(finetuning, "_conclude", killed, values)
    assert not (killed / MANIFEST).exists()
    tune_until_killed(finetuning, "remove_checkpoints", killed, values)
    resumed = tune(killed, values, save_steps=2)
    assert (resumed.steps, resumed.loss_curve, resumed.notes) == (expected.steps, expected.loss_curve, expected.notes)
    assert same(killed, whole)
    assert not list(killed.glob("checkpoint-*"))


def test_a_signal_leaves_a_folder_to_go_on_with(tmp_path):
    values, folder = {**LORA, "max_steps": 3}, tmp_path / "run"
    die = f"""
import os
from pathlib import Path
from lm_eval_sts.finetuning.training_checks import Checkpoints
from tests.finetuning.tuning import tune
save = Checkpoints.on_save
Checkpoints.on_save = lambda *args, **kwargs: (save(*args, **kwargs), os.kill(os.getpid(), {int(signal.SIGTERM)}))
tune(Path({str(folder)!r}), {values!r}, save_steps=2)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", die], capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGTERM, done.stderr[-2000:]
    heard = io.StringIO()
    tune(folder, values, save_steps=2, console=Console(file=heard, width=400))
    assert f"goes on from {folder / 'checkpoint-2'}" in heard.getvalue()
    tune(tmp_path / "whole", values)
    assert same(folder, tmp_path / "whole")


# --- Damage.

SETTINGS = {"model": "m", "seed": 0}


def begun(output: Path, *steps: int) -> list[Path]:
    """A run's folder with whole checkpoints after some steps."""
    claim(output, SETTINGS)
    folders = [output / f"checkpoint-{step}" for step in steps]
    for folder in folders:
        (folder / "sub").mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(bytes(range(256)) * 8)
        (folder / "sub" / "trainer_state.json").write_text("{}")
        mark_complete(folder)
    return folders


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit": lambda folder: flip(folder / "model.safetensors"),
    "a cut": lambda folder: os.truncate(folder / "model.safetensors", 100),
    "an empty file": lambda folder: os.truncate(folder / "sub" / "trainer_state.json", 0),
    "a missing file": lambda folder: (folder / "model.safetensors").unlink(),
    "an empty mark": lambda folder: os.truncate(folder / COMPLETE, 0),
    "a mark that is no text": lambda folder: (folder / COMPLETE).write_bytes(b"\xff\x00"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_gives_way_to_an_older_one(kind, tmp_path):
    older, newest = begun(tmp_path, 9, 10)
    DAMAGE[kind](newest)
    start = claim(tmp_path, SETTINGS)
    assert (start.finished, start.checkpoint) == (None, older)
    assert start.notes == ("checkpoint-10 of this run had been damaged: it went on from checkpoint-9",)
    assert not newest.exists()
    assert claim(tmp_path, SETTINGS) == start, "the note outlives a further kill"


def test_where_all_are_damaged_the_run_begins_again(tmp_path):
    for folder in begun(tmp_path, 2, 4):
        flip(folder / "model.safetensors")
    start = claim(tmp_path, SETTINGS)
    assert start.checkpoint is None
    assert start.notes == ("checkpoint-4, checkpoint-2 of this run had been damaged: it began again at its first step",)


def test_a_checkpoint_that_was_never_complete_is_no_damage(tmp_path):
    whole, part = begun(tmp_path, 2, 4)
    (part / COMPLETE).unlink()
    start = claim(tmp_path, SETTINGS)
    assert (start.checkpoint, start.notes) == (whole, ()) and not part.exists()


def test_a_run_goes_on_past_damage_and_says_so(tmp_path):
    values = {**LORA, "max_steps": 5}
    tune_until_killed(Checkpoints, "on_save", tmp_path / "run", values, at_step=4, then=run)
    flip(tmp_path / "run" / "checkpoint-4" / "adapter_model.safetensors")
    heard = io.StringIO()
    manifest = tune(tmp_path / "run", values, save_steps=2, console=Console(file=heard, width=400))
    note = "checkpoint-4 of this run had been damaged: it went on from checkpoint-2"
    assert note in heard.getvalue() and note in manifest.notes
    tune(tmp_path / "whole", values)
    assert same(tmp_path / "run", tmp_path / "whole")


# --- One folder, several processes.


def in_another_thread(action) -> BaseException | None:
    """What an action raises while this thread holds its locks: locks know threads as they know processes."""
    raised: list[BaseException] = []

    def attempt() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_a_second_process_ends_with_one_line_and_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "load_model", lambda *_: pytest.fail("loaded"))
    with locked(tmp_path):
        error = in_another_thread(lambda: tune(tmp_path, LORA))
    assert type(error) is BusyError and str(tmp_path) in str(error)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_the_folder_is_held_until_the_manifest_is_written(tmp_path, monkeypatch):
    values = {**LORA, "max_steps": 2}
    seen = []
    for owner, name in ((finetuning, "claim"), (finetuning, "remove_checkpoints")):
        original = getattr(owner, name)

        def look(*args, original=original):
            seen.append(type(in_another_thread(lambda: locked(tmp_path).__enter__())))
            return original(*args)

        monkeypatch.setattr(owner, name, look)
    tune(tmp_path, values)
    assert seen == [BusyError, BusyError]
    assert in_another_thread(lambda: locked(tmp_path).__enter__()) is None, "given up at the end"
    assert read_tuned(tmp_path) is not None


def test_what_a_kill_before_the_claim_leaves_is_no_other_run(tmp_path):
    (tmp_path / LOCK).touch()
    (tmp_path / f".{CLAIM}.0123456789abcdef.tmp").write_text('{"key"')
    check_output(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with says(SettingsError, tmp_path, "not begun by"):
        check_output(tmp_path)


@pytest.mark.parametrize("where", ["file", "file/below", "x" * 300])
def test_an_output_that_cannot_be_written_is_refused_first(where, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(setup, "load_model", lambda *_: pytest.fail("loaded"))
    with says(SettingsError, tmp_path / where, "output"):
        tune(tmp_path / where, LORA)


def test_old_claims_without_notes_are_read(tmp_path):
    (older,) = begun(tmp_path, 2)
    found = json.loads((tmp_path / CLAIM).read_text())
    del found["notes"]
    (tmp_path / CLAIM).write_text(json.dumps(found))
    assert claim(tmp_path, SETTINGS).checkpoint == older
