"""Predictions out of lm-eval's result files, and into files of their own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import hash_json, locked
from lm_eval_sts.records import (
    UNKNOWN,
    Prediction,
    load_record,
    noted_together,
    parse_record,
    read_json,
    refuse_damaged,
    save_record,
)

_LISTED: Final = 12
_PART: Final = 40
"""Longest part of an exported file's name; it has four, and a hash."""
_NO_MATTER: Final = {"predictors", "outcome", "profiles_dir"}
"""Settings of a run that change no predictor's scores."""
_LOCK_SECONDS: Final = 60.0


class _Found(NamedTuple):
    file: Path
    prediction: Prediction


@noted_together()
def read_predictions(*places: Path) -> list[Prediction]:
    """The predictions in files and folders, those of every run.

    A run that lies in several files (copies of a result file, or its exported predictions beside it) counts once.

    Args:
        places: Result files of lm-eval, exported predictions, and folders: all of both below a folder count, at any
            depth; other JSON files there are passed over, hidden ones too.

    Raises:
        RecordError: There is no such place, it holds no predictions, a file or folder cannot be read, a prediction is
            not valid, or two runs predict one setting by one predictor.
    """
    found: list[_Found] = []
    for place in places:
        found += _below(place) if _is_folder(place) else _in(place)
    runs: dict[str, list[_Found]] = {}
    for each in found:
        runs.setdefault(_key(each.prediction), []).append(each)
    for same in runs.values():
        _check_one_run(same)
    return [same[0].prediction for same in runs.values()]


def export_predictions(predictions: Iterable[Prediction], folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Writes each prediction to a file of its own, named by base model, SFT set, benchmark, predictor and a hash.

    The hash tells setting, predictor, version, SAE, seed and all settings that may change scores: a run with other ones
    gets files beside those of the first.

    Args:
        predictions: Of any settings.
        folder: Made where it is missing.
        overwrite: Replace what other runs with the same settings exported.

    Returns:
        The files, in the order of the predictions.

    Raises:
        RecordError: A file holds another run (then nothing was written), or cannot be written.
        BusyError: Another process is writing there.
    """
    files = {folder / _file_name(prediction): prediction for prediction in predictions}
    try:
        with locked(folder, wait=_LOCK_SECONDS):
            for file, prediction in files.items():
                if not overwrite and file.exists() and not _says_the_same(load_record(Prediction, file), prediction):
                    raise RecordError(
                        f"{file} holds another run of this setting: choose another --output, or give --overwrite"
                    )
            for file, prediction in files.items():
                save_record(prediction, file)
    except OSError as error:
        raise RecordError(f"cannot write {folder}: {error.strerror or error}: choose another place") from error
    return list(files)


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except OSError as error:  # too long a name, for instance
        raise RecordError(f"cannot read {place}: {error.strerror or error}") from error


def _in(file: Path) -> list[_Found]:
    found = _read(file)
    if not found:
        raise RecordError(f"{file} holds no predictions: is it the result file of a run with a task sts_…?")
    return found


def _below(folder: Path) -> list[_Found]:
    files = json_files(folder)
    found = [each for file in files for each in _read(file)]
    if not found:
        raise RecordError(
            f"no predictions below {folder}, in {len(files)} JSON files: was a task sts_… run with --output_path?"
        )
    return found


def json_files(folder: Path) -> list[Path]:
    """Every JSON file below a folder, sorted; links are followed, each folder is entered once."""

    def unreadable(error: OSError) -> None:
        raise RecordError(f"cannot read {error.filename}: {error.strerror}") from error

    found: list[Path] = []
    entered = {folder.resolve()}
    for name, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        here = Path(name)
        real = {each: (here / each).resolve() for each in sorted(folders) if not each.startswith(".")}
        folders[:] = [each for each, path in real.items() if path not in entered]
        entered.update(real.values())
        found += [here / each for each in files if each.endswith(".json") and not each.startswith(".")]
    return sorted(found)


def _read(file: Path) -> list[_Found]:
    """The predictions in a file; none in one that is something else."""
    data = read_json(file)
    refuse_damaged(data, str(file))  # before its kind is believed
    if not isinstance(data, dict):
        return []
    records = [data] if data.get("kind") == "prediction" else _records(data, file)
    return [_Found(file, parse_record(Prediction, record, str(file))) for record in records]


def _records(data: dict[str, Any], file: Path) -> list[Any]:
    """Every prediction in a decoded result file: the last task of each benchmark carries them, the others name it."""
    configs = data.get("configs")
    found: dict[str, list[Any]] = {}
    carriers: set[str] = set()
    for task, config in configs.items() if isinstance(configs, dict) else ():
        metadata = config.get("metadata") if isinstance(config, dict) else None
        results = metadata.get("sts_results") if isinstance(metadata, dict) else None
        refuse_damaged(results, f"{file}: {task}")
        if isinstance(results, dict) and isinstance(results.get("predictions"), list):
            found[task] = results["predictions"]
        elif isinstance(results, dict) and "predictions_are_with" in results:
            carriers.add(str(results["predictions_are_with"]))
    lost = [f"no predictions with {task}, where they were written" for task in sorted(carriers - found.keys())]
    if "n-shot" in data and not isinstance(configs, dict):
        lost.append("a result of lm-eval without its configs")
    if lost:
        raise RecordError(f"{file}: {lost[0]}: it was changed or damaged; take it again from its source")
    return [prediction for predictions in found.values() for prediction in predictions]


def _check_one_run(found: Sequence[_Found]) -> None:
    first = found[0].prediction
    if all(each.prediction == first for each in found):
        return
    files = list(dict.fromkeys(str(each.file) for each in found))
    more = f" and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
    setting = first.setting
    told = f"{first.predictor} on {setting.benchmark.name}, {setting.model.name} and {setting.sft_set.name}"
    if differ := _differences(found):
        told += f"; they differ in {differ}"
    raise RecordError(
        f"two runs of one setting ({told}) in {', '.join(files[:_LISTED])}{more}: give one of them, or a folder that "
        "holds one"
    )


def _differences(found: Sequence[_Found]) -> str:
    """In which settings runs differ, with the values of the first two that do."""
    runs = [_options(each.prediction) for each in found]
    names = sorted({name for run in runs for name in run})
    values = {name: list(dict.fromkeys(json.dumps(run.get(name)) for run in runs)) for name in names}
    told = [f"{name} ({some[0]} and {some[1]})" for name, some in values.items() if len(some) > 1]
    return ", ".join(told[:_LISTED])


def _options(prediction: Prediction) -> dict[str, Any]:
    """With what a run was made, as far as it may change scores."""
    given = prediction.provenance.settings
    return {"seed": prediction.provenance.seed, **{k: v for k, v in given.items() if k not in _NO_MATTER}}


def _key(prediction: Prediction) -> str:
    """What a prediction is of: base model, SFT set and SAE by content where that is known, and by which predictor."""
    setting, sae = prediction.setting, prediction.sae
    model, sft_set = setting.model, setting.sft_set
    apart = (model.tensors_hash, model.config_hash)
    known = _content(model.weights_hash, model.name, model.revision) if UNKNOWN in apart else apart
    return hash_json(
        {
            "model": [*known, model.dtype],
            "sft_set": _content(sft_set.content_hash, sft_set.name, sft_set.revision),
            "setting": setting.model_dump(mode="json", exclude={"model", "sft_set"}),
            "sae": [*_content(sae.weights_hash, sae.name), sae.hook_name] if sae else None,
            "predictor": [prediction.predictor, prediction.predictor_version],
        }
    )


def _content(known: str, *names: str) -> tuple[str, ...]:
    return names if known == UNKNOWN else (known,)


def _file_name(prediction: Prediction) -> str:
    setting = prediction.setting
    names = (setting.model.name, setting.sft_set.name, setting.benchmark.name, prediction.predictor)
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "_", PurePosixPath(name).name)[:_PART].strip("._-") for name in names]
    key = hash_json([_key(prediction), _options(prediction)])
    return "-".join([*filter(None, parts), key[:8]]) + ".json"


def _says_the_same(there: Prediction, prediction: Prediction) -> bool:
    return there.model_copy(update={"provenance": prediction.provenance}) == prediction
