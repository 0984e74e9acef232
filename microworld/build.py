"""Makes the whole micro world from a seed: tokenizer, corpus, model, SAE, questions, SFT sets, manifest."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.files import hash_json, write_atomically
from lm_eval_sts.microworld.paths import SFT_SUFFIX
from microworld.corpus import CorpusConfig, document_text, documents
from microworld.data import SHIPPED, TRUTH_FILE, ground_truth, write_benchmark, write_json, write_sft_set
from microworld.domains import DOMAINS
from microworld.figures import Figures, measure
from microworld.manifest import (
    MANIFEST_FILE,
    Manifest,
    SaeFigures,
    package_versions,
    read_manifest,
    write_manifest,
)
from microworld.packing import ROW_TOKENS, Rows, pack
from microworld.sae import SaeConfig, sae_quality, train_sae
from microworld.sft_sets import EXAMPLES_A_SET, sft_examples, sft_specs
from microworld.tokenizer import train_tokenizer
from microworld.training import TrainingConfig, step_seconds, train
from microworld.world import World, make_world

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

WORK_FOLDER: Final = ".work"
_SAE_TEST_ROWS: Final = 64


@dataclass(frozen=True)
class BuildConfig:
    """Everything that a build depends on besides its seed."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sae: SaeConfig = field(default_factory=SaeConfig)
    tokenizer_documents: int = 8000
    questions_a_domain: int = 100
    """Test questions behind each accuracy of the manifest."""
    sft_examples: int = EXAMPLES_A_SET

    def flat(self) -> dict[str, dict[str, int | float | str]]:
        """The configuration as the manifest records it."""
        tables = {"corpus": asdict(self.corpus), "training": asdict(self.training), "sae": asdict(self.sae)}
        single = {k: v for k, v in asdict(self).items() if not isinstance(v, dict)}
        return tables | {"build": single, "splits": {str(k): v for k, v in SHIPPED.items()}}


class _Stages:
    """Runs the stages of a build, each once, with progress and time."""

    def __init__(self, work: Path, console: Console) -> None:
        self.work = work
        self.seconds: dict[str, float] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)

    @contextmanager
    def stage(self, name: str, total: float) -> Iterator[Callable[[float], None]]:
        """Times a stage (over resumed runs too) and yields the function that moves its bar by an amount."""
        record = self.work / f"{name}.seconds"
        before = float(record.read_text()) if record.exists() else 0.0
        started = time.monotonic()
        task = self.progress.add_task(name, total=total)
        try:
            yield lambda amount: self.progress.advance(task, amount)
        finally:
            self.seconds[name] = round(before + time.monotonic() - started, 1)
            write_atomically(record, str(self.seconds[name]).encode())
        self.progress.update(task, completed=total)


def build(
    output: Path, seed: int = 0, config: BuildConfig | None = None, threads: int = 1, console: Console | None = None
) -> Manifest:
    """Makes all assets of the micro world.

    Killed at any moment, a rerun continues where it was. A finished build of
    the same seed and configuration is left as it is.

    Args:
        output: Folder of the assets; made if missing.
        seed: Seed of the world, the model and the SAE.
        config: Sizes and recipes.
        threads: CPU threads.
        console: Where progress goes; standard error by default.

    Returns:
        The manifest, which is also written to the folder.

    Raises:
        SettingsError: The folder holds a build of another seed or configuration.
        RecordError: The folder's manifest is not valid.
    """
    config = config or BuildConfig()
    console = console or Console(stderr=True)
    work = output / WORK_FOLDER
    if _check_same(output, work, seed, config):
        return read_manifest(output)
    torch.set_num_threads(threads)
    stages = _Stages(work, console)
    world = make_world(seed)
    with stages.progress:
        tokenizer = _tokenizer(world, config, output, stages)
        minutes = max(1, round(_estimate(config, tokenizer) / 60))
        console.print(f"Building the micro world in {output}: about {minutes} minutes on {threads} thread(s).")
        _data(world, config, output, stages)
        rows = _rows(world, config, tokenizer, stages)
        model, loss = _model(config, tokenizer, rows, seed, output, stages)
        sae = _sae(world, config, tokenizer, model, rows, seed, output, stages)
        with stages.stage("accuracy", len(DOMAINS)) as advance:
            figures = measure(world, model, tokenizer, config.questions_a_domain, lambda: advance(1))
    manifest = _manifest(config, seed, threads, model, tokenizer, rows, loss, sae, figures, output, stages)
    write_manifest(output, manifest)
    shutil.rmtree(work)
    return manifest


def _check_same(output: Path, work: Path, seed: int, config: BuildConfig) -> bool:
    """Whether the folder holds the finished build; claims it for this one if it holds nothing."""
    key = hash_json({"seed": seed, "config": config.flat()})
    hint = "give another --output, or delete it"
    if (output / MANIFEST_FILE).exists():
        done = read_manifest(output)
        if hash_json({"seed": done.seed, "config": done.config}) != key:
            raise SettingsError(f"{output} holds a finished build of seed {done.seed} or another configuration: {hint}")
        return True
    claim = work / "key"
    if claim.exists() and claim.read_text() != key:
        raise SettingsError(f"{output} holds an unfinished build of another seed or configuration: {hint}")
    write_atomically(claim, key.encode())
    return False


def _estimate(config: BuildConfig, tokenizer: PreTrainedTokenizerFast) -> float:
    """Seconds that a whole build takes, from the measured time of a training step."""
    step = step_seconds(config.training, tokenizer)
    token = step / (config.training.rows_a_step * ROW_TOKENS)
    prompts = 3 * ROW_TOKENS * config.questions_a_domain * len(DOMAINS)
    return config.training.steps * step + token * (config.sae.tokens + prompts / 3) + 60


def _tokenizer(world: World, config: BuildConfig, output: Path, stages: _Stages) -> PreTrainedTokenizerFast:
    with stages.stage("tokenizer", 1):
        texts = islice(documents(world, config.corpus, "tokenizer"), config.tokenizer_documents)
        return train_tokenizer(document_text(d) for d in texts)


def _data(world: World, config: BuildConfig, output: Path, stages: _Stages) -> None:
    specs = sft_specs(world)
    with stages.stage("data", len(specs) + 1) as advance:
        write_benchmark(world, output / "data")
        advance(1)
        for spec in specs.values():
            write_sft_set(output / "sft" / f"{spec.name}{SFT_SUFFIX}", sft_examples(world, spec, config.sft_examples))
            advance(1)
        write_json(output / TRUTH_FILE, ground_truth(world, specs))


def _rows(world: World, config: BuildConfig, tokenizer: PreTrainedTokenizerFast, stages: _Stages) -> Rows:
    n_rows = config.training.steps * config.training.rows_a_step
    tokens, kinds = stages.work / "tokens.npy", stages.work / "kinds.npy"
    with stages.stage("corpus", 1):
        if not kinds.exists():
            rows = pack(tokenizer, documents(world, config.corpus), n_rows)
            for path, array in ((tokens, rows.tokens), (kinds, rows.kinds)):
                temporary = path.with_suffix(".tmp.npy")
                np.save(temporary, array, allow_pickle=False)
                temporary.replace(path)
        return Rows(np.load(tokens, allow_pickle=False), np.load(kinds, allow_pickle=False))


def _model(
    config: BuildConfig, tokenizer: PreTrainedTokenizerFast, rows: Rows, seed: int, output: Path, stages: _Stages
) -> tuple[LlamaForCausalLM, float]:
    reached = 0

    def on_step(step: int, loss: float) -> None:
        nonlocal reached
        advance(step - reached)
        reached = step

    with stages.stage("model", config.training.steps) as advance:
        model, loss = train(config.training, tokenizer, rows, seed, stages.work, on_step)
        model.save_pretrained(output / "model")
        tokenizer.save_pretrained(output / "model")
    return model, loss


def _sae(
    world: World,
    config: BuildConfig,
    tokenizer: PreTrainedTokenizerFast,
    model: LlamaForCausalLM,
    rows: Rows,
    seed: int,
    output: Path,
    stages: _Stages,
) -> SaeFigures:
    from sae_lens import SAE

    folder, finished = output / "sae", stages.work / "sae.done"
    with stages.stage("sae", config.sae.tokens) as advance:
        if not finished.exists():
            train_sae(model, rows, config.sae, seed, folder, advance)
            write_atomically(finished, b"")
    unseen = pack(tokenizer, documents(world, config.corpus, "sae-test"), _SAE_TEST_ROWS)
    return SaeFigures(**asdict(sae_quality(SAE.load_from_disk(str(folder)), model, unseen, config.sae.layer)))


def _manifest(
    config: BuildConfig,
    seed: int,
    threads: int,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Rows,
    loss: float,
    sae: SaeFigures,
    figures: Figures,
    output: Path,
    stages: _Stages,
) -> Manifest:
    files = {p.relative_to(output).as_posix(): p for p in sorted(output.rglob("*")) if p.is_file()}
    shipped = {name: p for name, p in files.items() if not any(x.startswith(".") for x in name.split("/"))}
    for path in shipped.values():
        path.chmod(0o644)  # safetensors files come out unreadable for others
    return Manifest(
        seed=seed,
        config=config.flat(),
        versions=package_versions(),
        threads=threads,
        training_tokens=int((rows.kinds > 0).sum()),
        parameters=model.num_parameters(),
        vocabulary=len(tokenizer),
        final_loss=loss,
        seconds=stages.seconds,
        questions_a_domain=config.questions_a_domain,
        mean_accuracy=figures.mean,
        accuracy=figures.by_domain,
        skill_accuracy=figures.by_skill,
        sae=sae,
        files={name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in shipped.items()},
    )
