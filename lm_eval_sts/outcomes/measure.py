"""Measuring a model: an ordinary lm-eval run in this process, kept so that it need not be run twice.

A finished run is reused where everything that an answer depends on is the same. A run that was killed goes on at the
question where responses are kept (``use_cache``), else it starts again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_sts.errors import BusyError, RecordError
from lm_eval_sts.features.identity import commit_of, commit_put_on, model_ref
from lm_eval_sts.files import locked
from lm_eval_sts.finetuning.tuned import check_adapter_base
from lm_eval_sts.outcomes.asked import Asked, templates_compiled_once
from lm_eval_sts.outcomes.comparable import check_planned
from lm_eval_sts.outcomes.dependencies import dependencies
from lm_eval_sts.outcomes.lm_eval_options import Conditions, parse_args, plain_args
from lm_eval_sts.outcomes.lm_eval_results import read_run, run_from_results
from lm_eval_sts.outcomes.lm_eval_run import (
    Finished,
    build_task_manager,
    check_choice,
    planned,
    run_lm_eval,
    write_files,
)
from lm_eval_sts.outcomes.metrics import MetricChoice
from lm_eval_sts.outcomes.model_loading import check_loadable, choose_device, load_model
from lm_eval_sts.outcomes.outcome_files import check_writable
from lm_eval_sts.outcomes.runs import STORED, Run, save_run
from lm_eval_sts.records import UNKNOWN, ModelRef

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

logger = logging.getLogger(__name__)

__all__ = ["Conditions", "check_model", "evaluate_model"]


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
    asked: Asked | None = None,
    choice: MetricChoice = MetricChoice(),  # noqa: B008  # immutable
    base: ModelRef | None = None,
    model_name: str | None = None,
    trust_base: bool = False,
    check: Callable[[ModelRef], object] | None = None,
    partners: Sequence[Run] = (),
) -> Run:
    """Runs lm-eval on a model, or finds the same run finished below ``output``.

    Args:
        model_args: lm-eval's model arguments: ``pretrained=…`` for a full checkpoint, with ``peft=…`` for an adapter.
        tasks: Tasks and groups.
        output: Folder that all processes of the run see; the run goes to a folder of its own in it: stored compactly,
            and as the files that ``lm_eval --log_samples --output_path`` writes.
        conditions: How questions are put.
        batch_size: As lm-eval's.
        device: As lm-eval's; by default the GPU where there is one.
        use_cache: Whether every response is kept at once, so that a killed run goes on at the question; costs about
            2 ms an answer.
        share_prefix: Run demonstrations that prompts share once; the same numbers to floating point.
        write_samples: Whether to write lm-eval's result and samples files; the stored run is written in any case.
        task_manager: lm-eval's task manager, where one is at hand: building one takes half a minute.
        asked: These tasks, loaded, where other models are asked the same in this process: their prompts are built once.
        choice: The metric and filter that count.
        base: The base model as measured, for an adapter to be checked against.
        model_name: What records call the base model; ``pretrained`` by default.
        trust_base: Take an adapter for one of this base model, whatever it says of itself.
        check: Called with the loaded model before anything is run: whatever it raises ends the measurement.
        partners: Finished runs that this one is to be paired with.

    Returns:
        The run.

    Raises:
        ModelError: The model cannot be loaded or run, or the adapter belongs to another base.
        SettingsError: There is no such task, metric, filter, chat template or device.
        DatasetError: A task's questions cannot be loaded.
        RecordError: The results are not complete or cannot be written, or ``partners`` were asked otherwise.
    """
    args = parse_args(model_args)
    device = choose_device(device)
    check_writable(output)
    notes = check_model(args, conditions, base, trust_base=trust_base)
    if asked is None:
        asked = Asked(task_manager or build_task_manager(conditions.include_path, args), tasks)
    loaded = asked.tasks()
    check_choice(loaded, choice)
    commit = commit_of(
        str(args["pretrained"]),
        args.get("revision"),
        file=str(args.get("gguf_file") or "config.json"),
        subfolder=str(args.get("subfolder") or ""),
    )
    # All files of one commit, and of the one that the record names; what is put on it from the hub has other commits,
    # and lm-eval takes one revision for both.
    put_on = [str(given) for what in ("peft", "delta") if (given := args.get(what)) and not Path(str(given)).is_dir()]
    pinned = {**args, "revision": commit} if commit and not put_on else args
    lm = load_model(pinned, batch_size, device, share_prefix)
    adapter = commit_put_on(args.get("peft"), args.get("delta"), args.get("revision"))
    model = model_ref(lm.model, model_name or str(args["pretrained"]), commit or UNKNOWN, adapter or UNKNOWN)
    if check is not None:
        check(model)
    depends = dependencies(lm, model.weights_hash, args, loaded.single, conditions, asked.hashes)
    asked.of(depends)
    for partner in partners:
        check_planned(partner, depends, planned(loaded, conditions))
    folder = output / f"run-{depends.key[:16]}"

    with _alone(folder, lm), templates_compiled_once():
        if (folder / STORED).is_file():
            logger.info("measured before: %s", folder)
        else:
            cache = folder / "responses"
            finished = run_lm_eval(lm, args, loaded, asked.manager, conditions, folder, cache if use_cache else None)
            if finished is not None:  # the first rank has the results
                finished.results["config"] |= {"batch_size": batch_size, "device": device}
                run = run_from_results(finished.results, source=str(folder), model=model, choice=choice)
                _store(replace(run, facts=run.facts.model_copy(update={"depends": depends})), finished, write_samples)
                for file in folder.glob(f"{cache.name}_rank*.db"):
                    file.unlink()
        lm.barrier()
        run = read_run(folder, choice)
    if run.facts.depends != depends:
        raise RecordError(f"{folder} holds another run than its name says: remove it, and measure again")
    # The same weights may have lain elsewhere, and have had another name, when the run was stored.
    now = {"source": str(folder), "model": model, "model_args": plain_args(args), "adapter": args.get("peft")}
    return replace(run, facts=run.facts.model_copy(update={**now, "notes": (*run.facts.notes, *notes)}))


def check_model(
    args: Mapping[str, Any], conditions: Conditions, base: ModelRef | None = None, *, trust_base: bool = False
) -> list[str]:
    """Finds what would stop a measurement, as far as that can be known without loading the model.

    Args:
        args: lm-eval's model arguments.
        conditions: How questions are to be put.
        base: The base model as measured, for an adapter to be checked against; None: not yet measured.
        trust_base: Take an adapter for one of this base model, whatever it says of itself.

    Returns:
        What a reader must know.

    Raises:
        ModelError: The model cannot be loaded, or the adapter belongs to another base.
        SettingsError: There is no such chat template.
    """
    notes = []
    if args.get("peft"):
        name = str(args["pretrained"])
        known = base or ModelRef(name=name, weights_hash=UNKNOWN, dtype=UNKNOWN)
        notes = check_adapter_base(
            Path(str(args["peft"])), known.model_copy(update={"name": name}), args=args, trust=trust_base
        )
    check_loadable(args, conditions.apply_chat_template)
    return notes


@contextlib.contextmanager
def _alone(folder: Path, lm: Any) -> Iterator[None]:
    """Holds the run's folder; a process that measures the same is waited for, and its result taken."""
    with contextlib.ExitStack() as held:
        if lm.rank == 0:
            try:
                held.enter_context(locked(folder))
            except BusyError:
                logger.warning("another process is measuring the same in %s: waiting for its result", folder)
                held.enter_context(locked(folder, wait=-1))
        lm.barrier()
        yield


def _store(run: Run, finished: Finished, write_samples: bool) -> None:
    """Stores a run, and only then writes lm-eval's own files, which can fail without losing anything."""
    folder = Path(run.facts.source)
    save_run(run, folder / STORED)
    if write_samples:
        try:
            write_files(finished, folder)
        except RecordError as error:
            logger.warning("the run is stored, but %s", error)
