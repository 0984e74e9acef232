"""The micro world's study file: it is the world's split, names what ships, and its jobs give the figures that ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lm_eval_sts.leaderboard.submissions import read_submissions
from lm_eval_sts.predictors.registry import FORWARD_PREDICTORS, is_ours, names
from lm_eval_sts.records import StudyPredictions, load_record
from lm_eval_sts.shipped import load_outcome
from lm_eval_sts.study.design import MAIN, read_study
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.jobs import Work, jobs, named
from microworld.split import read_split
from microworld.variants import MODELS, SAES

ROOT = Path(__file__).parents[2]
FILE = ROOT / "studies" / "micro.yaml"
STUDY = read_study(FILE)
SPLIT = read_split()
SFT_SET = "add-foreign-long"
DOMAINS = ("law_torts", "math_algebra")


def changed(folder: Path, **changes: Any) -> Worker:
    """Does jobs of the study with some keys changed: two domains in place of 28, for speed."""
    data = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    data["measure"]["tasks"] = [f"micro_{domain}" for domain in DOMAINS]
    for key, value in changes.items():
        data[key] = {**data[key], **value} if key in data and isinstance(value, dict) else value
    data["conditions"] = {name: each for name, each in data["conditions"].items() if each is not None}
    file = folder / "micro.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return Worker(read_study(file), Work(folder / "work"))


def do(worker: Worker, name: str) -> None:
    worker.do(named(worker.study, name))


def test_it_is_the_worlds_split():
    assert STUDY.chosen_sets(["development"]) == list(SPLIT.development)
    assert STUDY.chosen_sets(["test"]) == list(SPLIT.test)
    runs = [(job.recipe, job.sft_set, job.seed) for job in jobs(STUDY) if job.kind == "tune" and job.base == "shipped"]
    assert len(set(runs)) == len(runs)
    assert {r for r in runs if r[0] == "main"} == {
        *(("main", name, seed) for name in (*SPLIT.development, *SPLIT.test) for seed in (0, 1)),
        *(("main", name, 2) for name in SPLIT.third_seed),
    }
    assert {r for r in runs if r[0] == "strong"} == {("strong", n, seed) for n in SPLIT.third_seed for seed in (0, 1)}
    assert {r for r in runs if r[0] == "lora"} == {("lora", n, seed) for n in SPLIT.lora for seed in (0, 1)}


def test_every_predictor_is_run_once_on_every_set():
    for sft_set in STUDY.sets:
        ways = [j.condition for j in jobs(STUDY) if j.kind == "predict" and (j.base, j.sft_set) == ("shipped", sft_set)]
        found = [
            p for way in ways if way in (MAIN, "oracles", "fitted", "layers") for p in STUDY.predictors(way, "shipped")
        ]
        assert sorted(filter(is_ours, found)) == sorted(filter(is_ours, names()))


def test_other_models_and_saes_are_those_that_the_generator_makes():
    named_there = {base.model for base in STUDY.bases.values()} | {base.sae for base in STUDY.bases.values()}
    named_there |= {sae for c in STUDY.conditions.values() for sae in (c.sae, *c.more_saes)}
    found = {name.rpartition("/")[2] for name in named_there if name and not name.startswith("micro/")}
    assert found == {*MODELS, *SAES}
    for base in ("other-seed", "deeper"):
        assert STUDY.chosen_sets(None, base) == list(SPLIT.test)
        assert set(FORWARD_PREDICTORS) < set(STUDY.predictors(MAIN, base))
        assert STUDY.seeds("main", base, SPLIT.test[0]) == [0]
        assert STUDY.seeds("strong", base, SPLIT.test[0]) == []


def test_what_is_learnt_from_is_never_the_sets_own_outcome():
    assert STUDY.learnt_from("fitted", "shipped", "max-home-short") == list(SPLIT.development)
    assert STUDY.learnt_from("fitted", "shipped", SFT_SET) == [n for n in SPLIT.development if n != SFT_SET]
    assert STUDY.learnt_from(MAIN, "shipped", SFT_SET) == []
    needed = named(STUDY, f"predict/shipped/fitted/{SFT_SET}").after
    assert f"tune/shipped/{SFT_SET}.seed0" not in needed
    assert "tune/shipped/chain-foreign-short.seed2" in needed
    assert "tune/shipped/max-home-short.seed0" not in needed


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Worker:
    """Both seeds of one set, and its predictions by what reads only the SFT set and a domain."""
    predictors = ["sts_act", "sts_icl", "loss_rehearsal_alone", "representation_sae_cosine", "probing_5", "null_random"]
    worker = changed(
        tmp_path_factory.mktemp("micro"),
        predict={"tasks": f"sts_micro_{DOMAINS[0]}", "predictors": predictors, "settings": {"probing_steps": [5]}},
    )
    for name in ("base/shipped", f"tune/shipped/{SFT_SET}.seed0", f"tune/shipped/{SFT_SET}.seed1"):
        do(worker, name)
    assert (worker.work.tuned(named(STUDY, f"tune/shipped/{SFT_SET}.seed0")) / "model.safetensors").exists()
    for condition in (MAIN, "oracles"):
        do(worker, f"predict/shipped/{condition}/{SFT_SET}")
    return worker


def test_outcomes_are_those_that_ship(made):
    """Of the processor's arithmetic only the last digits may differ: measured, 1e-5 of a log-likelihood's change."""
    shipped, found = load_outcome(f"micro/{SFT_SET}"), made.pair("shipped", SFT_SET)
    assert (found.seeds, found.recipe, found.name) == (shipped.seeds, shipped.recipe, shipped.name)
    assert (found.model.weights_hash, found.sft_set) == (shipped.model.weights_hash, shipped.sft_set)
    assert set(found.domains) == set(DOMAINS)
    for domain in DOMAINS:
        for view in ("score", "log_likelihood", "choice_log_likelihood"):
            one, two = (getattr(outcome.domains[domain], view) for outcome in (found, shipped))
            assert one.n == two.n
            assert one.seed_deltas == pytest.approx(two.seed_deltas, abs=1.01 / 400 if view == "score" else 2e-3)


@pytest.mark.parametrize("condition", [MAIN, "oracles"])
def test_predictions_are_those_on_the_board(made, condition):
    record = load_record(
        StudyPredictions, made.work.predictions(named(STUDY, f"predict/shipped/{condition}/{SFT_SET}"))
    )
    assert not record.left_out
    assert [p.predictor for p in record.predictions] == made.study.predictors(condition, "shipped")
    assert_on_board(record)


def assert_on_board(record: StudyPredictions) -> None:
    board = {a.submission.predictor: a.submission for a in read_submissions(ROOT / "leaderboard").submissions
             if f"micro/{record.sft_set}" in a.submission.settings}  # fmt: skip
    for prediction in record.predictions:
        assert prediction.predictor_version == board[prediction.predictor].version
        scores = board[prediction.predictor].settings[f"micro/{record.sft_set}"].scores
        for domain, found in prediction.domains.items():
            assert found.score == pytest.approx(scores[domain], rel=1e-3, abs=1e-6), prediction.predictor


def test_weights_go_when_nothing_is_to_read_them(made):
    tuned = made.work.tuned(named(STUDY, f"tune/shipped/{SFT_SET}.seed0"))
    assert [path.name for path in tuned.glob("*.safetensors")] == []
    assert made.work.done(named(STUDY, f"tune/shipped/{SFT_SET}.seed0"))


def test_domain_means_are_those_of_the_development_outcomes(tmp_path):
    worker = changed(
        tmp_path,
        outcomes={"shipped": ["micro/*"]},
        predict={"tasks": f"sts_micro_{DOMAINS[0]}"},
        conditions={"oracles": None, "fitted": {"predictors": ["null_domain_mean"], "learns": ["development"]}},
    )
    assert not any(job.kind == "tune" and job.base == "shipped" for job in jobs(worker.study))
    for sft_set in (SFT_SET, "max-home-short"):
        job = named(worker.study, f"predict/shipped/fitted/{sft_set}")
        worker.do(job)
        assert_on_board(load_record(StudyPredictions, worker.work.predictions(job)))
