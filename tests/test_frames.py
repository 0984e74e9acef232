"""Records as tables of pandas, and as notebooks show them."""

from __future__ import annotations

import pandas as pd
import pytest

from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.api import Comparison
from lm_eval_sts.shipped import load_outcome
from tests.agreement import made
from tests.test_records import make_prediction


def shown(record) -> pd.DataFrame:
    from io import StringIO

    (table,) = pd.read_html(StringIO(record._repr_html_()))
    return table


def test_a_prediction():
    prediction = make_prediction()
    assert prediction.to_frame()["domain"].tolist() == ["law", "physics"]
    table = shown(prediction)
    assert table["domain"].tolist() == ["law", "physics"] and table["score"].tolist() == [1.5, -1.5]
    assert "sts_act (magnitude): org/model, org/set, sts_mmlu_pro" in prediction._repr_html_()


def test_an_outcome():
    outcome = load_outcome("micro/laws-home-long")
    frame = outcome.to_frame()
    assert frame["domain"].tolist() == list(outcome.domains)
    for row in frame.itertuples():
        change = outcome.domains[row.domain].score
        assert (row.n, row.delta, row.se) == (change.n, change.delta, change.se)
    assert outcome.to_frame("log_likelihood").shape[0] == len(outcome.changes("log_likelihood"))
    sizes = shown(outcome)["delta"].abs()
    assert sizes.is_monotonic_decreasing and "micro/model" in outcome._repr_html_()


def test_an_outcome_without_the_view():
    outcome = load_outcome("yi-6b-chat")
    assert outcome.to_frame("log_likelihood").empty and "delta" in outcome.to_frame("log_likelihood")


def test_an_agreement_and_a_comparison():
    scores = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 3.0, "e": 0.0}
    found = compare([made.prediction(scores)], [made.outcome(scores)], Rules(), made.PROVENANCE)
    assert found.to_frame()["pearson"].tolist() == [pytest.approx(1)]
    assert "Compared with the size of the change (score)" in found._repr_html_()
    assert Comparison(found)._repr_html_() == found._repr_html_()


def test_names_are_text_not_mark_up():
    nasty = make_prediction("<script>x</script>")
    html = nasty._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html
