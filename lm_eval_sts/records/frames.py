"""How records show themselves in notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pandas as pd

_ROWS: Final = 60
"""Most rows that a notebook shows."""


def table_html(frame: pd.DataFrame, caption: str) -> str:
    """A table below what it is of; long ones without their middle."""
    table: str = frame.to_html(index=False, float_format="{:.4g}".format, max_rows=_ROWS, na_rep="", border=0)
    return f"<p>{escape(caption)}</p>{table}"
