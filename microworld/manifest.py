"""The record that ships beside the assets: how they were made and what was measured."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import write_atomically

MANIFEST_FILE: Final = "manifest.json"
_PACKAGES: Final = ("torch", "transformers", "tokenizers", "sae-lens", "numpy", "pyarrow", "safetensors")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DomainAccuracy(_Record):
    """Four-option accuracy of a domain after four kinds of context; chance is .25."""

    own: float
    """After five of its own demonstrations, as the benchmark asks."""
    none: float
    """After none."""
    other: float
    """After five of another domain, under this domain's convention."""
    wrong_rule: float
    """After five of its own, under the opposite convention in every family."""


class SaeFigures(_Record):
    """Quality of the SAE on documents that it was not trained on."""

    explained_variance: float
    l0: float
    dead_features: int
    tokens: int


class Manifest(_Record):
    """Everything that is known about a build."""

    format: Literal[1] = 1
    seed: int
    config: dict[str, dict[str, int | float | str]]
    """Every configuration of the build, by its name."""
    versions: dict[str, str]
    threads: int
    """CPU threads of the training, on which the last bits of the weights depend."""
    training_tokens: int
    parameters: int
    vocabulary: int
    final_loss: float
    """Smoothed training loss at the end, in nats a predicted token."""
    seconds: dict[str, float]
    """Wall-clock seconds of each stage."""
    questions_a_domain: int
    """Test questions behind each accuracy."""
    mean_accuracy: DomainAccuracy
    accuracy: dict[str, DomainAccuracy]
    skill_accuracy: dict[str, float]
    """Accuracy by latent skill over all domains, after five own demonstrations."""
    sae: SaeFigures
    files: dict[str, str]
    """SHA-256 of every shipped file, by its path below the folder."""


def package_versions() -> dict[str, str]:
    """Versions of the packages that a build depends on."""
    return {name: version(name) for name in _PACKAGES}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest atomically."""
    write_atomically(folder / MANIFEST_FILE, (manifest.model_dump_json(indent=1) + "\n").encode())


def read_manifest(folder: Path) -> Manifest:
    """Reads and validates a manifest.

    Args:
        folder: The folder of the assets.

    Raises:
        RecordError: It is missing, unreadable, or not a manifest of this format.
    """
    path = folder / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RecordError(f"no manifest at {path} ({error.strerror}): build the micro world there first") from error
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        raise RecordError(f"{path} is not a manifest of format 1 ({first}): build it again") from error
