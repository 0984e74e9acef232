"""The verdict of a run: which domains will move, how sure that is, and what to do next; of its records alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

from pydantic import Field

from lm_eval_sts.errors import SettingsError, choices
from lm_eval_sts.records import OF_GIVEN_ROWS, UNKNOWN, Document, Finite, Prediction, Record, Target
from lm_eval_sts.records.score_errors import score_errors
from lm_eval_sts.verdict.calibration import Calibrated, Kind, kind_of, thirds
from lm_eval_sts.verdict.groups import not_lower
from lm_eval_sts.verdict.next_step import finetune_command, sample_command

SIZES: Final = ("sts_icl", "sts_act")
"""Predictors of the size that lead a verdict, the first that a run has."""
DIRECTIONS: Final = ("probing_20", "loss_rehearsal_alone")
"""Signed predictors that stand beside it, the first that a run has: the study's best, of which the first trains."""
BASELINE: Final = "tfidf_cosine"
"""Reads no model; stands in the verdict's table so that the others can be compared with it."""
THIRD: Final = ("highest", "middle", "lowest")


class RankedDomain(Record):
    """One domain in the order of a predictor's scores."""

    domain: str
    score: Finite
    se: Finite | None
    """Standard error of the score, by questions and by draws of demonstrations."""
    share: Finite | None
    """Percent of the highest score; None where a score is negative, so that there is no such share."""
    low: Finite | None
    """95% interval of ``share``, or of ``score`` where there is none: score ± Student's quantile times ``se``."""
    high: Finite | None
    not_lower: bool
    """Whether it is not significantly different from the highest."""
    third: Literal["highest", "middle", "lowest"]


class Ranked(Record):
    """A predictor's domains, the highest score first."""

    predictor: str
    target: Target
    draws: int = Field(default=0, ge=0)
    """Draws of demonstrations that a domain's score is the mean of, the fewest that any has; 0 where none are known. Of
    one draw the spread is not known, and in no error."""
    domains: tuple[RankedDomain, ...] = Field(min_length=1)

    def by_name(self) -> dict[str, RankedDomain]:
        """The domains by name."""
        return {domain.domain: domain for domain in self.domains}


class Known(Record):
    """What is known of SFT runs of this kind of model."""

    kind: str
    runs: str
    caveat: str
    is_one_of_them: bool
    """Whether the run's SFT set is among those that were measured."""
    other_settings: tuple[str, ...]
    """In what the run differs from those that were measured."""
    predictors: dict[str, Calibrated]


class Verdict(Document):
    """What a run says."""

    kind: Literal["verdict"] = "verdict"
    model: str
    sft_set: str
    n_examples: int
    benchmark: str
    ranked: Ranked
    """By the predictor that leads: of sizes, unless the user named a signed one."""
    direction: Ranked | None
    """By a signed predictor; None where the run has none, or the first is one."""
    known: Known | None
    """None: no SFT runs of this kind of model were measured."""
    next_command: tuple[str, ...]
    """In parts, to be joined by spaces; empty where one command cannot do it."""
    why_no_command: str
    predictors: tuple[str, ...]
    """All that the run has."""
    notes: tuple[str, ...]
    """Everything that was left out or warned of."""


def make_verdict(
    predictions: Sequence[Prediction], *, predictor: str | None = None, left_out: Mapping[str, str] | None = None
) -> Verdict:
    """What the predictions of one run say.

    Args:
        predictions: Of one run: one of each predictor.
        predictor: Which shall lead; None: the first of ``SIZES`` that there is, else any of sizes, else any.
        left_out: Why there is no prediction of a predictor that was asked for, by its name.

    Raises:
        SettingsError: There is no prediction by that predictor, or two by one.
    """
    by_name = {prediction.predictor: prediction for prediction in predictions}
    if len(by_name) < len(predictions):
        raise SettingsError("a run has two predictions by one predictor: give the files of one run")
    first = by_name[_leading(by_name, predictor)]
    signed = [name for name in (*DIRECTIONS, *by_name) if name in by_name and by_name[name].target == "delta"]
    direction = by_name[signed[0]] if first.target == "magnitude" and signed else None
    kind = kind_of(first)
    setting = first.setting
    notes = list(dict.fromkeys(note for prediction in predictions for note in prediction.provenance.notes))
    told = "\n".join(notes)
    why_not = _why_no_command(first)
    return Verdict(
        model=setting.model.name,
        sft_set=setting.sft_set.name,
        n_examples=setting.sft_set.n_examples,
        benchmark=setting.benchmark.name,
        ranked=ranked(first),
        direction=None if direction is None else ranked(direction),
        known=None if kind is None else _known(kind, first, [first, direction, by_name.get(BASELINE)]),
        next_command=() if why_not else _next_command(first, kind),
        why_no_command=why_not,
        predictors=tuple(by_name),
        notes=(*notes, *(f"{name}: {why}" for name, why in (left_out or {}).items() if why not in told)),
    )


def runs(predictions: Iterable[Prediction]) -> list[list[Prediction]]:
    """Predictions by run, in the order given.

    Those of one base model, SFT set, benchmark and way of asking count as one run, unless a predictor is there twice
    (two SAEs, for instance): then those that were made together.
    """
    found: list[list[Prediction]] = []
    for about in _grouped(predictions, lambda prediction: prediction.setting.model_dump_json()):
        distinct = len({prediction.predictor for prediction in about}) == len(about)
        found += [about] if distinct else _grouped(about, _made)
    return found


def _grouped(predictions: Iterable[Prediction], key: Callable[[Prediction], str]) -> list[list[Prediction]]:
    found: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        found.setdefault(key(prediction), []).append(prediction)
    return list(found.values())


def _made(prediction: Prediction) -> str:
    return prediction.provenance.model_copy(update={"notes": ()}).model_dump_json()


def _leading(by_name: Mapping[str, Prediction], wanted: str | None) -> str:
    if wanted is None:
        sizes = [name for name, prediction in by_name.items() if prediction.target == "magnitude"]
        return next(name for name in (*SIZES, *sizes, *by_name) if name in by_name)
    if wanted not in by_name:
        raise SettingsError(f"the run has no prediction by {wanted!r}: {choices(wanted, by_name)}")
    return wanted


def ranked(prediction: Prediction) -> Ranked:
    """A prediction's domains, the highest score first."""
    order = sorted(prediction.domains, key=lambda name: -prediction.domains[name].score)
    scores = [prediction.domains[name].score for name in order]
    unit = scores[0] / 100 if scores[-1] >= 0 < scores[0] / 100 else None
    best, error_of = not_lower(prediction.domains), score_errors(prediction.domains)
    domains = []
    for name, third in zip(order, thirds(scores), strict=True):
        found, error = prediction.domains[name], error_of[name]
        half = None if error is None else error.half_width
        domains.append(
            RankedDomain(
                domain=name,
                score=found.score,
                se=None if error is None else _finite(error.se),
                share=None if unit is None else found.score / unit,
                low=None if half is None else _finite((found.score - half) / (unit or 1)),
                high=None if half is None else _finite((found.score + half) / (unit or 1)),
                not_lower=name in best,
                third=THIRD[third],
            )
        )
    draws = min(len(domain.draws) for domain in prediction.domains.values())
    return Ranked(predictor=prediction.predictor, target=prediction.target, draws=draws, domains=tuple(domains))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _known(kind: Kind, first: Prediction, others: Iterable[Prediction | None]) -> Known:
    found = {p.predictor: calibrated for p in others if p is not None and (calibrated := kind.of(p)) is not None}
    return Known(
        kind=kind.name,
        runs=kind.runs,
        caveat=kind.caveat,
        is_one_of_them=first.setting.sft_set.content_hash in kind.sft_sets,
        other_settings=tuple(kind.other_settings(first)),
        predictors=found,
    )


def _next_command(prediction: Prediction, kind: Kind | None) -> tuple[str, ...]:
    """What fine-tunes the run's model on its SFT set; as the SFT runs that are known, where there are such.

    Where the set has no responses of its own: what samples them.
    """
    setting, given = prediction.setting, prediction.provenance.settings
    if given.get("sft_answers", "given") != "given":
        return sample_command(prediction)
    sft_set = str(given.get("sft_set") or setting.sft_set.name)
    command = finetune_command(setting.model.name, sft_set, revision=setting.model.revision, settings=given)
    return (*command, *([kind.recipe] if kind and kind.recipe else []))


def _why_no_command(prediction: Prediction) -> str:
    """Why the run's model cannot be fine-tuned by one command; empty where it can."""
    model, sft_set = prediction.setting.model, prediction.setting.sft_set
    for what in ("peft", "delta"):
        if f" with {what} " in model.name:
            return f"merge what was put on the model ({what}) and save it; then lm-eval-sts finetune on that folder"
    if UNKNOWN in (model.name, sft_set.name) or sft_set.name == OF_GIVEN_ROWS:
        return "save the model and the SFT set, which were given as objects; then lm-eval-sts finetune on both"
    return ""
