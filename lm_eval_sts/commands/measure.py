"""The command ``lm-eval-sts measure``."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lm_eval.tasks import TaskManager

    from lm_eval_sts.finetuning.tuned import TunedManifest
    from lm_eval_sts.outcomes.lm_eval_run import Conditions
    from lm_eval_sts.outcomes.metrics import MetricChoice
    from lm_eval_sts.outcomes.runs import Run
    from lm_eval_sts.outcomes.sides import Side
    from lm_eval_sts.records import ModelRef


def measure(
    base: Annotated[str, typer.Option("--base", help="Base model (hub id, folder, micro/model), or results of it.")],
    tuned: Annotated[
        list[str],
        typer.Option("--tuned", help="Adapter, whole model, or results of one; again for every fine-tuning seed."),
    ],
    output: Annotated[Path, typer.Option("--output", help="File for the outcome.")],
    tasks: Annotated[str, typer.Option("--tasks", help="lm-eval tasks or groups, joined by commas.")] = "mmlu_pro",
    model_args: Annotated[
        str, typer.Option("--model_args", help="lm-eval's model arguments for both sides: dtype=bfloat16,…")
    ] = "",
    batch_size: Annotated[str, typer.Option("--batch_size", help="A number or auto.")] = "1",
    device: Annotated[str | None, typer.Option("--device", help="For instance cuda:0 or cpu.")] = None,
    limit: Annotated[float | None, typer.Option("--limit", help="First questions of a task only; for trials.")] = None,
    num_fewshot: Annotated[int | None, typer.Option("--num_fewshot", help="Shots; else as the task says.")] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply_chat_template", help="Put questions as a chat.")
    ] = False,
    system_instruction: Annotated[str | None, typer.Option("--system_instruction")] = None,
    gen_kwargs: Annotated[
        str | None, typer.Option("--gen_kwargs", help="Generation arguments in place of the task's: max_gen_toks=…")
    ] = None,
    include_path: Annotated[Path | None, typer.Option("--include_path", help="Folder of further tasks.")] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Metric that counts; else acc, exact_match, or the task's first.")
    ] = None,
    filter_name: Annotated[
        str | None, typer.Option("--filter", help="Filter that counts; else the task's first.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the outcome; else made of model and SFT set.")
    ] = None,
    share_prefix: Annotated[
        bool, typer.Option("--share_prefix", help="Run shots that prompts share once: faster multiple choice.")
    ] = False,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache/--no_cache",
            help="Keep every answer: a killed run goes on at the question. 1.6 ms each, slow for multiple choice.",
        ),
    ] = True,
    work_dir: Annotated[
        Path | None, typer.Option("--work_dir", help="Folder of lm-eval's results; a killed run goes on from it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another outcome in --output.")] = False,
) -> None:
    """Measure what fine-tuning changed: lm-eval on the base and the tuned model, paired question by question."""
    from lm_eval.utils import simple_parse_args_string
    from rich.console import Console

    from lm_eval_sts.commands.outcomes import show_outcome
    from lm_eval_sts.commands.tables import WIDTH
    from lm_eval_sts.outcomes.lm_eval_run import Conditions
    from lm_eval_sts.outcomes.metrics import MetricChoice
    from lm_eval_sts.outcomes.outcome_files import check_output, write_outcome
    from lm_eval_sts.outcomes.pairing import pair
    from lm_eval_sts.outcomes.sides import find_side
    from lm_eval_sts.shipped import resolve

    check_output(output, overwrite=overwrite)
    base_side, *tuned_sides = [find_side(resolve(given)) for given in (base, *tuned)]
    measuring = _Measuring(
        tasks=[task.strip() for task in tasks.split(",")],
        conditions=Conditions(
            num_fewshot=num_fewshot,
            limit=limit,
            apply_chat_template=apply_chat_template,
            system_instruction=system_instruction,
            gen_kwargs=gen_kwargs,
            include_path=include_path,
        ),
        choice=MetricChoice(metric, filter_name),
        batch_size=int(batch_size) if batch_size.isdigit() else batch_size,
        device=device,
        share_prefix=share_prefix,
        cache=cache,
        work_dir=work_dir or output.with_suffix(".runs"),
        model_args=dict(simple_parse_args_string(model_args)),
    )
    base_run = measuring.base(base_side)
    tuned_runs = [measuring.tuned(side, base_run) for side in tuned_sides]
    if os.environ.get("RANK", "0") != "0":
        return
    manifests = _manifests(tuned_sides, tuned_runs)
    outcome = pair(
        base_run,
        tuned_runs,
        name=name or _default_name(base_run, tuned_sides[0], manifests),
        manifests=manifests,
        settings=measuring.settings(),
    )
    write_outcome(outcome, output, overwrite=overwrite)
    show_outcome(Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False), outcome)
    typer.echo(output)


@dataclass(frozen=True)
class _Measuring:
    """What the evaluations of all sides share."""

    tasks: list[str]
    conditions: Conditions
    choice: MetricChoice
    batch_size: int | str
    device: str | None
    share_prefix: bool
    cache: bool
    work_dir: Path
    model_args: dict[str, Any]

    @cached_property
    def task_manager(self) -> TaskManager:
        """Built once, and only where something is to be run; unknown tasks are refused before a model is loaded."""
        from lm_eval_sts.outcomes.lm_eval_run import build_task_manager, check_tasks

        manager = build_task_manager(self.conditions.include_path, self.model_args)
        check_tasks(manager, self.tasks)
        return manager

    def base(self, side: Side) -> Run:
        """The base model's run."""
        from lm_eval_sts.errors import SettingsError
        from lm_eval_sts.outcomes.runs import read_run

        if side.kind == "run":
            return read_run(Path(side.given), self.choice)
        if side.kind == "adapter":
            raise SettingsError(f"--base {side.given} is an adapter: give the model that it belongs to")
        return self._evaluate(side.model_args(self.model_args), side.given, None)

    def tuned(self, side: Side, base: Run) -> Run:
        """A tuned model's run."""
        from lm_eval_sts.outcomes.runs import read_run

        if side.kind == "run":
            return read_run(Path(side.given), self.choice)
        args = side.model_args({**base.facts.model_args, **self.model_args})
        return self._evaluate(args, str(args["pretrained"]), base.facts.model)

    def settings(self) -> dict[str, Any]:
        """For the record."""
        asked = {**asdict(self.conditions), **asdict(self.choice), "include_path": str(self.conditions.include_path)}
        shared = {"tasks": self.tasks, "batch_size": self.batch_size, "share_prefix": self.share_prefix}
        return {**asked, **shared, "model_args": {key: str(value) for key, value in self.model_args.items()}}

    def _evaluate(self, args: dict[str, Any], pretrained: str, base: ModelRef | None) -> Run:
        from lm_eval_sts.outcomes.measure import evaluate_model
        from lm_eval_sts.shipped import shipped_name

        return evaluate_model(
            args,
            self.tasks,
            self.work_dir,
            self.conditions,
            batch_size=self.batch_size,
            device=self.device,
            share_prefix=self.share_prefix,
            use_cache=self.cache,
            task_manager=self.task_manager,
            choice=self.choice,
            base=base,
            model_name=shipped_name(pretrained),
        )


def _manifests(sides: Sequence[Side], runs: Sequence[Run]) -> list[TunedManifest]:
    """Every tuned model's manifest, from its folder or, of finished runs, from where the run found the model."""
    from lm_eval_sts.finetuning.tuned import read_tuned

    found = []
    for side, run in zip(sides, runs, strict=True):
        model = run.facts.adapter or run.facts.model_args.get("pretrained")
        found.append(side.manifest or (read_tuned(Path(str(model))) if model else None))
    there = [manifest for manifest in found if manifest is not None]
    if there and len(there) < len(found):
        without = ", ".join(side.given for side, manifest in zip(sides, found, strict=True) if manifest is None)
        typer.echo(f"SFT set and recipe are left out: {without} has no manifest", err=True)
        return []
    return there


def _default_name(base: Run, tuned: Side, manifests: Sequence[TunedManifest]) -> str:
    """Of the base model and the SFT set, or the tuned model where the set is not known."""
    trained_on = manifests[0].sft_set.name if manifests else tuned.given
    parts = (re.sub(r"\.[a-z]+$", "", Path(name).name) for name in (base.facts.model.name, trained_on))
    return re.sub(r"[^a-z0-9._-]+", "-", "-".join(parts).lower()).strip("-._")[:100]
