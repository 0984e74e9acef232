"""Batches: the longest first, halved where the memory does not hold them."""

from __future__ import annotations

import pytest
import torch

from lm_eval_sts.errors import ModelError
from lm_eval_sts.features.batches import Batches
from tests.messages import says

TEXTS = ["a", "bbb", "cc", "ddd", "e"]


def read_all(batches: Batches, read) -> tuple[list[list[int]], dict[int, str]]:
    cut, found = [], {}
    for indices, values in batches.read(
        TEXTS, len, lambda text: batches.budget // len(text), read, lambda text: f"{text!r}: shorten it"
    ):
        cut.append(indices)
        found |= dict(zip(indices, values, strict=True))
    return cut, found


def test_the_longest_come_first_and_each_gets_its_own():
    cut, found = read_all(Batches(6), lambda some: [text.upper() for text in some])
    assert cut == [[1, 3], [2, 0, 4]]
    assert [found[i] for i in range(5)] == ["A", "BBB", "CC", "DDD", "E"]
    assert read_all(Batches(6, max_rows=1), list)[0] == [[1], [3], [2], [0], [4]]
    assert read_all(Batches(1), list)[0] == [[1], [3], [2], [0], [4]], "one at least"


def test_what_the_memory_does_not_hold_is_halved(caplog):
    def full_at_two(some):
        if len(some) > 1:
            raise torch.OutOfMemoryError
        return some

    batches = Batches(100)
    cut, found = read_all(batches, full_at_two)
    assert cut == [[1, 3, 2, 0, 4]] and [found[i] for i in range(5)] == TEXTS
    assert batches.budget < 100 and "out of memory with 5 texts at once" in caplog.text


def test_one_that_is_too_large_alone_is_named():
    def full(some):
        raise torch.OutOfMemoryError

    with says(ModelError, "the device's memory does not hold 'bbb': shorten it"):
        read_all(Batches(3), full)


def test_other_errors_pass():
    def broken(some):
        raise RuntimeError("no memory of this")

    with pytest.raises(RuntimeError, match="no memory of this"):
        read_all(Batches(3), broken)
