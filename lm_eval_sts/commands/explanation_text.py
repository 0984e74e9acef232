"""An explanation on the terminal: the summary first, within its width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console

from lm_eval_sts.evidence.domain import SFT
from lm_eval_sts.explanation.words import in_one_line, largest_parts, of_score, shared_summary, summary, title
from lm_eval_sts.records import ExplainedDomain, ExplainedFeature, Explanation, Passage

_DOMAINS: Final = 5
_FEATURES: Final = 6
_CARD: Final = 8
"""Rows of each list before ``--all``."""


def print_explanation(
    console: Console,
    found: Explanation,
    *,
    domain: str | None = None,
    feature: str | None = None,
    everything: bool = False,
) -> None:
    """Prints an explanation.

    Args:
        console: Where to.
        found: The explanation.
        domain: What one domain's score is made of, instead of all.
        feature: One feature, instead of all.
        everything: All rows.
    """
    written = _Text(console.width)
    written.line(title(found))
    if feature is not None:
        _feature(written, found, next(f for f in found.features if str(f.feature) == feature), everything)
    elif domain is not None:
        _domain(written, found, domain, everything)
    else:
        _overview(written, found, everything)
    for note in found.provenance.notes:
        written.paragraph(f"Note: {note}")
    console.print("\n".join(written.lines), soft_wrap=True)


class _Text:
    """Lines of at most a width."""

    def __init__(self, width: int) -> None:
        self.width = max(width, 40)
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text if len(text) <= self.width else text[: self.width - 1] + "…")

    def paragraph(self, text: str) -> None:
        from textwrap import wrap

        self.lines += wrap(text, self.width, break_on_hyphens=False)

    def heading(self, text: str) -> None:
        self.lines.append("")
        self.line(text)

    def more(self, shown: int, there: int) -> None:
        if there > shown:
            self.line(f"  … {there - shown} more: --all")


def _overview(written: _Text, found: Explanation, everything: bool) -> None:
    written.paragraph(summary(found))
    if found.shared is not None:
        written.paragraph(shared_summary(found))
        _shared(written, found, everything)
    names = list(found.domains)
    shown = names if everything else names[:_DOMAINS]
    wide = max(map(len, shown))
    written.heading(
        "Domain, score, and the features that carry half of it" if found.features else "Domain, score, question"
    )
    for name in shown:
        of = found.domains[name]
        written.line(f"  {name:<{wide}}  {_with_error(of):>16}  {_carried(found, of)}")
    written.more(len(shown), len(names))
    if found.features:
        written.heading("Feature, share of the shift, selected again, after SFT examples, fires most on")
        features = found.features if everything else found.features[:_FEATURES]
        for feature in features:
            start = (
                f"  {_name(feature)}{feature.share:>7.1%}{_percent(feature.selected_again)}  {_direction(feature):<4}  "
            )
            written.line(start + _shown(feature.passages.get(SFT, ()), written.width - len(start)))
        written.more(len(features), len(found.features))
    written.heading(f"Next: --domain NAME, {'--feature NUMBER, ' if found.features else ''}--html page.html")


def _shared(written: _Text, found: Explanation, everything: bool) -> None:
    assert found.shared is not None, "asked for where there is one"
    domains = sorted(found.shared.domains.items(), key=lambda item: -min(item[1].shared, item[1].other_shared))
    shown = domains if everything else domains[:_DOMAINS]
    wide = max(len(name) for name, _ in shown)
    written.heading("Domains that both raise by shared features: score, of it shared; the other's")
    for name, of in shown:
        written.line(
            f"  {name:<{wide}}  {of.score:>9.3g} {_ratio(of.shared, of.score)}  {of.other_score:>9.3g} "
            f"{_ratio(of.other_shared, of.other_score)}"
        )
    written.more(len(shown), len(domains))


def _domain(written: _Text, found: Explanation, name: str, everything: bool) -> None:
    domain = found.domains[name]
    written.line(f"{name}: {_with_error(domain)}")
    if domain.parts:
        written.heading("Feature, part of the score, share of it, and where it fires most here")
        parts = largest_parts(found, domain)
        shown = parts if everything else parts[:_CARD]
        for feature, part in shown:
            start = f"  {_name(feature)}{part:>11.4g}{of_score(part, domain):>8.1%}  "
            written.line(start + _shown(feature.passages.get(name, ()), written.width - len(start)))
        written.more(len(shown), len(parts))
        others = domain.score - sum(part for _, part in shown)
        written.line(f"  {'others':<8}{others:>11.4g}")
        written.line(f"  {'sum':<8}{domain.score:>11.4g}")
    written.heading("Questions with the largest values of their own")
    for question in domain.questions:
        text = " ".join(found.texts.get(question.question, "").split())
        written.line(f"  {question.value:>10.4g}  {question.question}  {text}")


def _feature(written: _Text, found: Explanation, feature: ExplainedFeature, everything: bool) -> None:
    again = _percent(feature.selected_again).strip()
    written.paragraph(
        f"Feature {feature.feature}: {feature.share:.1%} of the whole shift, selected again {again}, fires in "
        f"{feature.active:.0%} of the SFT queries, {_direction(feature)} when SFT examples are shown: mean (h'-h)^2 "
        f"{feature.shift:.4g}, mean h'-h {feature.direction:+.4g}."
    )
    if feature.link is not None:
        written.lines.append(f"  {feature.link}")  # whole, or it cannot be followed
    written.heading("Where it fires most in the SFT set")
    _list_passages(written, feature.passages.get(SFT, ()))
    place = found.features.index(feature)
    domains = sorted(found.domains.items(), key=lambda item: -abs(of_score(item[1].parts[place], item[1])))
    shown = domains if everything else domains[:_CARD]
    wide = max(len(name) for name, _ in shown)
    written.heading("Domain, share of its score, and where it fires most there")
    for name, domain in shown:
        start = f"  {name:<{wide}} {of_score(domain.parts[place], domain):>7.1%}  "
        written.line(start + _shown(feature.passages.get(name, ()), written.width - len(start)))
    written.more(len(shown), len(domains))


def _list_passages(written: _Text, passages: Sequence[Passage]) -> None:
    for passage in passages:
        start = f"  {passage.activation:>8.3g}  "
        written.line(start + in_one_line(passage, written.width - len(start)))
    if not passages:
        written.line("  –")


def _shown(passages: Sequence[Passage], width: int) -> str:
    return in_one_line(passages[0], width) if passages else "–"


def _carried(found: Explanation, domain: ExplainedDomain) -> str:
    if not found.features:
        return ", ".join(f"{q.question.rpartition('/')[2]} {q.value:+.3g}" for q in domain.questions)
    return ", ".join(f"#{f.feature} {of_score(part, domain):.0%}" for f, part in largest_parts(found, domain, 0.5))


def _name(feature: ExplainedFeature) -> str:
    return f"#{feature.feature:<7}"


def _direction(feature: ExplainedFeature) -> str:
    return "more" if feature.direction > 0 else "less" if feature.direction < 0 else "same"


def _percent(value: float | None) -> str:
    return f"{'–':>6}" if value is None else f"{value:>6.0%}"


def _ratio(part: float, whole: float) -> str:
    return f"{part / whole:>4.0%}" if whole else "   –"


def _with_error(domain: ExplainedDomain) -> str:
    return f"{domain.score:.4g}" if domain.se is None else f"{domain.score:.4g} ± {domain.se:.2g}"
