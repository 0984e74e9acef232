"""The sweep: what it plans, and two small settings made end to end as users would make them."""

from __future__ import annotations

import re
import shutil

import pytest

from lm_eval_sts.finetuning.tuned import read_tuned
from lm_eval_sts.harness.discovery import our_tasks
from lm_eval_sts.records import Outcome, load_record
from microworld import sweep as sweeping
from microworld.split import read_split
from microworld.sweep import DOSES, Folders, Job, jobs, sweep

SPLIT = read_split()


def test_plan():
    planned = jobs()
    assert len({job.name for job in planned}) == len(planned)
    main = {(job.sft_set, job.seed) for job in planned if job.dose == "main"}
    assert {name for name, _ in main} == {*SPLIT.development, *SPLIT.test}
    assert {name for name, seed in main if seed == 2} == set(SPLIT.third_seed)
    assert {(job.sft_set, job.seed) for job in planned if job.dose == "strong"} == {
        (name, seed) for name in SPLIT.third_seed for seed in (0, 1)
    }
    assert len({job.sft_set for job in planned if job.dose == "lora"}) >= 2
    assert DOSES["lora"].method == "lora"
    assert all(recipe.method == "full" for name, recipe in DOSES.items() if name != "lora")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two seeds of one set with LoRA, one of another with full parameters, a few steps, four questions a domain."""
    root = tmp_path_factory.mktemp("sweep")
    planned = [Job("add-home-short", "lora", 0), Job("add-home-short", "lora", 1), Job("mul-home-short", "main", 0)]
    short = {name: recipe.model_copy(update={"max_steps": 4}) for name, recipe in DOSES.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeping, "DOSES", short)
        patch.setattr(sweeping, "ProcessPoolExecutor", _InProcess)
        outcomes = sweep(root / "outcomes", root / "work", our_tasks, planned=planned, limit=4)
    return root, planned, outcomes


class _InProcess:
    """An executor that does a job when it is submitted, so that patches hold."""

    def __init__(self, *args, **kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass

    def submit(self, function, *args):
        from concurrent.futures import Future

        future = Future()
        future.set_result(function(*args))
        return future


def test_outcomes_are_written(swept):
    root, _, outcomes = swept
    assert [o.name for o in outcomes] == ["add-home-short-lora", "mul-home-short"]
    for outcome in outcomes:
        assert load_record(Outcome, root / "outcomes" / f"{outcome.name}.json") == outcome
        assert len(outcome.domains) == 28
        assert all(d.score.n == 4 and d.log_likelihood is not None for d in outcome.domains.values())
        assert not re.search(r"/(tmp|home|root|work)/", outcome.model_dump_json())
    assert outcomes[0].seeds == (0, 1)
    assert outcomes[0].recipe.method == "lora"
    assert outcomes[0].sft_set.name == "micro/sft/add-home-short"
    assert outcomes[0].model.name == "micro/model"


def test_a_rerun_makes_nothing_again(swept, tmp_path, monkeypatch):
    root, planned, outcomes = swept

    class Nothing(_InProcess):
        def submit(self, function, *args):
            raise AssertionError("a finished job was done again")

    monkeypatch.setattr(sweeping, "ProcessPoolExecutor", Nothing)
    shutil.copytree(root / "outcomes", tmp_path / "outcomes")
    again = sweep(tmp_path / "outcomes", root / "work", our_tasks, planned=planned, limit=4)
    assert [o.domains for o in again] == [o.domains for o in outcomes]


def test_seeds_differ_and_their_mean_counts(swept):
    root, planned, outcomes = swept
    folders = Folders(root / "work")
    assert [read_tuned(folders.tuned(job)).seed for job in planned] == [0, 1, 0]
    for domain in outcomes[0].domains.values():
        change = domain.log_likelihood
        assert change.seed_deltas[0] != change.seed_deltas[1]
        assert change.delta == pytest.approx(sum(change.seed_deltas) / 2, rel=1e-5)  # written with seven digits
