"""A report's figures, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lm_eval_sts.agreement.figure import COLOURS
from lm_eval_sts.records import CATEGORIES, ReportColumn, StudyReport
from lm_eval_sts.study.report_files import ReportFiles
from lm_eval_sts.study.words import against_in_words

_NAMES: Final = ("predictors", "cost")


def figure_files(report: StudyReport, files: ReportFiles) -> dict[str, Path]:
    """The figures of a report by what they show; without the charting library those that were drawn before."""
    costs = any(p.token_equivalents is not None for p in report.predictors.values())
    found = {name: files.image(name) for name in _NAMES if name != "cost" or costs}
    return found if _can_draw() else {name: path for name, path in found.items() if path.is_file()}


def _can_draw() -> bool:
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("altair", "vl_convert"))


def save_figures(report: StudyReport, files: ReportFiles) -> list[Path]:
    """Draws all figures; returns their files."""
    charts = {"predictors": _forest, "cost": _frontier}
    found = figure_files(report, files) if _can_draw() else {}
    for name, path in found.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        charts[name](report).save(path)
    return list(found.values())


def _rows(report: StudyReport) -> list[dict[str, Any]]:
    return [
        {**row.model_dump(), **report.predictors[row.predictor].model_dump()}
        for row in _column(report).rows
        if row.r is not None
    ]


def _column(report: StudyReport) -> ReportColumn:
    return report.tables[0].columns[0]


def _title(report: StudyReport) -> str:
    return f"Correlation with {against_in_words(_column(report).against, report)}, SFT sets: {report.tables[0].group}"


def _colour(report: StudyReport) -> Any:
    import altair as alt

    shown = {row["category"] for row in _rows(report)}
    kinds = [name for name in CATEGORIES if name in shown]
    scale = alt.Scale(domain=kinds, range=[COLOURS[name] for name in kinds])
    return alt.Color("category:N", title=None, scale=scale, legend=alt.Legend(orient="top"))


def _frontier(report: StudyReport) -> Any:
    """Agreement against cost, and the predictors that none is better than for less."""
    import altair as alt
    import pandas as pd

    known = [row for row in _rows(report) if row["token_equivalents"] is not None]
    frame = pd.DataFrame([{**row, "cost": max(row["token_equivalents"], 1.0)} for row in known])
    best = frame.sort_values(["cost", "r"], ascending=[True, False])
    best = best[best["category"] != "oracle"]
    best = best[best["r"] > best["r"].cummax().shift(fill_value=-2.0)]
    colour = _colour(report)
    x = alt.X("cost:Q", scale=alt.Scale(type="log"), title="Cost: tokens forward (a backward pass counts as two)")
    y = alt.Y("r:Q", title=_title(report), scale=alt.Scale(zero=False))
    points = alt.Chart(frame).mark_circle(size=60).encode(x=x, y=y, color=colour)
    bars = alt.Chart(frame).mark_rule(opacity=0.25).encode(x=x, y="low:Q", y2="high:Q", color=colour)
    line = alt.Chart(best).mark_line(interpolate="step-after", color="#888", strokeDash=[4, 3]).encode(x=x, y=y)
    labels = alt.Chart(best).mark_text(align="left", dx=6, dy=-6, fontSize=10).encode(x=x, y=y, text="predictor:N")
    return (bars + line + points + labels).properties(width=620, height=380)


def _forest(report: StudyReport) -> Any:
    """Every predictor with its interval, and what is expected of a perfect one."""
    import altair as alt
    import pandas as pd

    frame = pd.DataFrame(_rows(report))
    colour = _colour(report)
    order = alt.Y("predictor:N", sort=list(frame["predictor"]), title=None)
    bars = alt.Chart(frame).mark_rule().encode(x="low:Q", x2="high:Q", y=order, color=colour)
    x = alt.X("r:Q", title=_title(report))
    points = alt.Chart(frame).mark_circle(size=50).encode(x=x, y=order, color=colour)
    zero = alt.Chart(pd.DataFrame([{"zero": 0.0}])).mark_rule(color="#bbb").encode(x="zero:Q")
    layers = zero + bars + points
    if (ceiling := _column(report).ceiling) is not None:
        limit = pd.DataFrame([{"ceiling": ceiling}])
        layers += alt.Chart(limit).mark_rule(strokeDash=[4, 3], color="#444").encode(x="ceiling:Q")
    return layers.properties(width=520, height=16 * len(frame))
