"""The memory guard: a job waits rather than run out, and never where nothing else runs."""

from __future__ import annotations

import os
import socket
import time

import pytest

from lm_eval_sts.records import FinishedJob, RunningJob, save_record
from lm_eval_sts.study import memory
from lm_eval_sts.study.costs import Costs, costs_file
from lm_eval_sts.study.doing import now
from lm_eval_sts.study.inputs import inputs_hash
from lm_eval_sts.study.jobs import Work
from lm_eval_sts.study.memory import Guard, MachineMeter, watched
from lm_eval_sts.study.state import Standing
from lm_eval_sts.study.worker import POLL, Taking
from tests.study.studies import LAWS, MATHS, FakeMeter, FakeWorker, begun, write

GIGA = 10**9
TUNE, OTHER = f"tune/shipped/{LAWS}.seed0", f"tune/shipped/{MATHS}.seed0"


@pytest.fixture
def standing(tmp_path):
    standing = Standing(write(tmp_path), Work(tmp_path / "work"))
    save_record(Costs(memory={name: {"cpu": 10 * GIGA} for name in (TUNE, OTHER)}), costs_file(standing.work))
    return standing


def runs(standing, name: str = OTHER, **changes) -> None:
    """Another process of this machine, which is there: the one that started this one."""
    record = RunningJob(
        job=name, host=socket.gethostname(), pid=os.getppid(), device="cpu", created=now(), needs={"cpu": 10 * GIGA}
    )
    save_record(record.model_copy(update=changes), standing.work.running(standing.by_name[name]))


def lacks(standing, free: float, held: float = 0.0, device: str = "cpu") -> str:
    meter = FakeMeter(round(free * GIGA), round(held * GIGA))
    return Guard(standing, device, meter).lacks(standing.by_name[TUNE])


def test_it_waits_only_where_something_else_runs(standing):
    assert lacks(standing, free=1) == ""
    runs(standing, holds={"cpu": 10 * GIGA})
    told = lacks(standing, free=10.9)
    assert told == f"{TUNE} waits for memory: it needs 11.0 GB more, and 10.9 GB are free beside 1 running"
    assert lacks(standing, free=11.1) == ""
    assert lacks(standing, free=8, held=4) == ""  # what this process holds already


@pytest.mark.parametrize("gone", [{"host": "another"}, {"pid": 2**22 + 1}])
def test_others_are_of_this_machine_and_alive(standing, gone):
    runs(standing, **gone)
    assert lacks(standing, free=1) == ""


def test_what_others_will_need_is_theirs(standing):
    runs(standing, holds={"cpu": 4 * GIGA})
    assert "11.0 GB more, and 10.0 GB are free" in lacks(standing, free=16)
    assert lacks(standing, free=17.1) == ""
    runs(standing, needs={})  # not known: it has what it holds
    assert lacks(standing, free=11.1) == ""


def test_the_last_one_of_its_kind_tells_what_is_needed(standing):
    job = standing.by_name[OTHER]
    record = FinishedJob(
        job=OTHER,
        inputs_hash=inputs_hash(standing.study, job),
        seconds=1.0,
        memory={"cpu": 2 * GIGA, "cuda": 5 * GIGA},
        device="0",
        created=now(),
    )
    save_record(record, standing.work.finished(job))
    standing.finished()
    runs(standing, "base/shipped", device="1")
    assert lacks(standing, free=2.1) != "" and lacks(standing, free=12.3) == ""

    class WithCard(FakeMeter):
        def free(self):
            return {"cpu": 100 * GIGA, "cuda": 1 * GIGA}

    guard = Guard(standing, "0", WithCard())
    assert guard.lacks(standing.by_name[TUNE]) == ""  # nothing else runs on this card
    runs(standing, "base/shipped", device="0", holds={"cuda": 10 * GIGA})
    assert "memory of the accelerator 0" in guard.lacks(standing.by_name[TUNE])


def test_a_worker_says_that_it_waits_and_goes_on_when_it_can(standing, monkeypatch):
    runs(standing, "base/shipped", holds={"cpu": GIGA}, needs={"cpu": GIGA})
    (standing.work.root / "runs/shipped/base/run-0").mkdir(parents=True)
    (standing.work.root / "runs/shipped/base/run-0/run.safetensors").touch()
    standing.patterns = (TUNE,)
    said: list[str] = []
    worker = FakeWorker(standing.study, standing.work)
    taking = Taking(standing, worker, Guard(standing, "cpu", FakeMeter(GIGA)), said.append)
    assert taking._one() == POLL == taking._one()
    assert len(said) == 1 and "waits for memory" in said[0] and begun(standing.work) == []
    assert not standing.work.running(standing.by_name[TUNE]).exists()
    standing.work.running(standing.by_name["base/shipped"]).unlink()
    assert taking._one() == 0.0 and begun(standing.work) == [TUNE] and taking._one() is None
    assert said[1].startswith(f"{TUNE} done in")


def test_the_peak_is_what_was_held_at_most(monkeypatch):
    monkeypatch.setattr(memory, "_LOOK", 0.001)
    meter, told = FakeMeter(held=1), []
    with watched(meter, told.append) as peak:
        for held in (5, 50, 7):
            meter.own, before = held, len(told)
            until = time.monotonic() + 60
            while len(told) == before and time.monotonic() < until:
                time.sleep(0.001)
    assert peak == {"cpu": 50} and {"cpu": 7} in told


def test_this_machine(tmp_path):
    meter = MachineMeter()
    assert 10**6 < meter.held()["cpu"] < 10**12 and 0 < meter.free()["cpu"] < 10**14
    assert set(meter.free()) == {"cpu"}


def test_the_limit_of_a_container(tmp_path):
    assert memory._left_to_group(tmp_path) > 10**15
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left_to_group(tmp_path) > 10**15
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 300\n")
    assert memory._left_to_group(tmp_path) == 400
