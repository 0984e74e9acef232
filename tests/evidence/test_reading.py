"""Reading: stopped anywhere, shared out over any number of processes, the numbers are the same."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from lm_eval_sts.errors import ModelError, ProfileError
from lm_eval_sts.evidence import reading
from lm_eval_sts.evidence.profiles import PROFILES
from lm_eval_sts.evidence.reading import CHUNK, Reading, Rows, Shard, read_all
from lm_eval_sts.evidence.store import Store
from lm_eval_sts.features.hooks import resolve_hook_point
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import load_sae
from tests.features.test_profiles import assert_identical
from tests.features.test_reader import make_queries
from tests.messages import says
from tests.tiny_models import llama
from tests.tiny_saes import save_tiny_sae

QUERIES = make_queries(3 * CHUNK + 5, demos=12)
CHUNKS = 4


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Reader:
    model = llama()
    sae = load_sae(str(save_tiny_sae(tmp_path_factory.mktemp("sae"), d_in=48)))
    return Reader(model, resolve_hook_point(model, sae.hook_name), sae, token_budget=600)


def profile_reading(reader: Reader, store: Store, queries=QUERIES) -> Reading[Profile]:
    def start():
        prefixes = reader.prefixes(queries)
        return lambda part: reader.read(queries[part], prefixes)

    return Reading("set", store, [q.row_id for q in queries], start, PROFILES)


@pytest.fixture(scope="module")
def uninterrupted(reader, tmp_path_factory) -> Profile:
    whole = profile_reading(reader, Store(tmp_path_factory.mktemp("whole"), "set", {}))
    read_all([whole])
    return whole.load()


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path, "set", {})


def numbers(store: Store, n: int, read=None, **options) -> Reading:
    """n texts, each of which reads as its number, after it was put into ``read``."""

    def some(part: slice):
        rows = np.arange(n, dtype=np.float32)[part, None]
        if read is not None:
            read.extend(int(row) for row in rows[:, 0])
        return rows

    return Reading("numbers", store, [f"text {i}" for i in range(n)], lambda: some, Rows(), **options)


def test_rows_are_in_the_order_of_the_queries(uninterrupted):
    assert uninterrupted.row_ids == tuple(q.row_id for q in QUERIES)
    assert uninterrupted.tokens.tolist() == [len(q.scored) for q in QUERIES]


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_killed_at_any_chunk(reader, uninterrupted, store, monkeypatch, chunk):
    calls = []

    def killer(*args):
        calls.append(args)
        if len(calls) == chunk + 1:
            raise Killed
        return Reader.read(reader, *args)

    item = profile_reading(reader, store)
    with pytest.raises(Killed), monkeypatch.context() as patched:
        patched.setattr(reader, "read", killer)
        read_all([item])
    assert [store.has(name) for name, _ in item.chunks] == [i < chunk for i in range(CHUNKS)]
    read_all([item])
    assert_identical(item.load(), uninterrupted)


def test_killed_in_the_middle_of_a_write(store, monkeypatch):
    import lm_eval_sts.files

    def killed(_: int) -> None:
        raise Killed

    item = numbers(store, 70)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(lm_eval_sts.files.os, "fsync", killed)
        read_all([item])
    read_all([item])
    assert item.load()[:, 0].tolist() == list(range(70))


def test_what_is_stored_is_not_read_again(store):
    read_all([numbers(store, 70)])
    again = replace(numbers(store, 70), start=lambda: pytest.fail("started"))
    read_all([again])
    assert again.load()[:, 0].tolist() == list(range(70)) and again.missing_bytes == 0


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("shared", [True, False])
def test_ranks_together_read_everything_once(tmp_path, world_size, shared):
    """Rank 0 comes last here, and finds what the others tell it."""
    read: list[int] = []
    told: list[list] = []

    for rank in reversed(range(world_size)):
        place = Store(tmp_path / ("all" if shared else str(rank)), "set", {})
        items = [numbers(place, 3 * CHUNK + 5, read), numbers(place, 3, read, chunk=None)]
        sent = iter(list(zip(*told, strict=True)) if rank == 0 and told else [()] * len(items))
        mine: list = []

        def gather(value, rank=rank, mine=mine, sent=sent):
            mine.append(value)
            return [value, *next(sent)] if rank == 0 else None

        read_all(items, Shard(rank, world_size), gather)
        told.append(mine)
    assert sorted(read) == sorted([*range(3 * CHUNK + 5), *range(3)])
    assert [item.load()[:, 0].tolist() for item in items] == [list(range(3 * CHUNK + 5)), [0, 1, 2]]


def test_small_readings_do_not_all_go_to_the_first_rank(tmp_path):
    owners = []
    for rank in range(3):
        read: list[int] = []
        items = [numbers(Store(tmp_path / str(rank), name, {}), 1, read) for name in "abcde"]
        read_all(items, Shard(rank, 3))
        owners.append(len(read))
    assert owners == [2, 2, 1]


def test_damage_is_read_again_to_the_same_numbers(reader, uninterrupted, store, caplog):
    item = profile_reading(reader, store)
    read_all([item])
    part = sorted(store.path.glob("*.safetensors"))[0]
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 4
    part.write_bytes(content)
    read_all([item])
    assert str(part) in caplog.text
    assert_identical(item.load(), uninterrupted)


def test_queries_that_occur_twice(reader, store):
    twice = [*QUERIES[:3], QUERIES[1], QUERIES[0]]
    item = profile_reading(reader, store, twice)
    read_all([item])
    whole = item.load()
    assert whole.row_ids == tuple(q.row_id for q in twice)
    assert_identical(whole.take([3]), whole.take([1]))


def test_a_larger_budget_reads_only_what_is_new(store):
    read: list[int] = []
    read_all([numbers(store, 40, read)])
    assert read == list(range(40))
    read_all([numbers(store, 100, read)])
    assert read[40:] == list(range(CHUNK, 100)), "whole chunks stay"
    assert numbers(store, 40).load()[:, 0].tolist() == list(range(40))


def test_what_is_missing_is_counted(store):
    with says(ProfileError, "3 of 3 chunks", store.path, "Run again"):
        numbers(store, 70).load()
    read_all([numbers(store, 64)])
    with says(ProfileError, "1 of 3 chunks", store.path):
        numbers(store, 70).load()
    assert numbers(store, 70, sizes=[3] * 70).missing_bytes == 18


def test_chunks_before_a_non_finite_one_stay(reader, uninterrupted, store):
    like = QUERIES[0]
    own = len(like.plain) - 10  # after the start that all share
    bad = Query("law/bad", like.plain[:10] + (255,), tuple(c[:-own] + (255,) for c in like.contexts), (10,))
    queries = [*QUERIES[:CHUNK], bad]
    embeddings = reader.model.get_input_embeddings().weight
    before = embeddings[255].clone()
    with torch.no_grad():
        embeddings[255] = float("nan")
    try:
        with says(ModelError, "not finite", "layer 2", "law/bad", "in float32", "damaged"):
            read_all([profile_reading(reader, store, queries)])
    finally:
        with torch.no_grad():
            embeddings[255] = before
    assert_identical(profile_reading(reader, store, QUERIES[:CHUNK]).load(), uninterrupted.take(range(CHUNK)))


def test_a_chunk_is_a_constant_of_the_stored_format():
    # Another size gives the same numbers only within rounding.
    assert reading.CHUNK == 32


@pytest.mark.parametrize(("rank", "left"), [(0, CHUNK), (1, CHUNK + 2)])
def test_progress_counts_what_this_process_has_left_to_read(store, monkeypatch, rank, left):
    totals, done = [], []

    @contextmanager
    def progress(total: int, **_: object):
        totals.append(total)
        yield lambda label: done.append

    monkeypatch.setattr(reading, "reading_progress", progress)
    item = numbers(store, 3 * CHUNK + 2)
    first, part = item.chunks[0]
    store.write(first, item.codec.pack(item.start()(part)))
    read_all([item], Shard(rank, 2))
    assert totals == [sum(done)] == [left]
