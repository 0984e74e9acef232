"""Reading a set: stopped anywhere, shared out over any number of processes, the numbers are the same."""

from __future__ import annotations

import pytest
import torch
from lm_eval_sts.features.reading import CHUNK, Shard, n_tokens, read_set, stored, stored_whole
from lm_eval_sts.features.store import ProfileFolder

from lm_eval_sts.errors import ModelError, ProfileError
from lm_eval_sts.features import reading
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


@pytest.fixture(scope="module")
def uninterrupted(reader, tmp_path_factory) -> Profile:
    store = ProfileFolder(tmp_path_factory.mktemp("whole"), "set", {})
    assert read_set(reader, QUERIES, store) == len(QUERIES)
    return stored_whole(store, QUERIES)


@pytest.fixture
def store(tmp_path) -> ProfileFolder:
    return ProfileFolder(tmp_path, "set", {})


def test_rows_are_in_the_order_of_the_queries(uninterrupted):
    assert uninterrupted.row_ids == tuple(q.row_id for q in QUERIES)
    assert uninterrupted.tokens.tolist() == [len(q.scored) for q in QUERIES]


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("where", ["reading", "after"])
def test_killed_at_any_chunk(reader, uninterrupted, store, monkeypatch, chunk, where):
    calls = []

    def killer(*args):
        calls.append(args)
        if len(calls) == chunk + 1:
            raise Killed
        return Reader.read(reader, *args) if where == "reading" else None

    with pytest.raises(Killed), monkeypatch.context() as patched:
        if where == "reading":
            patched.setattr(reader, "read", killer)
            read_set(reader, QUERIES, store)
        else:
            read_set(reader, QUERIES, store, advance=killer)
    done = CHUNK * (chunk + (where == "after"))
    kept = stored(store, QUERIES)
    assert (0 if kept is None else len(kept)) == min(done, len(QUERIES))
    assert read_set(reader, QUERIES, store) == max(0, len(QUERIES) - done)
    assert_identical(stored_whole(store, QUERIES), uninterrupted)


def test_killed_in_the_middle_of_a_write(reader, uninterrupted, store, monkeypatch):
    import lm_eval_sts.files

    def killed(_: int) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(lm_eval_sts.files.os, "fsync", killed)
        read_set(reader, QUERIES, store)
    read_set(reader, QUERIES, store)
    assert_identical(stored_whole(store, QUERIES), uninterrupted)


def test_what_is_stored_is_not_read_again(reader, store, monkeypatch):
    read_set(reader, QUERIES, store)
    monkeypatch.setattr(reader, "read", None)
    monkeypatch.setattr(reader, "prefixes", None)
    ticks: list[int] = []
    assert read_set(reader, QUERIES, store, advance=ticks.append) == 0
    assert sum(ticks) == n_tokens(QUERIES) and len(ticks) == CHUNKS


def test_progress_counts_every_reading_of_every_scored_token():
    assert n_tokens(QUERIES[:2]) == 3 * (len(QUERIES[0].scored) + len(QUERIES[1].scored))


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("shared", [True, False])
def test_ranks_together_read_everything_once(reader, uninterrupted, tmp_path, world_size, shared):
    parts, read = [], 0
    for rank in reversed(range(world_size)):
        place = ProfileFolder(tmp_path / ("all" if shared else str(rank)), "set", {})
        read += read_set(reader, QUERIES, place, shard=Shard(rank, world_size))
        parts.append(stored(place, QUERIES))
    assert read == len(QUERIES)
    merged = Profile.merge([p for p in parts if p is not None])
    assert_identical(merged.select(uninterrupted.row_ids), uninterrupted)


def test_small_sets_do_not_all_go_to_the_first_rank():
    shard, owners = Shard(0, 3), []
    for size in (CHUNK, 5, CHUNK + 1, 1):
        chunks = -(-size // CHUNK)
        owners += [next(r for r in range(3) if Shard(r, 3, shard.dealt).mine(c)) for c in range(chunks)]
        shard = shard.after([QUERIES[0]] * size)
    assert owners == [0, 1, 2, 0, 1]


def test_a_damaged_part_is_read_again_to_the_same_numbers(reader, uninterrupted, store, caplog):
    read_set(reader, QUERIES, store)
    part = sorted(store.path.glob("part-*"))[0]
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 4
    part.write_bytes(content)
    assert read_set(reader, QUERIES, store) in (CHUNK, 5)
    assert str(part) in caplog.text
    assert_identical(stored_whole(store, QUERIES), uninterrupted)


def test_queries_that_occur_twice(reader, store):
    twice = [*QUERIES[:3], QUERIES[1], QUERIES[0]]
    read_set(reader, twice, store)
    whole = stored_whole(store, twice)
    assert whole.row_ids == tuple(q.row_id for q in twice)
    assert_identical(whole.take([3]), whole.take([1]))
    assert read_set(reader, twice, store) == 0


def test_a_larger_budget_adds_to_what_is_there(reader, store):
    assert read_set(reader, QUERIES[:40], store) == 40
    assert read_set(reader, QUERIES, store) == len(QUERIES) - 40
    assert len(stored_whole(store, QUERIES[:40])) == 40


def test_stored_before_anything_was_read(store):
    assert stored(store, QUERIES) is None
    with says(ProfileError, f"{len(QUERIES)} of {len(QUERIES)} rows", store.path, "Run again"):
        stored_whole(store, QUERIES)


def test_missing_rows_are_counted(reader, store):
    read_set(reader, QUERIES[:3], store)
    with says(ProfileError, "2 of 5 rows", store.path):
        stored_whole(store, QUERIES[:5])


def test_chunks_before_a_non_finite_one_stay(reader, uninterrupted, store, monkeypatch):
    like = QUERIES[0]
    own = len(like.plain) - 10  # after the start that all share
    bad = Query("law/bad", like.plain[:10] + (255,), tuple(c[:-own] + (255,) for c in like.contexts), (10,))
    queries = [*QUERIES[:CHUNK], bad]
    embeddings = reader.model.get_input_embeddings().weight
    before = embeddings[255].clone()
    with torch.no_grad():
        embeddings[255] = float("nan")
    try:
        with says(ModelError, "not finite", "layer 2", "law/bad", "bfloat16"):
            read_set(reader, queries, store)
    finally:
        with torch.no_grad():
            embeddings[255] = before
    assert_identical(stored(store, QUERIES), uninterrupted.take(range(CHUNK)))


def test_a_chunk_is_a_constant_of_the_stored_format():
    # Another size gives the same numbers only within rounding.
    assert reading.CHUNK == 32
