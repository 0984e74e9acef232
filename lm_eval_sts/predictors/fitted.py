r"""Predictors that are fitted on the outcomes of other SFT sets, with what other predictors said of these.

``low_rank_…``: Jin and Ren (arXiv 2406.14026) find changes over tasks × examples near low rank, and complete a new
task's row from the changes of a few examples after training on it. Records hold changes by domain, so the columns are
domains; and what is seen of a new SFT set is not its changes after training, which nobody has yet, but those of a
trial run, or of a rehearsal in context. Their reference code regresses a new row on fixed factors of the others with an
L2 penalty, as here; without anything seen of its own, a row is the additive model without its task term:
``null_domain_mean``. ``low_rank_sts`` was found by looking at ten outcomes of a real model, of seven fits that were
tried there: only SFT sets that are scored since can test it.

``descriptors…``: TuneAhead (arXiv 2606.17660) predicts a run's performance from static descriptors of the SFT set and
a short standard probe, by boosted trees over 1,300 runs. With tens of runs a ridge regression is all that can be
fitted.

``combined_…``: what a practitioner has at hand, three features: the domain's mean change over other SFT sets,
``tfidf_cosine``, and ``loss_rehearsal_alone`` or ``probing_20``. Version 1, declared before it was scored, was one
ridge regression over all cells. On ten outcomes of a real model, whose SFT sets differ in level, it did not see the
fragility that it was given; version 2 (:func:`~lm_eval_sts.predictors.fitting.linear`), as good on the development sets
of the micro world, regresses within SFT sets. Only SFT sets that are scored since can test it on that model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Final

import numpy as np

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.development import Development, Scores, developments, obstacle, recorded_in
from lm_eval_sts.evidence.evidence import Evidence
from lm_eval_sts.evidence.recorded import recorded
from lm_eval_sts.predictors import lexical, losses, null, sts, trial_runs
from lm_eval_sts.predictors.base import Measured, Predictor
from lm_eval_sts.predictors.fitting import NOISES, PENALTIES, RANKS, Chosen, Method, Table, choose, completed, linear
from lm_eval_sts.records import Category, DomainScore, Outcome, Prediction, View

LEAST_SETS: Final = 3
"""SFT sets from which on anything can be fitted and tried on one that was left out."""

_PARTS: Final = {p.name: p for family in (lexical, losses, null, sts, trial_runs) for p in family.FAMILY}


@dataclass(frozen=True)
class Fit:
    """How a predictor is fitted.

    Attributes:
        parts: Names of the predictors whose scores it takes, in the order of the method's table.
        method: From development outcomes and own scores to changes.
        options: What the method leaves open, the most cautious first.
    """

    parts: tuple[str, ...]
    method: Method
    options: tuple[Any, ...]

    def predict(self, development: Sequence[Development], own: Scores, domains: Sequence[str]) -> Fitted:
        """Fits on development outcomes and predicts one SFT set.

        Args:
            development: Outcomes of other SFT sets; those for which a part has no score are left out.
            own: What the parts say of the SFT set.
            domains: Those to predict.

        Raises:
            SettingsError: Fewer than three SFT sets are left.
        """
        used = [of for of in development if of.scores.keys() >= set(self.parts)]
        numbers = {name: i for i, name in enumerate(dict.fromkeys(of.sft_set for of in used))}
        if len(numbers) < LEAST_SETS:
            raise SettingsError(
                f"a fit on {', '.join(self.parts)} needs their scores on {LEAST_SETS} development SFT sets, and has "
                f"{len(numbers)}: name outcomes in development, and predictions of their SFT sets in "
                "development_predictions"
            )
        table = Table(
            np.array([_row(of.changes, domains) for of in used]),
            np.array([[_row(of.scores[part], domains) for of in used] for part in self.parts]),
            np.array([numbers[of.sft_set] for of in used]),
        )
        chosen = choose(self.method, self.options, table, np.array([_row(own[part], domains) for part in self.parts]))
        known = [d for d, changes in zip(domains, table.changes.T, strict=True) if np.isfinite(changes).any()]
        return Fitted(chosen, dict(zip(domains, chosen.changes.tolist(), strict=True)), tuple(used), tuple(known))


@dataclass(frozen=True)
class Fitted:
    """A prediction by fitting.

    Attributes:
        chosen: What was chosen, and how well it did.
        changes: Domain to predicted change; NaN where there is none.
        used: The outcomes that it was fitted on.
        known: The domains whose changes it was fitted on.
    """

    chosen: Chosen
    changes: Mapping[str, float]
    used: tuple[Development, ...]
    known: tuple[str, ...]

    @property
    def fitted_on(self) -> tuple[str, ...]:
        """Names of outcomes and domains."""
        return (*(of.name for of in self.used), *self.known)

    def note(self, name: str) -> str:
        """What a reader of the record must know."""
        return (
            f"{name} was fitted on {len(self.used)} outcomes of other SFT sets, {self.chosen.option} chosen; with each "
            f"of these sets left out, its root mean square error on them was {self.chosen.error:.4g}"
        )


def _row(values: Mapping[str, float], domains: Sequence[str]) -> list[float]:
    return [values.get(domain, np.nan) for domain in domains]


def from_records(
    name: str,
    prediction: Sequence[Prediction],
    outcomes: Sequence[Outcome],
    others: Sequence[Prediction],
    view: View = "score",
) -> Prediction:
    """What a fitted predictor says of an SFT set whose parts were predicted before: no model is needed.

    Args:
        name: Of the predictor.
        prediction: What its parts predicted for the SFT set, and for no other.
        outcomes: Development outcomes; those of the SFT set itself, and of other base models, are left out.
        others: Predictions for the SFT sets of the outcomes.
        view: The quantity whose changes it is fitted on.

    Raises:
        SettingsError: A part is missing, or fewer than three SFT sets are left.
    """
    fit, predictor = FITS[name], next(p for p in FAMILY if p.name == name)
    own = {of.predictor: recorded(of).scores for of in prediction}
    if missing := [part for part in fit.parts if part not in own]:
        raise SettingsError(f"{name} needs predictions of {', '.join(missing)} for the SFT set that it is to predict")
    first = next(of for of in prediction if of.predictor == fit.parts[0])
    setting = first.setting
    usable = [o for o in outcomes if obstacle(setting.model, setting.sft_set, o) is None]
    domains = list(first.domains)
    found = fit.predict(developments(usable, [recorded(of) for of in others], domains, view), own, domains)
    scores = {
        domain: DomainScore(score=x, se=None, draws=(), n_questions=first.domains[domain].n_questions, n_tokens=None)
        for domain, x in found.changes.items()
        if np.isfinite(x)
    }
    provenance = first.provenance
    told = {
        "notes": (*provenance.notes, found.note(name)),
        "settings": {**provenance.settings, "development_view": view},
    }
    return Prediction(
        predictor=name,
        predictor_version=predictor.version,
        target=predictor.target,
        setting=setting,
        sae=first.sae,
        selection=None,
        domains=scores,
        fitted_on=found.fitted_on,
        provenance=provenance.model_copy(update=told),
    )


@lru_cache(maxsize=8)
def _predict(name: str, evidence: Evidence) -> Fitted:
    """Fits on the run's development outcomes, and takes the parts' scores from the run's own evidence."""
    fit = FITS[name]
    own = {
        part: {domain: found.score for domain, found in _PARTS[part].score(evidence).domains.items()}
        for part in fit.parts
    }
    return fit.predict(evidence["development_predictions"], own, list(evidence.texts.domains))


def _predictor(name: str, **told: Any) -> Predictor:
    fit = FITS[name]
    parts = [_PARTS[part] for part in fit.parts]
    trains = any(part.category == "training" for part in parts)
    category: Category = "training" if trains else "predictor"

    def measure(evidence: Evidence) -> dict[str, Measured]:
        found = _predict(name, evidence)
        return {
            domain: Measured(
                lambda weights, x=change: np.full(len(weights), x),  # type: ignore[misc]
                np.full(len(evidence.texts.domains[domain]), change),
                se=np.nan,
            )
            for domain, change in found.changes.items()
        }

    def check(settings: Any) -> None:
        for part in parts:
            if part.check is not None:
                part.check(settings)
        there = {each.predictor for each in recorded_in(settings)}
        if missing := [part.name for part in parts if part.name not in there]:
            raise SettingsError(
                f"{name} is fitted on scores of {', '.join(missing)}, of which there are none in "
                "development_predictions: predict with these the SFT sets of the development outcomes first"
            )

    return Predictor(
        name=name,
        measure=measure,
        needs=frozenset({"development_predictions"}.union(*(part.needs for part in parts))),
        cost=f"that of {', '.join(fit.parts)}, where other SFT sets were fine-tuned on and measured before",
        target="delta",
        category=category,
        needed="a development outcome that measured it, and scores of its parts",
        fitted_on=lambda evidence: _predict(name, evidence).fitted_on,
        notes=lambda evidence: (_predict(name, evidence).note(name),),
        check=check,
        **told,
    )


def low_rank(seen: str) -> Fit:
    """Completes the row of an SFT set from one predictor's scores."""
    return Fit((seen,), completed, ((0, 1.0), *product(RANKS[1:], reversed(NOISES))))


def on_scores(*cells: str, levels: Sequence[str] = ()) -> Fit:
    """Regresses on the domain's mean change, on predictors' scores, and on means of scores over domains."""
    parts = tuple(dict.fromkeys((*cells, *levels)))
    method = linear([parts.index(name) for name in levels], [parts.index(name) for name in cells])
    return Fit(parts, method, tuple(reversed(PENALTIES)))


_STATIC: Final = ("tfidf_cosine", "ngram_overlap", "loss_gap", "null_base_accuracy")
_OF_THE_SET: Final = ("null_sft_length", "null_sft_diversity", "null_sft_loss")

FITS: Final[Mapping[str, Fit]] = {
    "low_rank_rehearsal": low_rank("loss_rehearsal_alone"),
    "low_rank_probing": low_rank("probing_20"),
    "low_rank_sts": low_rank("sts_icl"),
    "descriptors": on_scores(*_STATIC, levels=_OF_THE_SET),
    "descriptors_probing": on_scores("probing_20", *_STATIC, levels=("probing_20", *_OF_THE_SET)),
    "combined_rehearsal": on_scores("tfidf_cosine", "loss_rehearsal_alone"),
    "combined_probing": on_scores("tfidf_cosine", "probing_20"),
}
"""How each is fitted, by name."""

_LOW_RANK = "Jin & Ren, NeurIPS 2025, arXiv 2406.14026, § 4; seen: this package"
_TUNEAHEAD = "after Luo et al., ICML 2026, arXiv 2606.17660; ridge: this package"
_RIDGE = "level + Σ_k β_k (x_k − mean of x_k over the set's domains)"

ABOUT = """\
All are fitted on measured changes of other SFT sets (setting development) and on what other predictors, their parts,
said of these sets (setting development_predictions). Outcomes of the run's own SFT set are left out. Scores are changes
in the view development_view, shares of 1 for accuracy. Rank, λ and penalty are those with the least squared error when
one SFT set is left out at a time among the development outcomes; a note gives that error. No standard error is known.

low_rank_…: columns are domains; p is what is seen of the SFT set, less its mean over development sets, L_p and L_Δ are
the loadings of what is seen and of the changes, s a scale. Rank 0 is null_domain_mean.

descriptors… and combined_…: x_1 is the domain's mean change over other SFT sets, the other x_k are scores of the parts.
The level is the mean of all SFT sets', of descriptors… by a regression on null_sft_… and the mean of probing_20 over
domains, which tell SFT sets apart, not domains.

Assumes that SFT sets, recipe and settings are like those of the development outcomes."""

FAMILY: Final = (
    _predictor(
        "low_rank_rehearsal",
        source=_LOW_RANK,
        summary="other sets' changes, by the rehearsal",
        formula="mean change + s L_Δᵀ (L_p L_pᵀ + λ I)⁻¹ L_p p, p of loss_rehearsal_alone",
    ),
    _predictor(
        "low_rank_probing",
        source=_LOW_RANK,
        summary="other sets' changes, by a trial run",
        formula="mean change + s L_Δᵀ (L_p L_pᵀ + λ I)⁻¹ L_p p, p of probing_20",
    ),
    _predictor(
        "low_rank_sts",
        source=_LOW_RANK,
        summary="other sets' changes, by sts_icl",
        formula="mean change + s L_Δᵀ (L_p L_pᵀ + λ I)⁻¹ L_p p, p of sts_icl",
    ),
    _predictor(
        "descriptors",
        source=_TUNEAHEAD,
        summary="fitted on what describes the set",
        formula=f"{_RIDGE}, x: mean change, {', '.join(_STATIC)}; level: null_sft_…",
        version="2",
    ),
    _predictor(
        "descriptors_probing",
        source=_TUNEAHEAD,
        summary="fitted on descriptors and a trial run",
        formula=f"{_RIDGE}, x: as descriptors, probing_20; level: null_sft_…, mean of probing_20",
        version="2",
    ),
    _predictor(
        "combined_rehearsal",
        source="this package",
        summary="fragility, words and rehearsal",
        formula=f"{_RIDGE}, x: mean change, tfidf_cosine, loss_rehearsal_alone",
        version="2",
    ),
    _predictor(
        "combined_probing",
        source="this package",
        summary="fragility, words and a trial run",
        formula=f"{_RIDGE}, x: mean change, tfidf_cosine, probing_20",
        version="2",
    ),
)
"""Every predictor of the family."""
