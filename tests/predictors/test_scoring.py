"""No predictor loses a domain without a word, whosever it is."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import pytest

from lm_eval_sts.evidence.evidence import About
from lm_eval_sts.predictors.base import Scores
from lm_eval_sts.predictors.predict import score, scores_of
from lm_eval_sts.records import DomainScore
from tests.predictors.made import text_evidence
from tests.test_records import make_prediction


@dataclass
class Theirs:
    """A predictor of another package that gives these numbers."""

    values: dict[str, float]
    notes: tuple[str, ...] = ()
    name: str = "theirs"
    version: str = "1"
    target: str = "magnitude"
    needs: frozenset[str] = frozenset({"texts"})

    def score(self, evidence: object) -> Scores:
        domains = {
            name: DomainScore(score=value, se=None, draws=(), n_questions=1, n_tokens=None)
            for name, value in self.values.items()
        }
        return Scores(domains, {}, notes=self.notes)


@pytest.mark.parametrize(
    ("predictor", "note"),
    [
        (Theirs({"law": 1.0, "math": 2.0}), ""),
        (Theirs({"law": 1.0}), "theirs has no score for math, and does not say why"),
        (Theirs({"law": 1.0}, notes=("read twice",)), "theirs has no score for math, and does not say why"),
        (Theirs({"law": 1.0}, notes=("math is too hard",)), "math is too hard"),
        (Theirs({}), "theirs has no score for law, math, and does not say why"),
        (Theirs({"law": 1.0, "math": float("nan")}), "theirs gave what is no score: Input should be a finite"),
    ],
)
def test_what_is_left_out_is_named(predictor, note):
    found = scores_of(predictor, text_evidence([], {"law": ["?"], "math": ["?"]}))
    assert bool(found.notes) == bool(note) and note in "".join(found.notes[-1:])
    assert set(found.domains) == (set() if "no score:" in note else set(predictor.values))


def test_a_predictor_of_another_package_that_fails_costs_its_own_scores_only(monkeypatch):
    evidence, theirs = text_evidence([], {"law": ["?"]}), Theirs({})
    monkeypatch.setattr(Theirs, "score", lambda self, evidence: 1 / 0)
    assert scores_of(theirs, evidence).notes == ("theirs could not score: ZeroDivisionError: division by zero",)
    monkeypatch.setattr("lm_eval_sts.predictors.predict.is_ours", lambda name: True)
    with pytest.raises(ZeroDivisionError):
        scores_of(theirs, evidence)


@pytest.mark.parametrize(("values", "level"), [({"law": 1.0, "math": 2.0}, "INFO"), ({"law": 1.0}, "WARNING")])
def test_a_note_is_a_warning_where_a_domain_is_left_out(values, level, caplog):
    given = make_prediction()
    evidence = replace(
        text_evidence([], {"law": ["?"], "math": ["?"]}), about=About(given.setting, None, given.provenance)
    )
    with caplog.at_level(logging.INFO):
        (made,) = score(evidence, [Theirs(values, notes=("math is odd",))]).predictions
    assert [(record.levelname, record.message) for record in caplog.records] == [(level, "math is odd")]
    assert made.provenance.notes == (*given.provenance.notes, "math is odd")
