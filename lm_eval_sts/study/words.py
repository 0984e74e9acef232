"""How a report says things: values, places, verdicts, tables of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lm_eval_sts.records import Against, ReportContrast, ReportRow, ReportTable, StudyReport, View

ALPHA: Final = 0.05
_MARKS: Final[Mapping[str, str]] = {"oracle": " (oracle)", "training": " (trains)", "null": " (null)"}
_DAGGERS: Final[Mapping[str, str]] = {"elsewhere": " †", "leave-one-out": " ††", "seen": " †††"}
FITTED: Final[Mapping[str, str]] = {
    "elsewhere": "† fitted on outcomes of SFT runs that the table does not hold.",
    "leave-one-out": "†† fitted on the other SFT runs of the table. It has no double-centred value: a domain's mean "
    "holds each run's own change, so what knows the rest alone runs against that change by itself.",
    "seen": "††† fitted on outcomes of the SFT runs that it predicts: its values are no test.",
}
_VIEWS: Final[Mapping[View, str]] = {
    "answered": "accuracy where answered",
    "log_likelihood": "log-likelihood of the right answer",
    "choice_log_likelihood": "log-likelihood",
}


def verdict(found: ReportContrast) -> str:
    """What a test says, in words."""
    a, b = f"`{found.candidate}`", f"`{found.reference}`"
    if found.p is None or found.z is None:
        return f"{a} and {b} could not be tested"
    if found.p > ALPHA:
        return f"{a} and {b} are not significantly different"
    return f"{a} is significantly {'better' if found.z > 0 else 'worse'} than {b}"


def short_verdict(found: ReportContrast) -> str:
    """The same beside the two names."""
    if found.p is None or found.z is None:
        return "not tested"
    if found.p > ALPHA:
        return "not significantly different"
    return f"significantly {'better' if found.z > 0 else 'worse'}"


def asked(found: ReportContrast) -> str:
    """Its two predictors."""
    return f"`{found.candidate}` − `{found.reference}`"


def difference(found: ReportContrast) -> str:
    """What the test found, in numbers."""
    if found.p is None or found.z is None:
        if not found.sft_runs:
            return "no SFT run has an outcome and both predictions"
        return "too few domains" if found.n_domains else "no correlation is defined"
    return f"{found.z:+.3f} in Fisher's z [{found.low:+.3f}, {found.high:+.3f}], p = {found.p:.2g}"


def named(name: str, report: StudyReport, found: ReportTable | None = None) -> str:
    """A predictor with what a reader must know of it."""
    category = report.predictors[name].category
    kind = found.fitting.get(name) if found else None
    return f"`{name}`{_MARKS.get(category, '')}{_DAGGERS[kind] if kind else ''}"


def place(row: ReportRow | None) -> str:
    """The place, bold for what leads."""
    if row is None or row.best is None:
        return "–"
    shown = str(row.best) if row.best == row.worst else f"{row.best} … {row.worst}"
    return f"**{shown}**" if row.leading else shown


def cell(row: ReportRow | None, *, interval: bool = True) -> str:
    """A correlation."""
    if row is None or row.r is None:
        return "–"
    return with_interval(row.r, row.low, row.high) if interval else number(row.r)


def with_interval(r: float | None, low: float | None, high: float | None) -> str:
    """A correlation with its interval, where it has one."""
    if r is None or low is None or high is None:
        return number(r)
    return f"{number(r)} [{number(low)}, {number(high)}]"


def number(value: float | None) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:.2f}".replace("-0.00", "0.00")


def tokens(value: float | None) -> str:
    """A number of tokens, or a dash."""
    return "–" if value is None else f"{value:,.0f}"


def unit(view: View) -> int:
    """What a change is multiplied with when it is shown: shares become percentage points."""
    return 100 if view in ("score", "answered") else 1


def view_in_words(view: View, report: StudyReport) -> str:
    """Which quantity changed."""
    if view == "score":
        return "accuracy" if report.metric in ("acc", "exact_match", "accuracy") else report.metric
    return _VIEWS[view]


def against_in_words(one: Against, report: StudyReport, *, short: bool = False) -> str:
    """A way of comparing, as the title of a column; ``short``: without the quantity."""
    sign = "Δ" if one.target == "delta" else "|Δ|"
    name = sign if short else f"{sign} {view_in_words(one.view, report)}"
    return f"{name}, double-centred" if one.double_centred else name


def listed(items: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"- {item}" for item in items)


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(each.replace("|", "\\|") for each in line) + " |" for line in lines)
