"""Reading lm-eval's result files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import Prediction, load_record, parse_record, read_json


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions in a file.

    Args:
        path: A result file of lm-eval, a folder of them (the newest file with predictions counts), or one exported
            prediction.

    Raises:
        RecordError: There is no such file, it holds no predictions, or they are not valid.
    """
    if path.is_dir():
        files = [file for file in path.rglob("results_*.json") if file.is_file()]
        for file in sorted(files, key=lambda f: f.stat().st_mtime, reverse=True):
            if _records(_read(file)):
                return read_predictions(file)
        raise RecordError(
            f"no lm-eval result file with predictions below {path}: was a task sts_… run with --output_path?"
        )
    data = _read(path)
    if data.get("kind") == "prediction":
        return [load_record(Prediction, path)]
    records = _records(data)
    if not records:
        raise RecordError(f"{path} holds no predictions: is it the result file of a run with a task sts_…?")
    return [parse_record(Prediction, record, str(path)) for record in records]


def _records(data: dict[str, Any]) -> list[Any]:
    """Every prediction in a decoded result file: the last task of each benchmark carries them."""
    configs = data.get("configs")
    found: list[Any] = []
    for config in (configs or {}).values() if isinstance(configs, dict) else ():
        metadata = config.get("metadata") if isinstance(config, dict) else None
        results = metadata.get("sts_results") if isinstance(metadata, dict) else None
        predictions = results.get("predictions") if isinstance(results, dict) else None
        if isinstance(predictions, list):
            found += predictions
    return found


def _read(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise RecordError(f"{path} is neither a result file of lm-eval nor a prediction")
    return data
