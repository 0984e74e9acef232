"""Submissions as the board lists them, who sealed how much, and who leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lm_eval_sts.agreement.leading import what_is_needed, who_leads
from lm_eval_sts.files import hash_json
from lm_eval_sts.leaderboard.grid import entry_name
from lm_eval_sts.leaderboard.likeness import same_order
from lm_eval_sts.leaderboard.registered import Settings
from lm_eval_sts.leaderboard.submissions import Accepted, Sealed
from lm_eval_sts.records import Entry, Sealer, Table
from lm_eval_sts.texts import foreign_letters


def entry_records(entries: Sequence[Accepted], seals: Sequence[Sealed], settings: Settings) -> tuple[Entry, ...]:
    """All submissions as the board lists them, in their order."""
    alike, known = same_order(entries, settings), sealers(seals)
    by = {(each.seal.predictor, each.seal.version): known[each.seal.submitter.name] for each in seals}
    return tuple(_entry(accepted, by, alike[entry_name(accepted)]) for accepted in entries)


def _entry(accepted: Accepted, by: Mapping[tuple[str, str], Sealer], alike: tuple[str, ...]) -> Entry:
    submission = accepted.submission
    return Entry(
        name=entry_name(accepted),
        title=submission.title,
        category=submission.category,
        target=submission.target,
        cost=submission.cost,
        cost_of=submission.cost_of,
        submitter=_shown(submission.submitter.name),
        n_settings=len(submission.settings),
        sealed=tuple(sorted(accepted.sealed)),
        sealer=by[submission.predictor, submission.version] if accepted.sealed else None,
        same_order=alike,
        fitted_on=tuple(dict.fromkeys(name for key in submission.settings for name in submission.fitted_for(key))),
        content=hash_json(submission.model_dump(mode="json")),
    )


def sealers(seals: Sequence[Sealed]) -> dict[str, Sealer]:
    """Submitter to how much they sealed and showed, by name."""
    found: dict[str, list[Sealed]] = {}
    for each in seals:
        found.setdefault(each.seal.submitter.name, []).append(each)
    return {
        name: Sealer(
            submitter=_shown(name),
            seals=len(theirs),
            revealed=sum(each.revealed for each in theirs),
            due=sum(each.due for each in theirs),
        )
        for name, theirs in sorted(found.items())
    }


def verdict(table: Table, entries: Mapping[str, Entry], settings: int, shown: Callable[[str], str] = str) -> list[str]:
    """Who leads a table, and what would tell more, as sentences without a full stop; none where there are no places.

    Args:
        table: A scope under one target.
        entries: All entries by name.
        settings: How many the scope has.
        shown: Makes a name fit to be shown.
    """
    placed = [row for row in table.rows if row.best is not None]
    if not placed:
        return []
    more = [entries[row.entry].category for row in placed if row.best == 1 and not row.leading]
    lead = who_leads(sum(row.leading for row in placed), len(more), more.count("null"))
    if table.needed is None:
        return [lead]
    named = table.needed.model_copy(update={"best": shown(table.needed.best)})
    return [lead, what_is_needed(named, max(row.domains for row in placed), settings)]


def _shown(name: str) -> str:
    """A submitter's name, with the script of letters that may look like Latin ones."""
    scripts = foreign_letters(name)
    return f"{name} (letters: {scripts})" if scripts else name
