"""Finished runs with what they keep for their explanation, out of lm-eval's result files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import hash_json
from lm_eval_sts.records import KeptRun, Prediction, noted_together, parse_record, read_json, refuse_damaged
from lm_eval_sts.verdict.results import json_files


@dataclass(frozen=True)
class KeptResults:
    """One run.

    Attributes:
        file: Its result file.
        predictions: Its predictions, by predictor.
        kept: What it keeps.
    """

    file: Path
    predictions: dict[str, Prediction]
    kept: KeptRun


@noted_together()
def read_kept(place: Path) -> list[KeptResults]:
    """The runs in a result file of lm-eval, or in all of them below a folder; copies count once.

    Raises:
        RecordError: There is no run, one was made before runs kept anything, or something is not valid.
    """
    files = json_files(place) if place.is_dir() else [place]
    found: dict[str, KeptResults] = {}
    older: list[Path] = []
    for file in files:
        for results in _carriers(read_json(file)):
            refuse_damaged(results, str(file))
            if "kept" not in results:
                older.append(file)
                continue
            predictions = [parse_record(Prediction, record, str(file)) for record in results["predictions"]]
            kept = parse_record(KeptRun, results["kept"], str(file))
            run = KeptResults(file, {p.predictor: p for p in predictions}, kept)
            found.setdefault(hash_json(results), run)
    if older:
        raise RecordError(
            f"{older[0]} was written by an earlier release, which did not note what it stored: run the same lm_eval "
            "command again (what is still stored is not read again)"
        )
    if not found:
        raise RecordError(
            f"no run of a task sts_… in {place} ({len(files)} JSON files): give lm-eval's result file or its "
            "--output_path (exported predictions do not say where profiles are kept)"
        )
    return list(found.values())


def _carriers(data: Any) -> list[dict[str, Any]]:
    """What tasks wrote that carry their benchmark's predictions."""
    configs = data.get("configs") if isinstance(data, dict) else None
    metadata = [c.get("metadata") for c in configs.values() if isinstance(c, dict)] if isinstance(configs, dict) else []
    written = [m.get("sts_results") for m in metadata if isinstance(m, dict)]
    return [r for r in written if isinstance(r, dict) and isinstance(r.get("predictions"), list)]
