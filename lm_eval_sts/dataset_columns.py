"""Which columns of a table are read, recognised by name or given, and its rows made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, Final, Generic, NamedTuple, TypeVar

from lm_eval_sts.dataset_files import Columns, empty
from lm_eval_sts.dataset_source import Opened, open_dataset
from lm_eval_sts.errors import DatasetError, choices
from lm_eval_sts.examples import is_blank, other_fields, read_rows

CONVERSATIONS: Final = ("messages", "conversations", "conversation")
"""Names of columns of whole conversations."""

PAIRS: Final = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "solution"),
    ("problem", "solution"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
)
"""Names of columns of prompts and responses, the first that are there."""

_SYSTEM: Final = ("system", "system_prompt")
_TEMPLATE_PARTS: Final = frozenset(("chat_template_kwargs", "functions", "image", "images", "tools"))
"""Names of columns that a chat template would put into a conversation."""
_PROMPT_PARTS: Final = _TEMPLATE_PARTS | frozenset(
    ("background", "choices", "context", "contexts", "document", "documents", "endings", "evidence", "history", "input")
    + ("inputs", "instruction", "knowledge", "options", "paragraph", "passage", "passages", "schema", "system")
    + ("system_message", "system_prompt", "table")
)
"""Names of columns that usually belong to the prompt."""

T = TypeVar("T")


class Wanted(NamedTuple):
    """What a table is to be.

    Attributes:
        what: What it is to the user, for messages: ``SFT set``.
        alternatives: Names of columns, those of whole conversations alone; the first that are all there are read.
        without: How one goes without a column that seems to belong to the prompt, with a place for each name.
        unrecognised: What is expected where none are there.
        of_preferences: What to do with preferences, which have a chosen and a rejected response.
    """

    what: str
    alternatives: tuple[tuple[str, ...], ...]
    without: str
    unrecognised: str
    of_preferences: str = ""


class Chosen(NamedTuple):
    """Which columns are read: one of conversations, or prompt and response; and what else belongs to the prompt."""

    names: tuple[str, ...]
    system: str | None = None
    input: str | None = None

    @property
    def used(self) -> tuple[str | None, ...]:
        """All of them, in the order in which their cells are read."""
        return (*self.names, self.system, self.input)


class Rows(NamedTuple, Generic[T]):
    """What was made of a table's rows, what must be known of how, and the names of the columns that were read."""

    made: tuple[T, ...]
    notes: tuple[str, ...]
    columns: tuple[str, ...]


def load_split(what: str, spec: str, *, config: str | None, split: str | None, revision: str | None) -> Opened:
    """One split of a dataset, as columns.

    Args:
        what: What it is to the user, for messages.
        spec: As of :func:`lm_eval_sts.data.load_sft_set`, as are the others.
        config: Its configuration.
        split: The split.
        revision: Hub revision.

    Raises:
        DatasetError: It cannot be found or read, is empty, or has no such split.
    """
    opened = open_dataset(what, spec, name=config, as_written=True, revision=revision)
    loaded = opened.data
    if not isinstance(loaded, Mapping):
        if split is not None and str(loaded.split) != split:
            raise DatasetError(
                f"{what} {spec} has no split {split!r}: it is one table without splits, leave sft_split out"
            )
        rows = loaded
    else:
        chosen = split or ("train" if "train" in loaded else next(iter(loaded)) if len(loaded) == 1 else None)
        if chosen not in loaded:
            raise DatasetError(
                f"{what} {spec} has no split {chosen or 'train'!r}: choose one of {', '.join(loaded)} (sft_split)"
            )
        rows = loaded[chosen]
    if len(rows) == 0:
        raise empty(f"{what} {spec}")
    if isinstance(rows, Mapping):
        return opened._replace(data=rows)
    plain = rows.with_format(None)
    return opened._replace(data={name: plain[name] for name in rows.column_names})


def given_rows(what: str, source: Iterable[Any], neither: DatasetError) -> list[Any]:
    """What is at hand as a list: a ``Dataset`` as plain Python.

    Args:
        what: What it is to the user, for messages.
        source: What was given.
        neither: The error for what is no such thing.

    Raises:
        DatasetError: It is empty, or no iterable.
    """
    try:
        rows = list(source.with_format(None) if hasattr(source, "with_format") else source)
    except TypeError as error:
        raise neither from error
    if not rows:
        raise empty(what)
    return rows


def by_plain_name(names: Iterable[str]) -> dict[str, str]:
    """Columns by their names in lower case; where two differ in case only, the one in lower case."""
    return {name.strip().lower(): name for name in sorted(names, key=str.islower)}


def present(spec: str, wanted: Wanted, columns: Columns, name: str, setting: str) -> str:
    """A column that was named; raises DatasetError where there is none of the name."""
    if name not in columns:
        raise DatasetError(f"{wanted.what} {spec} has no column {name!r} ({setting}): {choices(name, list(columns))}")
    return name


def choose(spec: str, columns: Columns, wanted: Wanted, apart: str | None = None) -> Chosen:
    """Recognises columns by their names.

    Args:
        spec: The table's name.
        columns: The table.
        wanted: What it is to be.
        apart: A column that is known not to belong to the prompt.

    Raises:
        DatasetError: None are recognised, or a further one seems to belong to the prompt.
    """
    known = by_plain_name(columns)
    for parts in wanted.alternatives:
        if set(parts) <= set(known):
            break
    else:
        raise _unrecognised(spec, known, wanted)
    system = next((known[name] for name in _SYSTEM if name in known), None)
    added = known.get("input") if parts[0] == "instruction" else None
    chosen = Chosen(tuple(known[part] for part in parts), system, added)
    conversations = parts[0] in CONVERSATIONS
    for key, name in known.items():
        if (
            key in (_TEMPLATE_PARTS if conversations else _PROMPT_PARTS)
            and name not in (*chosen.used, apart)
            and not all(map(is_blank, columns[name]))
        ):
            without = "" if conversations else f", or go without it by {wanted.without.format(*chosen.names)}"
            raise DatasetError(
                f"{wanted.what} {spec}: its column {name!r} seems to belong to the prompt and would be left out: put "
                f"it into the prompts, or remove it{without}"
            )
    return chosen


def _unrecognised(spec: str, names: Mapping[str, str], wanted: Wanted) -> DatasetError:
    if wanted.of_preferences and {"chosen", "rejected"} <= set(names):
        return DatasetError(
            f"{wanted.what} {spec} holds preferences (chosen and rejected), which SFT does not learn from: "
            f"{wanted.of_preferences}"
        )
    return DatasetError(
        f"{wanted.what} {spec}: columns not recognised ({', '.join(names)}): expected {wanted.unrecognised}"
    )


def read_table(what: str, spec: str, table: Opened, chosen: Chosen, read: Callable[..., T]) -> Rows[T]:
    """Makes what is wanted of every row.

    Args:
        what: What it is to the user, for messages.
        spec: The table's name.
        table: The table.
        chosen: Which columns are read.
        read: Takes a row's cells in the order of ``chosen.used``, None for a column that is not there; raises RowError.

    Raises:
        DatasetError: Some rows cannot be used: which, and why.
    """
    notes = list(table.notes)
    left_out = [name for name in table.data if name not in chosen.used]
    if left_out:
        notes.append(f"columns of the {what} that are left out: {', '.join(name or '(no name)' for name in left_out)}")
    cells = [repeat(None) if name is None else table.data[name] for name in chosen.used]
    made = read_rows(spec, enumerate(zip(*cells, strict=False)), lambda row: read(*row), what)
    if fields := other_fields(cell for name in chosen.names for cell in table.data[name]):
        notes.append(f"fields of the {what}'s messages that are left out: {', '.join(fields)}")
    if repeated := len(made) - len(set(made)):
        notes.append(f"{repeated} of {len(made)} rows of the {what} repeat an earlier row")
    return Rows(tuple(made), tuple(notes), tuple(name for name in chosen.used if name is not None))
