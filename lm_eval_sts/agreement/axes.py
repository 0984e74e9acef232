"""What of a scatter plot is drawn: axes that outliers do not stretch, and names that run into nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import quantiles
from typing import Any, Final, NamedTuple

SIZE: Final = 260
"""Pixels across a panel, and up."""
FONT: Final = 9
_FENCE: Final = 3.0
"""Points farther than this many interquartile ranges from the middle half do not stretch an axis."""


class Axis(NamedTuple):
    """The part of an axis that is drawn.

    Attributes:
        low: Its lower end.
        high: Its upper end.
    """

    low: float
    high: float

    def clamped(self, value: float) -> float:
        """The value, or the end that it lies beyond."""
        return min(max(value, self.low), self.high)

    def pixel(self, value: float) -> float:
        """Where a value lies, from the lower end."""
        return SIZE * (value - self.low) / (self.high - self.low)

    def value(self, pixel: float) -> float:
        """What lies there."""
        return self.low + pixel / SIZE * (self.high - self.low)


def robust_axis(values: Sequence[float], *, zero: bool = False) -> Axis:
    """An axis for all values but those far from the middle half; error bars do not stretch it.

    Args:
        values: What is drawn.
        zero: Whether the axis begins at 0.
    """
    low, high = min(values), max(values)
    if len(values) >= 4:
        first, _, third = quantiles(values, n=4, method="inclusive")
        reach = _FENCE * (third - first)
        if reach > 0:
            low = min(value for value in values if value >= first - reach)
            high = max(value for value in values if value <= third + reach)
    low = min(low, 0.0) if zero else low
    margin = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
    return Axis(low if zero else low - margin, high + margin)


def labels_with_room(rows: Sequence[Mapping[str, Any]], across: Axis, up: Axis) -> list[dict[str, Any]]:
    """A label for every row: names that run into no other name or point and stay inside, the outermost points' first.

    Args:
        rows: With ``x`` and ``y`` on the axes, and ``name``.
        across: The horizontal axis.
        up: The vertical one.

    Returns:
        ``label``, empty where there is no room, with ``label_x`` and ``label_y``, where its middle begins or ends by
        ``align``.
    """
    points = [(across.pixel(row["x"]), up.pixel(row["y"])) for row in rows]
    middle = [sorted(values)[len(values) // 2] for values in zip(*points, strict=True)]
    labels: list[dict[str, Any]] = [{"label": ""} for _ in rows]
    taken = [(x - 3.0, y - 3.0, x + 3.0, y + 3.0) for x, y in points]
    order = sorted(range(len(rows)), key=lambda i: (not rows[i].get("beyond"), -math.dist(points[i], middle)))
    for i in order:
        (x, y), width, height = points[i], 0.56 * FONT * len(rows[i]["name"]), 1.2 * FONT
        for align, bottom in product(("left", "right"), (y + 1, y - 1 - height, y - 6 - height)):
            anchor = x + 4 if align == "left" else x - 4
            left = anchor if align == "left" else anchor - width
            box = (left, bottom, left + width, bottom + height)
            inside = min(box) >= 0 and max(box) <= SIZE
            if inside and not any(_overlap(box, other) for j, other in enumerate(taken) if j != i):
                taken.append(box)
                place = {"label_x": across.value(anchor), "label_y": up.value(bottom + height / 2), "align": align}
                labels[i] = {"label": rows[i]["name"], **place}
                break
    return labels


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
