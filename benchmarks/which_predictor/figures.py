"""The study's figures, as SVG in docs/images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.agreement.figure import COLOURS
from lm_eval_sts.predictors.costs import reference_costs
from lm_eval_sts.records import Category

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
_PRIMARY: Final = "Δ accuracy, double-centred"
_CATEGORIES: Final[tuple[Category, ...]] = ("predictor", "training", "null", "oracle")


def save_figures(found: Mapping[str, Any]) -> None:
    """Writes all figures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    _frontier(found).save(IMAGES / "which-predictor-frontier.svg")
    _forest(found).save(IMAGES / "which-predictor-test.svg")


def _records(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {**row, **found["costs"][row["predictor"]], "predictor": row["predictor"]}
        for row in found["test"][_PRIMARY]["rows"]
        if row["r"] is not None
    ]


def _colour() -> Any:
    import altair as alt

    scale = alt.Scale(domain=list(_CATEGORIES), range=[COLOURS[name] for name in _CATEGORIES])
    return alt.Color("category:N", title=None, scale=scale, legend=alt.Legend(orient="top"))


def _frontier(found: Mapping[str, Any]) -> Any:
    """Agreement against cost; fine-tuning itself stands at what is expected of one who knows the true changes."""
    import altair as alt
    import pandas as pd

    known = [r for r in _records(found) if r["token_equivalents"] is not None]
    frame = pd.DataFrame([{**r, "cost": max(r["token_equivalents"], 1.0)} for r in known])
    best = frame.sort_values(["cost", "r"], ascending=[True, False])
    best = best[best["category"] != "oracle"]
    best = best[best["r"] > best["r"].cummax().shift(fill_value=-2.0)]
    x = alt.X("cost:Q", scale=alt.Scale(type="log"), title="Cost: tokens forward (a backward pass counts as two)")
    y = alt.Y("r:Q", title="Correlation with Δ accuracy, double-centred, test sets", scale=alt.Scale(zero=False))
    points = alt.Chart(frame).mark_circle(size=60).encode(x=x, y=y, color=_colour())
    bars = alt.Chart(frame).mark_rule(opacity=0.25).encode(x=x, y="low:Q", y2="high:Q", color=_colour())
    line = alt.Chart(best).mark_line(interpolate="step-after", color="#888", strokeDash=[4, 3]).encode(x=x, y=y)
    labels = alt.Chart(best).mark_text(align="left", dx=6, dy=-6, fontSize=10).encode(x=x, y=y, text="predictor:N")
    whole = reference_costs().finetune_and_measure
    saved = pd.DataFrame(
        [{"cost": whole.token_equivalents, "r": found["test"][_PRIMARY]["ceiling"], "label": "fine-tune and measure"}]
    )
    square = alt.Chart(saved).mark_square(size=70, color="#444").encode(x=x, y=y)
    named = alt.Chart(saved).mark_text(align="right", dx=-8, fontSize=10).encode(x=x, y=y, text="label:N")
    return (bars + line + points + labels + square + named).properties(width=620, height=380)


def _forest(found: Mapping[str, Any]) -> Any:
    """Every predictor with its interval, and what is expected of a perfect one."""
    import altair as alt
    import pandas as pd

    frame = pd.DataFrame(_records(found))
    order = alt.Y("predictor:N", sort=list(frame["predictor"]), title=None)
    bars = alt.Chart(frame).mark_rule().encode(x="low:Q", x2="high:Q", y=order, color=_colour())
    points = (
        alt.Chart(frame)
        .mark_circle(size=50)
        .encode(
            x=alt.X("r:Q", title="Correlation with Δ accuracy, double-centred, test sets"), y=order, color=_colour()
        )
    )
    ceiling = pd.DataFrame([{"ceiling": found["test"][_PRIMARY]["ceiling"]}])
    limit = alt.Chart(ceiling).mark_rule(strokeDash=[4, 3], color="#444").encode(x="ceiling:Q")
    zero = alt.Chart(pd.DataFrame([{"zero": 0.0}])).mark_rule(color="#bbb").encode(x="zero:Q")
    return (zero + bars + points + limit).properties(width=520, height=16 * len(frame))
