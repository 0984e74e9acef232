"""The charts of the pages, as Vega-Lite specifications whose data the pages fill in.

Colours are not set here: the pages configure them for light and dark.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.records import CATEGORIES

ROWS: Final = "rows"
"""Name of the data set that the pages fill in."""
_SHAPES: Final = ("circle", "diamond", "cross", "triangle-up", "square")


def check_libraries() -> None:
    """Checks before any work that pages can be made.

    Raises:
        SettingsError: A library of the extra ``board`` is not installed.
    """
    try:
        import altair  # noqa: F401
        import jinja2  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise SettingsError(f"the pages need {error.name}: pip install 'lm-eval-sts[board]'") from error


def specifications() -> dict[str, Any]:
    """All charts by name."""
    return {"frontier": _frontier(), "scatter": _scatter()}


@lru_cache(maxsize=1)
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that needs no network.

    The bundle declares names of its own, so it gets a scope; what pages use it sets on ``window``.
    """
    import vl_convert

    bundle: Any = vl_convert.javascript_bundle  # its stub does not know that it can be called without a snippet
    return f"(() => {{\n{bundle()}\n}})();\n"


def _frontier() -> dict[str, Any]:
    """Agreement and cost: a point, an interval and a name an entry, and a line along the best at each cost.

    A logarithmic axis has no 0, so the pages say where each cost is ``drawn``.
    """
    import altair as alt

    cost = alt.X(
        "drawn:Q",
        title="cost of one SFT run, token equivalents (log)",
        scale=alt.Scale(type="log", nice=False, padding=14),
    )
    title = "correlation"
    legend = alt.Legend(orient="top", title=None, columns=3, symbolOpacity=1)
    category = alt.Color("category:N", scale=alt.Scale(domain=list(CATEGORIES)), legend=legend)
    base = alt.Chart(alt.NamedData(name=ROWS))
    best = base.transform_filter("datum.category != 'oracle'").transform_window(
        best="max(value)", sort=[alt.SortField("drawn")], frame=[None, 0]
    )
    line = best.mark_line(interpolate="step-after", strokeDash=[5, 4], strokeWidth=1.5, opacity=0.8).encode(
        x=cost, y=alt.Y("best:Q", title=title)
    )
    intervals = base.mark_rule(opacity=0.35).encode(x=cost, y=alt.Y("low:Q", title=title), y2="high:Q", color=category)
    points = base.mark_point(filled=True, size=80, opacity=1, cursor="pointer").encode(
        x=cost,
        y=alt.Y("value:Q", title=title),
        color=category,
        shape=alt.Shape("category:N", scale=alt.Scale(domain=list(CATEGORIES), range=list(_SHAPES))),
        href="page:N",
        tooltip=[
            alt.Tooltip("name:N", title="predictor"),
            alt.Tooltip("title:N", title="what it is"),
            alt.Tooltip("shown:N", title="correlation"),
            alt.Tooltip("expected:N", title="noise ceiling"),
            alt.Tooltip("place:N", title="place"),
            alt.Tooltip("tokens:N", title="tokens"),
        ],
    )
    names = _names(base, cost, alt.Y("value:Q", title=title))
    return _specification(alt.layer(line, intervals, points, *names), height=440)


def _scatter() -> dict[str, Any]:
    """One predictor in one setting: predicted against measured, with 95% error bars both ways."""
    import altair as alt

    base = alt.Chart(alt.NamedData(name=ROWS))
    x = alt.X("predicted:Q", title="predicted", scale=alt.Scale(zero=False, padding=20))
    y = alt.Y("measured:Q", title="measured", scale=alt.Scale(zero=False, padding=12))
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(opacity=0.5, strokeDash=[2, 3]).encode(y="zero:Q")
    up = base.mark_rule(opacity=0.45).encode(x=x, y=alt.Y("low:Q", title="measured"), y2="high:Q")
    across = base.mark_rule(opacity=0.45).encode(x=alt.X("left:Q", title="predicted"), x2="right:Q", y=y)
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("domain:N"),
            alt.Tooltip("predicted_shown:N", title="predicted"),
            alt.Tooltip("measured_shown:N", title="measured"),
        ],
    )
    return _specification(alt.layer(zero, up, across, points, *_names(base, x, y)), height=380)


def _names(base: Any, x: Any, y: Any) -> list[Any]:
    """Names at the right and the left of points; the pages say which has room where."""
    return [
        base.mark_text(align=align, dx=dx, fontSize=11).encode(x=x, y=y, text=f"label_{side}:N")
        for side, align, dx in (("right", "left", 8), ("left", "right", -8))
    ]


def _specification(chart: Any, height: int) -> dict[str, Any]:
    import altair as alt

    wide = chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit", contains="padding")
    )
    found: dict[str, Any] = wide.to_dict()
    return found
