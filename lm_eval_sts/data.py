"""SFT sets and benchmarks: from the hub, a file or a folder, checked before anything long is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

from lm_eval_sts.dataset_columns import (
    CONVERSATIONS,
    PAIRS,
    Chosen,
    Wanted,
    choose,
    given_rows,
    load_split,
    present,
    read_table,
)
from lm_eval_sts.dataset_files import Columns, as_columns, content_key, existing
from lm_eval_sts.dataset_source import Opened, open_dataset
from lm_eval_sts.errors import DatasetError, choices
from lm_eval_sts.examples import Example, from_conversation, from_pair, read_rows, shown
from lm_eval_sts.files import hash_json
from lm_eval_sts.records import (
    OF_GIVEN_ROWS,
    UNKNOWN,
    MixtureRef,
    SamplingRef,
    SftSetRef,
    mixture_beside,
    sampling_beside,
)

_WANTED: Final = Wanted(
    what="SFT set",
    alternatives=(*((name,) for name in CONVERSATIONS), *PAIRS),
    without='sft_columns: ["{0}", "{1}"]',
    unrecognised=(
        f"{', '.join('/'.join(pair) for pair in PAIRS[:5])}, messages or conversations; name them with sft_columns: "
        '["prompt column", "response column"], or rename one of whole conversations to messages; where there are '
        "prompts only, the model's own answers can be the responses: lm-eval-sts sample, or sft_answers"
    ),
    of_preferences=(
        'name the answers to learn with sft_columns: ["prompt column", "chosen"], or make a column messages of them'
    ),
)


@dataclass(frozen=True)
class SftSet:
    """An SFT set.

    Attributes:
        name: Hub id or path, as given.
        examples: Its examples.
        revision: Hub commit where known.
        notes: What a reader must know of how it was read.
        columns: Names of the columns that were read; empty where it has none.
        mixture: What it was mixed of, where ``lm-eval-sts mix`` wrote it.
        sampling: How its responses were sampled, where ``lm-eval-sts sample`` wrote it.
        prompts: The set of prompts for which a run sampled the responses, and which its records are about.
    """

    name: str
    examples: tuple[Example, ...]
    revision: str = UNKNOWN
    notes: tuple[str, ...] = field(default=())
    columns: tuple[str, ...] = ()
    mixture: MixtureRef | None = None
    sampling: SamplingRef | None = None
    prompts: SftSetRef | None = None

    @cached_property
    def content_hash(self) -> str:
        """Hash of all examples in their order: 64 hex digits."""
        return hash_json([example.hashed for example in self.examples])

    @property
    def reference(self) -> SftSetRef:
        """The SFT set for the record."""
        return self.prompts or SftSetRef(
            name=self.name, revision=self.revision, content_hash=self.content_hash, n_examples=len(self.examples)
        )


def load_sft_set(
    spec: str,
    *,
    config: str | None = None,
    columns: tuple[str, str] | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> SftSet:
    """Loads an SFT set.

    Args:
        spec: Hub id, or a local .json, .jsonl, .csv, .tsv, .parquet or .arrow file, or a folder (``save_to_disk`` or
            data files).
        config: Its configuration, where it has several.
        columns: The columns of prompt and response; recognised by name where not given.
        split: The split to take; ``train``, or the only one, where not given.
        revision: Hub revision.

    Raises:
        DatasetError: It cannot be found or read, is empty, has no recognised columns, or has rows that cannot be used
            (blank, no text, conversations that do not end with an answer): which, and why.
        RecordError: The manifest of a mixture or sampling beside it is not valid, or of another set.
    """
    read = _read(spec, load_split(_WANTED.what, spec, config=config, split=split, revision=revision), columns)
    path = existing(spec)
    if path is None:
        return read
    reference = read.reference
    return replace(read, mixture=mixture_beside(path, reference), sampling=sampling_beside(path, reference))


def given_sft_set(source: Iterable[Any], columns: tuple[str, str] | None = None) -> SftSet:
    """An SFT set of what is at hand.

    Args:
        source: (prompt, response) pairs, or rows as a file would hold them: mappings of column names to cells.
        columns: As of :func:`load_sft_set`, for rows.

    Raises:
        DatasetError: It is empty, neither, or has rows that cannot be used.
    """
    rows = given_rows(f"{_WANTED.what} {OF_GIVEN_ROWS}", source, _neither(source))
    if all(isinstance(row, Mapping) for row in rows):
        return _read(OF_GIVEN_ROWS, Opened(as_columns(rows)), columns)
    if columns is not None or not all(isinstance(row, (list, tuple)) and len(row) == 2 for row in rows):
        raise _neither(source)
    return SftSet(OF_GIVEN_ROWS, tuple(read_rows(OF_GIVEN_ROWS, enumerate(rows), lambda pair: from_pair(*pair))))


def _neither(source: object) -> DatasetError:
    return DatasetError(
        f"an SFT set of {type(source).__name__}: give a hub id, a path, (prompt, response) pairs, or rows with named "
        'columns: of a DatasetDict one split, of a DataFrame to_dict("records")'
    )


def _read(spec: str, table: Opened, columns: tuple[str, str] | None) -> SftSet:
    chosen = Chosen(_pair(spec, table.data, columns)) if columns else choose(spec, table.data, _WANTED)
    of_row: Callable[..., Example] = from_pair if len(chosen.names) == 2 else _of_conversation
    read = read_table(_WANTED.what, spec, table, chosen, of_row)
    return SftSet(spec, read.made, table.commit, read.notes, read.columns)


def _of_conversation(messages: Any, system: Any, _: None) -> Example:
    return from_conversation(messages, system)


def _pair(spec: str, table: Columns, given: tuple[str, str]) -> tuple[str, str]:
    """The columns that were given."""
    if isinstance(given, str) or len(given) != 2:
        raise DatasetError(f"SFT set {spec}: sft_columns takes two names, of prompt and response, not {given!r}")
    for name in given:
        present(spec, _WANTED, table, name, "sft_columns")
    if given[0] == given[1]:
        raise DatasetError(
            f"SFT set {spec}: sft_columns names {given[0]!r} as prompt and as response: name two columns; one of "
            "whole conversations is recognised under the name messages"
        )
    return given


def load_benchmark(source: str, name: str | None = None, **options: Any) -> Mapping[str, Any]:
    """Loads a benchmark's splits from the hub, or from a local copy.

    Args:
        source: Hub id, or a local folder or file.
        name: Its configuration.
        options: Passed on to ``datasets.load_dataset``.

    Raises:
        DatasetError: It cannot be found or read.
    """
    loaded = open_dataset("benchmark", source, name=name, **options).data
    return loaded if isinstance(loaded, Mapping) else {"test": loaded}


class RowRules(NamedTuple):
    """What a benchmark's rows must hold: columns by split, and those of the options and of the right one's index.

    lm-eval takes the name of a column that is not there for the text itself.
    """

    questions: tuple[str | None, tuple[str, ...]]
    worked_examples: tuple[str | None, tuple[str, ...]]
    answers: tuple[str, str] | None

    def check(self, source: str, splits: Mapping[str, Any]) -> None:
        """Raises DatasetError where a column is not there, or rows are not full or have no right option."""
        for split, columns in (self.questions, self.worked_examples):
            if split is None or split not in splits:
                continue
            rows = splits[split]
            if missing := [name for name in columns if name not in rows.column_names]:
                raise DatasetError(
                    f"benchmark {source} has no column {missing[0]!r} in its split {split!r}: "
                    f"{choices(missing[0], rows.column_names)}"
                )
            cells = rows.select_columns(list(columns))[:]
            for name in columns:
                _refuse_rows(
                    source, split, f"have no {name}", [i for i, cell in enumerate(cells[name]) if cell is None]
                )
            if self.answers is not None and split == self.questions[0] and set(self.answers) <= set(columns):
                pairs = enumerate(zip(*(cells[name] for name in self.answers), strict=True))
                wrong = [i for i, (options, gold) in pairs if type(gold) is not int or not 0 <= gold < len(options)]
                _refuse_rows(source, split, f"have no option of the number {self.answers[1]} says, from 0", wrong)


def _refuse_rows(source: str, split: str, reason: str, rows: Sequence[int]) -> None:
    if rows:
        raise DatasetError(
            f"benchmark {source}: {len(rows)} rows of its split {split!r} {reason} ({shown(rows)}, counted from 0)"
        )


_loaded: dict[tuple[Any, ...], Mapping[str, Any]] = {}


def checked_benchmark(source: str, name: str | None, options: dict[str, Any], rules: RowRules) -> Mapping[str, Any]:
    """A benchmark, loaded and checked once for its many domains; again when a local copy has changed.

    Args:
        source: As of :func:`load_benchmark`, as are the next two.
        name: Its configuration.
        options: For ``datasets.load_dataset``.
        rules: What its rows must hold.

    Raises:
        DatasetError: It cannot be found or read, or its rows do not hold what they must.
    """
    key = (source, name, content_key(source), repr(sorted(options.items())), rules)
    if key not in _loaded:
        _loaded.clear()
        loaded = load_benchmark(source, name, **options)
        rules.check(source, loaded)
        _loaded[key] = loaded
    return _loaded[key]
