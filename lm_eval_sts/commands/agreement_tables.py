"""An agreement on the terminal: who can be called best first, the rest on request, nothing wider than the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.padding import Padding

from lm_eval_sts.commands.terminal import make_table

if TYPE_CHECKING:
    from lm_eval_sts.records import Agreement, Association, Bounds, Difference, Mean, Place, Ranking, SettingAgreement

_ROWS: Final = 8
"""Predictors that the short form shows."""
_WHOLE: Final = 2
"""Up to so many predictors and outcomes are shown whole in the short form, too."""
_MOST: Final = 60
"""Above so many the long form refers to the JSON file."""
_NAMED: Final = 5
_WARNINGS: Final = 3
_NONE: Final = "–"
_TARGETS: Final = {"magnitude": "the size of the change |Δ|", "delta": "the signed change Δ"}
_INTERVALS: Final = {
    "measured": "the correlation with the measured change, over domains like these",
    "true": "the correlation with the true change, free of measurement error, over these domains",
}


def print_agreement(console: Console, agreement: Agreement, *, everything: bool = False) -> None:
    """Prints what an agreement says.

    Args:
        console: Where to.
        agreement: The agreement.
        everything: All predictors, each with all numbers in each setting, outcomes, notes and warnings in full; else
            what fits a screen, and how to see the rest.
    """
    unit = agreement.outcomes[0].unit
    console.print(
        f"Compared with {_TARGETS[agreement.target]} ({agreement.view.replace('_', ' ')}, {unit}): "
        f"{_count(len(agreement.raw.means), 'predictor')}, {_count(len(agreement.outcomes), 'SFT run')}, "
        f"{_domains(agreement)}",
        style="bold",
    )
    rankings = [("", agreement.raw), ("Double-centred: ", agreement.double_centred)]
    for prefix, ranking in rankings:
        if ranking is not None:
            for line in _verdicts(ranking, agreement, everything=everything):
                console.print(f"{prefix}{line}")
    whole = everything or len(agreement.settings) <= _WHOLE
    if len(agreement.raw.means) > _WHOLE or len(agreement.outcomes) > 1:
        _print_ranking(console, agreement, everything=everything)
    if whole:
        _print_settings(console, agreement)
    if everything:
        _print_outcomes(console, agreement)
        _print_list(console, "Notes", _notes(agreement.settings))
    _print_list(console, "Warnings", agreement.warnings if whole else agreement.warnings[:_WARNINGS], short=not whole)
    if not whole:
        left = len(agreement.warnings) - _WARNINGS
        if left > 0:
            console.print(f"… and {left} more.")
        console.print("--all: every number of every predictor and SFT run, notes, and warnings in full.")


def _domains(agreement: Agreement) -> str:
    sizes = sorted({outcome.n_domains for outcome in agreement.outcomes})
    return f"{sizes[0]} to {sizes[-1]} domains" if len(sizes) > 1 else _count(sizes[0], "domain")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _verdicts(ranking: Ranking, agreement: Agreement, *, everything: bool) -> list[str]:
    """Who can be called best, in words."""
    from lm_eval_sts.agreement.leading import what_is_needed, who_leads
    from lm_eval_sts.agreement.selection import category_of

    lines = []
    if len(ranking.means) == 1:
        lines.append(_alone(ranking.means[0]))
    elif len(ranking.differences) == 1:
        lines.append(_verdict(ranking.differences[0]))
    elif ranking.places:
        leading = [place.predictor for place in ranking.places if place.leading]
        more = [place.predictor for place in ranking.places if place.best == 1 and not place.leading]
        verdict = who_leads(len(leading), len(more), sum(category_of(name) == "null" for name in more))
        named = f" Leading: {_some(leading, len(leading) if everything else _NAMED)}." if leading else ""
        lines.append(f"{verdict}; the best is among those whose place starts at 1 (95%).{named}")
        if ranking.needed is not None:
            domains = max(outcome.n_domains for outcome in agreement.outcomes)
            lines.append(f"{what_is_needed(ranking.needed, domains, len(agreement.outcomes))}.")
    for why in dict.fromkeys(mean.undefined for mean in ranking.means if mean.undefined):
        names = [mean.predictor for mean in ranking.means if mean.undefined == why]
        lines.append(f"{_some(names, len(names) if everything else 1)}: undefined: {why}.")
    return lines


def _some(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _alone(mean: Mean) -> str:
    associated = mean.permutation_p is not None and mean.permutation_p <= 0.05
    verdict = "is associated with it" if associated else "is not significantly associated with it"
    return f"{mean.predictor} {verdict}: r = {_estimate(mean)}, p = {_p(mean.permutation_p)} (permutation of domains)."


def _verdict(pair: Difference) -> str:
    better, worse = (pair.a, pair.b) if pair.z >= 0 else (pair.b, pair.a)
    verdict = (
        f"{better} is better than {worse}"
        if pair.separable
        else f"{pair.a} and {pair.b} are not significantly different"
    )
    williams = "" if pair.williams_p is None else f"; Williams' test, a check, p = {_p(pair.williams_p)}"
    return (
        f"{verdict}: difference of mean z ({pair.a} − {pair.b}) {_figure(pair.z)}{_bounds(pair.interval)}, "
        f"p = {_p(pair.p)}, over {_count(pair.n_domains, 'domain')} and {_count(pair.n_settings, 'SFT run')} "
        f"(jackknife over domains){williams}."
    )


def _print_ranking(console: Console, agreement: Agreement, *, everything: bool) -> None:
    """Predictors over all SFT runs, best first, with the places that the differences allow."""
    from lm_eval_sts.agreement.ceiling import mean_ceiling

    centred = {mean.predictor: mean for mean in agreement.double_centred.means} if agreement.double_centred else {}
    places = {place.predictor: place for place in agreement.raw.places}
    shown = agreement.raw.means if everything else agreement.raw.means[:_ROWS]
    errors, unit = _errors(agreement), agreement.outcomes[0].unit
    table = make_table(
        words=("predictor",),
        figures=(
            "mean r, 95%",
            *(["centred"] if centred else []),
            *([f"RMSE, {unit}"] if errors else []),
            "place",
        ),
        last="",
    )
    for mean in shown:
        place, other = places.get(mean.predictor), centred.get(mean.predictor)
        cells = [mean.predictor, _estimate(mean)]
        cells += [_figure(other.correlation if other else None)] if centred else []
        cells += [_figure(errors.get(mean.predictor))] if errors else []
        table.add_row(*cells, _place(place), _remark(mean, place, len(agreement.outcomes)))
    console.print()
    console.print(table)
    if len(shown) < len(agreement.raw.means):
        console.print(f"… and {len(agreement.raw.means) - len(shown)} more.")
    limit = mean_ceiling([one.pearson.ceiling for one in agreement.settings if one.pearson.ceiling is not None])
    expected = "" if limit is None else f" Expected for a perfect predictor (noise ceiling): {limit.value:.2f}."
    console.print(f"{_reading(everything, bool(centred), bool(errors))}{expected}")
    if everything and agreement.double_centred is not None:
        _print_centred(console, agreement.double_centred)


def _errors(agreement: Agreement) -> dict[str, float]:
    """Root mean square errors over all SFT runs and domains, of predictors whose scores are changes."""
    squares: dict[str, list[tuple[float, int]]] = {}
    for one in agreement.settings:
        if one.rmse is not None:
            squares.setdefault(one.predictor, []).append((one.rmse**2, len(one.points)))
    return {name: (sum(square * n for square, n in of) / sum(n for _, n in of)) ** 0.5 for name, of in squares.items()}


def _reading(everything: bool, centred: bool, errors: bool) -> str:
    words = "mean r: by the mean of Fisher's z over SFT runs."
    if errors:
        words += " RMSE: of predictors that are fitted on measured changes."
    if centred:
        words += " centred: without what a domain has in common over SFT runs."
    if everything:
        words += (
            " Interval: the wider of Hartung-Knapp's over SFT runs and the jackknife's over domains. place: from 1 "
            "where not ruled out as the best, or else 1 + number of significantly better ones, to number of all − "
            "number of significantly worse ones. leading: not ruled out, no null, p ≤ .05 (permutation of domains)."
        )
    return words


def _print_centred(console: Console, ranking: Ranking) -> None:
    places = {place.predictor: place for place in ranking.places}
    table = make_table(words=("double-centred",), figures=("mean r, 95%", "p", "place"), last="")
    for mean in ranking.means:
        place = places.get(mean.predictor)
        table.add_row(mean.predictor, _estimate(mean), _p(mean.permutation_p), _place(place), _lead(place))
    console.print()
    console.print(table)


def _place(place: Place | None) -> str:
    if place is None:
        return _NONE
    return str(place.best) if place.best == place.worst else f"{place.best} to {place.worst}"


def _lead(place: Place | None) -> str:
    return "leading" if place is not None and place.leading else ""


def _remark(mean: Mean, place: Place | None, outcomes: int) -> str:
    from lm_eval_sts.agreement.selection import category_of

    category = category_of(mean.predictor)
    kind = category if category in ("null", "oracle") else ""
    some = f"{len(mean.settings)} of {outcomes} runs" if 0 < len(mean.settings) < outcomes else ""
    return ", ".join(filter(None, (_lead(place), kind, some)))


def _print_settings(console: Console, agreement: Agreement) -> None:
    """Every predictor in every SFT run, as a paragraph."""
    found, unit = agreement.settings, agreement.outcomes[0].unit
    if len(found) > _MOST:
        console.print(f"\n{len(found)} predictors and SFT runs: each is in the JSON file (--output).")
        return
    console.print(f"\nIntervals: 95%, for {_INTERVALS[agreement.interval]}.")
    for one in found:
        console.print(f"\n{one.predictor} in {one.outcome}, {_count(len(one.points), 'domain')}", style="bold")
        for name in ("pearson", "spearman", "kendall"):
            console.print(f"  {name.capitalize():9} {_association(getattr(one, name))}")
        for line in _descriptive(one, unit):
            console.print(Padding(line, (0, 0, 0, 2)))


def _association(found: Association) -> str:
    parts = [_figure(found.value) + _bounds(found.interval)]
    if found.ceiling is not None:
        parts.append(f"noise ceiling {found.ceiling.value:.2f}")
    if found.disattenuated is not None:
        parts.append(f"over it {found.disattenuated:.2f}")
    return ", ".join(parts)


def _descriptive(one: SettingAgreement, unit: str) -> list[str]:
    """What is descriptive only, and the sign score where a sign was predicted."""
    lines = []
    if (most := one.influence.most) is not None:
        lines.append(f"without {most}, which changes it most: Pearson {_figure(one.influence.without[most])}")
    lines.append(f"R² {_figure(one.r_squared)}, precision at 3 {_figure(one.precision_at_3)}")
    if one.fit is not None:
        lines.append(f"error of a fitted line {one.fit.error:.2f} {unit}, without a predictor {one.fit.constant:.2f}")
    if one.rmse is not None:
        lines.append(f"root mean square error {one.rmse:.2f} {unit}")
    if (sign := one.sign) is not None:
        accuracy = _figure(sign.accuracy_attenuated)
        lines.append(
            f"sign score {sign.score:.2f}{_bounds(sign.interval)} {unit}, constant sign {sign.constant:.2f}, advantage "
            f"{sign.advantage:.2f}{_bounds(sign.advantage_interval)}; sign accuracy (attenuated) {accuracy}"
        )
    return lines


def _print_outcomes(console: Console, agreement: Agreement) -> None:
    lines = []
    for outcome in agreement.outcomes[:_MOST]:
        known = outcome.reliability is not None
        reliability = f"{_figure(outcome.reliability)}{_bounds(outcome.reliability_interval)}" if known else "not known"
        seeds = _count(len(outcome.seeds), "seed") if outcome.seeds else "seeds not known"
        lines.append(
            f"{outcome.name}: {outcome.model} on {outcome.sft_set or 'an unknown SFT set'}, "
            f"{_count(outcome.n_domains, 'domain')}, reliability of signed changes {reliability}, {seeds}"
        )
    if len(agreement.outcomes) > _MOST:
        lines.append(f"{len(agreement.outcomes) - _MOST} more are in the JSON file (--output)")
    _print_list(console, "Outcomes", lines)


def _print_list(console: Console, title: str, lines: Sequence[str], *, short: bool = False) -> None:
    if not lines:
        return
    console.print(f"\n{title}", style="bold")
    for line in lines:
        about, _, text = line.partition(": ")
        console.print(f"- {text} ({about})" if short else f"- {line}", no_wrap=short, overflow="ellipsis")


def _notes(found: Sequence[SettingAgreement]) -> list[str]:
    """Notes of all settings, each once, with what it is about."""
    about: dict[str, list[str]] = {}
    for one in found:
        for note in one.notes:
            about.setdefault(note, []).append(f"{one.predictor} in {one.outcome}")
    return [
        f"{note} ({', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''})"
        for note, names in about.items()
    ]


def _estimate(mean: Mean) -> str:
    return "undefined" if mean.correlation is None else _figure(mean.correlation) + _bounds(mean.correlation_interval)


def _bounds(bounds: Bounds | None) -> str:
    return "" if bounds is None else f" [{bounds.low:.2f}, {bounds.high:.2f}]"


def _figure(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _p(value: float | None) -> str:
    return _NONE if value is None else "<.001" if value < 0.001 else f"{value:.3f}"
