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

from lm_eval_sts.commands.terminal import WIDTH, PlainConsole
from lm_eval_sts.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lm_eval_sts.finetuning.tuned import TunedManifest
    from lm_eval_sts.outcomes.asked import Asked
    from lm_eval_sts.outcomes.base_and_tuned import Side
    from lm_eval_sts.outcomes.lm_eval_options import Conditions
    from lm_eval_sts.outcomes.metrics import MetricChoice
    from lm_eval_sts.outcomes.runs import Run
    from lm_eval_sts.records import ModelRef, SftSetRef


def measure(
    base: Annotated[str, typer.Option("--base", help="Base model (hub id, folder, micro/model), or results of it.")],
    tuned: Annotated[
        list[str],
        typer.Option(
            "--tuned",
            help="Adapter, whole model, or results of one (org/name,revision=… for one of its revisions); again for "
            "every fine-tuning seed.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", help="File for the outcome.")],
    tasks: Annotated[str, typer.Option("--tasks", help="lm-eval tasks or groups, joined by commas.")] = "mmlu_pro",
    model_args: Annotated[
        str,
        typer.Option(
            "--model_args",
            help="lm-eval's model arguments: dtype=bfloat16,tokenizer=… for both sides; revision=…, subfolder=… "
            "for the base model (of a tuned one: --tuned org/name,revision=…).",
        ),
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
    sft_set: Annotated[
        str | None,
        typer.Option("--sft_set", help="SFT set of a model that finetune did not tune: hub id, file or folder."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", help="Prompts of a model that was tuned without responses, by RL for instance."),
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
    trust_base: Annotated[
        bool,
        typer.Option("--trust_base", help="Take an adapter for one of --base, whatever it says it was trained on."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another outcome in --output.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry_run", help="Check everything, say what it will cost, and read no weights.")
    ] = False,
) -> None:
    """Measure what fine-tuning changed: lm-eval on the base and the tuned model, paired question by question."""
    from lm_eval_sts.commands.outcomes import show_outcome
    from lm_eval_sts.outcomes.lm_eval_options import Conditions, shared_args
    from lm_eval_sts.outcomes.lm_eval_run import quiet
    from lm_eval_sts.outcomes.metrics import MetricChoice
    from lm_eval_sts.outcomes.outcome_files import check_name, check_output, check_writable, write_outcome
    from lm_eval_sts.outcomes.pairing import pair

    if name is not None:
        check_name(name)
    check_output(output, overwrite=overwrite)
    work_dir = work_dir or output.with_suffix(".runs")
    check_writable(work_dir)
    trained_on = _trained_on(sft_set, prompts)
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
        batch_size=read_batch_size(batch_size),
        device=device,
        share_prefix=share_prefix,
        cache=cache,
        work_dir=work_dir,
        model_args=shared_args(model_args),
        trust_base=trust_base,
    )
    with quiet():
        base_side, tuned_sides = measuring.sides(base, tuned)
        _check_trained_on(trained_on, (given.side.manifest for given in tuned_sides))
        if dry_run:
            _show_cost(measuring, base_side, tuned_sides)
            return
        finished = [side.run for side in (base_side, *tuned_sides) if side.run is not None]
        base_run = measuring.run(base_side, finished, check=lambda model: measuring.check_tuned(tuned_sides, model))
        tuned_runs = [measuring.run(side, finished, base_run) for side in tuned_sides]
    if os.environ.get("RANK", "0") != "0":
        return
    manifests = _manifests(tuned_sides, tuned_runs)
    _check_trained_on(trained_on, manifests)
    loaded = [_loaded(base_side, base_run), *map(_loaded, tuned_sides, tuned_runs)]
    outcome = pair(
        base_run,
        tuned_runs,
        name=name or _default_name(base_run, tuned_sides[0].side, manifests),
        manifests=manifests,
        sft_set=trained_on,
        settings={**measuring.settings(), "loaded": loaded},
        trust_base=trust_base,
    )
    write_outcome(outcome, output, overwrite=overwrite)
    show_outcome(PlainConsole(width=None if sys.stdout.isatty() else WIDTH), outcome)
    typer.echo(output)


def _show_cost(measuring: _Measuring, base: _Given, tuned: Sequence[_Given]) -> None:
    """What is left to be measured, and what that costs."""
    from lm_eval_sts.commands.plan import show_dry_run
    from lm_eval_sts.outcomes.lm_eval_run import check_choice
    from lm_eval_sts.outcomes.model_loading import choose_device
    from lm_eval_sts.planning import dry_run

    device = choose_device(measuring.device)
    left = [given for given in (base, *tuned) if given.run is None]
    if not left:
        typer.echo("every side is a finished run: nothing is left to be measured")
        return
    tasks = measuring.asked.tasks()
    check_choice(tasks, measuring.choice)
    show_dry_run(
        dry_run.measuring(
            left[0].args,
            tasks,
            measuring.conditions,
            models=len(left),
            batch_size=measuring.batch_size,
            on_cpu=device == "cpu",
            share_prefix=measuring.share_prefix,
        )
    )


@dataclass(frozen=True)
class _Given:
    """A side, and what is to be loaded for it, or the run that it is."""

    side: Side
    args: dict[str, Any]
    run: Run | None = None


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
    trust_base: bool

    def sides(self, base: str, tuned: Sequence[str]) -> tuple[_Given, list[_Given]]:
        """All sides; what can be refused of any of them is refused before one is measured."""
        from lm_eval_sts.outcomes.base_and_tuned import find_side
        from lm_eval_sts.shipped import resolve

        sides = [find_side(resolve(base), self.model_args), *(find_side(resolve(given)) for given in tuned)]
        if sides[0].kind == "adapter":
            raise SettingsError(f"--base {sides[0].given} is an adapter: give the model that it belongs to")
        if sides[0].kind == "model" and "pretrained" in self.model_args:
            raise SettingsError(f"--model_args names a model beside --base {sides[0].given}: leave out pretrained=")
        first = self._given(sides[0], self.model_args)
        base_args = first.args if first.run is None else {**first.run.facts.model_args, **self.model_args}
        given = [self._given(side, base_args) for side in sides[1:]]
        self.check_tuned(given, None if first.run is None else first.run.facts.model)
        return first, given

    def check_tuned(self, tuned: Sequence[_Given], base: ModelRef | None) -> None:
        """Refuses tuned models of another base model (None: not loaded yet), of different settings, or damaged."""
        from lm_eval_sts.outcomes.comparable import check_manifests
        from lm_eval_sts.outcomes.measure import check_model
        from lm_eval_sts.records import UNKNOWN, ModelRef

        manifests = [given.side.manifest for given in tuned if given.side.manifest is not None]
        known = base or ModelRef(name=UNKNOWN, weights_hash=UNKNOWN, dtype=UNKNOWN)
        check_manifests(known, manifests, trust_base=self.trust_base)
        for given in tuned:
            # The manifest has the weights' hash, which decides as soon as the base model is loaded.
            undecided = base is None and given.side.manifest is not None
            if given.run is None:
                check_model(given.args, self.conditions, base, trust_base=self.trust_base or undecided)

    def _given(self, side: Side, base_args: dict[str, Any]) -> _Given:
        from lm_eval_sts.outcomes.lm_eval_options import parse_args
        from lm_eval_sts.outcomes.lm_eval_results import read_run

        if side.kind == "run":
            return _Given(side, {}, read_run(Path(side.path), self.choice))
        return _Given(side, parse_args(side.model_args(base_args)))

    @cached_property
    def asked(self) -> Asked:
        """The tasks of all sides; loaded once, and only where something is to be run."""
        from lm_eval_sts.outcomes.asked import Asked
        from lm_eval_sts.outcomes.lm_eval_run import build_task_manager

        return Asked(build_task_manager(self.conditions.include_path, self.model_args), self.tasks)

    def run(
        self,
        given: _Given,
        finished: Sequence[Run],
        base: Run | None = None,
        check: Callable[[ModelRef], object] | None = None,
    ) -> Run:
        """A side's run; the base model's is needed for tuned ones, and may not contradict one that was given."""
        from lm_eval_sts.outcomes.measure import evaluate_model
        from lm_eval_sts.shipped import shipped_name

        if given.run is not None:
            return given.run
        return evaluate_model(
            given.args,
            self.tasks,
            self.work_dir,
            self.conditions,
            batch_size=self.batch_size,
            device=self.device,
            share_prefix=self.share_prefix,
            use_cache=self.cache,
            asked=self.asked,
            choice=self.choice,
            base=None if base is None else base.facts.model,
            model_name=shipped_name(str(given.args["pretrained"])),
            trust_base=self.trust_base,
            check=check,
            partners=finished,
        )

    def settings(self) -> dict[str, Any]:
        """For the record."""
        asked = {**asdict(self.conditions), **asdict(self.choice), "include_path": str(self.conditions.include_path)}
        shared = {"tasks": self.tasks, "batch_size": self.batch_size, "share_prefix": self.share_prefix}
        return {**asked, **shared, "model_args": {key: str(value) for key, value in self.model_args.items()}}


def read_batch_size(given: str) -> int | str:
    """lm-eval's batch size: a number, ``auto``, or ``auto:N``.

    Raises:
        SettingsError: It is none of these.
    """
    if re.fullmatch(r"[1-9]\d*", given):
        return int(given)
    if not re.fullmatch(r"auto(:[1-9]\d*)?", given):
        raise SettingsError(f"batch_size {given!r}: give a number from 1, auto, or auto:N")
    return given


def _loaded(given: _Given, run: Run) -> dict[str, Any]:
    """What was loaded of a side, for the record: never what was asked for."""
    return {"given": given.side.given, "adapter_revision": given.side.revision, **run.facts.model.model_dump()}


def _trained_on(sft_set: str | None, prompts: str | None) -> SftSetRef | None:
    """What the tuned models were trained on, as it is given."""
    from lm_eval_sts.api import load_prompts, load_sft_set

    if sft_set is not None and prompts is not None:
        raise SettingsError("--sft_set and --prompts both say what the models were trained on: give one")
    if sft_set is not None:
        return load_sft_set(sft_set).reference
    return None if prompts is None else load_prompts(prompts).reference


def _check_trained_on(given: SftSetRef | None, manifests: Iterable[TunedManifest | None]) -> None:
    """Refuses another set than a manifest names."""
    for manifest in manifests:
        if given is not None and manifest is not None and not manifest.sft_set.same(given):
            raise SettingsError(
                f"by its manifest a model was tuned on {manifest.sft_set.name}, and not on {given.name}: leave "
                "--sft_set and --prompts out"
            )


def _manifests(tuned: Sequence[_Given], runs: Sequence[Run]) -> list[TunedManifest]:
    """Every tuned model's manifest, from its folder or, of finished runs, from where the run found the model."""
    from lm_eval_sts.finetuning.tuned import read_tuned

    found = []
    for given, run in zip(tuned, runs, strict=True):
        model = run.facts.adapter or run.facts.model_args.get("pretrained")
        found.append(given.side.manifest or (read_tuned(Path(str(model))) if model else None))
    there = [manifest for manifest in found if manifest is not None]
    if there and len(there) < len(found):
        without = ", ".join(given.side.given for given, each in zip(tuned, found, strict=True) if each is None)
        typer.echo(f"SFT set and recipe are left out: {without} has no manifest", err=True)
        return []
    return there


def _default_name(base: Run, tuned: Side, manifests: Sequence[TunedManifest]) -> str:
    """Of the base model and the SFT set, or the tuned model where the set is not known."""
    from lm_eval_sts.outcomes.outcome_files import make_name

    trained_on = manifests[0].sft_set.name if manifests else tuned.given
    return make_name(*(re.sub(r"\.[a-z]+$", "", Path(name).name) for name in (base.facts.model.name, trained_on)))
