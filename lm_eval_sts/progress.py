"""Progress of what takes long: on a terminal a bar, elsewhere a line a minute with the time that is left.

tqdm counts and estimates; what libraries show with it (lm-eval's requests) comes the same way within
:func:`a_line_a_minute`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

SECONDS: Final = 60.0
"""Between two lines."""

_FORMAT: Final = "{desc}: {percentage:.0f}%, {n_fmt} of {total_fmt} {unit}, {remaining} left"
_BARE: Final = "{desc}: {n_fmt} {unit}, {elapsed} so far"
"""Where it is not known how many there will be."""


class _Lines:
    """A file that gets each state of a bar as a line of its own."""

    def write(self, text: str) -> None:
        """Writes a line, where there is something to say."""
        if line := text.strip():
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        """At once."""
        sys.stderr.flush()


def on_a_terminal() -> bool:
    """Whether somebody looks on."""
    return sys.stderr is not None and sys.stderr.isatty()


def _options(total: object) -> dict[str, Any]:
    """tqdm's, for a line a minute; what is done within the first says nothing."""
    return {
        "file": _Lines(),
        "mininterval": SECONDS,
        "maxinterval": SECONDS,
        "delay": SECONDS,
        "bar_format": _FORMAT if total else _BARE,
        "dynamic_ncols": False,
        "leave": False,
    }


def line_a_minute(total: int, what: str, unit: str, *, quiet: bool = False) -> Any:
    """A tqdm bar that says a line a minute.

    Args:
        total: How many there are.
        what: What is done.
        unit: What is counted.
        quiet: Says nothing.
    """
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit=unit, disable=quiet, miniters=1, **_options(total))


@contextmanager
def a_line_a_minute() -> Iterator[None]:
    """Within, bars that libraries show say a line a minute where there is no terminal; on one they are as they were."""
    from tqdm.std import tqdm

    if on_a_terminal():
        yield
        return
    original = tqdm.__init__

    @functools.wraps(original)
    def init(self: Any, iterable: Any = None, desc: str | None = None, total: Any = None, **options: Any) -> None:
        if total is None and hasattr(iterable, "__len__"):
            total = len(iterable)
        unit = options.pop("unit", "it")
        named = {"desc": desc or "working", "unit": "" if unit == "it" else unit}
        original(self, iterable, total=total, **{**options, **_options(total), **named})

    tqdm.__init__ = init
    try:
        yield
    finally:
        tqdm.__init__ = original


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
