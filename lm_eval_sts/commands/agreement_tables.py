"""An agreement on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from lm_eval_sts.commands.terminal import make_table, print_table

if TYPE_CHECKING:
    from lm_eval_sts.records import Agreement, Association, Bounds, Difference, Mean, Ranking, SettingAgreement

_MOST_ROWS: Final = 60
_NONE: Final = "–"
_TARGETS: Final = {"magnitude": "the size of the change", "delta": "the signed change"}
_INTERVALS: Final = {
    "measured": "the correlation with the measured change, over domains like these",
    "true": "the correlation with the true change, free of measurement error, over these domains",
}


def print_agreement(console: Console, agreement: Agreement) -> None:
    """Prints everything that a reader must know of an agreement."""
    unit = agreement.outcomes[0].unit
    console.print(
        f"Agreement with {_TARGETS[agreement.target]} ({agreement.view.replace('_', ' ')}, {unit})", style="bold"
    )
    console.print(f"Intervals of single correlations: 95%, for {_INTERVALS[agreement.interval]}.\n")
    _print_settings(console, agreement)
    print_table(console, _outcomes(agreement))
    console.print()
    if len(agreement.outcomes) > 1 or len(agreement.raw.means) > 1:
        print_table(console, _ranking(agreement))
        console.print(
            "mean r: from the mean of Fisher's z over settings; its interval is the wider of Hartung-Knapp's over "
            "settings and the jackknife's over domains. p: permutation of whole domains. place: from 1 + number of "
            "significantly better ones to number of all − significantly worse ones.\n"
        )
    for line in (*_verdicts("", agreement.raw), *_verdicts("Double-centred: ", agreement.double_centred)):
        console.print(line)
    for title, lines in (("Notes", _notes(agreement.settings)), ("Warnings", agreement.warnings)):
        if lines:
            console.print(f"\n{title}", style="bold")
            for line in lines:
                console.print(f"- {line}")


def _print_settings(console: Console, agreement: Agreement) -> None:
    found = agreement.settings
    if len(found) > _MOST_ROWS:
        console.print(f"{len(found)} predictors and settings: each is in the JSON file (--output).\n")
        return
    print_table(console, _correlations(found))
    console.print(
        "perfect: what is expected for a perfect predictor, given the errors of the measured changes; good ones exceed "
        "it at times. disattenuated: Pearson over perfect, where the noise allows it.\n"
    )
    print_table(console, _descriptive(found, agreement.outcomes[0].unit))
    console.print()


def _correlations(found: Sequence[SettingAgreement]) -> Table:
    table = make_table(
        words=("outcome", "predictor"),
        figures=("domains", "Pearson", "perfect", "disattenuated", "Spearman", "perfect", "Kendall", "perfect"),
        last="without the most influential domain",
    )
    for one in found:
        table.add_row(
            one.outcome,
            one.predictor,
            str(len(one.points)),
            _with_interval(one.pearson),
            _ceiling(one.pearson),
            _figure(one.pearson.disattenuated),
            _with_interval(one.spearman),
            _ceiling(one.spearman),
            _with_interval(one.kendall),
            _ceiling(one.kendall),
            _without(one),
        )
    return table


def _descriptive(found: Sequence[SettingAgreement], unit: str) -> Table:
    """What is descriptive only, and the sign score where a sign was predicted."""
    signed = any(one.sign for one in found)
    figures = ["R²", "precision at 3", f"error of a fit, {unit}", "without predictor"]
    if signed:
        figures += [f"sign score, {unit}", "constant sign", "advantage", "sign accuracy (attenuated)"]
    table = make_table(words=("outcome", "predictor"), figures=figures)
    for one in found:
        row = [_figure(one.r_squared), _figure(one.precision_at_3)]
        row += [_figure(one.fit.error), _figure(one.fit.constant)] if one.fit else [_NONE, _NONE]
        if signed:
            sign = one.sign
            row += (
                [_NONE] * 4
                if sign is None
                else [
                    _figure(sign.score) + _bounds(sign.interval),
                    _figure(sign.constant),
                    _figure(sign.advantage) + _bounds(sign.advantage_interval),
                    _figure(sign.accuracy_attenuated),
                ]
            )
        table.add_row(one.outcome, one.predictor, *row)
    return table


def _outcomes(agreement: Agreement) -> Table:
    table = make_table(
        words=("outcome", "base", "SFT set"), figures=("domains", "reliability of signed changes", "seeds")
    )
    for outcome in agreement.outcomes[:_MOST_ROWS]:
        table.add_row(
            outcome.name,
            outcome.model,
            outcome.sft_set or "unknown",
            str(outcome.n_domains),
            _figure(outcome.reliability) + _bounds(outcome.reliability_interval),
            str(len(outcome.seeds)) if outcome.seeds else _NONE,
        )
    return table


def _ranking(agreement: Agreement) -> Table:
    """Predictors over all settings, best first, with the places that the differences allow."""
    centred = {mean.predictor: mean for mean in agreement.double_centred.means} if agreement.double_centred else {}
    places = {place.predictor: place for place in agreement.raw.places}
    figures = ["settings", "mean r", "p", *(["double-centred r", "p"] if centred else []), "place"]
    table = make_table(words=("predictor",), figures=figures, last="leading")
    for mean in agreement.raw.means:
        place = places.get(mean.predictor)
        other = centred.get(mean.predictor)
        table.add_row(
            mean.predictor,
            str(len(mean.settings)),
            *_mean(mean),
            *(_mean(other) if other else ()),
            _NONE
            if place is None
            else str(place.best)
            if place.best == place.worst
            else f"{place.best} to {place.worst}",
            "leading" if place is not None and place.leading else "",
        )
    return table


def _mean(mean: Mean) -> tuple[str, str]:
    if mean.correlation is None:
        return "undefined", _NONE
    return _figure(mean.correlation) + _bounds(mean.correlation_interval), _p(mean.permutation_p)


def _verdicts(prefix: str, ranking: Ranking | None) -> list[str]:
    """Who can be told apart, in words."""
    if ranking is None or not ranking.differences:
        return []
    clear = [pair for pair in ranking.differences if pair.separable]
    lines = []
    if len(ranking.differences) == 1:
        (pair,) = ranking.differences
        lines.append(f"{prefix}{_verdict(pair)}")
    elif not clear:
        lines.append(f"{prefix}no two of {len(ranking.places)} predictors are separable (Holm, all pairs).")
    else:
        leading = ", ".join(place.predictor for place in ranking.places if place.leading)
        lines.append(
            f"{prefix}{len(clear)} of {len(ranking.differences)} pairs are separable (Holm). "
            f"Leading (not separable from the best): {leading}."
        )
    lines += [f"{prefix}{mean.predictor}: undefined: {mean.undefined}" for mean in ranking.means if mean.undefined]
    return lines


def _verdict(pair: Difference) -> str:
    better, worse = (pair.a, pair.b) if pair.z >= 0 else (pair.b, pair.a)
    verdict = f"{better} is better than {worse}" if pair.separable else f"{pair.a} and {pair.b} are not separable"
    williams = "" if pair.williams_p is None else f"; Williams' test, a check, p = {_p(pair.williams_p)}"
    return (
        f"{verdict}: difference of mean z ({pair.a} − {pair.b}) {_figure(pair.z)}{_bounds(pair.interval)}, "
        f"p = {_p(pair.p)}, over {pair.n_domains} domains and {pair.n_settings} setting"
        f"{'s' if pair.n_settings > 1 else ''} (jackknife over domains){williams}."
    )


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


def _with_interval(found: Association) -> str:
    return _figure(found.value) + _bounds(found.interval)


def _ceiling(found: Association) -> str:
    return _figure(found.ceiling.value if found.ceiling else None)


def _without(found: SettingAgreement) -> str:
    most = found.influence.most
    return _NONE if most is None else f"{most}: {_figure(found.influence.without[most])}"


def _bounds(bounds: Bounds | None) -> str:
    return "" if bounds is None else f" [{bounds.low:.2f}, {bounds.high:.2f}]"


def _figure(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _p(value: float | None) -> str:
    return _NONE if value is None else "<.001" if value < 0.001 else f"{value:.3f}"
