"""Models, a task and a hub cache to measure with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.outcomes.measuring import adapter, local_task, perturbed
from tests.tiny_models import ARCHITECTURES, save, tiny_tokenizer


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder with ``base``, two models made from it, and adapters of ``base`` and of ``other``."""
    folder = tmp_path_factory.mktemp("models")
    base = str(save(ARCHITECTURES["llama"](), tiny_tokenizer(), folder / "base"))
    other = perturbed(base, folder / "other", 1, 0.3)
    perturbed(base, folder / "tuned", 2, 0.3)
    adapter(base, folder / "adapter", 3)
    adapter(other, folder / "adapter-of-other", 4)
    return folder


@pytest.fixture(scope="session")
def task(tmp_path_factory) -> Path:
    return local_task(tmp_path_factory.mktemp("task") / "tasks")


@pytest.fixture
def evaluated(monkeypatch) -> list[dict[str, Any]]:
    """Options of every run of lm-eval."""
    import lm_eval

    calls: list[dict[str, Any]] = []
    original = lm_eval.simple_evaluate
    monkeypatch.setattr(lm_eval, "simple_evaluate", lambda **options: calls.append(options) or original(**options))
    return calls


@pytest.fixture
def hub(models, tmp_path, monkeypatch) -> Callable[..., Path]:
    """Makes repositories of a hub cache: of every ref the folder whose copy it is."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def make(name: str, **refs: str) -> Path:
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        for digit, (ref, source) in enumerate(refs.items(), start=1):
            shutil.copytree(models / source, repository / "snapshots" / (str(digit) * 40))
            (repository / "refs" / ref).write_text(str(digit) * 40)
        return repository

    return make
