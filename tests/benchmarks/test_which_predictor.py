"""The study: its page is what the committed evidence gives, and its rows are the agreement package's."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.which_predictor import evidence, markdown, study
from benchmarks.which_predictor.analysis import centred, contrast, masked, pooled, rows
from benchmarks.which_predictor.evidence import Entry, panel_of
from lm_eval_sts.agreement.differences import compare_all
from lm_eval_sts.agreement.ranking import rank
from lm_eval_sts.shipped import load_outcome
from microworld.split import read_split

SETS = tuple(f"micro/{name}" for name in read_split().development[:4])


@pytest.fixture(scope="module")
def outcomes():
    return {name: load_outcome(name) for name in SETS}


def entry(outcomes, name: str, seed: int, signal: float, target="delta") -> Entry:
    rng = np.random.default_rng(seed)
    return Entry(
        name,
        target,
        "predictor",
        {
            setting: {d: signal * 10 * c.delta + rng.normal() for d, c in outcome.changes("score").items()}
            for setting, outcome in outcomes.items()
        },
    )


def test_the_page_is_what_the_evidence_gives():
    found = json.loads(json.dumps(study.rounded(study.run())))
    stored = json.loads(study.RESULTS.read_text(encoding="utf-8"))
    assert found.keys() == stored.keys()
    for part in found:
        assert found[part] == stored[part], part
    for path, text in markdown.pages(stored).items():
        assert path.read_text(encoding="utf-8") == text, path


def test_rows_are_those_of_the_agreement_package(outcomes):
    panel = panel_of([entry(outcomes, "a", 1, 1.0), entry(outcomes, "b", 2, 0.0)], outcomes, SETS, "score", "delta")
    for centre in (False, True):
        expected = rank(centred(panel, centre))
        for row, mean, place in zip(rows(centred(panel, centre)), expected.means, expected.places, strict=True):
            assert (row.predictor, row.best, row.worst) == (mean.predictor, place.best, place.worst)
            assert row.r == pytest.approx(mean.correlation)
            assert (row.low, row.high) == pytest.approx((mean.correlation_interval.low, mean.correlation_interval.high))
    tested, found = compare_all(panel), contrast(panel, "a", "b")
    assert (found.z, found.p) == pytest.approx((tested.difference[0], tested.p[0]))
    assert contrast(panel, "b", "a").z == -found.z


def test_sizes_of_signed_predictions_count(outcomes):
    signed, size = entry(outcomes, "signed", 3, 1.0), entry(outcomes, "size", 3, 1.0, "magnitude")
    panel = panel_of([signed, size], outcomes, SETS, "score", "magnitude")
    assert np.array_equal(panel.predicted[0], np.abs(panel.predicted[1]))
    assert (panel.measured >= 0).all()


def test_masked_cells_do_not_count(outcomes):
    panel = panel_of([entry(outcomes, "a", 4, 1.0)], outcomes, SETS, "score", "delta")
    cells = np.ones(panel.measured.shape, dtype=bool)
    cells[:, 0] = False
    changed = panel.predicted.copy()
    changed[:, :, 0] = 1e6
    one, two = (rows(masked(p, cells)) for p in (panel, panel.__class__(**{**panel.__dict__, "predicted": changed})))
    assert one == two != rows(panel)


def test_condensed_evidence_is_read_as_it_was(tmp_path, monkeypatch):
    records = [
        {"predictor": "p", "target": "delta", "domains": {"law": {"score": 1 / 3}, "math": {"score": 2e-9}}},
        {"predictor": "q", "target": "magnitude", "domains": {"law": {"score": 5.0}}},
    ]
    (tmp_path / "run" / "n10").mkdir(parents=True)
    (tmp_path / "run" / "n10" / "add-home-short.json").write_text(json.dumps(records))
    monkeypatch.setattr(evidence, "ABLATIONS", tmp_path)
    evidence.condense(tmp_path / "run", "n10")
    first, second = evidence.ablation_entries("n10")
    assert first.scores == {"micro/add-home-short": {"law": 0.333333, "math": 2e-9}}
    assert (second.name, second.target, second.scores) == ("q", "magnitude", {"micro/add-home-short": {"law": 5.0}})


def test_a_table_needs_its_place():
    text = "a\n<!-- table: x -->\nold\n<!-- end -->\nb\n<!-- table: y -->\n<!-- end -->"
    filled = markdown.fill(text, {"x": "new \\1"})
    assert filled == "a\n<!-- table: x -->\nnew \\1\n<!-- end -->\nb\n<!-- table: y -->\n<!-- end -->"
    with pytest.raises(ValueError, match="the table z has 0 places"):
        markdown.fill(text, {"z": ""})


def test_pooled_correlation_is_over_all_cells_at_once(outcomes):
    panel = panel_of([entry(outcomes, "a", 5, 1.0)], outcomes, SETS, "score", "delta")
    shifted = replace(panel, predicted=panel.predicted + 100 * np.arange(len(SETS))[None, :, None])
    expected = np.corrcoef(shifted.predicted.ravel(), panel.measured.ravel())[0, 1]
    assert pooled(shifted) == {"a": pytest.approx(expected)}
    assert pooled(panel)["a"] > abs(expected) + 0.1
    assert pooled(replace(panel, predicted=np.ones_like(panel.predicted))) == {"a": None}
