"""What a report rests on, as it is read."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.records import KeptScores, dump_record, load_record
from lm_eval_sts.study.design import MAIN, read_study
from lm_eval_sts.study.evidence import Entry, Evidence, joined
from lm_eval_sts.study.kept import changed_by, from_kept, keep
from lm_eval_sts.study.sources import from_board, runs_of

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "studies" / "micro.yaml"


@pytest.fixture(scope="module")
def study():
    return read_study(STUDY, variables=False)


@pytest.fixture(scope="module")
def board(study):
    return from_board(study, ROOT / "leaderboard")


def entry(name="p", scores=None, **options) -> Entry:
    return Entry(name, "delta", "predictor", scores or {"add-home-short": {"law": 1.0}}, **options)


def test_runs_are_named_by_sft_set_and_recipe(study):
    runs = runs_of(study, "shipped")
    assert runs["add-home-short"] == ("add-home-short", "main")
    assert runs["add-home-short-strong"] == ("add-home-short", "strong")
    assert "add-home-short" not in runs_of(study, "deeper")


def test_the_board_is_read_by_base_model(board):
    assert set(board.outcomes) == {"shipped", "other-seed", "deeper"}
    for base, name in (("shipped", "micro/model"), ("deeper", "micro/model-deep")):
        assert {outcome.model.name for outcome in board.outcomes[base].values()} == {name}
    tfidf = next(e for e in board.main("shipped") if e.name == "tfidf_cosine")
    assert set(board.outcomes["shipped"]) <= set(tfidf.scores)


def test_fitted_predictors_say_on_what(study, board):
    mean = next(e for e in board.main("shipped") if e.name == "null_domain_mean")
    development, test = (study.chosen_sets((group,)) for group in ("development", "test"))
    assert mean.fitting(development) == "leave-one-out"
    assert mean.fitting(test) == "elsewhere"
    assert next(e for e in board.main("shipped") if e.name == "sts_icl").fitting(test) is None
    seen = entry(fitted_on={"add-home-short": frozenset({"add-home-short"})})
    assert seen.fitting(["add-home-short"]) == "seen"


def test_a_cost_counts_where_most_of_a_submission_is_of_the_study(study, tmp_path):
    (tmp_path / "settings").symlink_to(ROOT / "leaderboard" / "settings")
    shutil.copytree(ROOT / "leaderboard" / "submissions" / "tfidf_cosine", tmp_path / "submissions" / "tfidf_cosine")
    deeper = study.model_copy(update={"bases": {"deeper": study.bases["deeper"]}})
    whole = {e.name: e.seconds for e in from_board(study, tmp_path).main("shipped")}
    part = {e.name: e.seconds for e in from_board(deeper, tmp_path).main("deeper")}
    assert whole["tfidf_cosine"] > 0 and math.isnan(part["tfidf_cosine"])


def test_a_base_model_that_the_board_does_not_know_needs_its_folder(study, tmp_path):
    other = study.model_copy(update={"bases": {"shipped": study.bases["shipped"].model_copy(update={"model": "x/y"})}})
    with pytest.raises(SettingsError, match="--board_folder"):
        from_board(other, ROOT / "leaderboard")
    found = from_board(other, ROOT / "leaderboard", {"shipped": "micro"})
    assert "add-home-short" in found.outcomes["shipped"]
    with pytest.raises(SettingsError, match="no base model 'shiped'"):
        from_board(study, ROOT / "leaderboard", {"shiped": "micro"})


def test_kept_scores_are_read_as_they_were(study, tmp_path):
    scores = {"add-home-short": {"law": 1 / 3, "math": 2e-9}, "mul-home-short": {"law": 5.0}}
    evidence = Evidence({("shipped", "n10"): [entry("sts_act", scores)], ("shipped", MAIN): [entry("sts_act")]})
    (path,) = keep(study, evidence, tmp_path)
    assert path.name == "n10.json"
    (found,) = from_kept(study, tmp_path).entries["shipped", "n10"]
    assert found.scores == {"add-home-short": {"law": 0.333333, "math": 2e-9}, "mul-home-short": {"law": 5.0}}
    assert (found.name, found.target) == ("sts_act", "delta")


def test_kept_scores_that_were_changed_are_refused(study, tmp_path):
    (path,) = keep(study, Evidence({("shipped", "n10"): [entry()]}), tmp_path)
    path.write_text(path.read_text().replace("1.0", "2.0"))
    with pytest.raises(RecordError, match="does not match its hash"):
        from_kept(study, tmp_path)


@pytest.mark.parametrize("path", sorted((ROOT / "studies" / "micro").glob("n*.json")), ids=lambda path: path.stem)
def test_shipped_scores_are_of_conditions_of_the_study(study, path):
    record = load_record(KeptScores, path)
    assert path.stem == record.condition and record.condition in study.conditions
    assert set(next(iter(record.predictors.values())).scores) <= set(study.sets)
    assert "content_hash" in dump_record(record)


def test_what_a_condition_changes_is_told_beside_what_is_usual(study):
    assert changed_by(study, "n10") == {"n_features": "10 (100)"}
    assert changed_by(study, "sae-wide") == {"SAE": "sae-wide"}
    assert changed_by(study, MAIN) == {}


def test_of_two_sources_the_first_counts():
    first = Evidence({("b", MAIN): [entry("p", {"x": {"d": 1.0}}), entry("q")]}, {"b": {}}, ("one",))
    second = Evidence({("b", MAIN): [entry("p", {"x": {"d": 2.0}, "y": {"d": 3.0}}, seconds=2.0)]}, {}, ("two",))
    found = {e.name: e for e in joined(first, second).main("b")}
    assert found["p"].scores == {"x": {"d": 1.0}, "y": {"d": 3.0}} and found["p"].seconds == 2.0
    assert joined(first, second).sources == ("one", "two") and set(found) == {"p", "q"}


def test_predictors_that_only_a_condition_has_are_ranked_with_the_others():
    entries = {
        ("b", MAIN): [entry("sts_icl")],
        ("b", "oracles"): [entry("oracle_sts_icl")],
        ("b", "n10"): [entry("sts_icl")],
    }
    found = Evidence(entries)
    assert [e.name for e in found.main("b")] == ["sts_icl", "oracle_sts_icl"]
    assert [e.name for e in found.other("b", "n10")] == ["sts_icl"]
    not_yet = Evidence({place: each for place, each in entries.items() if place[1] != MAIN})
    assert [e.name for e in not_yet.main("b", planned=["sts_icl"])] == ["oracle_sts_icl"]
    assert found.other("b", "oracles") == []
