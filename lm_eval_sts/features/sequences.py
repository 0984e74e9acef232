"""Sequences that begin alike, in the order in which they are run together: groups, and in these trees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lm_eval_sts.features.queries import shared_prefix


@dataclass(frozen=True)
class Row:
    """One sequence to run, for all continuations that it answers.

    Attributes:
        ids: Context and continuation but its last token.
        first: The position whose logits tell the continuation's first token.
        members: Indices of the continuations: several where they differ in the last token only.
    """

    ids: tuple[int, ...]
    first: int
    members: tuple[int, ...]

    @property
    def context(self) -> tuple[int, ...]:
        """The tokens before the continuation."""
        return self.ids[: self.first + 1]

    @property
    def behind(self) -> tuple[int, ...]:
        """The continuation but its last token."""
        return self.ids[self.first + 1 :]


def distinct(continuations: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[Row]:
    """Distinct sequences of contexts and continuations, in lexicographic order."""
    found: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for i, (context, ids) in enumerate(continuations):
        found.setdefault(((context + ids)[:-1], len(context) - 1), []).append(i)
    return [Row(ids, first, tuple(members)) for (ids, first), members in sorted(found.items())]


def groups(rows: Sequence[Row], enough: int) -> Iterator[list[Row]]:
    """Cuts ordered rows into groups that share enough; those of groups too small to gain by it come last, together.

    A group that fits one forward pass whole (``enough`` tokens), or is one tree, has nothing to gain.
    """
    group: list[Row] = []
    rest: list[Row] = []
    for row in (*rows, None):
        if group and (row is None or 2 * _shared(group[0], row) < min(len(group[0].ids), len(row.ids))):
            found = in_trees(group, 0, enough)
            if len(found) > 1 and sum(tree_tokens(tree, 0) for tree in found) > enough:
                yield group
            else:
                rest += group
            group = []
        if row is not None:
            group.append(row)
    if rest:
        yield rest


def in_trees(rows: Sequence[Row], shared: int, most: int) -> list[list[Row]]:
    """Rows by their contexts, behind the shared tokens; as many together as have ``most`` tokens."""
    found: list[list[Row]] = []
    latest: dict[tuple[int, ...], tuple[list[Row], int]] = {}
    for row in rows:
        tree, tokens = latest.get(row.context, ([], 0))
        if not tree or tokens + len(row.behind) > most:
            tree, tokens = [], len(row.context) - shared
            found.append(tree)
        tree.append(row)
        latest[row.context] = tree, tokens + len(row.behind)
    return found


def tree_tokens(tree: Sequence[Row], shared: int) -> int:
    """Tokens of a tree that are run behind the shared ones."""
    return len(tree[0].context) - shared + sum(len(row.behind) for row in tree)


def shared_by(group: Sequence[Row]) -> int:
    """Tokens that ordered rows share before any is scored."""
    return min(_shared(group[0], group[-1]), *(row.first for row in group))


def _shared(a: Row, b: Row) -> int:
    """Length of the token prefix that two rows' contexts share; in order, so do all rows between them."""
    return shared_prefix((a.ids, b.ids), (a.first, b.first))
