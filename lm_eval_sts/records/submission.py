"""Submissions: one predictor's raw predictions for registered settings, put forward for the leaderboard.

A submission holds no agreement: every score on the board is computed from the raw predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from lm_eval_sts.records.agreement import Target
from lm_eval_sts.records.base import FORMAT_VERSION, UNKNOWN, Finite, ModelRef, Record

Category = Literal["predictor", "training", "null", "oracle", "published"]
"""How an entry is to be read: ``predictor`` is scored before any training; ``training`` trains a little; ``null`` knows
nothing of the model or the SFT set; ``oracle`` saw the tuned model and is ranked apart; ``published`` was digitised
from a paper."""

CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)

PREFIXES: Final[Mapping[str, Category]] = {"null_": "null", "oracle_": "oracle"}
"""How the name of a predictor of some categories begins; where only a name is known, it tells."""

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,79}$")]
"""A name that is also a file name everywhere."""

SettingName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,79}/[a-z0-9][a-z0-9_.-]{0,79}$")]
"""A registered setting: folder and file name below ``leaderboard/settings``, without ``.json``."""

Text = Annotated[str, Field(min_length=1, max_length=2000)]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\r\n]*[^\s][^\r\n]*$")]
Url = Annotated[str, Field(max_length=500, pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?([/?#][!#-&(-;=?-~]*)?$")]
"""An address in ASCII that goes where it seems to: no look-alike letters in the host, no user before it."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[Finite, Field(ge=0, le=1e18)]


class Submitter(Record):
    """Who puts a prediction forward."""

    name: Line
    url: Url | None = None


class Code(Record):
    """The code that made the predictions; never run by the board."""

    url: Url | None = None
    """None: the repository that holds the leaderboard."""
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}$")]


class Cost(Record):
    """What the predictions of one setting cost on average, the base model's evaluation not counted."""

    forward_tokens: Count
    """Tokens through the model forwards."""
    backward_tokens: Count
    """Tokens through the model backwards."""
    seconds: Count | None = None
    """Measured: of the wall clock, or of the processor where one thread did the work."""
    hardware: Line | None = None
    """What the seconds were measured on."""

    @property
    def token_equivalents(self) -> float:
        """Forward passes of one token; a backward pass counts as two."""
        return self.forward_tokens + 2 * self.backward_tokens


class SubmittedSetting(Record):
    """The raw predictions for one setting."""

    weights_hash: str
    """Of the base model that was read, as in a prediction's record; ``unknown`` for published scores."""
    content_hash: str
    """Of the SFT set that was read; ``unknown`` for published scores."""
    dtype: Line = UNKNOWN
    """Of the weights as they were read: a weights hash covers it, so that the hashes of one model in two dtypes
    differ and are not compared."""
    tensors_hash: str = UNKNOWN
    """Of the base model's weights alone; with ``config_hash`` compared in place of ``weights_hash`` where known."""
    config_hash: str = UNKNOWN
    """Of the entries of the base model's config that may change an activation."""
    scores: Annotated[dict[str, Finite], Field(min_length=1, max_length=1000)]
    """Domain to predicted score."""
    errors: Annotated[dict[str, Annotated[Finite, Field(ge=0)]], Field(max_length=1000)] = {}
    """Domain to its standard error, where it is known."""
    fitted_on: Annotated[tuple[Line, ...], Field(max_length=10_000)] | None = None
    """What the predictor was fitted on for this setting, where that differs between settings; None: as the whole
    submission says."""

    def model(self) -> ModelRef:
        """The base model that was read, as far as the submission tells."""
        return ModelRef(
            name=UNKNOWN,
            weights_hash=self.weights_hash,
            dtype=self.dtype,
            tensors_hash=self.tensors_hash,
            config_hash=self.config_hash,
        )


class Submission(Record):
    """A predictor's raw predictions for one or more registered settings."""

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["submission"] = "submission"
    predictor: Slug
    version: Slug
    """Raised whenever the same evidence would give other scores."""
    category: Category
    target: Target
    """What the score predicts: the size of the change, or the signed change."""
    title: Line
    description: Text
    source: Line
    """Paper, section and equation of its formula."""
    evidence: Annotated[tuple[Line, ...], Field(max_length=50)]
    """What was read: texts, profiles, gradients, … ."""
    fitted_on: Annotated[tuple[Line, ...], Field(max_length=10_000)] = ()
    """Registered settings, and domains, whose measured changes the predictor was fitted on."""
    submitter: Submitter
    code: Code
    cost: Cost | None
    """None where it is not known."""
    cost_of: Annotated[tuple[Slug, ...], Field(max_length=1000)] = ()
    """Folders of registered settings that the cost is of; empty: all of them."""
    settings: Annotated[dict[SettingName, SubmittedSetting], Field(min_length=1, max_length=10_000)]
    notes: Annotated[tuple[Line, ...], Field(max_length=50)] = ()
    salt: Sha256 | None = None
    """Opens the seal of this predictor and version; None where there is none."""

    @property
    def cost_folders(self) -> frozenset[str]:
        """Folders of registered settings that the cost is of."""
        return frozenset(self.cost_of or (name.partition("/")[0] for name in self.settings))

    def fitted_for(self, setting: str) -> tuple[str, ...]:
        """What the predictor was fitted on when it predicted one of its settings."""
        own = self.settings[setting].fitted_on
        return self.fitted_on if own is None else own


class Seal(Record):
    """A commitment to a submission that is published before the outcome is known.

    The commitment is SHA-256 over the salt and the canonical JSON of the submission's raw predictions, and of what
    decides how they are read: predictor, version, category, target, what it was fitted on.
    """

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["seal"] = "seal"
    predictor: Slug
    version: Slug
    submitter: Submitter
    settings: Annotated[tuple[SettingName, ...], Field(min_length=1, max_length=10_000)]
    commitment: Sha256
    created: Line
    """UTC, ISO 8601: what the sealer says; what is proven is the date of the commit that published the seal."""
