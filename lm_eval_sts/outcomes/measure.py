"""Measuring a model: an ordinary lm-eval run in this process, kept so that it need not be run twice.

A finished run is reused where the weights, the tasks and every option that could change an answer are the same. A run
that was killed goes on at the question where lm-eval's response cache is on (``use_cache``), else it starts again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.features.identity import model_ref
from lm_eval_sts.files import hash_json
from lm_eval_sts.outcomes.comparable import other_args
from lm_eval_sts.outcomes.lm_eval_run import (
    Conditions,
    build_task_manager,
    load_tasks,
    run_lm_eval,
    write_files,
)
from lm_eval_sts.outcomes.metrics import MetricChoice
from lm_eval_sts.outcomes.result_files import STORED
from lm_eval_sts.outcomes.runs import Run, read_run, run_from_results, save_run
from lm_eval_sts.outcomes.tuned import check_adapter_base
from lm_eval_sts.records import UNKNOWN, ModelRef

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

logger = logging.getLogger(__name__)

__all__ = ["Conditions", "evaluate_model"]


def evaluate_model(
    model_args: str | Mapping[str, Any],
    tasks: Sequence[str],
    output: Path,
    conditions: Conditions = Conditions(),  # noqa: B008  # immutable
    *,
    batch_size: int | str = 1,
    device: str | None = None,
    use_cache: bool = True,
    share_prefix: bool = False,
    write_samples: bool = True,
    task_manager: TaskManager | None = None,
    choice: MetricChoice = MetricChoice(),  # noqa: B008  # immutable
    base: ModelRef | None = None,
    model_name: str | None = None,
) -> Run:
    """Runs lm-eval on a model, or finds the same run finished below ``output``.

    Args:
        model_args: lm-eval's model arguments: ``pretrained=…`` for a full checkpoint, with ``peft=…`` for an adapter.
        tasks: Tasks and groups.
        output: Folder that all processes of the run see; the run goes to a folder of its own in it, with the files
            that ``lm_eval --log_samples --output_path`` writes and the run stored compactly beside them.
        conditions: How questions are put.
        batch_size: As lm-eval's.
        device: As lm-eval's.
        use_cache: Whether every answer goes to lm-eval's response cache, so that a killed run goes on at the question;
            costs about 2 ms an answer.
        share_prefix: Run demonstrations that prompts share once; the same numbers to floating point.
        write_samples: Whether to write lm-eval's result and samples files; the stored run is written in any case.
        task_manager: lm-eval's task manager, where one is at hand: building one takes half a minute.
        choice: The metric and filter that count.
        base: The base model as measured, for an adapter to be checked against.
        model_name: What records call the base model; ``pretrained`` by default.

    Returns:
        The run.

    Raises:
        ModelError: The model cannot be loaded, or the adapter belongs to another base.
        SettingsError: There is no such task.
        DatasetError: A task's questions cannot be loaded.
        RecordError: The results are not complete or cannot be written.
    """
    args = _parsed(model_args)
    _check_adapter(args, base)
    lm = _load(args, batch_size, device, share_prefix)
    model = _model_ref(lm, model_name or str(args["pretrained"]))
    folder = output / f"run-{_key(model, args, tasks, conditions)[:16]}"
    if (folder / STORED).is_file():
        logger.info("measured before: %s", folder)
        return read_run(folder, choice)
    manager = task_manager or build_task_manager(conditions.include_path, args)
    loaded = load_tasks(manager, tasks)
    cache = folder / "responses"
    finished = run_lm_eval(lm, args, loaded, manager, conditions, folder, cache if use_cache else None)
    if finished is None:  # the first rank has the results
        lm.barrier()
        return read_run(folder, choice)
    finished.results["config"] |= {"batch_size": batch_size, "device": device}
    run = run_from_results(finished.results, source=str(folder), model=model, choice=choice)
    if write_samples:
        source = write_files(finished, folder)
        run = replace(run, facts=run.facts.model_copy(update={"source": str(source)}))
    save_run(run, folder / STORED)
    for file in folder.glob(f"{cache.name}_rank*.db"):
        file.unlink()
    lm.barrier()
    return run


def _parsed(model_args: str | Mapping[str, Any]) -> dict[str, Any]:
    from lm_eval.utils import simple_parse_args_string

    args = dict(simple_parse_args_string(model_args) if isinstance(model_args, str) else model_args)
    if not args.get("pretrained"):
        raise SettingsError(f"model arguments {model_args!r} name no model: give pretrained=…")
    return args


def _check_adapter(args: Mapping[str, Any], base: ModelRef | None) -> None:
    if args.get("peft"):
        name = str(args["pretrained"])
        known = base or ModelRef(name=name, weights_hash=UNKNOWN, dtype=UNKNOWN)
        check_adapter_base(Path(str(args["peft"])), known.model_copy(update={"name": name}))


def _load(args: Mapping[str, Any], batch_size: int | str, device: str | None, share_prefix: bool) -> Any:
    """The model as lm-eval's ``hf`` loads it."""
    from lm_eval.models.huggingface import HFLM

    kind: Any = HFLM
    if share_prefix:
        from lm_eval_sts.outcomes.shared_prefix import SharedPrefixLM

        kind = SharedPrefixLM
    try:
        return kind.create_from_arg_obj(dict(args), {"batch_size": batch_size, "device": device})
    except (OSError, ValueError) as error:
        named = f"adapter {args['peft']} on {args['pretrained']}" if args.get("peft") else args["pretrained"]
        raise ModelError(f"cannot load {named}: {error}") from error


def _model_ref(lm: Any, name: str) -> ModelRef:
    return model_ref(lm.model, name, str(getattr(lm.model.config, "_commit_hash", None) or UNKNOWN))


def _key(model: ModelRef, args: Mapping[str, Any], tasks: Sequence[str], conditions: Conditions) -> str:
    """Hash of all that an answer depends on. Not of batch size and device, which change it in the last digits only."""
    options = {k: v for k, v in asdict(conditions).items() if k != "include_path"}
    return hash_json(
        {
            "weights": model.weights_hash,
            "model_args": other_args(args),
            "tasks": sorted(tasks),
            "task_files": _files_hash(conditions.include_path),
            "lm_eval": metadata.version("lm_eval"),
            **options,
        }
    )


def _files_hash(folder: Path | None) -> str | None:
    """Of the task files that the user brings, which may change under the same version."""
    if folder is None:
        return None
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix != ".pyc")
    return hash_json({str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files})
