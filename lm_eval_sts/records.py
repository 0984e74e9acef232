"""What is written down: versioned, validated records, as JSON.

Every record carries ``format_version``; a record of a version that this
package does not know is refused when read, never guessed at.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import write_atomically

FORMAT_VERSION: Literal[1] = 1
UNKNOWN = "unknown"


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Finite = Annotated[float, AfterValidator(_finite)]


class Record(BaseModel):
    """A strict, immutable record: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelRef(Record):
    """The frozen base model."""

    name: str
    """Hub id or local path, as given to lm-eval."""
    revision: str = UNKNOWN
    """Commit of the hub snapshot where there is one."""
    weights_hash: str
    """Hash of the loaded weights (dtype, adapters and quantisation included)."""
    dtype: str


class SaeRef(Record):
    """The sparse autoencoder that read the model."""

    name: str
    """``release/sae_id`` or a local path."""
    hook_name: str
    d_sae: int = Field(gt=0)
    architecture: str
    weights_hash: str
    chosen_because: str | None = None
    """Why this SAE, where the run chose it itself; None where the user named it."""


class SftSetRef(Record):
    """The SFT set, by content."""

    name: str
    """Hub id or local path."""
    revision: str = UNKNOWN
    content_hash: str
    n_examples: int = Field(gt=0)


class BenchmarkRef(Record):
    """The benchmark whose domains are scored."""

    name: str
    """The group of lm-eval tasks, for instance ``sts_mmlu_pro``."""
    source: str
    """Hub id or local path of its questions."""
    version: str
    """Version of our task."""
    measured_by: str | None = None
    """The lm-eval task, or group of tasks, that measures the same questions; its prompts are the ones used."""
    measured_version: str | None = None
    """Its version: deltas measured under another one are not what was predicted."""


class PromptRef(Record):
    """How questions were put to the model."""

    chat_template_hash: str | None
    """None where no chat template was applied."""
    system_instruction: str | None
    fewshot_as_multiturn: bool
    tokens: Literal["suffix", "content", "last"]
    """Which of the query's tokens were scored (DESIGN, rule 2)."""


class Setting(Record):
    """What a prediction is about: base model × SFT set × benchmark."""

    model: ModelRef
    sft_set: SftSetRef
    benchmark: BenchmarkRef
    prompt: PromptRef
    recipe: str | None = None
    """The fine-tuning recipe, where the prediction is for one."""


class DomainScore(Record):
    """One domain's predicted score."""

    score: Finite
    """Mean over the draws of demonstrations."""
    se: Annotated[Finite, Field(ge=0)] | None
    """Standard error by bootstrap over the domain's questions, selection held fixed; None for one question."""
    draws: tuple[Finite, ...]
    """The score under each draw of demonstrations; their spread is not part of ``se``."""
    n_questions: int = Field(gt=0)
    n_tokens: int = Field(gt=0)
    """Scored tokens."""


class SelectedFeatures(Record):
    """The shifted features of one draw of SFT demonstrations: D_N of the paper."""

    features: tuple[int, ...]
    """SAE feature indices, largest shift first."""
    shift: tuple[Finite, ...]
    """E‖h_j(x) − h_j(demonstrations, x)‖² of each (paper §4.1)."""
    stability: Annotated[Finite, Field(ge=0, le=1)] | None
    """Mean share of the features that a resampling of the SFT queries selects again; None where the rule is no
    mean over queries."""
    demonstrations: tuple[int, ...]
    """Rows of the SFT set shown as demonstrations, in the order shown."""


class Selection(Record):
    """How the shifted features were selected, for every draw."""

    rule: Literal["aligned", "unaligned"]
    n_features: int = Field(gt=0)
    n_queries: int = Field(gt=0)
    n_tokens: int = Field(gt=0)
    draws: tuple[SelectedFeatures, ...]
    overlap_between_draws: Annotated[Finite, Field(ge=0, le=1)] | None = None
    """Mean share of features that two draws have in common; None for one draw."""


class Provenance(Record):
    """Where the numbers come from."""

    package_versions: dict[str, str]
    command: str
    created: str
    """UTC, ISO 8601."""
    seed: int
    settings: dict[str, Any]
    """The complete settings of the run, defaults included."""
    notes: tuple[str, ...] = ()
    """Defaults taken, questions or demonstrations left out, warnings: whatever a reader must know."""


class Prediction(Record):
    """A predictor's scores for a setting."""

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["prediction"] = "prediction"
    predictor: str
    predictor_version: str
    target: Literal["magnitude", "delta"]
    """What the score predicts: the size of the change, or the signed change."""
    setting: Setting
    sae: SaeRef | None
    """None for predictors that need no SAE."""
    selection: Selection | None
    domains: dict[str, DomainScore] = Field(min_length=1)
    provenance: Provenance


R = TypeVar("R", bound=Record)


def parse_record(kind: type[R], data: object, where: str) -> R:
    """Validates one record.

    Args:
        kind: The record's class.
        data: Decoded JSON.
        where: What the data came from, for the message.

    Raises:
        RecordError: The data is of another format version or not valid; says which field and why.
    """
    version = data.get("format_version", FORMAT_VERSION) if isinstance(data, dict) else FORMAT_VERSION
    if type(version) is not int or version != FORMAT_VERSION:
        raise RecordError(
            f"{where}: format version {version!r} is not known to this release (it reads {FORMAT_VERSION}): "
            "upgrade lm-eval-sts, or write the record again"
        )
    try:
        # Through JSON, so that lists become the tuples of the record under strict rules.
        return kind.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the record"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise RecordError(f"{where}: not a valid {kind.__name__}: {field}: {first['msg']}{more}") from error


def save_record(record: Record, path: Path) -> None:
    """Writes a record as indented JSON, atomically.

    Raises:
        RecordError: The file cannot be written.
    """
    try:
        write_atomically(path, (record.model_dump_json(indent=2) + "\n").encode())
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}: choose another place") from error


def load_record(kind: type[R], path: Path) -> R:
    """Reads and validates a record.

    Raises:
        RecordError: The file is missing, not JSON, of another version or not valid.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not JSON: {error}") from error
    return parse_record(kind, data, str(path))
