"""Other base models and other SAEs of the same micro world: does a ranking of predictors carry over?

World, questions, SFT sets and tokenizer are the shipped ones; seed and shape of the model, and seed, layer, width and
sparsity of the SAE, differ. ``FOLDER/<name>`` is a model in transformers' format, or an SAE in SAELens's;
``FOLDER/<name>.json`` says how it was made and its quality.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from lm_eval_sts.errors import SettingsError, choices
from lm_eval_sts.files import write_atomically
from lm_eval_sts.microworld.paths import asset
from microworld.corpus import CorpusConfig, documents
from microworld.figures import measure
from microworld.packing import Rows, pack
from microworld.sae import SaeConfig, sae_quality, train_sae
from microworld.training import TrainingConfig, train
from microworld.world import World, make_world

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SHIPPED_MODEL: Final = "shipped"
TEST_ROWS: Final = 64
QUESTIONS: Final = 100
"""Test questions a domain behind a model's accuracies."""


@dataclass(frozen=True)
class ModelVariant:
    """A base model."""

    seed: int
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True)
class SaeVariant:
    """An SAE of a base model."""

    model: str
    seed: int
    config: SaeConfig = field(default_factory=SaeConfig)


MODELS: Final = {
    "model-seed1": ModelVariant(1),
    "model-deep": ModelVariant(2, TrainingConfig(layers=6)),
}
SAES: Final = {
    "sae-model-seed1": SaeVariant("model-seed1", 0),
    "sae-model-deep": SaeVariant("model-deep", 0, SaeConfig(layer=3)),
    "sae-seed1": SaeVariant(SHIPPED_MODEL, 1),
    "sae-seed2": SaeVariant(SHIPPED_MODEL, 2),
    "sae-layer0": SaeVariant(SHIPPED_MODEL, 0, SaeConfig(layer=0)),
    "sae-layer1": SaeVariant(SHIPPED_MODEL, 0, SaeConfig(layer=1)),
    "sae-layer3": SaeVariant(SHIPPED_MODEL, 0, SaeConfig(layer=3)),
    "sae-narrow": SaeVariant(SHIPPED_MODEL, 0, SaeConfig(d_sae=256)),
    "sae-wide": SaeVariant(SHIPPED_MODEL, 0, SaeConfig(d_sae=4096)),
    "sae-sparse": SaeVariant(SHIPPED_MODEL, 0, SaeConfig(k=4)),
    "sae-dense": SaeVariant(SHIPPED_MODEL, 0, SaeConfig(k=64)),
}


def make_variants(folder: Path, names: Iterable[str], say: Callable[[str], None]) -> None:
    """Makes models and SAEs; what is there is left as it is, and a killed training goes on at its last checkpoint.

    Args:
        folder: Where they go.
        names: Of ``MODELS`` and ``SAES``; none: all.
        say: Takes a line of progress.

    Raises:
        SettingsError: There is none of that name.
    """
    chosen, known = tuple(names), (*MODELS, *SAES)
    for name in chosen:
        if name not in known:
            raise SettingsError(f"the micro world has no variant {name!r}: {choices(name, known)}")
    torch.set_num_threads(1)
    for name in chosen or known:
        _make(folder, name, say)


def _make(folder: Path, name: str, say: Callable[[str], None]) -> None:
    """Makes one unless it is there; an SAE's model is made first."""
    if (folder / f"{name}.json").exists():
        say(f"{name}: there already")
        return
    if name in MODELS:
        facts = _make_model(folder, name, say)
    else:
        if SAES[name].model != SHIPPED_MODEL:
            _make(folder, SAES[name].model, say)
        facts = _make_sae(folder, name)
    write_atomically(folder / f"{name}.json", (json.dumps(facts, indent=1) + "\n").encode())
    say(f"{name}: done")


def _make_model(folder: Path, name: str, say: Callable[[str], None]) -> dict[str, Any]:
    variant = MODELS[name]
    work = folder / f".{name}"
    work.mkdir(parents=True, exist_ok=True)

    def on_step(step: int, loss: float) -> None:
        if step % 100 == 0:
            say(f"{name}: step {step} of {variant.training.steps}, loss {loss:.3f}")

    rows = _rows(variant.training.steps * variant.training.rows_a_step)
    model, loss = train(variant.training, _tokenizer(), rows, variant.seed, work, on_step)
    model.save_pretrained(folder / name)
    _tokenizer().save_pretrained(folder / name)
    figures = measure(_world(), model, _tokenizer(), QUESTIONS)
    return {
        **asdict(variant),
        "parameters": model.num_parameters(),
        "final_loss": loss,
        "mean_accuracy": figures.mean.model_dump(),
        "own_accuracy": {domain: found.own for domain, found in figures.by_domain.items()},
    }


def _make_sae(folder: Path, name: str) -> dict[str, Any]:
    from sae_lens import SAE

    variant = SAES[name]
    model = _load(asset("micro/model") if variant.model == SHIPPED_MODEL else folder / variant.model)
    training = TrainingConfig()
    rows = _rows(training.steps * training.rows_a_step)
    train_sae(model, rows, variant.config, variant.seed, folder / name, lambda _: None)
    unseen = pack(_tokenizer(), documents(_world(), CorpusConfig(), "sae-test"), TEST_ROWS)
    sae = SAE.load_from_disk(str(folder / name))
    return {**asdict(variant), "quality": asdict(sae_quality(sae, model, unseen, variant.config.layer))}


@lru_cache(maxsize=1)
def _world() -> World:
    return make_world(0)


@lru_cache(maxsize=1)
def _tokenizer() -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(asset("micro/model"))


@lru_cache(maxsize=1)
def _rows(n: int) -> Rows:
    """The corpus that the shipped model was trained on."""
    return pack(_tokenizer(), documents(_world(), CorpusConfig()), n)


def _load(path: Path) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
