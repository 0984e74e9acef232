"""What all kinds of evidence are made from: model, SAEs, SFT set and texts; and the keys of what they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lm_eval_sts.data import SftSet
from lm_eval_sts.evidence.domain import SFT, DomainQueries
from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.rendering import PromptOptions
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.store import Store
from lm_eval_sts.features.hooks import HookPoint, resolve_hook_point
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import LoadedSae, check_sae, load_sae
from lm_eval_sts.features.sae_directory import find_sae
from lm_eval_sts.features.sft_queries import SftQueries
from lm_eval_sts.files import package_version
from lm_eval_sts.records import BenchmarkRef, PromptRef, SaeRef, Setting
from lm_eval_sts.shipped import resolve, shipped_name


@dataclass(frozen=True)
class Queries:
    """What is read: texts as tokens.

    Attributes:
        sft: Of the SFT set.
        domains: Of every domain.
    """

    sft: SftQueries
    domains: list[DomainQueries]

    def by_label(self) -> dict[str, list[Query]]:
        """The queries of the SFT set and of every domain, by label."""
        return {SFT: self.sft.queries, **{d.name: d.queries for d in self.domains}}


@dataclass(frozen=True)
class RunSae:
    """An SAE on the model's device, and where it reads the model.

    Attributes:
        sae: The SAE.
        point: Its hook point on the model.
        name: As given or chosen.
        chosen_because: Why it was chosen, where the run chose it.
    """

    sae: LoadedSae
    point: HookPoint
    name: str
    chosen_because: str | None = None

    @property
    def key(self) -> dict[str, Any]:
        """What a number depends on that was read with it."""
        sae = self.sae
        return {
            "name": self.name,
            "weights": sae.content_hash,
            "hook_name": sae.hook_name,
            "centred": sae.center_input,  # of its metadata, which the hash leaves out
        }

    @property
    def record(self) -> SaeRef:
        """The SAE for the record."""
        return SaeRef(
            name=self.name,
            hook_name=self.sae.hook_name,
            d_sae=self.sae.d_sae,
            architecture=self.sae.architecture,
            weights_hash=self.sae.content_hash,
            chosen_because=self.chosen_because,
            revision=self.sae.revision,
        )

    def reader(self, model: Model, settings: ReadSettings) -> Reader:
        """Reads the model's activations with this SAE."""
        return Reader(
            model.model,
            self.point,
            self.sae,
            max_rows=model.max_rows,
            token_budget=settings.token_budget,
            pad_id=model.pad_id,
        )


@dataclass(frozen=True)
class Setup:
    """What is read, by what, and how.

    Attributes:
        model: The model.
        settings: How it is read.
        sft_set: The SFT set.
        benchmark: The benchmark.
        options: How prompts are built.
        seed: Seed of every draw.
        given_sae: The SAE, where it is loaded already; else the settings name it.
    """

    model: Model
    settings: ReadSettings
    sft_set: SftSet
    benchmark: BenchmarkRef
    options: PromptOptions
    seed: int
    given_sae: LoadedSae | None = None

    @cached_property
    def sae(self) -> RunSae:
        """The SAE, given, named, or found by the model's name; loaded and checked when it is first asked for.

        Raises:
            StsError: It cannot be found, or does not fit the model.
        """
        if self.given_sae is not None:
            return attach(self.model, self.given_sae)
        if self.settings.sae is not None:
            return attach(self.model, named_sae(self.settings.sae, self.settings.hook_name))
        choice = find_sae(self.model.name, self.model.n_layers, layer=self.settings.layer)
        found = named_sae(f"{choice.release}/{choice.sae_id}", self.settings.hook_name)
        return replace(attach(self.model, found), chosen_because=choice.why)

    @cached_property
    def more_saes(self) -> list[RunSae]:
        """Further SAEs.

        Raises:
            StsError: One cannot be found, or does not fit the model.
        """
        return [attach(self.model, named_sae(spec)) for spec in self.settings.more_saes]

    @cached_property
    def chat_template(self) -> str | None:
        """Hash of the chat template that is applied."""
        return self.options.template_hash(self.model.tokenizer)

    @cached_property
    def setting(self) -> Setting:
        """What predictions from here are about."""
        return Setting(
            model=self.model.reference,
            sft_set=self.sft_set.reference,
            benchmark=self.benchmark,
            prompt=PromptRef(
                chat_template_hash=self.chat_template,
                system_instruction=self.options.system_instruction,
                fewshot_as_multiturn=self.options.fewshot_as_multiturn,
                tokens=self.settings.tokens,
            ),
        )

    def store(self, label: str, key: Mapping[str, Any], texts: str | None = None) -> Store:
        """Where something that is read is kept: under all that it depends on but the texts' tokens.

        Args:
            label: Readable start of the folder's name.
            key: What it depends on beside the model, the chat template and where texts come from.
            texts: ``SFT``, or a domain, whose texts are read; None: the key says what is read.

        Raises:
            ProfileError: The folder cannot be made or written.
        """
        whole = read_by(self.model, self.chat_template)
        if texts == SFT:
            whole |= {"sft_set": self.sft_set.content_hash, "tokens": self.settings.tokens}
        elif texts is not None:
            whole |= {"benchmark": self.benchmark.source, "domain": texts, "tokens": self.settings.tokens}
        return Store(self.settings.profiles_path, f"{self.benchmark.name}-{label}", {**whole, **key})


def read_by(model: Model, chat_template: str | None) -> dict[str, Any]:
    """What everything that a model gives depends on: it, the chat template, and this package.

    Args:
        model: The model.
        chat_template: Its hash; None where none is applied.
    """
    of = model.reference
    return {
        "package": package_version("lm-eval-sts"),
        "model": {"name": of.name, "revision": of.revision, "tensors": of.tensors_hash, "config": of.config_hash},
        "chat_template": chat_template,
    }


def named_sae(spec: str, hook_name: str | None = None) -> LoadedSae:
    """Loads an SAE under the name that records call it by.

    Args:
        spec: ``release/sae_id`` of SAELens, a shipped name, or a local folder.
        hook_name: Its hook point, where its metadata name none or a wrong one.

    Raises:
        SaeError: It cannot be found or used.
    """
    return replace(load_sae(resolve(spec), hook_name=hook_name), id=shipped_name(spec))


def attach(model: Model, loaded: LoadedSae) -> RunSae:
    """Puts a loaded SAE on the model's device.

    Raises:
        StsError: It does not fit the model.
    """
    sae = loaded.for_model(model.model)
    point = resolve_hook_point(model.model, sae.hook_name)
    check_sae(sae, model.model, model.name, point=point)
    sae.sae.to(point.device)
    return RunSae(sae, point, sae.id)
