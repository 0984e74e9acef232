"""The board: what is ranked together, and where every entry stands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from lm_eval_sts.records.agreement import Bounds, Ceiling, Needed, Target, Unit
from lm_eval_sts.records.base import FORMAT_VERSION, Finite, Record
from lm_eval_sts.records.outcome import View
from lm_eval_sts.records.submission import Category, Cost, Line, Sha256, Slug, Text

Group = Literal["ranked", "partial", "seen", "oracle"]
"""How an entry stands in a scope. ``ranked``: predictions for all its settings and domains, none of which it was fitted
on; ``partial``: for some of them; ``seen``: settings that it was fitted on; ``oracle``: saw the tuned model."""

Values = Literal["raw", "double_centred"]


class Scope(Record):
    """Settings over which entries are ranked together."""

    name: Slug
    title: Line
    description: Text
    settings: Annotated[tuple[str, ...], Field(min_length=1)]
    """Registered names, or shell patterns of them; a pattern after ``!`` takes its matches out again."""
    view: View = "score"
    """The quantity whose change counts."""
    domains: tuple[str, ...] = ()
    """The domains that count; empty: all."""


class Scopes(Record):
    """The curated scopes of a leaderboard, in the order in which they are shown."""

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["scopes"] = "scopes"
    scopes: tuple[Scope, ...]


class BoardSetting(Record):
    """A registered setting, and what its outcome can say about any predictor."""

    name: str
    model: str
    sft_set: str | None
    """None where it is not known."""
    benchmark: str
    recipe: str | None
    """None where it is not known."""
    view: View
    unit: Unit
    n_domains: int
    seeds: int
    """Fine-tuning seeds; 0 where not known."""
    reliability: Finite | None
    reliability_interval: Bounds | None
    ceilings: dict[Target, Ceiling | None]
    """Pearson's correlation expected for a perfect predictor."""


class Sealer(Record):
    """What somebody sealed, and how much of it was shown: of many seals one may come true by chance."""

    submitter: str
    seals: int
    """How many of theirs there are."""
    revealed: int
    """Those that a submission opens."""
    due: int
    """Those that no submission opens though the outcome of one of their settings is registered."""


class Entry(Record):
    """A submission as the board lists it."""

    name: str
    """``predictor/version``."""
    title: str
    category: Category
    target: Target
    """What its scores are declared to predict."""
    cost: Cost | None
    cost_of: tuple[str, ...] = ()
    """Folders of registered settings that the cost is of; empty: all."""
    submitter: str
    """With the script of its letters where these may look like Latin ones."""
    n_settings: int
    sealed: tuple[str, ...]
    """Settings whose predictions were sealed before the outcome was published."""
    sealer: Sealer | None
    """Who sealed them; None where nothing was sealed."""
    same_order: tuple[str, ...]
    """Entries that put the domains into the same order (Spearman above .999) in most of the shared settings."""
    fitted_on: tuple[str, ...]
    """Settings and domains whose measured changes it was fitted on, for any of its settings."""
    content: Sha256
    """Of the submission's canonical JSON."""

    def cost_in(self, settings: Iterable[str]) -> Cost | None:
        """What an SFT run of these settings costs; None where it is not known of all of them."""
        folders = {name.partition("/")[0] for name in settings}
        return self.cost if not self.cost_of or folders <= set(self.cost_of) else None


class Standing(Record):
    """One entry in one scope: Pearson's correlation, as the mean of Fisher's z over settings."""

    entry: str
    group: Group
    settings: int
    """Settings in which its correlation is defined."""
    domains: int
    """Domains that carry at least one of them."""
    value: Finite | None
    """tanh of the mean z; None where it is not defined."""
    interval: Bounds | None
    ceiling: Ceiling | None
    """Mean over these settings of what is expected for a perfect predictor; None for double-centred values, for which
    no ceiling is known, and where the errors of the measured changes are not known."""
    best: int | None = None
    """As in ``Place``, among ranked entries: 1 where it is not ruled out as the best; None where there is no place."""
    worst: int | None = None
    """Number of ranked entries with a place − number that are significantly worse."""
    leading: bool = False
    """Not ruled out as the best, no null, mean z above 0 and permutation p ≤ .05."""
    undefined: str | None = None
    """Why there is no value."""


class Table(Record):
    """All entries of a scope under one target."""

    target: Target
    values: Values
    rows: tuple[Standing, ...]
    """By group, and within a group the highest value first."""
    needed: Needed | None
    """What would tell more of the ranked entries apart; None where one is alone, or nothing can be tested."""


class ScopeBoard(Record):
    """A scope, resolved, with its tables."""

    name: str
    title: str
    description: str
    automatic: bool
    """Made from base model and benchmark, for settings that no curated scope has."""
    settings: tuple[str, ...]
    view: View
    domains: tuple[str, ...]
    tables: tuple[Table, ...]


class BoardProblem(Record):
    """Something wrong with a file that was put forward."""

    file: str
    """Below the leaderboard's folder."""
    line: int | None
    message: str
    left_out: bool
    """Whether the file is not on the board for it."""


class Board(Record):
    """The whole leaderboard; it holds no time, so that the same files give the same board.

    Format 1 had places by Holm over all pairs, and as leading what was not separable from the highest mean z.
    """

    format_version: Literal[2] = 2
    kind: Literal["board"] = "board"
    scopes: tuple[ScopeBoard, ...]
    settings: tuple[BoardSetting, ...]
    entries: tuple[Entry, ...]
    seals: tuple[Sealer, ...]
    """By submitter."""
    problems: tuple[BoardProblem, ...]
