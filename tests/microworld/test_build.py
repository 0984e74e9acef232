"""The build, at a tiny size: it makes everything, continues after a kill, and refuses another's folder."""

import hashlib
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from lm_eval_sts.errors import SettingsError
from microworld import build as build_module
from microworld.build import BuildConfig, build
from microworld.corpus import CorpusConfig
from microworld.manifest import read_manifest
from microworld.sae import SaeConfig
from microworld.training import TrainingConfig

TINY = BuildConfig(
    corpus=CorpusConfig(pairs_a_document=3),
    training=TrainingConfig(hidden_size=16, mlp_size=16, heads=2, layers=3, steps=6, rows_a_step=2, checkpoint_every=2),
    sae=SaeConfig(tokens=1024, batch_tokens=128, d_sae=32, k=4),
    tokenizer_documents=100,
    questions_a_domain=1,
    sft_examples=4,
)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("micro")
    log = StringIO()
    return folder, build(folder, 3, TINY, console=Console(file=log)), log.getvalue()


def test_build_makes_everything_and_says_its_time_in_advance(built):
    folder, manifest, said = built
    assert "minute" in said
    assert read_manifest(folder) == manifest
    assert {"data/test.parquet", "model/model.safetensors", "sae/cfg.json", "ground_truth.json"} <= set(manifest.files)
    assert not (folder / ".work").exists()
    for name, digest in manifest.files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_a_killed_build_continues_to_the_same_files(built, tmp_path, monkeypatch):
    folder, manifest, _ = built
    real = build_module.train

    def killed(config, tokenizer, rows, seed, work, on_step):
        def on_step_then_die(step, loss):
            on_step(step, loss)
            if step == 5:
                raise KeyboardInterrupt

        return real(config, tokenizer, rows, seed, work, on_step_then_die)

    monkeypatch.setattr(build_module, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "again", 3, TINY, console=Console(file=StringIO()))
    assert (tmp_path / "again/.work/checkpoint.safetensors").exists()
    monkeypatch.undo()
    again = build(tmp_path / "again", 3, TINY, console=Console(file=StringIO()))
    data = {n: h for n, h in manifest.files.items() if n.startswith(("data/", "sft/", "ground_truth"))}
    assert data.items() <= again.files.items()
    for name, tensor in _weights(folder).items():
        torch.testing.assert_close(_weights(tmp_path / "again")[name], tensor)


def test_a_finished_build_is_kept_and_another_seed_refused(built):
    folder, manifest, _ = built
    assert build(folder, 3, TINY, console=Console(file=StringIO())) == manifest
    with pytest.raises(SettingsError, match="another --output"):
        build(folder, 4, TINY, console=Console(file=StringIO()))
