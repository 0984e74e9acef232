"""From the names of a model and an SFT set to the plan: what is at hand is counted, the rest bounded by the budgets."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import DatasetError, SettingsError, StsError
from lm_eval_sts.evidence.domain import SFT, Benchmark, domain_queries
from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.rendering import PromptOptions, options_for, render_for, response_for
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.features.sft_queries import SftQueries, sft_queries
from lm_eval_sts.finetuning.recipes import RECIPE_NOTES, make_recipe
from lm_eval_sts.finetuning.trainer_setup import quiet_libraries
from lm_eval_sts.finetuning.training_data import LengthLimit, TrainingData, tokenise
from lm_eval_sts.harness.measuring import asked_like, asked_of
from lm_eval_sts.harness.task import load_benchmark_domains, without_questions
from lm_eval_sts.planning.devices import Device, find_device
from lm_eval_sts.planning.measuring import count_measuring
from lm_eval_sts.planning.next_steps import COMPARE, Question
from lm_eval_sts.planning.plan import Plan, Stage, finetune_stage, measure_stage, predict_stage, room_of
from lm_eval_sts.planning.predicting import Reader, Texts, bounded, passes
from lm_eval_sts.planning.saes import SaeShape, sae_shape
from lm_eval_sts.planning.shapes import Shape, build_without_weights, load_tokenizer, shape_of
from lm_eval_sts.planning.training import Training, count_training
from lm_eval_sts.predictors.preflight import prompts_of, sft_set_of
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.predictors.settings import Settings, read_settings
from lm_eval_sts.records import Recipe
from lm_eval_sts.shipped import resolve, shipped_name
from lm_eval_sts.verdict.next_step import SAMPLED

_WITH_SAE: Final = {"profiles", "unaligned", "answer_gradients", "tuned", "layers"}
_SEED: Final = 1234
"""lm-eval's few-shot seed, by which a run draws."""


@dataclass(frozen=True)
class Options:
    """What a plan is asked for, beside the model and the SFT set.

    Attributes:
        task: A group of our tasks.
        predictors: Names; None: the default ones.
        settings: Further settings of the run, as under ``sts`` in ``--metadata``.
        sae_width: Features of the SAE, where its configuration is not at hand.
        device: Name of the device, or one that was timed.
        gpus: How many of it.
        dtype: In which the model is loaded; None: as its configuration says.
        recipe: Name of a recipe.
        recipe_changes: What differs from it.
        apply_chat_template: Whether prompts are conversations.
        system_instruction: The system message.
        revision: Hub revision of the model.
        include_path: Folder of further tasks.
        answer_tokens: How long written answers are; None: as the worked examples'.
        limit: Most questions of a domain that are predicted.
    """

    task: str = "sts_mmlu_pro"
    predictors: Sequence[str] | None = None
    settings: Mapping[str, Any] | None = None
    sae_width: int | None = None
    device: str | Device = "h100"
    gpus: int = 1
    dtype: str | None = None
    recipe: str = "default"
    recipe_changes: Mapping[str, Any] | None = None
    apply_chat_template: bool = False
    system_instruction: str | None = None
    revision: str | None = None
    include_path: Path | None = None
    answer_tokens: int | None = None
    limit: int | None = None


def make_plan(model: str, sft_set: str | None = None, options: Options = Options()) -> Plan:  # noqa: B008  # immutable
    """What predicting, fine-tuning and measuring cost; reads no weights.

    Args:
        model: Hub id, folder, or ``micro/model``.
        sft_set: Hub id, file, folder or shipped name; None: the benchmark's or the settings' own.
        options: The rest.

    Raises:
        StsError: There is no such model, SAE, benchmark, recipe or device, or local data cannot be used.
    """
    with _quiet():
        at, device = _inputs(model, sft_set, options)
        predicting, sae = at.predicting()
        return Plan(at.shape, sae, device, options.gpus, (predicting, at.finetuning(), at.measuring()), COMPARE)


def plan_predicting(model: str, sft_set: str, options: Options) -> Stage:
    """What predicting alone costs; arguments and errors are those of :func:`make_plan`."""
    with _quiet():
        return _inputs(model, sft_set, options)[0].predicting()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the notes of lm-eval on tasks that are only looked at, and of libraries."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with quiet_libraries():
            yield
    finally:
        log.setLevel(level)


def _inputs(model: str, sft_set: str | None, options: Options) -> tuple[_Inputs, Device]:
    recipe = make_recipe(options.recipe, **(options.recipe_changes or {}))
    device = options.device if isinstance(options.device, Device) else find_device(options.device)
    if options.gpus < 1:
        raise SettingsError(f"gpus is {options.gpus} but must be 1 or more")
    given = dict(options.settings or {})
    given |= {} if sft_set is None else {"sft_set": sft_set}
    given |= {} if options.predictors is None else {"predictors": list(options.predictors)}
    read_settings(given)
    whole = build_without_weights(resolve(model), options.revision, options.dtype)
    tokenizer = load_tokenizer(resolve(model), options.revision)
    read = Model(whole, tokenizer, name=shipped_name(resolve(model)))
    return _Inputs(model, given, options, recipe, device, whole, read), device


class _Inputs:
    """What is at hand of all that a plan rests on."""

    def __init__(
        self,
        name: str,
        given: Mapping[str, Any],
        options: Options,
        recipe: Recipe,
        device: Device,
        whole: Any,
        model: Model,
    ) -> None:
        self.options, self.recipe, self.device, self.whole, self.model = options, recipe, device, whole, model
        self.shape: Shape = shape_of(whole, model.name)
        self.benchmark: Benchmark | None = None
        self.missing: dict[str, str] = {}
        path, group = options.include_path, options.task
        domains, self.measured_by = without_questions(group, path)
        self.n_domains = len(domains)
        # lm-eval's tasks refuse an SFT set that cannot be loaded, and here it may not be at hand.
        others = {key: value for key, value in given.items() if key != "sft_set"}
        try:
            self.benchmark = load_benchmark_domains(group, others, limit=options.limit, seed=_SEED, include_path=path)
        except DatasetError as error:
            if given.get("benchmark_path"):
                raise
            self.missing["benchmark"] = str(error)
        self.settings = self._settings(given)
        self.sft_set = self._sft_set()
        self.prompts: PromptOptions = options_for(
            model.tokenizer,
            model.name,
            apply_chat_template=options.apply_chat_template,
            system_instruction=options.system_instruction,
        )
        self.question = Question(
            model=name,
            revision=options.revision,
            sft_set=self.settings.sft_set,
            task=group,
            measured_by=self.measured_by or "TASK",
            given=others,
            settings=self.settings,
            dtype=options.dtype,
            recipe={
                **({} if options.recipe == "default" else {"recipe": options.recipe}),
                **(options.recipe_changes or {}),
            },
            apply_chat_template=options.apply_chat_template,
            system_instruction=options.system_instruction,
            include_path=None if path is None else str(path),
        )

    def _settings(self, given: Mapping[str, Any]) -> Settings:
        """Those of the run, with the benchmark's own defaults where it could be loaded."""
        if self.benchmark is None:
            return read_settings(given)
        own: Settings = self.benchmark.domains[0].settings  # type: ignore[attr-defined]  # of our tasks
        return own.model_copy(update={"sft_set": given.get("sft_set", own.sft_set)})

    def _sft_set(self) -> SftSet | None:
        if self.settings.sft_answers != "given":
            prompts_of(self.settings)
            self.missing["SFT set"] = "its responses are sampled when the run begins, which is not counted"
            return None
        try:
            return sft_set_of(self.settings)
        except DatasetError as error:
            if not _could_be_on_the_hub(self.settings.sft_set):
                raise
            self.missing["SFT set"] = str(error)
            return None

    def reader(self, saes: Sequence[SaeShape]) -> Reader:
        """What reads, with the memory that it has."""
        room = room_of(self.device)
        free = None if room is None else max(0, room - self.shape.bytes - sum(sae.bytes for sae in saes))
        first = saes[0] if saes else SaeShape(None, self.shape.width, 1, 0, len(self.shape.blocks), known=True)
        return Reader(self.shape, self.whole, self.device, first, tuple(saes[1:]), free)

    def predicting(self) -> tuple[Stage, SaeShape | None]:
        """Predicting, and the SAE."""
        settings, options = self.settings, self.options
        needs = {need for name in settings.predictors for need in get_predictor(name).needs}
        saes = []
        if needs & _WITH_SAE:
            saes.append(sae_shape(settings.sae, self.shape, layer=settings.layer, width=options.sae_width))
            if "layers" in needs:
                saes += [sae_shape(spec, self.shape, width=options.sae_width) for spec in settings.more_saes]
        reader = self.reader(saes)
        notes = [sae.note for sae in saes if sae.note]
        sft, domains = self._sft_queries(), self._domain_queries()
        facts: dict[str, Any] = {}
        if sft is not None:
            facts[SFT] = {"questions": len(sft.queries), "tokens": sum(len(q.scored) for q in sft.queries)}
        for each in domains or ():
            facts[each.name] = {"questions": len(each.queries), "tokens": sum(len(q.scored) for q in each.queries)}
        if sft is not None and domains is not None and self.sft_set is not None and self.benchmark is not None:
            queries = Queries(sft, domains)
            setup = Setup(self.model, settings, self.sft_set, self.benchmark.ref, self.prompts, self._seed)
            found, unknown = passes(reader, setup, queries, needs)
            notes += [*sft.notes, *(note for domain in domains for note in domain.notes)]
            counted = "counted: the texts that a run reads"
        else:
            found, unknown = bounded(
                reader,
                settings,
                None if sft is None else Texts.of(sft.queries),
                self.n_domains if domains is None else [Texts.of(domain.queries) for domain in domains],
                needs,
            )
            what = " and ".join(self.missing)
            counted = f"at most: {what} not at hand, so the token budgets are the bound, with 10 options a question"
            notes += [f"{key}: {error}" for key, error in self.missing.items()]
        if unknown:
            notes.append(f"not counted: {', '.join(unknown)}")
        if any(name.startswith("embedding_") for name in settings.predictors):
            notes.append(f"not counted: the embedding model {settings.embedding_model}")
        stage = predict_stage(
            self.question.predict(on_cpu=self.device.is_cpu),
            self.shape, saes, self.device, options.gpus, found, counted=counted, notes=notes,
            facts={"scored": facts},
        )  # fmt: skip
        return stage, saes[0] if saes else None

    @property
    def _seed(self) -> int:
        return _SEED if self.settings.seed is None else self.settings.seed

    def _sft_queries(self) -> SftQueries | None:
        if self.sft_set is None:
            return None
        settings = self.settings
        return sft_queries(
            self.sft_set,
            render_for(self.prompts, settings),
            self.model.query_tokenizer(settings.tokens),
            demos=settings.sft_demos,
            draws=settings.demo_draws,
            budget=settings.sft_tokens,
            context=self.model.context,
            seed=self._seed,
            response=response_for(self.prompts, settings),
        )

    def _domain_queries(self) -> list[Any] | None:
        if self.benchmark is None:
            return None
        tokenize = self.model.query_tokenizer(self.settings.tokens)
        return [
            domain_queries(domain, self.prompts, self.settings, tokenize, self.model.context, self._seed)
            for domain in self.benchmark.domains
        ]

    def finetuning(self) -> Stage:
        """Fine-tuning with the recipe."""
        recipe, options = self.recipe, self.options
        command = self.question.finetune(options.gpus)
        notes = [RECIPE_NOTES[options.recipe]] if options.recipe in RECIPE_NOTES else []
        if self.settings.sft_answers != "given":
            notes.append(
                f"{SAMPLED} is what lm-eval-sts sample makes of the prompts: the prediction ends in the command"
            )
        context = self.shape.context
        limit = min(recipe.max_length or context or 8192, context or 8192)
        if self.sft_set is not None:
            data = training_data(self.sft_set, self.model.tokenizer, limit, self.settings.sft_response_delimiter)
            lengths = [len(example.input_ids) for example in data.examples]
            notes += data.notes
            counted = "counted: the examples as they are trained on"
        elif recipe.max_steps is not None:
            lengths = [limit] * recipe.batch_size
            counted = f"at most: SFT set not at hand, so every example is taken to fill {limit:,} tokens"
        else:
            counted = "not known: SFT set not at hand; give a local copy, or --recipe_args max_steps=…"
            if self.settings.sft_answers != "given":
                counted = "not known: responses are sampled first; give --recipe_args max_steps=…"
            return finetune_stage(command, self.device, options.gpus, None, counted=counted, notes=notes)
        return finetune_stage(
            command,
            self.device,
            options.gpus,
            count_training(self.shape, self.whole, lengths, recipe, self.device, gpus=options.gpus),
            counted=counted,
            notes=notes,
            others=changes_of(self.shape, self.whole, lengths, recipe, self.device, options.gpus),
        )

    def measuring(self) -> Stage:
        """Measuring base and tuned model with the tasks that measure the benchmark."""
        options, notes = self.options, []
        measured_by, asked = self.measured_by, None
        if measured_by is None:
            counted = f"not known: {options.task} names no task that measures it"
        else:
            counted = f"not known: the questions of {measured_by} are not at hand"
            try:
                asked = asked_of(measured_by, self.prompts, options.include_path)
            except StsError as error:
                notes.append(str(error))
                if self.benchmark is not None:
                    asked = asked_like(self.benchmark.domains, self.prompts)
        measuring = None
        if asked:
            measuring = count_measuring(self.reader(()), self.model, asked, None, options.answer_tokens)
            counted = f"counted on {measuring.looked_at:,} of {measuring.questions:,} questions, base and tuned model"
        command = self.question.measure(measuring, on_cpu=self.device.is_cpu)
        return measure_stage(command, self.shape, self.device, options.gpus, measuring, counted=counted, notes=notes)


def training_data(sft_set: SftSet, tokenizer: Any, limit: int, delimiter: str) -> TrainingData:
    """The examples as fine-tuning reads them; those that do not fit are cut and named in its notes."""
    return tokenise(
        sft_set,
        tokenizer,
        LengthLimit(limit, "max_length or the model's context"),
        response_delimiter=delimiter,
        long_examples="truncate",
    )


def changes_of(
    shape: Shape, model: Any, lengths: Sequence[int], recipe: Recipe, device: Device, gpus: int
) -> dict[str, Any]:
    """What could be changed of a fine-tuning run that does not fit, and the run that comes of it."""

    def run(recipe: Recipe = recipe, **options: Any) -> Training:
        return count_training(shape, model, lengths, recipe, device, **{"gpus": gpus, **options})

    found: dict[str, Any] = {"--device_batch_size 1": lambda: run(batch_size=1)}
    if recipe.method == "full":
        lora = make_recipe(batch_size=recipe.batch_size, max_length=recipe.max_length)
        found["a LoRA recipe (--recipe default)"] = lambda: run(lora)
        for n in (2, 4, 8, 16, 32, 64):
            if n > gpus and recipe.batch_size % n == 0:
                found[f"{n} × {device.name} with FSDP, --device_batch_size 1"] = lambda n=n: run(gpus=n, batch_size=1)
    if recipe.dtype == "float32" and recipe.method == "lora":
        found["--dtype bfloat16"] = lambda: run(recipe.model_copy(update={"dtype": "bfloat16"}))
    if max(lengths) > 1024:
        shorter = [min(n, 1024) for n in lengths]
        found["--max_length 1024 --truncate --device_batch_size 1"] = lambda: count_training(
            shape, model, shorter, recipe, device, gpus=gpus, batch_size=1
        )
    return found


def _could_be_on_the_hub(name: str) -> bool:
    """Whether a name can be a hub id, and is no file, folder or shipped name."""
    return name.count("/") <= 1 and not name.startswith(("micro/", ".", "~", "/")) and not Path(name).exists()
