"""Jobs with a model: a study that is killed and goes on gives the records of one that was not."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import weakref
from typing import Any

import pytest

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.outcomes.runs import load_run
from lm_eval_sts.records import Outcome, load_record
from lm_eval_sts.study.declare import check_declaration
from lm_eval_sts.study.doing import do_alone
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.jobs import Job, Work, jobs
from lm_eval_sts.study.state import Standing, running_record
from tests.study.studies import LAWS, MATHS, PROJECT, changed, write
from tests.study.test_run import alive, until

TIMES = {"created", "seconds", "content_hash"}
TUNE = f"tune/shipped/{LAWS}.seed0"


def told(value: Any) -> Any:
    """A record's JSON without its times, and the hash that depends on them."""
    if isinstance(value, dict):
        return {key: told(item) for key, item in value.items() if key not in TIMES}
    return [told(item) for item in value] if isinstance(value, list) else value


def records(work: Work) -> dict[str, Any]:
    """All of a folder's predictions, outcomes, manifests and runs, bit for bit but their times and places."""
    found = {}
    for folder in ("predictions", "outcomes", "tuned"):
        for path in (work.root / folder).rglob("*.json"):
            if path.name in ("sts_finetune.json",) or folder != "tuned":
                found[path.relative_to(work.root).as_posix()] = told(json.loads(path.read_text()))
    for path in (work.root / "runs").rglob("run.safetensors"):
        run = load_run(path)
        arrays = {name: {k: a.tobytes() for k, a in t.arrays().items()} for name, t in run.questions.items()}
        facts = run.facts.model_dump(mode="json", exclude={"source", "model_args"})
        found[path.relative_to(work.root).as_posix()] = (facts, arrays)
    return found


def outcome(work: Work, name: str = LAWS) -> Outcome:
    return load_record(Outcome, work.outcome("shipped", name))


def job_of(study, name: str) -> Job:
    return next(job for job in jobs(study) if job.name == name)


def test_what_is_killed_goes_on_to_the_same_records(undisturbed, tmp_path):
    _, expected = undisturbed
    study, work = write(tmp_path), Work(tmp_path / "work")
    standing = Standing(study, work)
    command = [sys.executable, "-c", "from lm_eval_sts.cli import main; main()", "study", "run", str(study.path)]
    command += ["--work", str(work.root), "--devices", "cpu"]

    def start(*options: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        return subprocess.Popen([*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def doing() -> dict[str, int]:
        found = [running_record(work, job) for job in standing.jobs]
        return {record.job: record.pid for record in found if record is not None}

    # The parent, while a model is tuned.
    parent = start()
    until(lambda: work.tuned(job_of(study, TUNE)).is_dir(), "tuning begins")
    (pid,) = doing().values()
    parent.kill()
    parent.communicate()
    until(lambda: not alive(pid), "the worker ends")
    # A worker, while it predicts.
    parent = start()
    seen: list[tuple[str, int]] = []
    until(lambda: seen.extend(i for i in doing().items() if i[0].startswith("predict/")) or seen, "predicting begins")
    killed, pid = seen[0]
    os.kill(pid, signal.SIGKILL)
    out, error = parent.communicate(timeout=600)
    assert parent.returncode == 1, error
    assert f"failed: {killed}: its process ended by signal 9" in out.decode()
    parent = start("--retry")
    out, error = parent.communicate(timeout=600)
    assert parent.returncode == 0 and "5 done, 0 failed" in out.decode(), error
    assert records(work) == records(expected)
    assert len(records(work)) == 9 and check_declaration(study, work) == []


def test_weights_go_and_the_rest_stays(undisturbed):
    study, work = undisturbed
    assert not [path for path in work.root.rglob("*") if path.suffix in (".bin", ".pt") or "model.safe" in path.name]
    assert not list((work.root / "tuned").rglob("checkpoint-*"))
    assert outcome(work).seeds == (0,) and set(outcome(work).domains) == {"law_torts", "physics_optics"}
    standing = Standing(study, work)
    assert {standing.state(job) for job in standing.jobs} == {"done"}
    assert do_alone(standing, standing.jobs[0]) is None  # done before: left as it is


def test_a_paired_outcome_is_of_all_seeds_that_are_asked_for(copied, tmp_path):
    _, work = copied
    study = write(tmp_path, changed("recipes", "main", "seeds", to=[0, 1]))
    standing, worker = Standing(study, work), Worker(study, work)
    standing.check_design()
    assert worker.pair("shipped", LAWS) is None  # the second is not there yet
    assert do_alone(standing, job_of(study, f"tune/shipped/{LAWS}.seed1"), worker) is None
    assert outcome(work).seeds == (0, 1)
    # One seed less: again another outcome.
    assert Worker(write(tmp_path), work).pair("shipped", LAWS).seeds == (0,)


def test_an_oracle_sees_weights_that_are_kept_for_it_and_go_then(copied, tmp_path):
    _, work = copied
    oracles = {"predictors": ["oracle_sts_shift"], "oracles": True, "sft_sets": [MATHS]}
    study = write(tmp_path, changed("conditions", "seen", to=oracles))
    standing, worker = Standing(study, work), Worker(study, work)
    tune, seen = job_of(study, f"tune/shipped/{MATHS}.seed0"), job_of(study, f"predict/shipped/seen/{MATHS}")
    with pytest.raises(RecordError, match=f"the weights of {tune.name} are gone .*remove .*runs"):
        worker.do(seen)
    for path in (work.run(tune), work.tuned(tune)):
        subprocess.run(["rm", "-r", path], check=True)
    standing = Standing(study, work)
    with pytest.raises(SettingsError, match=f"needs {tune.name}, which is not done"):
        do_alone(standing, seen, worker)
    assert do_alone(standing, tune, worker) is None
    weights = work.tuned(tune) / "model.safetensors"
    assert weights.is_file()
    # Another worker, which has just done something else, leaves them too.
    Worker(study, work)._remove_weights()
    assert weights.is_file()
    assert do_alone(standing, seen, worker) is None
    assert not weights.exists() and standing.done(seen) and standing.done(tune)


def test_the_base_model_is_not_held_while_another_is_tuned(copied, monkeypatch):
    study, work = copied
    worker = Worker(study, work)
    worker.do(job_of(study, f"predict/shipped/main/{LAWS}"))
    model = weakref.ref(worker._model[1].model)
    held: list[object] = []

    def look(*_: object, **__: object) -> None:
        gc.collect()
        held.append(model())
        raise RecordError("that is enough")

    monkeypatch.setattr("lm_eval_sts.finetuning.finetune.finetune", look)
    with pytest.raises(RecordError, match="enough"):
        worker.do(job_of(study, TUNE))
    assert held == [None]
