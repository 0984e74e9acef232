"""Runs of workers whose jobs take no model: who does what, what a kill leaves, and what is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from lm_eval_sts.errors import SettingsError, StsError
from lm_eval_sts.files import locked
from lm_eval_sts.records import FinishedJob, RunningJob, load_record, save_record
from lm_eval_sts.study import run as running
from lm_eval_sts.study.doing import MOST_ATTEMPTS, now
from lm_eval_sts.study.inputs import inputs_hash
from lm_eval_sts.study.jobs import Job, Work, jobs
from lm_eval_sts.study.memory import Guard
from lm_eval_sts.study.run import run
from lm_eval_sts.study.state import Standing
from lm_eval_sts.study.worker import POLL, Taking
from tests.study.studies import (
    LAWS,
    MATHS,
    PROJECT,
    FakeMeter,
    FakeWorker,
    begun,
    behave,
    changed,
    finish,
    use_fakes,
    write,
)

TUNE = f"tune/shipped/{LAWS}.seed0"
PREDICT = f"predict/shipped/main/{LAWS}"
ALL = {"base/shipped", TUNE, TUNE.replace(LAWS, MATHS), PREDICT, PREDICT.replace(LAWS, MATHS)}


@pytest.fixture
def study(tmp_path, monkeypatch):
    use_fakes(monkeypatch)
    return write(tmp_path)


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path / "work")


def job_of(study, name: str) -> Job:
    return next(job for job in jobs(study) if job.name == name)


def done_before(study, work: Work, name: str, seconds: float) -> None:
    """A job that another run did."""
    job = job_of(study, name)
    finish(work, job)
    took = FinishedJob(
        job=name, inputs_hash=inputs_hash(study, job), seconds=seconds, memory={"cpu": 1}, device="cpu", created=now()
    )
    save_record(took, work.finished(job))


def until(condition, what: str) -> None:
    """Waits for something that must happen."""
    for _ in range(12_000):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def nothing_is_held(study, work: Work) -> bool:
    standing = Standing(study, work)
    return not any(standing.running(job) or work.running(job).exists() for job in standing.everything)


def test_all_is_done_once_and_said(study, work):
    said: list[str] = []
    ran = run(study, work.root, workers=2, say=said.append)
    assert set(ran.done) == ALL and (ran.failed, ran.waiting, ran.left, ran.exit_code) == ((), {}, (), 0)
    assert Counter(begun(work)) == dict.fromkeys(ALL, 1)
    assert begun(work).index("base/shipped") < begun(work).index(TUNE)
    assert {line.split()[0] for line in said} == ALL and all(" done in " in line for line in said)
    took = load_record(FinishedJob, work.finished(job_of(study, TUNE)))
    assert took.memory["cpu"] > 1e6 and took.workers == 2 and took.device == "cpu"
    assert not [*(work.root / "logs").iterdir()] and nothing_is_held(study, work)
    assert run(study, work.root, say=said.append).exit_code == 0 and len(begun(work)) == len(ALL)


def test_a_failure_is_kept_and_stops_only_what_needs_it(study, work):
    behave(work, base__shipped={"fail": "the base is broken"})
    said: list[str] = []
    ran = run(study, work.root, say=said.append)
    assert ran.exit_code == 1 and set(ran.done) == {PREDICT, PREDICT.replace(LAWS, MATHS)}
    (failed,) = ran.failed
    assert failed.job == "base/shipped" and failed.reason == "the base is broken" and failed.attempts == 1
    assert "ValueError" in failed.traceback and "in do" in failed.traceback
    assert ran.waiting == dict.fromkeys((TUNE, TUNE.replace(LAWS, MATHS)), ("base/shipped",))
    assert any(line.startswith("base/shipped failed after") for line in said)
    # Nothing is tried again by itself.
    assert run(study, work.root, say=said.append).exit_code == 1 and begun(work).count("base/shipped") == 1
    (failed,) = run(study, work.root, retry=True, say=said.append).failed
    assert failed.attempts == 2 and begun(work).count("base/shipped") == 2


def test_a_killed_worker_is_noticed_and_replaced(study, work):
    behave(work, **{PREDICT.replace("/", "__"): {"kill": True}})
    said: list[str] = []
    ran = run(study, work.root, say=said.append)
    (failed,) = ran.failed
    assert failed.job == PREDICT and "signal 9" in failed.reason and "--workers" in failed.reason
    assert set(ran.done) == ALL - {PREDICT} and Counter(begun(work)) == dict.fromkeys(ALL, 1)
    assert f"{PREDICT} failed: {failed.reason}" in said and nothing_is_held(study, work)
    behave(work)
    assert run(study, work.root, retry=True, say=said.append).exit_code == 0
    assert not work.failed(job_of(study, PREDICT)).exists()


def test_what_is_killed_again_and_again_is_given_up(study, work):
    """By whomever it was begun: none of them lived to say so."""
    job = job_of(study, "base/shipped")
    record = RunningJob(
        job=job.name, host="another", pid=1, device="cpu", attempts=MOST_ATTEMPTS, created="2026-01-01T00:00:00+00:00"
    )
    save_record(record, work.running(job))
    (failed,) = run(study, work.root, only=[job.name], say=print).failed
    assert f"{MOST_ATTEMPTS} times" in failed.reason and job.name not in begun(work)


def as_process(study, work: Work, **options) -> subprocess.Popen[bytes]:
    code = "import signal, sys, json\nfrom tests.study.studies import run_fakes\n"
    # A shell that runs the tests in its background has SIGINT ignored, and children inherit that.
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "file, work, options = sys.argv[1:]\nsys.exit(run_fakes(file, work, **json.loads(options)))"
    command = [sys.executable, "-c", code, str(study.path), str(work.root), json.dumps(options)]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_parent_takes_its_workers_with_it(study, work, how):
    behave(work, **{TUNE.replace("/", "__"): {"sleep": 600}})
    done_before(study, work, "base/shipped", 1.0)
    parent = as_process(study, work, **({"workers": 2} if how == signal.SIGKILL else {"only": [TUNE]}))
    until(lambda: TUNE in begun(work), "the job that never ends is begun")
    if how == signal.SIGKILL:
        until(lambda: {*begun(work), "base/shipped"} == ALL, "the other worker goes on")
    pids = {int(line.split()[1]) for line in (work.root / "begun.txt").read_text().splitlines()}
    os.kill(parent.pid, how)
    out, _ = parent.communicate(timeout=600)
    assert parent.returncode == (-9 if how == signal.SIGKILL else 130)
    assert how == signal.SIGKILL or b"given up" in out
    until(lambda: not any(map(alive, pids)), "the workers end")
    assert nothing_is_held(study, work) and not work.tuned(job_of(study, TUNE)).exists()
    assert work.failure(job_of(study, TUNE)) is None
    if how == signal.SIGKILL:
        behave(work)
        assert run(study, work.root, say=print).exit_code == 0
        assert Counter(begun(work)) == {**dict.fromkeys(ALL - {"base/shipped"}, 1), TUNE: 2}


def test_two_runs_share_a_folder(study, work):
    behave(work, **{name.replace("/", "__"): {"sleep": 0.2} for name in ALL})
    other = as_process(study, work, workers=2)
    ran = run(study, work.root, workers=2, say=print)
    out, error = other.communicate(timeout=600)
    assert (other.returncode, ran.exit_code) == (0, 0), (out, error)
    assert Counter(begun(work)) == dict.fromkeys(ALL, 1)


@contextmanager
def held_elsewhere(work: Work, job: Job):
    """Another process does a job, until it is killed."""
    holder = "import sys, time\nfrom pathlib import Path\nfrom lm_eval_sts.files import locked\n"
    holder += "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)"
    other = subprocess.Popen([sys.executable, "-c", holder, work.lock(job)], stdout=subprocess.PIPE, cwd=PROJECT)
    assert other.stdout.readline() == b"held\n"
    try:
        yield other
    finally:
        other.kill()
        other.communicate()


def test_what_another_does_is_waited_for(study, work):
    """It may leave something to do here."""
    with held_elsewhere(work, job_of(study, "base/shipped")) as other:

        def end() -> None:
            until(lambda: PREDICT in begun(work), "what is free is done")
            other.kill()

        thread = threading.Thread(target=end)
        thread.start()
        assert run(study, work.root, say=print).exit_code == 0
        thread.join()
    assert begun(work).index("base/shipped") > begun(work).index(PREDICT)


def test_the_first_prediction_reads_the_domains_for_all(study, work):
    """While another does it, what would read the same waits, and nothing else."""
    with held_elsewhere(work, job_of(study, PREDICT)):
        standing = Standing(study, work)
        taking = Taking(standing, FakeWorker(study, work), Guard(standing, "cpu", FakeMeter()), print)
        work.root.mkdir(exist_ok=True)
        assert [taking._one() for _ in range(4)] == [0.0, 0.0, 0.0, POLL]
        assert begun(work) == ["base/shipped", TUNE, TUNE.replace(LAWS, MATHS)]
    finish(work, job_of(study, PREDICT))
    assert taking._one() == 0.0 and begun(work)[-1] == PREDICT.replace(LAWS, MATHS) and taking._one() is None


# ---- time


def test_nothing_is_begun_that_would_not_be_done_in_time(study, work):
    done_before(study, work, "base/shipped", 1.0)
    done_before(study, work, TUNE.replace(LAWS, MATHS), 3600.0)
    ran = run(study, work.root, until=600, say=print)
    assert ran.left == (TUNE,) and ran.exit_code == 3
    assert set(begun(work)) == {PREDICT, PREDICT.replace(LAWS, MATHS)}  # how long they take is not known
    assert Standing(study, work).left() == [job_of(study, TUNE)]


def test_what_is_not_done_in_time_is_ended(study, work):
    behave(work, **{TUNE.replace("/", "__"): {"sleep": 600}})
    done_before(study, work, "base/shipped", 1.0)
    said: list[str] = []
    ran = run(study, work.root, until=3, only=[TUNE], say=said.append)
    assert ran.left == (TUNE,) and ran.exit_code == 3 and not ran.interrupted
    assert any("time is up" in line for line in said)
    assert nothing_is_held(study, work) and not work.tuned(job_of(study, TUNE)).exists()


def test_what_does_not_end_by_itself_is_killed_and_leaves_nothing_half(study, work, monkeypatch):
    monkeypatch.setattr(running, "GRACE", 0.1)
    behave(work, **{TUNE.replace("/", "__"): {"sleep": 600, "deaf": True}})
    done_before(study, work, "base/shipped", 1.0)
    monkeypatch.setattr(running._Parent, "_goes_on", lambda parent: TUNE not in begun(work))
    ran = run(study, work.root, only=[TUNE], say=print)
    assert ran.left == (TUNE,) and ran.failed == ()
    assert nothing_is_held(study, work) and not work.tuned(job_of(study, TUNE)).exists()


def test_only_what_is_asked_for_and_what_that_needs(study, work):
    ran = run(study, work.root, only=[f"tune/shipped/{LAWS}*"], say=print)
    assert set(begun(work)) == {"base/shipped", TUNE} == set(ran.done) and ran.exit_code == 0
    with pytest.raises(SettingsError, match="fits no job"):
        run(study, work.root, only=["tune/other"], say=print)


# ---- what is refused


def test_workers_that_do_not_start(study, work, monkeypatch):
    monkeypatch.setattr(running, "WORKER", "no_such_module_of_anybody")
    with pytest.raises(StsError, match="3 workers ended without having done a job, the last with exit status 1"):
        run(study, work.root, say=print)


def test_a_file_that_changes_under_way(study, work, tmp_path, monkeypatch):
    """Workers that start later would do another study."""
    monkeypatch.setattr(running, "_FRUITLESS", 1)
    write(tmp_path, changed("predict", "limit", to=7))
    said: list[str] = []
    with pytest.raises(StsError, match="ended without having done a job"):
        run(study, work.root, say=said.append)
    assert not begun(work) and said == [f"{study.path} was changed while the study runs: put it back, or end the run"]


def test_records_of_another_design(study, work, tmp_path):
    done_before(study, work, "base/shipped", 1.0)
    other = write(tmp_path, changed("measure", "limit", to=7))
    with pytest.raises(SettingsError, match=r"another design: base/shipped: .*runs/shipped/base"):
        run(other, work.root, say=print)
    # How it is computed is not what is computed.
    work.declaration.unlink()
    again = run(write(tmp_path, changed("measure", "batch_size", to=1)), work.root, only=["base/shipped"], say=print)
    assert again.done == ("base/shipped",) and begun(work) == []


@pytest.mark.parametrize(("workers", "match"), [(0, "must be 1 or more")])
def test_no_workers(study, work, workers, match):
    with pytest.raises(SettingsError, match=match):
        run(study, work.root, workers=workers)


# ---- places


def test_accelerators_are_dealt_in_turn(study, work, monkeypatch):
    places = running._Places.of(["0", "3"], 3)
    assert places.devices == ("0", "3", "0") and places.threads is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert running._Places.of(None, 2).devices == ("4", "5") and running.visible_devices() == ["4", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert running.visible_devices() == []
    assert run(study, work.root, devices=["7"], only=[PREDICT], say=print).exit_code == 0
    assert (work.root / "begun.txt").read_text().split()[-1] == "7"


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert running._Places.of(["cpu"], 3) == running._Places((None,) * 3, 2)
    assert running._Places.of(["cpu"], 20).threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert running._Places.of(["cpu"], 2).threads is None


def test_a_lock_that_is_taken_for_a_look_is_given_back(study, work):
    standing, job = Standing(study, work), job_of(study, TUNE)
    assert not standing.running(job)
    with locked(work.lock(job)):
        pass
    assert not standing.running(job) and standing.state(job) == "waiting"
