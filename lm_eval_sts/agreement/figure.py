"""The agreement as a picture: predictors with their intervals and places, or predicted against measured by domain."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.agreement.axes import FONT, SIZE, Axis, labels_with_room, robust_axis
from lm_eval_sts.agreement.ceiling import mean_ceiling
from lm_eval_sts.agreement.selection import category_of
from lm_eval_sts.errors import RecordError, SettingsError, did_you_mean
from lm_eval_sts.files import write_atomically
from lm_eval_sts.records import Agreement, Association, Category, SettingAgreement

FORMATS: Final = (".pdf", ".png", ".svg")
COLOURS: Final[Mapping[Category, str]] = {
    "predictor": "#1f6fb2",
    "training": "#b85c00",
    "null": "#6b7280",
    "oracle": "#8b3fa8",
    "published": "#27804a",
}
"""What a category is drawn in, here and on the leaderboard's page (by day)."""
PANELS: Final = 6
MAX_PANELS: Final = 60
_BYTES: Final = 500_000
"""Most of a PNG: it is drawn more coarsely above."""
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLUMNS: Final = 3
_Z: Final = 1.959964


def check_figure(path: Path, panels: int = PANELS) -> None:
    """Checks before any work that a figure can be drawn.

    Args:
        path: Where it shall be written.
        panels: How many panels at most.

    Raises:
        SettingsError: The name's ending is no known format, the charting library is not installed, or too many panels
            are asked for.
    """
    if path.suffix.lower() not in FORMATS:
        raise SettingsError(f"--figure {path}: the name must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if not 1 <= panels <= MAX_PANELS:
        raise SettingsError(f"--panels {panels}: give 1 to {MAX_PANELS}")
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"--figure needs altair and vl-convert-python ({error}): pip install 'lm-eval-sts[board]'"
        ) from error


def save_figure(agreement: Agreement, path: Path, scatter: Sequence[str] = (), panels: int = PANELS) -> None:
    """Draws the agreement and writes it as PDF, SVG or PNG (below 500 KB), atomically.

    Args:
        agreement: The agreement.
        path: Where to.
        scatter: As of ``make_chart``.
        panels: As of ``make_chart``.

    Raises:
        SettingsError: As ``check_figure`` and ``make_chart``.
        RecordError: The file cannot be written.
    """
    check_figure(path, panels)
    chart = make_chart(agreement, scatter, panels)
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / f"figure{path.suffix.lower()}"
        for scale in (2.0, 1.5, 1.0) if drawn.suffix == ".png" else (1.0,):
            chart.save(str(drawn), **({"scale_factor": scale} if drawn.suffix == ".png" else {}))
            content = drawn.read_bytes() if drawn.suffix != ".png" else _packed(drawn.read_bytes())
            if len(content) <= _BYTES:
                break
        try:
            write_atomically(path, content)
        except OSError as error:
            raise RecordError(f"cannot write {path}: {error.strerror or error}: choose another place") from error


def _packed(png: bytes) -> bytes:
    """The same picture in a fifth of the bytes: vl-convert hardly compresses."""
    chunks, start = [], len(_SIGNATURE)
    while start < len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4])
        chunks.append((png[start + 4 : start + 8], png[start + 8 : end - 4]))
        start = end
    pixels = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    found = [(kind, content) for kind, content in chunks if kind != b"IDAT"]
    found.insert(-1, (b"IDAT", zlib.compress(pixels, 9)))
    parts = [len(c).to_bytes(4) + kind + c + zlib.crc32(kind + c).to_bytes(4) for kind, c in found]
    return b"".join([_SIGNATURE, *parts])


def make_chart(agreement: Agreement, scatter: Sequence[str] = (), panels: int = PANELS) -> Any:
    """The figure as an Altair chart.

    Args:
        agreement: The agreement.
        scatter: Predictors whose predictions are drawn against the changes, a panel an SFT run; none: all predictors
            with their mean correlations, or the panels of the only one.
        panels: How many panels at most; the title tells how many there would be.

    Raises:
        SettingsError: A predictor is not in the agreement.
    """
    labels = list(dict.fromkeys(one.predictor for one in agreement.settings))
    for name in scatter:
        if name not in labels:
            hint = did_you_mean(name, labels)
            raise SettingsError(f"--scatter {name}: not among the predictors compared: {hint}{', '.join(labels[:5])}")
    if not scatter and len(labels) > 1:
        chart = _forest(agreement)
    else:
        wanted = [one for name in scatter or labels for one in agreement.settings if one.predictor == name]
        chart = _scatter(wanted, agreement, panels)
    return chart.configure_view(stroke=None).configure_axis(gridOpacity=0.3).configure_title(anchor="start")


def _forest(agreement: Agreement) -> Any:
    """Every predictor's mean correlation with its interval and place, and what is expected of a perfect one."""
    import altair as alt

    places = {place.predictor: place for place in agreement.raw.places}
    rows: list[dict[str, Any]] = []
    for mean in agreement.raw.means:
        if mean.correlation is None:
            continue
        place, interval = places.get(mean.predictor), mean.correlation_interval
        rows.append(
            {
                "predictor": mean.predictor,
                "category": category_of(mean.predictor),
                "r": mean.correlation,
                "low": interval.low if interval else mean.correlation,
                "high": interval.high if interval else mean.correlation,
                "place": "no place" if place is None else f"{place.best} to {place.worst}",
                "standing": "leading"
                if place and place.leading
                else "not ruled out"
                if place and place.best == 1
                else "",
            }
        )
    shown = [name for name in COLOURS if any(row["category"] == name for row in rows)]
    limit = mean_ceiling([one.pearson.ceiling for one in agreement.settings if one.pearson.ceiling is not None])
    lows = [0.0, *(row["low"] for row in rows)]
    highs = [0.0, *(row["high"] for row in rows), *([limit.value] if limit else [])]
    scale = alt.Scale(domain=[max(-1.0, min(lows) - 0.03), min(1.0, max(highs) + 0.03)], nice=False)
    across = len(agreement.outcomes)
    title = "mean correlation over SFT runs" if across > 1 else "correlation"
    x = alt.X("r:Q", title=f"{title} with {_change(agreement)}, 95% interval", scale=scale)
    y = alt.Y("predictor:N", sort=[row["predictor"] for row in rows], title=None, axis=alt.Axis(labelLimit=260))
    colour = alt.Color(
        "category:N",
        title=None,
        scale=alt.Scale(domain=shown, range=[COLOURS[name] for name in shown]),
        legend=alt.Legend(orient="top"),
    )
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=y)
    still = alt.condition("datum.standing != ''", alt.value(1.0), alt.value(0.35))
    words = base.transform_calculate(told="datum.place + (datum.standing == 'leading' ? '  leading' : '')")
    layers = [
        alt.Chart(alt.InlineData(values=[{"r": 0.0}])).mark_rule(color="#bbb").encode(x=x),
        base.mark_rule(strokeWidth=2)
        .encode(x=x, x2="high:Q", color=colour, opacity=still)
        .transform_calculate(r="datum.low"),
        base.mark_circle(size=60).encode(x=x, color=colour, opacity=still),
        words.mark_text(align="left", fontSize=FONT + 1).encode(x=alt.value(2 * SIZE + 8), text="told:N"),
    ]
    subtitle = ["place: from 1 where not ruled out as the best (95%); pale: ruled out, or no place"]
    if limit is not None:
        subtitle.append(f"dashed: expected for a perfect predictor (noise ceiling), {limit.value:.2f}")
        line = alt.Chart(alt.InlineData(values=[{"r": limit.value}])).mark_rule(strokeDash=[4, 3], color="#444")
        layers.append(line.encode(x=x))
    runs = f"{across} SFT runs" if across > 1 else agreement.outcomes[0].name
    heading = alt.TitleParams(f"{len(rows)} predictors, {runs}", subtitle=subtitle)
    return alt.layer(*layers).properties(width=2 * SIZE, height=16 * len(rows), title=heading)


def _change(agreement: Agreement) -> str:
    change = "the size of the change" if agreement.target == "magnitude" else "the change"
    return change if agreement.view == "score" else f"{change} ({agreement.view.replace('_', ' ')})"


def _scatter(wanted: Sequence[SettingAgreement], agreement: Agreement, panels: int) -> Any:
    import altair as alt

    shown = wanted[:panels]
    chart = alt.concat(*(_panel(found, agreement) for found in shown), columns=min(_COLUMNS, len(shown)))
    notes = [
        "bars: 95%; names where there is room, outermost first; triangles: beyond the axes, their values in brackets"
    ]
    if len(shown) < len(wanted):
        notes.insert(0, f"{len(shown)} of {len(wanted)} panels (--panels shows more)")
    return chart.properties(title=alt.TitleParams("Predicted against measured, by domain", subtitle=notes))


def _panel(found: SettingAgreement, agreement: Agreement) -> Any:
    import altair as alt

    magnitude = agreement.target == "magnitude"
    unit = agreement.outcomes[0].unit
    sized = magnitude and found.sign is not None  # a signed prediction counts by its size
    rows = _rows(found, magnitude, sized, 100 if unit == "points" else 1)
    across = robust_axis([row["x"] for row in rows])
    up = robust_axis([row["y"] for row in rows], zero=magnitude)
    rows = [_drawn(row, across, up) for row in rows]
    rows = [{**row, **label} for row, label in zip(rows, labels_with_room(rows, across, up), strict=True)]
    change = f"{'|measured change|' if magnitude else 'measured change'} ({unit})"
    colour = COLOURS[category_of(found.predictor)]

    def x(field: str) -> Any:
        return alt.X(
            f"{field}:Q",
            title="|predicted|" if sized else "predicted",
            scale=alt.Scale(domain=list(across), nice=False),
        )

    def y(field: str) -> Any:
        return alt.Y(f"{field}:Q", title=change, scale=alt.Scale(domain=list(up), nice=False))

    base = alt.Chart(alt.InlineData(values=rows))
    layers = [
        base.mark_rule(opacity=0.35, clip=True).encode(x=x("x"), y=y("low"), y2="high:Q"),
        base.mark_rule(opacity=0.35, clip=True).encode(x=x("left"), x2="right:Q", y=y("y")),
        base.transform_filter("!datum.beyond").mark_circle(size=45, opacity=1, color=colour).encode(x=x("x"), y=y("y")),
        base.transform_filter("datum.beyond")
        .mark_point(shape="triangle-up", size=55, filled=True, opacity=1, color=colour)
        .encode(x=x("x"), y=y("y")),
    ]
    for side in ("left", "right"):
        text = base.transform_filter(f"datum.align == '{side}'").mark_text(align=side, baseline="middle", fontSize=FONT)
        layers.append(text.encode(x=x("label_x"), y=y("label_y"), text="label:N"))
    title = alt.TitleParams(found.predictor, subtitle=[found.outcome, *_subtitle(found.pearson)], limit=SIZE)
    return alt.layer(*layers).properties(width=SIZE, height=SIZE, title=title)


def _rows(found: SettingAgreement, magnitude: bool, sized: bool, factor: float) -> list[dict[str, Any]]:
    """One row a domain, with the ends of its 95% error bars; a bar without a known error has no length."""
    rows = []
    for domain, point in found.points.items():
        measured = factor * (abs(point.measured) if magnitude else point.measured)
        up, across = (_Z * (error or 0.0) for error in (point.measured_se, point.predicted_se))
        low, predicted = measured - factor * up, abs(point.predicted) if sized else point.predicted
        rows.append(
            {
                "domain": domain,
                "x": predicted,
                "y": measured,
                "low": max(0.0, low) if magnitude else low,
                "high": measured + factor * up,
                "left": predicted - across,
                "right": predicted + across,
            }
        )
    return rows


def _drawn(row: Mapping[str, Any], across: Axis, up: Axis) -> dict[str, Any]:
    """A row with its point on the axes, and what stands beside it."""
    x, y = across.clamped(row["x"]), up.clamped(row["y"])
    beyond = (x, y) != (row["x"], row["y"])
    value = f" ({row['x']:.3g}, {row['y']:.3g})" if beyond else ""
    return {**row, "x": x, "y": y, "beyond": beyond, "name": f"{row['domain']}{value}"}


def _subtitle(found: Association) -> list[str]:
    """The correlation in a line, and the noise ceiling in another."""
    if found.value is None:
        return ["Pearson not defined"]
    interval = found.interval
    shown = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval else ""
    ceiling = [f"noise ceiling {found.ceiling.value:.2f}"] if found.ceiling else []
    return [f"r = {found.value:.2f}{shown}", *ceiling]
