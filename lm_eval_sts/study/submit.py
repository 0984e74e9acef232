"""A study's outcomes as settings of a leaderboard, and its predictions as submissions for them.

An SFT run is registered as ``<folder>/<SFT set>[-<recipe>]``, a folder for each base model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lm_eval_sts.agreement.matching import setting_differences
from lm_eval_sts.errors import RecordError, SettingsError, choices
from lm_eval_sts.leaderboard.layout import SETTINGS, SUBMISSIONS, held, name_of
from lm_eval_sts.leaderboard.registered import Settings, read_settings
from lm_eval_sts.leaderboard.submitting import Description, Origin, make_submissions, merge
from lm_eval_sts.predictors.base import category_of
from lm_eval_sts.predictors.registry import get_predictor, own_description
from lm_eval_sts.records import Cost, Outcome, Prediction, StudyPredictions, Submission, load_record
from lm_eval_sts.shipped import save_outcome
from lm_eval_sts.study.design import MAIN, Study
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.jobs import Job, Work, jobs
from lm_eval_sts.study.sources import board_folders, runs_of

_DIGITS: Final = 7
"""Of scores and errors: what differs between machines is mostly below them."""
_ONE_DOSE: Final = frozenset({"training", "oracle"})
"""Categories that see a training run, so that a prediction is for its recipe alone."""
_PLACES: Final = frozenset({"benchmark_path"})
"""Settings that say where something lies, and not what is read."""


def register(study: Study, work: Path, root: Path, folders: Mapping[str, str] | None = None) -> list[Path]:
    """Registers every SFT run whose outcome is known; what is registered already stays.

    Args:
        study: The study.
        work: Its work folder.
        root: The leaderboard's folder.
        folders: Base model's short name to the folder of its settings; found by the model's name where it has any, else
            the study's name, with that of a further base model after it.

    Returns:
        The files that were written.

    Raises:
        StsError: A record is not valid, or an outcome was measured after another SFT set than the study's.
    """
    worker, written = Worker(study, Work(work)), []
    with held(root):
        registered = read_settings(root) if (root / SETTINGS).is_dir() else {}
        for base, folder in _folders(study, registered, folders).items():
            for run, (sft_set, _) in runs_of(study, base).items():
                path = worker.outcome_file(base, run)
                if path is None:
                    continue
                outcome = _complete(worker, load_record(Outcome, path), run, sft_set)
                known = registered.get(f"{folder}/{run}")
                if known is None:
                    written.append(root / SETTINGS / folder / f"{run}.json")
                    save_outcome(outcome, written[-1])
                elif known.domains.keys() != outcome.domains.keys() or not known.model.same(outcome.model):
                    raise RecordError(
                        f"{folder}/{run} is registered with another model or other domains: give another folder "
                        f"(--board_folder {base}=FOLDER)"
                    )
    return written


def submissions(
    study: Study,
    work: Path,
    root: Path,
    origin: Origin,
    *,
    folders: Mapping[str, str] | None = None,
    predictors: Sequence[str] = (),
    costs: Mapping[str, Cost] | None = None,
) -> dict[Path, Submission]:
    """The study's predictions as submissions for registered settings, by the file that each belongs in.

    A predictor's scores are those of the main condition; those of another one count where the main condition is not to
    have it (oracles, fitted predictors). What saw a training run (trial runs, oracles) is put forward for the main
    recipe only, as that is the one it saw. SFT sets that are not registered are left out, with a warning.

    Args:
        study: The study.
        work: Its work folder.
        root: The leaderboard's folder.
        origin: Who submits, and which code made the predictions.
        folders: As of :func:`register`.
        predictors: Those to submit; all by default.
        costs: Of one SFT run, by predictor.

    Raises:
        StsError: There are none, a record is not valid, or one is about another model, SFT set or benchmark than the
            registered setting.
    """
    registered = read_settings(root)
    found = [each for each in _found(study, work) if not predictors or each.prediction.predictor in predictors]
    there = sorted({each.prediction.predictor for each in found})
    if missing := [name for name in predictors if name not in there]:
        raise SettingsError(f"{work} holds no prediction of {missing[0]}: {choices(missing[0], there)}")
    if not found:
        raise SettingsError(f"{work} holds no predictions: run the study first (lm-eval-sts study run {study.path})")
    made: dict[Path, Submission] = {}
    for base, folder in _folders(study, registered, folders).items():
        ours = [each for each in found if each.base == base]
        aliases = _aliases(study, work, base, folder, registered)
        for name in there:
            of = [each for each in ours if each.prediction.predictor == name]
            if not of:
                continue
            settings = _settings(study, base, folder, registered, name)
            if not settings:
                raise SettingsError(
                    f"no SFT run of {base} is registered in {folder}: register the study's outcomes first "
                    f"(lm-eval-sts study submit {study.path} --settings)"
                )
            described = {name: Description(**own_description(name), cost=(costs or {}).get(name))}
            for each in of:
                each.check(registered.get(f"{folder}/{each.sft_set}"))
            notes = dict.fromkeys(each.note(folder) for each in of)
            told = replace(origin, notes=(*origin.notes, *filter(None, notes)))
            for one in make_submissions([_named(each.prediction, aliases) for each in of], settings, told, described):
                path = root / name_of(SUBMISSIONS, one.predictor, one.version)
                made[path] = merge(made[path], one) if path in made else one
    return made


@dataclass(frozen=True)
class _Found:
    """A prediction of the study, rounded, and the settings that its condition names."""

    base: str
    sft_set: str
    prediction: Prediction
    settings: Mapping[str, object]

    def check(self, outcome: Outcome | None) -> None:
        """Refuses a prediction of another model, SFT set or benchmark than its SFT run was measured with."""
        wrong = [] if outcome is None else setting_differences(self.prediction.setting, outcome)
        if wrong:
            raise RecordError(
                f"{self.prediction.predictor} for {self.base}/{self.sft_set} is not about what is registered: "
                f"{'; '.join(wrong)}: predict again, or give another folder of settings (--board_folder)"
            )

    def note(self, folder: str) -> str:
        """What of the settings differs from the defaults, for a reader; empty where nothing."""
        told = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        return f"{folder}: {told}" if told else ""


def _found(study: Study, work: Path) -> Iterator[_Found]:
    """Every prediction that counts, the first of each predictor, base model and SFT set."""
    seen: set[tuple[str, str, str]] = set()
    for job in sorted(_predicting(study, work), key=lambda job: job.condition != MAIN):
        record = load_record(StudyPredictions, Work(work).predictions(job))
        if (record.base, record.condition, record.sft_set) != (job.base, job.condition, job.sft_set):
            raise RecordError(f"{Work(work).predictions(job)} is of another job than its place says: remove it")
        planned = study.predictors(MAIN, job.base)
        for prediction in record.predictions:
            key = (job.base, job.sft_set, prediction.predictor)
            if key in seen or (job.condition != MAIN and prediction.predictor in planned):
                continue
            seen.add(key)
            yield _Found(job.base, job.sft_set, rounded(prediction), _told(study, job))


def _predicting(study: Study, work: Path) -> list[Job]:
    return [job for job in jobs(study) if job.kind == "predict" and Work(work).predictions(job).is_file()]


def _told(study: Study, job: Job) -> dict[str, object]:
    given = {**study.predict.settings, **study.bases[job.base].settings, **study.condition(job.condition).settings}
    if study.predict.limit is not None:
        given["limit"] = study.predict.limit
    return {key: value for key, value in given.items() if key not in _PLACES}


def rounded(prediction: Prediction) -> Prediction:
    """A prediction with scores and errors of seven digits."""
    domains = {
        name: each.model_copy(update={"score": _short(each.score), "se": None if each.se is None else _short(each.se)})
        for name, each in prediction.domains.items()
    }
    return prediction.model_copy(update={"domains": domains})


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _named(prediction: Prediction, aliases: Mapping[str, str]) -> Prediction:
    """A prediction that says by registered names what it was fitted on."""
    names = tuple(aliases.get(name, name) for name in prediction.fitted_on)
    return prediction.model_copy(update={"fitted_on": names})


def _aliases(study: Study, work: Path, base: str, folder: str, registered: Settings) -> dict[str, str]:
    """Names of the study's outcomes, and of its SFT runs, as they are registered."""
    worker = Worker(study, Work(work))
    found: dict[str, str] = {}
    for run in runs_of(study, base):
        name = f"{folder}/{run}"
        if name in registered:
            path = worker.outcome_file(base, run)
            found |= dict.fromkeys([run, *([load_record(Outcome, path).name] if path else [])], name)
    return found


def _settings(study: Study, base: str, folder: str, registered: Settings, predictor: str) -> dict[str, Outcome]:
    """The registered settings that a predictor is put forward for."""
    names = [f"{folder}/{run}" for run in runs_of(study, base)]
    if category_of(get_predictor(predictor)) in _ONE_DOSE:
        names = [f"{folder}/{name}" for name in study.chosen_sets(None, base)]
    return {name: registered[name] for name in names if name in registered}


def _folders(study: Study, registered: Settings, given: Mapping[str, str] | None) -> dict[str, str]:
    """The folder of registered settings of every base model."""
    found = board_folders(study, registered, given or {})
    return {
        base: found.get(base, study.name if base == study.main_base else f"{study.name}-{base}") for base in study.bases
    }


def _complete(worker: Worker, outcome: Outcome, run: str, sft_set: str) -> Outcome:
    """An outcome under the SFT run's name, with the SFT set that the study says it was measured after."""
    reference = worker.sft_set(worker.study.sets[sft_set]).reference
    if outcome.sft_set is not None and not outcome.sft_set.same(reference):
        raise RecordError(
            f"the outcome {outcome.name} was measured after {outcome.sft_set.name}, not after the study's {sft_set}: "
            "correct outcomes or sft_sets in the study file"
        )
    caveats = () if outcome.sft_set is not None else ("the SFT set is the one that the study file names",)
    return outcome.model_copy(
        update={
            "name": run,
            "sft_set": outcome.sft_set or reference,
            "caveats": (*outcome.caveats, *(each for each in caveats if each not in outcome.caveats)),
        }
    )
