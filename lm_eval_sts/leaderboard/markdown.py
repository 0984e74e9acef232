"""BOARD.md: the board as text, for people who read the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from lm_eval_sts.leaderboard.entries import verdict
from lm_eval_sts.records import Board, BoardProblem, Cost, Entry, Group, ScopeBoard, Sealer, Standing, Table

MOST_ROWS: Final = 60
"""Rows of a table; the page and board.json have all."""
_LONGEST: Final = 160
_DESCRIPTION: Final = 2000
_TARGETS: Final = {"magnitude": "size of the change |Δ|", "delta": "signed change Δ"}
_NONE: Final = "–"
_GROUPS: Final[Mapping[Group, str]] = {
    "ranked": "",
    "oracle": "Oracles (saw the tuned model): no place",
    "partial": "Partial entries (SFT runs or domains are missing): no place",
    "seen": "Fitted on these SFT runs: no test, no place",
}
_READING: Final = """\
Every figure is computed from raw predictions by `lm-eval-sts leaderboard build`; this file is written by it.

- **r**: Pearson's correlation of predicted with measured change over domains, as tanh of the mean of Fisher's z over
  SFT runs, with its 95% interval; **double-centred**: without what a domain has in common over SFT runs.
- **perfect**: what is expected for a perfect predictor, given the errors of the measured changes; no maximum.
- **place**: the best is among those whose place starts at 1 (95%, step-down multiple comparison with the best): they
  are not ruled out. Other places start at 1 + number of significantly better entries; all end at number of entries −
  number of significantly worse ones. Bold: *leading*, which is not ruled out, no null, and significantly associated
  with the changes. Oracles have no place. See docs/agreement.md.
- *≠* marks an entry that declares the other target; *tokens* are token equivalents an SFT run.
- *fitted* marks a category of entries that were fitted on measured changes of other SFT runs. Those fitted on the
  other SFT runs of a scope have no double-centred value there: with the domains' means taken out, leaving a run out by
  itself sets predictions against its changes.
- *=* marks an entry that puts the domains into the same order as another (Spearman above .999 in more than half of the
  shared SFT runs): a copy, or what comes to the same; *sealed n of m*: of m seals by the submitter n were revealed.

No board can check whether an entry was made as it says. The measured changes are public: an entry that was not sealed
may be a prediction, a copy of another's scores with some noise, or the measured changes themselves. A seal proves only
that its predictions are older than the registered outcome, not that they are the only ones.
"""


def to_markdown(board: Board) -> str:
    """The whole board as Markdown; scopes without entries are left out."""
    entries = {entry.name: entry for entry in board.entries}
    parts = ["# STS leaderboard\n", _READING]
    for scope in board.scopes:
        if any(table.rows for table in scope.tables):
            parts += _scope(scope, entries)
    if not board.entries:
        parts.append("No submission yet.\n")
    if board.seals:
        parts += ["## Seals\n", *map(_sealer, board.seals), ""]
    same = [entry for entry in board.entries if entry.same_order]
    if same:
        parts += ["## Same order\n", *map(_same, same), ""]
    parts.append("## Problems\n")
    problems = "\n".join(map(_problem, board.problems)) or "None: every file that was submitted is valid."
    return "\n".join([*parts, problems, ""])


def escaped(text: str, longest: int = _LONGEST) -> str:
    """Text of unknown origin on one line of Markdown, in which nothing is mark-up, a link or a mention."""
    line = " ".join(text.split())
    shown = line if len(line) <= longest else f"{line[:longest]}…"
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("@", "&#64;")):
        shown = shown.replace(character, entity)
    shown = re.sub(r"([\\`*_{}\[\]()!~^$])", r"\\\1", shown)
    # A scheme or a domain that GitHub would make a link of; the entity keeps it legible.
    return re.sub(r"(?i)(https?|ftp|mailto|www)([:.])", lambda m: f"{m[1]}&#{ord(m[2])};", shown)


def _problem(problem: BoardProblem) -> str:
    where = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    return f"- {'left out' if problem.left_out else 'shown nevertheless'}: {escaped(where)}: {escaped(problem.message)}"


def _sealer(found: Sealer) -> str:
    due = f", {found.due} not revealed though their outcome is known" if found.due else ""
    return f"- {escaped(found.submitter)}: {found.seals} sealed, {found.revealed} revealed{due}"


def _same(entry: Entry) -> str:
    return f"- {escaped(entry.name)} = {escaped(', '.join(entry.same_order))}"


def _scope(scope: ScopeBoard, entries: Mapping[str, Entry]) -> Iterator[str]:
    yield f"## {escaped(scope.title)}\n"
    view = "" if scope.view == "score" else f" Changes of the {scope.view.replace('_', ' ')}."
    runs = f"{len(scope.settings)} SFT run{'s' if len(scope.settings) > 1 else ''}"
    yield f"{escaped(scope.description, longest=_DESCRIPTION)}{view} {runs}.\n"
    centred = {table.target: table for table in scope.tables if table.values == "double_centred"}
    for table in scope.tables:
        if table.values == "raw" and table.rows:
            yield f"### Compared with the {escaped(_TARGETS[table.target])}\n"
            for each in (table, centred.get(table.target)):
                if each and (said := verdict(each, entries, len(scope.settings), escaped)):
                    yield f"{'Raw' if each.values == 'raw' else 'Double-centred'}: {'. '.join(said)}.\n"
            yield from _table(table, centred.get(table.target), entries, scope.settings)


def _table(raw: Table, centred: Table | None, entries: Mapping[str, Entry], settings: Sequence[str]) -> Iterator[str]:
    others = {(row.entry, row.group): row for row in centred.rows} if centred else {}
    headings = ["place", "predictor", "category", "r", "perfect"]
    headings += ["double-centred", "place"] if centred else []
    headings += ["SFT runs", "domains", "tokens"]
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    group: Group = "ranked"
    for row in raw.rows[:MOST_ROWS]:
        if row.group != group:
            group = row.group
            lines.append(f"| | *{_GROUPS[group]}* |{' |' * (len(headings) - 2)}")
        entry = entries[row.entry]
        marks = f"{' *≠*' if entry.target != raw.target else ''}{' *=*' if entry.same_order else ''}"
        sealed = f", sealed {entry.sealer.revealed} of {entry.sealer.seals}" if entry.sealer else ""
        fitted = ", fitted" if entry.fitted_on else ""
        cells = [_place(row), f"{escaped(entry.name)}{marks}", f"{entry.category}{fitted}{sealed}", _value(row)]
        cells.append(f"{row.ceiling.value:.2f}" if row.ceiling else _NONE)
        if centred:
            other = others.get((row.entry, row.group))
            cells += [_value(other), _place(other)] if other else [_NONE, _NONE]
        cells += [str(row.settings), str(row.domains), _tokens(entry.cost_in(settings))]
        lines.append(f"| {' | '.join(cells)} |")
    if len(raw.rows) > MOST_ROWS:
        lines.append(f"\n{len(raw.rows) - MOST_ROWS} more rows are in board.json and on the page.")
    yield "\n".join(lines) + "\n"


def _place(row: Standing) -> str:
    if row.best is None:
        return _NONE
    shown = str(row.best) if row.best == row.worst else f"{row.best} to {row.worst}"
    return f"**{shown}**" if row.leading else shown


def _value(row: Standing) -> str:
    if row.value is None:
        return f"undefined: {row.undefined}"
    return f"{row.value:.2f}" + (f" [{row.interval.low:.2f}, {row.interval.high:.2f}]" if row.interval else "")


def _tokens(cost: Cost | None) -> str:
    return "not stated" if cost is None else f"{cost.token_equivalents:.3g}"
