"""The micro world's shipped outcomes: whole, of the shipped assets, reliable, and what the documentation says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import median

import pytest

from lm_eval_sts.agreement.reliability import reliability
from lm_eval_sts.data import load_sft_set
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.records import save_record
from lm_eval_sts.shipped import load_outcome, outcome_names
from lm_eval_sts.study.design import read_study
from lm_eval_sts.study.jobs import jobs
from microworld.data import SHIPPED
from microworld.domains import DOMAINS
from microworld.split import read_split
from tests.agreement import made
from tests.test_cli import call, fails

SPLIT = read_split()
STUDY = read_study(Path(__file__).parents[2] / "studies" / "micro.yaml")
RUNS = [job for job in jobs(STUDY) if job.kind == "tune" and job.base == "shipped"]
OUTCOMES = {job.setting: load_outcome(f"micro/{job.setting}") for job in RUNS}


def test_every_planned_setting_ships_with_all_its_seeds():
    assert {name.removeprefix("micro/") for name in outcome_names() if name.startswith("micro/")} == set(OUTCOMES)
    for setting, outcome in OUTCOMES.items():
        assert outcome.seeds == tuple(job.seed for job in RUNS if job.setting == setting)
        assert outcome.name == setting


def test_recipes_are_those_of_the_study():
    for job in RUNS:
        assert OUTCOMES[job.setting].recipe == STUDY.recipes[job.recipe].made()


@pytest.mark.parametrize("name", [*SPLIT.development, *SPLIT.test])
def test_they_are_of_the_shipped_sft_sets(name):
    assert OUTCOMES[name].sft_set.content_hash == load_sft_set(str(asset(f"micro/sft/{name}"))).content_hash


def test_they_are_of_the_shipped_model_and_questions():
    shipped = reference_of(asset("micro/model"))
    for outcome in OUTCOMES.values():
        assert outcome.model == shipped
        assert tuple(outcome.domains) == DOMAINS
        assert {d.score.n for d in outcome.domains.values()} == {SHIPPED["measure"]}
        assert outcome.measurement.limit is None
    assert len({o.measurement.documents_hash for o in OUTCOMES.values()}) == 1


def reference_of(folder):
    from transformers import AutoModelForCausalLM

    from lm_eval_sts.features.identity import model_ref

    return model_ref(AutoModelForCausalLM.from_pretrained(folder).eval(), "micro/model", "unknown")


def test_a_copy_whose_generation_ends_elsewhere_is_the_shipped_model(tmp_path, monkeypatch, capsys):
    """As after a training script that set the pad token, or as read from GGUF by another version of transformers."""
    copy = shutil.copytree(asset("micro/model"), tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "eos_token_id": 3, "pad_token_id": 5}))
    shipped = OUTCOMES["add-home-short"]
    model = reference_of(copy).model_copy(update={"name": "a-copy"})
    assert model.weights_hash != shipped.model.weights_hash
    scores = {domain: float(i) for i, domain in enumerate(shipped.domains)}
    found = made.prediction(scores, content=shipped.sft_set.content_hash, tasks="micro", task_version="1.0")
    compare = ("compare", "--predictions", tmp_path / "p.json", "--outcome", "micro/add-home-short")
    for reference in (model, model.model_copy(update={"config_hash": "0" * 64})):
        setting = found.setting.model_copy(update={"model": reference})
        save_record(found.model_copy(update={"setting": setting}), tmp_path / "p.json")
        if reference == model:
            assert call(monkeypatch, *compare) == 0
            assert "sts_icl" in capsys.readouterr().out
    said = fails(monkeypatch, capsys, *compare)
    assert f"config {'0' * 12} and {shipped.model.config_hash[:12]}" in said


def test_every_base_accuracy_is_the_same():
    first = next(iter(OUTCOMES.values()))
    for outcome in OUTCOMES.values():
        assert [d.score.base for d in outcome.domains.values()] == [d.score.base for d in first.domains.values()]


def test_changes_are_measurable_and_go_both_ways():
    development = [OUTCOMES[name] for name in SPLIT.development]
    values = [reliability(o).value for o in development]
    assert median(values) > 0.7
    for outcome, value in zip(development, values, strict=True):
        assert abs(value - outcome.split_half["score"]) < 0.16
    changes = [c for o in development for c in o.changes().values()]
    assert sum(c.delta > 2 * c.se for c in changes) > 30
    assert sum(c.delta < -2 * c.se for c in changes) > 150
