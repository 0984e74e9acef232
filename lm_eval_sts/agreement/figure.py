"""The agreement as a picture: predicted against measured, one panel a predictor and setting, errors both ways."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.files import write_atomically
from lm_eval_sts.records import Agreement, Association, SettingAgreement

FORMATS: Final = (".png", ".svg")
MAX_PANELS: Final = 60
_COLUMNS: Final = 4
_SIZE: Final = 260
_FONT: Final = 9
_Z: Final = 1.959964


def check_figure(path: Path) -> None:
    """Checks before any work that a figure can be drawn.

    Raises:
        SettingsError: The name's ending is no known format, or the charting library is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise SettingsError(f"--figure {path}: the name must end in {' or '.join(FORMATS)}")
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"--figure needs altair and vl-convert-python ({error}): pip install 'lm-eval-sts[board]'"
        ) from error


def save_figure(agreement: Agreement, path: Path) -> None:
    """Draws the agreement and writes it as PNG or SVG, atomically.

    Raises:
        SettingsError: As ``check_figure``; or there are more than ``MAX_PANELS`` predictors and settings.
        RecordError: The file cannot be written.
    """
    check_figure(path)
    count = len(agreement.settings)
    if count > MAX_PANELS:
        raise SettingsError(f"--figure: {count} panels do not fit ({MAX_PANELS} at most): give fewer --outcome")
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / f"figure{path.suffix.lower()}"
        make_chart(agreement).save(str(drawn), **({"scale_factor": 2} if drawn.suffix == ".png" else {}))
        try:
            write_atomically(path, drawn.read_bytes())
        except OSError as error:
            raise RecordError(f"cannot write {path}: {error.strerror or error}: choose another place") from error


def make_chart(agreement: Agreement) -> Any:
    """The figure as an Altair chart."""
    import altair as alt

    panels = [_panel(found, agreement) for found in agreement.settings]
    predictors = len({found.predictor for found in agreement.settings})
    chart = alt.concat(*panels, columns=predictors if predictors <= _COLUMNS else _COLUMNS)
    return chart.configure_view(stroke=None).configure_axis(gridOpacity=0.3).configure_title(anchor="start")


def _panel(found: SettingAgreement, agreement: Agreement) -> Any:
    import altair as alt

    magnitude = agreement.target == "magnitude"
    unit = agreement.outcomes[0].unit
    factor = 100 if unit == "points" else 1
    change = f"{'|measured change|' if magnitude else 'measured change'} ({unit})"
    x = alt.X("predicted:Q", title="predicted", scale=alt.Scale(zero=False, padding=20))
    y = alt.Y("measured:Q", title=change, scale=alt.Scale(zero=magnitude))
    rows = _rows(found, agreement, factor)
    labelled = _with_room(rows)
    base = alt.Chart(
        alt.InlineData(values=[{**r, "label": r["domain"] if r["domain"] in labelled else ""} for r in rows])
    )
    layers = [
        base.mark_rule(opacity=0.45).encode(x=x, y=alt.Y("low:Q", title=change), y2="high:Q"),
        base.mark_rule(opacity=0.45).encode(x=alt.X("left:Q", title="predicted"), x2="right:Q", y=y),
        base.mark_circle(size=45, opacity=1).encode(x=x, y=y),
        base.mark_text(align="left", dx=5, dy=-5, fontSize=_FONT).encode(x=x, y=y, text="label:N"),
    ]
    lines = [_subtitle(found.pearson), "bars: 95%; names where there is room, outermost first"]
    title = alt.TitleParams(f"{found.predictor} · {found.outcome}", subtitle=lines)
    return alt.layer(*layers).properties(width=_SIZE, height=_SIZE, title=title)


def _rows(found: SettingAgreement, agreement: Agreement, factor: float) -> list[dict[str, Any]]:
    """One row a domain, with the ends of its 95% error bars; a bar without a known error has no length."""
    magnitude = agreement.target == "magnitude"
    rows = []
    for domain, point in found.points.items():
        measured = factor * (abs(point.measured) if magnitude else point.measured)
        up, across = (_Z * (error or 0.0) for error in (point.measured_se, point.predicted_se))
        rows.append(
            {
                "domain": domain,
                "predicted": point.predicted,
                "measured": measured,
                "low": max(0.0, measured - factor * up) if magnitude else measured - factor * up,
                "high": measured + factor * up,
                "left": point.predicted - across,
                "right": point.predicted + across,
            }
        )
    return rows


def _with_room(rows: list[dict[str, Any]]) -> set[str]:
    """Domains whose names do not run into one another, those farthest from the middle first."""

    def pixels(middle: str, ends: tuple[str, str]) -> dict[str, float]:
        low, high = min(r[ends[0]] for r in rows), max(r[ends[1]] for r in rows)
        return {r["domain"]: _SIZE * (r[middle] - low) / ((high - low) or 1.0) for r in rows}

    across, up = pixels("predicted", ("left", "right")), pixels("measured", ("low", "high"))
    middle = median(across.values()), median(up.values())
    placed: dict[str, tuple[float, float, float]] = {}
    for name in sorted(across, key=lambda d: -math.hypot(across[d] - middle[0], up[d] - middle[1])):
        x, y, width = across[name], up[name], 0.6 * _FONT * len(name)
        if all(abs(y - b) > 1.3 * _FONT or x > a + other or a > x + width for a, b, other in placed.values()):
            placed[name] = x, y, width
    return set(placed)


def _subtitle(found: Association) -> str:
    """The correlation in a line."""
    if found.value is None:
        return "Pearson not defined"
    interval = found.interval
    shown = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval else ""
    ceiling = found.ceiling
    expected = f"; a perfect predictor: {ceiling.value:.2f}" if ceiling and math.isfinite(ceiling.value) else ""
    return f"r = {found.value:.2f}{shown}{expected}"
