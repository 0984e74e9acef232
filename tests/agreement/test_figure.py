"""The figure: all predictors with their places, or every domain with its error bars; formats, axes, labels, colours."""

from __future__ import annotations

import builtins
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lm_eval_sts.leaderboard
from lm_eval_sts.agreement.axes import Axis, labels_with_room, robust_axis
from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.agreement.figure import COLOURS, _packed, check_figure, make_chart, save_figure
from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.records import CATEGORIES
from tests.agreement.made import PROVENANCE, named, outcome, prediction
from tests.agreement.test_compare import DELTAS, SCORES
from tests.messages import says

DRAWS = all(importlib.util.find_spec(name) for name in ("altair", "vl_convert"))
drawing = pytest.mark.skipif(not DRAWS, reason="altair and vl-convert-python (extra board) are not installed")


def agreement(count=1, outcomes=1, names=None, **rules):
    labels = names or [f"p{i}" for i in range(count)]
    runs = range(outcomes)
    predictions = [prediction(SCORES, predictor=name, sft=f"x/{i}") for name in labels for i in runs]
    measured = [outcome(DELTAS, name=f"outcome-{i}", sft=f"x/{i}") for i in runs]
    return compare(predictions, measured, Rules(**rules), PROVENANCE)


@drawing
def test_formats(tmp_path):
    found = agreement(2)
    for name, start in (("new/a.png", b"\x89PNG"), ("a.PDF", b"%PDF"), ("a.svg", b"<svg")):
        save_figure(found, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    text = (tmp_path / "a.svg").read_text()
    assert ">p0</text>" in text and "2 predictors, outcome-0" in text and "noise ceiling" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.PDF", "a.svg", "new"]


@drawing
def test_a_png_is_small_and_whole(tmp_path):
    vl_convert = pytest.importorskip("vl_convert")
    save_figure(agreement(1, outcomes=24), tmp_path / "a.png", panels=24)
    content = (tmp_path / "a.png").read_bytes()
    assert len(content) < 500_000
    width, height = (int.from_bytes(content[at : at + 4]) for at in (16, 20))
    assert width > 600 and height > 8 * 260
    image = vl_convert.svg_to_png('<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"></svg>')
    assert _packed(_packed(image)) == _packed(image) and _packed(image)[:24] == image[:24]


@drawing
def test_all_predictors_by_default():
    names = ["sts_icl", "probing_1", "null_random", "oracle_sts_act"]
    chart = make_chart(agreement(names=names)).to_dict()
    rows = next(iter(values for values in chart["datasets"].values() if len(values) > 1))
    assert {row["predictor"]: row["category"] for row in rows} == dict(
        zip(names, ("predictor", "training", "null", "oracle"), strict=True)
    )
    assert {row["predictor"]: row["place"] for row in rows}["oracle_sts_act"] == "no place"
    assert {row["standing"] for row in rows if row["category"] == "null"} == {"not ruled out"}
    (colours,) = {
        tuple(layer["encoding"]["color"]["scale"]["range"])
        for layer in chart["layer"]
        if "color" in layer.get("encoding", {})
    }
    assert colours == tuple(COLOURS[name] for name in ("predictor", "training", "null", "oracle"))


def test_colours_are_the_page_s():
    style = (Path(lm_eval_sts.leaderboard.__file__).parent / "static" / "board.css").read_text(encoding="utf-8")
    by_day = style[: style.index("@media")]
    assert {name: re.search(rf"--{name}: (#\w+);", by_day)[1] for name in CATEGORIES} == COLOURS


@drawing
@pytest.mark.parametrize(("target", "measured", "low"), [("magnitude", 1.0, 0.0), ("delta", 1.0, -0.96)])
def test_points_and_error_bars(target, measured, low):
    chart = make_chart(agreement(target=target)).to_dict()
    (values,) = chart["datasets"].values()
    (title,) = [panel["title"] for panel in chart["concat"]]
    ceiling = agreement(target=target).settings[0].pearson.ceiling.value
    assert title["subtitle"][-1] == f"noise ceiling {ceiling:.2f}"
    rows = {row["domain"]: row for row in values}
    point = rows["f"]  # changed by 0.01 with an error of 0.01; predicted 0 with an error of 0.1 √2, of two questions
    assert (point["y"], point["low"], point["high"]) == pytest.approx((measured, low, 2.96), abs=0.001)
    assert (point["left"], point["right"]) == pytest.approx((-0.277, 0.277), abs=0.001)
    assert rows["b"]["y"] == pytest.approx(20 if target == "magnitude" else -20)


@drawing
def test_a_signed_prediction_counts_by_its_size():
    given = [prediction(DELTAS, predictor="signed", target="delta")]
    for target, size in (("magnitude", True), ("delta", False)):
        found = compare(given, [outcome(DELTAS)], Rules(target=target), PROVENANCE)
        (values,) = make_chart(found).to_dict()["datasets"].values()
        assert (min(row["x"] for row in values) >= 0) == size


@drawing
def test_panels_by_name():
    found = agreement(2, outcomes=5)
    chart = make_chart(found, ["p1"]).to_dict()
    assert [panel["title"]["text"] for panel in chart["concat"]] == ["p1"] * 5
    chart = make_chart(found, ["p1", "p0"]).to_dict()
    assert len(chart["concat"]) == 6 and "6 of 10 panels" in chart["title"]["subtitle"][0]
    assert len(make_chart(found, ["p1", "p0"], panels=10).to_dict()["concat"]) == 10
    with says(SettingsError, "--scatter p2", "p0"):
        make_chart(found, ["p2"])


def test_an_outlier_does_not_stretch_an_axis():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 1000.0]
    axis = robust_axis(values)
    assert axis.low < 1 and 5 < axis.high < 6 and axis.clamped(1000) == axis.high and axis.clamped(2) == 2
    assert robust_axis(values, zero=True).low == 0
    assert robust_axis([3.0, 3.0, 3.0, 3.0, 9.0]).high > 9  # half of them alike: no measure of what is far
    flat = robust_axis([0.0, 0.0])
    assert flat.low < 0 < flat.high


@drawing
def test_what_lies_beyond_an_axis_is_told():
    scores = {**dict(zip("abcdefghi", map(float, range(9)), strict=True)), "j": 1e6}
    found = compare([prediction(scores)], [outcome(named(np.arange(10) / 100))], Rules(), PROVENANCE)
    (values,) = make_chart(found).to_dict()["datasets"].values()
    (far,) = [row for row in values if row["beyond"]]
    assert far["domain"] == "j" and far["label"] == "j (1e+06, 9)" and far["x"] < 10


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_names_run_into_nothing(seed, count):
    points = np.random.default_rng(seed).random((count, 2))
    rows = [{"x": float(x), "y": float(y), "name": "n" * (3 + i % 20)} for i, (x, y) in enumerate(points)]
    axis = Axis(0.0, 1.0)
    boxes = []
    for row, label in zip(rows, labels_with_room(rows, axis, axis), strict=True):
        if label["label"]:
            width, x, y = 0.56 * 9 * len(row["name"]), axis.pixel(label["label_x"]), axis.pixel(label["label_y"])
            left = x if label["align"] == "left" else x - width
            boxes.append((left, y - 5.4, left + width, y + 5.4))
            assert left >= -1e-6 and left + width <= 260 + 1e-6
            assert abs(y - axis.pixel(row["y"])) < 20 and abs(x - axis.pixel(row["x"])) < 6
    for i, a in enumerate(boxes):
        assert not any(
            a[0] < b[2] - 1e-6 and b[0] < a[2] - 1e-6 and a[1] < b[3] - 1e-6 and b[1] < a[3] - 1e-6
            for b in boxes[i + 1 :]
        )
    assert boxes or count > 1


def test_what_cannot_be_drawn(tmp_path, monkeypatch):
    with says(SettingsError, "a.gif", ".pdf, .png or .svg"):
        check_figure(tmp_path / "a.gif")
    for panels in (0, 61):
        with says(SettingsError, f"--panels {panels}", "1 to 60"):
            check_figure(tmp_path / "a.png", panels)
    real = builtins.__import__

    def without_altair(name, *args, **kwargs):
        if name == "altair":
            raise ImportError("No module named 'altair'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_altair)
    with says(SettingsError, "altair", "pip install 'lm-eval-sts[board]'"):
        check_figure(tmp_path / "a.png")


@drawing
def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with says(RecordError, "cannot write", tmp_path / "file" / "a.svg"):
        save_figure(agreement(), tmp_path / "file" / "a.svg")
