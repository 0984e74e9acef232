"""Damage to a record is noticed: its content hash, and figures that do not fit each other."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import (
    Agreement,
    Bounds,
    Change,
    Document,
    DomainOutcome,
    DomainScore,
    Mean,
    ModelRef,
    Outcome,
    Prediction,
    SelectedFeatures,
    Selection,
    dump_record,
    load_record,
    parse_record,
    save_record,
    validated,
)
from lm_eval_sts.shipped import MICRO, PUBLISHED, load_outcome, load_outcomes, save_outcome
from lm_eval_sts.verdict.results import read_predictions
from microworld.split import SPLIT_FILE, Split
from tests.agreement import made
from tests.finetuning.test_tuned import manifest
from tests.messages import says
from tests.test_records import make_prediction

FLIPS = 200
CHANGE = {"n": 10, "base": 0.5, "tuned": 0.7, "delta": 0.2, "se": 0.1, "se_kind": "paired"}
DISCORDANT = {**CHANGE, "p": 0.625, "gained": 3, "lost": 1, "seed_deltas": (0.2,)}


def documents() -> list[Document]:
    """One of each kind, with figures of many digits."""
    scores = {"a": 1.25, "b": 2.5, "c": 1 / 3, "d": 1e-5}
    predicted, measured = made.prediction(scores), made.outcome({"a": 0.1, "b": -0.2, "c": 1 / 30, "d": 0.0})
    return [
        make_prediction(),
        load_outcome("yi-6b-chat").model_copy(update={"caveats": ("umlauts: äöü, and \u2028",)}),
        compare([predicted], [measured], Rules(), made.PROVENANCE),
        manifest(ModelRef(name="org/model", weights_hash="a" * 64, dtype="float32")),
        load_record(Split, SPLIT_FILE),
    ]


@pytest.mark.parametrize("record", documents(), ids=lambda record: type(record).__name__)
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path, record):
    path = tmp_path / "x.json"
    save_record(record, path)
    whole, generator = path.read_bytes(), random.Random(20260302)
    refused = 0
    for bit in generator.sample(range(8 * len(whole)), FLIPS):
        bent = bytearray(whole)
        bent[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bent)
        try:
            assert load_record(type(record), path) == record
        except RecordError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 0.9 * FLIPS


def test_what_is_said_of_a_changed_record(tmp_path):
    path = tmp_path / "outcome.json"
    save_record(load_outcome("yi-6b-chat"), path)
    path.write_text(path.read_text().replace('"n": 7', '"n": 8', 1))
    with says(RecordError, path, "content does not match its hash", "changed or damaged", "remove its content_hash"):
        load_record(Outcome, path)


@pytest.mark.parametrize("read", [lambda folder: load_outcomes([str(folder)]), read_predictions])
def test_a_damaged_kind_does_not_hide_a_record_in_a_folder(tmp_path, read):
    for name, record in (("outcome", load_outcome("yi-6b-chat")), ("prediction", make_prediction())):
        save_record(record, tmp_path / f"{name}.json")
        text = (tmp_path / f"{name}.json").read_text()
        (tmp_path / f"{name}-2.json").write_text(text.replace(f'"kind": "{name}"', f'"kind": "{name[:-1]}f"'))
    with says(RecordError, "-2.json", "does not match its hash"):
        read(tmp_path)


def test_a_record_edited_by_hand_is_read_without_its_hash(caplog):
    data = {**dump_record(make_prediction()), "predictor": "mine"}
    with says(RecordError, "here", "hash"):
        parse_record(Prediction, data, "here")
    del data["content_hash"]
    assert parse_record(Prediction, data, "here").predictor == "mine"
    (line,) = caplog.messages
    assert line.startswith("here: no content_hash")


def test_older_records_are_told_of_once(tmp_path, caplog):
    for name in ("a", "b", "c"):
        outcome = made.outcome({"law": 0.1, "math": 0.2}, name=name)
        (tmp_path / f"{name}.json").write_text(outcome.model_dump_json())
    assert len(load_outcomes([str(tmp_path)])) == 3
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'a.json'} and 2 more: no content_hash")


def test_the_hash_is_of_what_json_says_not_of_how_it_is_written(caplog):
    record = compare(
        [made.prediction({"ü": 1.0, "b": 2.0})], [made.outcome({"ü": 3.0, "b": -0.5})], Rules(), made.PROVENANCE
    )
    data = dump_record(record)
    text = json.dumps(dict(reversed(data.items())), indent=7, ensure_ascii=True)
    assert "1.0" in text
    for other in (text, text.replace("1.0", "1"), text.replace("1.0", "1.00e0"), text.replace("3.0", "0.3E1")):
        assert parse_record(Agreement, json.loads(other), "here") == record
    assert not caplog.messages


def test_only_what_stands_alone_carries_a_hash():
    outcome = made.outcome({"law": 0.1})
    outcome = outcome.model_copy(update={"tuned": (manifest(outcome.model).model_dump(mode="json"),)})
    assert "content_hash" not in dump_record(outcome)["tuned"][0]
    assert "content_hash" not in dump_record(outcome.provenance)


def test_every_shipped_record_carries_one(caplog):
    for path in (*PUBLISHED.rglob("*.json"), *MICRO.glob("*.json"), SPLIT_FILE):
        kind = Split if path == SPLIT_FILE else Prediction if path.parent.name == "predictions" else Outcome
        load_record(kind, path)
    assert not caplog.messages


def test_the_micro_worlds_outcomes_are_as_they_are_written(tmp_path):
    path = MICRO / "max-home-long.json"
    save_outcome(load_record(Outcome, path), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


# --- Figures that follow from others.


@pytest.mark.parametrize(
    ("fields", "changes", "named"),
    [
        (CHANGE, {"delta": 0.3}, "delta 0.3 is not tuned − base, 0.2"),
        (CHANGE, {"delta": -0.2}, "delta -0.2 is not tuned − base"),
        (CHANGE, {"base": 0.51}, "delta"),
        (CHANGE, {"tuned": 0.71}, "delta"),
        (CHANGE, {"seed_deltas": (0.1, 0.2)}, "the mean of seed_deltas, 0.15"),
        (DISCORDANT, {"gained": 4}, "(gained − lost) / n"),
        (DISCORDANT, {"lost": 3}, "(gained − lost) / n"),
        (DISCORDANT, {"n": 11}, "(gained − lost) / n"),
        (DISCORDANT, {"gained": 7, "lost": 5}, "more than the 10 questions"),
        (DISCORDANT, {"p": 0.6}, "McNemar's of gained and lost, 0.625"),
        (DISCORDANT, {"lost": None}, "give both or neither"),
        (DISCORDANT, {"gained": None}, "give both or neither"),
        (CHANGE, {"se": -0.1}, "se"),
    ],
)
def test_a_change_that_contradicts_itself(fields, changes, named):
    assert Change(**fields).delta == 0.2
    with says(RecordError, "here: not a valid Change", named), validated("here"):
        Change(**{**fields, **changes})


def test_figures_may_be_rounded():
    """To seven digits as ours are; to a tenth of a point where they were printed."""
    Change(**{**CHANGE, "base": -12.34568, "tuned": -10.98765, "delta": 1.358024})
    printed = {**CHANGE, "base": 0.453, "tuned": 0.479, "delta": 0.025}
    Change(**{**printed, "se_kind": "estimated"})
    with pytest.raises(ValueError, match="delta"):
        Change(**printed)
    with pytest.raises(ValueError, match="delta"):
        Change(**{**printed, "se_kind": "estimated", "delta": -0.025})


@pytest.mark.parametrize("view", ["unparsed", "log_likelihood", "choice_log_likelihood"])
def test_views_of_other_questions(view):
    score, fewer, more = (Change(**{**CHANGE, "n": n}) for n in (10, 9, 11))
    DomainOutcome(score=score, answered=fewer)
    for change in (fewer, more):
        with pytest.raises(ValueError, match="the same ones"):
            DomainOutcome(score=score, **{view: change})
    with pytest.raises(ValueError, match="some of them"):
        DomainOutcome(score=score, answered=more)


def test_one_change_a_seed():
    data = made.outcome({"law": 0.2}, seeds=(3, 4)).model_dump(mode="json")
    data["domains"]["law"]["score"]["seed_deltas"] = [0.1, 0.3]
    parse_record(Outcome, data, "here")
    data["seeds"] = [3, 4, 5]
    with says(RecordError, "domain law has 2 seed_deltas for 3 seeds"):
        parse_record(Outcome, data, "here")
    data["seeds"], data["tuned"] = [3, 4], [{}]
    with says(RecordError, "1 manifests for 2 seeds"):
        parse_record(Outcome, data, "here")


SCORE: dict[str, Any] = {"se": None, "n_questions": 2, "n_tokens": 7}
SELECTION: dict[str, Any] = {"rule": "aligned", "n_queries": 4, "n_tokens": 9}
FEATURES: dict[str, Any] = {"stability": 0.5, "demonstrations": (0,)}


def test_predictions_that_contradict_themselves():
    DomainScore(score=1.5, draws=(1.0, 2.0), **SCORE)
    for score in (1.6, -1.5):
        with pytest.raises(ValueError, match="not the mean of its draws, 1.5"):
            DomainScore(score=score, draws=(1.0, 2.0), **SCORE)
    with pytest.raises(ValueError, match="one shift a feature"):
        SelectedFeatures(features=(1, 2), shift=(0.5,), **FEATURES)
    with pytest.raises(ValueError, match="twice"):
        SelectedFeatures(features=(1, 1), shift=(0.5, 0.5), **FEATURES)
    draw = SelectedFeatures(features=(1, 2), shift=(0.5, 0.25), **FEATURES)
    Selection(n_features=2, draws=(draw,), **SELECTION)
    with pytest.raises(ValueError, match="2 features of 1 asked for"):
        Selection(n_features=1, draws=(draw,), **SELECTION)


def test_agreements_that_contradict_themselves():
    with pytest.raises(ValueError, match="above high"):
        Bounds(low=0.2, high=0.1)
    (mean,) = compare(
        [made.prediction(made.named(range(6)))],
        [made.outcome(made.named([0, 2, 1, 3, 5, 4]))],
        Rules(),
        made.PROVENANCE,
    ).raw.means
    with pytest.raises(ValueError, match="1 correlations for 2 settings"):
        Mean(**{**mean.model_dump(), "settings": ("a", "b")})
