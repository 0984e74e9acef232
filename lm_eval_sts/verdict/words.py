"""A verdict in words, for a terminal of any size."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

from lm_eval_sts.records import Prediction
from lm_eval_sts.texts import printable
from lm_eval_sts.verdict.calibration import Calibrated, MeanCorrelation, Spread
from lm_eval_sts.verdict.next_step import broken
from lm_eval_sts.verdict.verdict import DIRECTIONS, Known, RankedDomain, Verdict, make_verdict

WIDTH: Final = 80
HEIGHT: Final = 23
"""Rows of a terminal of 24, less the one in which one types."""

_BAR: Final = 8
_LEAST_ROWS: Final = 5
_NAMED: Final = 2
"""Domains that are named at either end of a signed predictor's order."""
_LEAST_COVERED: Final = 0.7
"""Share of an SFT run left out that bounds meant for 80% must have held for, to be shown."""
_MEASURED: Final = {"magnitude": "|Δ|", "delta": "Δ"}


def in_words(
    verdict: Verdict, *, width: int = WIDTH, height: int | None = HEIGHT, where: str | None = None
) -> list[str]:
    """A verdict as lines of text.

    Args:
        verdict: The verdict.
        width: Columns; no line is wider, but for a word that is.
        height: Rows, if what must be said fits into them; None: everything, however long.
        where: What to give ``lm-eval-sts show`` for more.
    """
    what = "move" if verdict.ranked.target == "magnitude" else "raise"
    head = wrap(f"Fine-tuning {verdict.model} on {verdict.sft_set} would {what}, most first:", width)
    after = explained(verdict, width=width, everything=height is None, where=where)
    domains = verdict.ranked.domains
    room = width - _figures(verdict) - 7 - (21 if verdict.direction else 0)
    name_width = max(12, min(max(len(domain.domain) for domain in domains), room))
    rows = [_row(verdict, rank, domain, name_width) for rank, domain in enumerate(domains, start=1)]
    most = len(rows) if height is None else max(_LEAST_ROWS, height - len(head) - 1 - len(after))
    if len(rows) > most:
        first, last = most // 2, most - 1 - most // 2
        between = f"    … {len(rows) - first - last} more between: {_more(where)}"
        rows = [*rows[:first], between, *rows[len(rows) - last :]]
    return [*(cut(line, width) for line in (*head, _heading(verdict, name_width), *rows)), *after]


def explained(verdict: Verdict, *, width: int, everything: bool, where: str | None = None) -> list[str]:
    """What is to be said of a verdict's domains: ties, direction, how sure that is, what to do next, what was left out.

    Args:
        verdict: The verdict.
        width: Columns.
        everything: All notes, and how well the figures held for SFT runs left out.
        where: As of :func:`in_words`.
    """
    return [
        *_ties(verdict, width),
        *_direction(verdict, width),
        *_how_sure(verdict, width, everything=everything),
        *_next(verdict, width),
        *(_all_notes(verdict, width) if everything else [_notes(verdict, width, _more(where))]),
    ]


def said_of_run(predictions: Sequence[Prediction], left_out: Mapping[str, str], where: str | None) -> str:
    """The verdict of a run that ends, for the terminal that it runs in.

    Args:
        predictions: The run's.
        left_out: Why there is no prediction of a predictor that was asked for, by its name.
        where: As of :func:`in_words`.
    """
    size = shutil.get_terminal_size()
    verdict = make_verdict(predictions, left_out=left_out)
    return "\n".join(in_words(verdict, width=size.columns, height=size.lines - 2, where=where))


def _more(where: str | None) -> str:
    return f"lm-eval-sts show {where or 'ITS_OUTPUT_PATH'} --all"


def _figures(verdict: Verdict) -> int:
    """Width of a score, its interval and its bar."""
    return 28 if verdict.ranked.domains[0].share is None else 24


def _heading(verdict: Verdict, name_width: int) -> str:
    unit = "" if verdict.ranked.domains[0].share is None else ", % of highest"
    width = _figures(verdict)
    figures = cut(f"{verdict.ranked.predictor}{unit}", width)
    direction = verdict.direction.predictor if verdict.direction else ""
    return f"{'':>5} {'domain':<{name_width}} {figures:<{width}} {direction}".rstrip()


def _row(verdict: Verdict, rank: int, domain: RankedDomain, name_width: int) -> str:
    known = domain.low is not None and domain.high is not None
    if domain.share is None:
        figures = f"{domain.score:>8.2g}" + (f" [{domain.low:.2g}, {domain.high:.2g}]" if known else "")
    else:
        bounds = f"[{domain.low:.0f}, {domain.high:.0f}]" if known else ""
        figures = f"{domain.share:>3.0f} {bounds:<11} {'█' * round(_BAR * domain.share / 100)}"
    signed = verdict.direction and verdict.direction.by_name().get(domain.domain)
    direction = f"{signed.score:+7.2g} {signed.third}" if signed else ""
    name, mark = cut(domain.domain, name_width), "=" if domain.not_lower else " "
    return f"{rank:>3} {mark} {name:<{name_width}} {figures:<{_figures(verdict)}} {direction}".rstrip()


def _ties(verdict: Verdict, width: int) -> list[str]:
    domains = verdict.ranked.domains
    if all(domain.se is None for domain in domains):
        return wrap("The scores have no errors: which of them differ is not known.", width)
    same = sum(domain.not_lower for domain in domains)
    told = f"= not significantly different from the highest (95%, all at once): {same} of {len(domains)}"
    if verdict.ranked.draws == 1:
        told += "; one draw of demonstrations, whose choice is in no error"
    return wrap(told, width)


def _direction(verdict: Verdict, width: int) -> list[str]:
    """Which domains stand at either end of the signed predictor's order."""
    if verdict.direction is None:
        if verdict.ranked.target == "delta":
            return []
        return wrap(
            f"Direction: none of these predictors has a sign; {DIRECTIONS[-1]} has (lm-eval-sts predictors "
            f"{DIRECTIONS[-1]}).",
            width,
        )
    names = [domain.domain for domain in verdict.direction.domains]
    some = min(_NAMED, len(names) // 2)
    up, down = ", ".join(names[:some]), ", ".join(reversed(names[len(names) - some :]))
    return wrap(f"Direction: most up or least down {up}; most down or least up {down}.", width)


def _how_sure(verdict: Verdict, width: int, *, everything: bool) -> list[str]:
    """What such predictions were worth on SFT runs whose outcomes are known."""
    known = verdict.known
    if known is None or not known.predictors:
        of = "" if known is None else f"{verdict.ranked.predictor} on "
        return wrap(
            f"How large a change that means, and how sure it is: unknown for {of}this kind of model; no outcome of "
            "such an SFT run ships for this benchmark. Measure one (lm-eval-sts measure), then lm-eval-sts compare.",
            width,
        )
    lines = wrap(f"Measured on {known.runs}, in points of accuracy:", width)
    lines.append(f" {'':<24} {'r [95%]':<15} {'highest third (80%)':<19} lowest third (80%)")
    for name, found in known.predictors.items():
        high, low = (_spread(found.thirds[i]) for i in (0, -1))
        label = f" {cut(name, 20):<20} {_MEASURED[found.target]:<3} {_correlation(found.correlation):<15}"
        lines.append(cut(f"{label} {high:<19} {low}", width))
    lines += wrap(" ".join(_beware(verdict, known)), width)
    return lines + _particulars(known.predictors, width) if everything else lines


def _beware(verdict: Verdict, known: Known) -> list[str]:
    """What a reader must know of the figures, and for what they hold."""
    chance = [name for name, found in known.predictors.items() if (found.correlation.low or 0) <= 0]
    said = [f"Not significantly better than chance there: {', '.join(chance)}."] if chance else []
    leading = [found.predictor for found in (verdict.ranked, verdict.direction) if found is not None]
    if unknown := [name for name in leading if name not in known.predictors]:
        said.append(f"Unknown there: {', '.join(unknown)}.")
    if known.caveat:
        said.append(f"Beware: {known.caveat}.")
    if known.other_settings:
        said.append(f"This run differs: {', '.join(known.other_settings)}.")
    if known.is_one_of_them:
        said.append("This SFT set is one of them.")
    return said


def _particulars(predictors: dict[str, Calibrated], width: int) -> list[str]:
    lines = []
    for name, found in predictors.items():
        particular = f"; {_correlation(found.particular)} without each domain's mean" if found.particular else ""
        kept = [f"{third.covered:.0%}" for third in found.thirds if third.covered is not None]
        covered = f"; the bounds of the thirds held for {', '.join(kept)} of an SFT run left out" if kept else ""
        text = f"{name}: r {_correlation(found.correlation)}{particular}{covered}."
        lines += wrap(text, width, subsequent_indent="  ")
    return lines


def _next(verdict: Verdict, width: int) -> list[str]:
    """The one command, broken as a shell reads it."""
    if not verdict.next_command:
        return wrap(f"Next: {verdict.why_no_command}", width)
    return broken(verdict.next_command, width, "Next:")


def _notes(verdict: Verdict, width: int, more: str) -> str:
    if not verdict.notes:
        return "Nothing was left out, and there are no warnings."
    several = f"{len(verdict.notes)} notes" if len(verdict.notes) > 1 else "1 note"
    return cut(f"{several} on what was left out or warned of ({more}): {verdict.notes[0]}", width)


def _all_notes(verdict: Verdict, width: int) -> list[str]:
    lines = ["What was left out or warned of:" if verdict.notes else "Nothing was left out, and there are no warnings."]
    for note in verdict.notes:
        lines += wrap(f"- {note}", width, subsequent_indent="  ")
    return [*lines, *wrap(f"Predictors of the run (--predictor NAME): {', '.join(verdict.predictors)}", width)]


def _correlation(found: MeanCorrelation) -> str:
    bounds = "" if found.low is None or found.high is None else f" [{_r(found.low)}, {_r(found.high)}]"
    return f"{_r(found.value)}{bounds}"


def _r(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1)


def _spread(found: Spread) -> str:
    if found.covered is None or found.covered < _LEAST_COVERED:
        return f"{_points(found.median)} (few runs)"
    return f"{_points(found.median)} ({_points(found.low)} to {_points(found.high)})"


def _points(value: float) -> str:
    return f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"


def wrap(text: str, width: int, subsequent_indent: str = "") -> list[str]:
    """A text of any origin as lines that are no wider than a number of columns, but where a word is."""
    return textwrap.wrap(printable(text), width, subsequent_indent=subsequent_indent, break_on_hyphens=False)


def cut(text: str, width: int) -> str:
    """A text of any origin that is no wider than a number of columns."""
    text = printable(text)
    return text if len(text) <= width else f"{text[: max(1, width - 1)]}…"
