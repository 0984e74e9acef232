"""The figure: a PNG or SVG with every domain, its error bars and the correlation."""

from __future__ import annotations

import builtins
import importlib.util

import pytest

from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.agreement.figure import _with_room, check_figure, make_chart, save_figure
from lm_eval_sts.errors import RecordError, SettingsError
from tests.agreement.made import PROVENANCE, outcome, prediction
from tests.agreement.test_compare import DELTAS, SCORES
from tests.messages import says

DRAWS = all(importlib.util.find_spec(name) for name in ("altair", "vl_convert"))
drawing = pytest.mark.skipif(not DRAWS, reason="altair and vl-convert-python (extra board) are not installed")


def agreement(count=1, **rules):
    predictions = [prediction(SCORES, predictor=f"p{i}") for i in range(count)]
    return compare(predictions, [outcome(DELTAS)], Rules(**rules), PROVENANCE)


@drawing
def test_formats(tmp_path):
    found = agreement(2)
    save_figure(found, tmp_path / "new" / "a.png")
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")
    save_figure(found, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "p0 · an-outcome" in text and "|measured change| (points)" in text and ">d</text>" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "new"]


@drawing
@pytest.mark.parametrize(("target", "measured", "low"), [("magnitude", 1.0, 0.0), ("delta", 1.0, -0.96)])
def test_points_and_error_bars(target, measured, low):
    chart = make_chart(agreement(target=target)).to_dict()
    (values,) = chart["datasets"].values()
    (title,) = [panel["title"] for panel in chart["concat"]]
    ceiling = agreement(target=target).settings[0].pearson.ceiling.value
    assert title["subtitle"][0].endswith(f"; a perfect predictor: {ceiling:.2f}")
    rows = {row["domain"]: row for row in values}
    point = rows["f"]  # changed by 0.01 with an error of 0.01; predicted 0 with an error of 0.1
    assert (point["measured"], point["low"], point["high"]) == pytest.approx((measured, low, 2.96), abs=0.001)
    assert (point["left"], point["right"]) == pytest.approx((-0.196, 0.196), abs=0.001)
    assert rows["b"]["measured"] == pytest.approx(20 if target == "magnitude" else -20)


@pytest.mark.parametrize(
    ("x", "named"),
    [
        ([0.0, 0.05, 1.0], {"first", "last"}),
        ([0.0, 0.4, 1.0], {"first", "next", "last"}),
        ([0.95, 1.0, 0.0], {"next", "last"}),
    ],
)
def test_names_that_would_run_into_one_another_are_left_out(x, named):
    rows = [
        {"domain": domain, "predicted": x, "left": 0.0, "right": 1.0, "measured": 0.0, "low": 0.0, "high": 1.0}
        for domain, x in zip(("first", "next", "last"), x, strict=True)
    ]
    assert _with_room(rows) == named


def test_what_cannot_be_drawn(tmp_path, monkeypatch):
    with says(SettingsError, "a.pdf", ".png or .svg"):
        check_figure(tmp_path / "a.pdf")
    real = builtins.__import__

    def without_altair(name, *args, **kwargs):
        if name == "altair":
            raise ImportError("No module named 'altair'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_altair)
    with says(SettingsError, "altair", "pip install 'lm-eval-sts[board]'"):
        check_figure(tmp_path / "a.png")


@drawing
def test_what_does_not_fit_or_cannot_be_written(tmp_path):
    with says(SettingsError, "61 panels", "fewer --outcome"):
        save_figure(agreement(61), tmp_path / "a.svg")
    (tmp_path / "file").write_text("")
    with says(RecordError, "cannot write", tmp_path / "file" / "a.svg"):
        save_figure(agreement(), tmp_path / "file" / "a.svg")
