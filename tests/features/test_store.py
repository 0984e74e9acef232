"""Profiles on disk: what is damaged, stale, half-written or in the way."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lm_eval_sts.errors import ProfileError
from lm_eval_sts.features.store import ProfileFolder, check_space
from tests.features.test_profiles import assert_identical, make_profile
from tests.messages import says

KEY = {"model": {"name": "org/model", "weights": "ab"}, "tokens": "suffix"}


def folder(root: Path, **changes) -> ProfileFolder:
    return ProfileFolder(root, "sts_mmlu_pro-law", {**KEY, **changes})


def test_round_trip(tmp_path):
    profile = make_profile(5)
    store = folder(tmp_path)
    assert store.load() is None and store.row_ids() == set()
    path = store.write(profile)
    again = folder(tmp_path)
    assert_identical(again.load(), profile)
    assert again.row_ids() == set(profile.row_ids)
    assert store.path.parent == tmp_path and store.path.name.startswith("sts_mmlu_pro-law-")
    assert json.loads((store.path / "header.json").read_text())["key"]["model"]["name"] == "org/model"
    assert sorted(p.name for p in store.path.iterdir()) == ["header.json", path.name]


def test_a_profile_without_draws_or_without_active_features(tmp_path):
    plain = make_profile(2, draws=0)
    silent = make_profile(2, d_sae=1, seed=4)
    for name, profile in (("a", plain), ("b", silent)):
        folder(tmp_path, tokens=name).write(profile)
        assert_identical(folder(tmp_path, tokens=name).load(), profile)


def test_parts_make_one_profile(tmp_path):
    profile = make_profile(9)
    for rows in ([7, 8], [0, 1, 2], [3, 4, 5, 6], [0, 1, 2]):
        folder(tmp_path).write(profile.take(rows))
    loaded = folder(tmp_path).load()
    assert len(loaded) == 9
    assert_identical(loaded.select(profile.row_ids), profile)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": "last"},
        {"model": {"name": "org/model", "weights": "ac"}},
        {"model": {"name": "org/model2", "weights": "ab"}},
        {"more": 1},
    ],
)
def test_another_key_is_another_folder(tmp_path, changes):
    folder(tmp_path).write(make_profile(2))
    other = folder(tmp_path, **changes)
    assert other.path != folder(tmp_path).path and other.load() is None


@pytest.mark.parametrize("label", ["../../out", "..", "", "a/b", "über law", "x" * 300, ".hidden"])
def test_a_label_never_leaves_the_root(tmp_path, label):
    store = ProfileFolder(tmp_path / "root", label, KEY)
    assert store.path.parent == tmp_path / "root" and store.path.is_dir()
    assert not store.path.name.startswith(".")


# ---- damage


def test_every_flipped_byte_is_found(tmp_path, caplog):
    """Whatever byte is damaged, header included: the part is dropped, or the numbers are the same."""
    profile = make_profile(2, d_sae=3, d_in=1, draws=1)
    store = folder(tmp_path)
    path = store.write(profile)
    good = path.read_bytes()
    unchanged = 0
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1
        path.write_bytes(bad)
        caplog.clear()
        loaded = store.load()
        if loaded is None:
            assert not path.exists() and "dropped" in caplog.text and path.name in caplog.text
        else:
            assert_identical(loaded, profile)
            unchanged += 1
    assert unchanged < 8  # padding of the file's header only


def test_a_part_that_is_not_finite_is_read_again(tmp_path, caplog):
    """Versions that did not check what they read may have written one."""
    profile = make_profile(3)
    profile.features.sum.data[1] = np.nan
    folder(tmp_path).write(profile)
    assert folder(tmp_path).load() is None and "dropped, its questions are read again" in caplog.text


def test_every_truncation_is_found(tmp_path):
    store = folder(tmp_path)
    path = store.write(make_profile(2, d_sae=3, d_in=1, draws=1))
    good = path.read_bytes()
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        assert store.row_ids() == set() and not path.exists()


def test_a_damaged_part_leaves_the_others(tmp_path, caplog):
    profile = make_profile(6)
    store = folder(tmp_path)
    bad, _ = store.write(profile.take([0, 1, 2])), store.write(profile.take([3, 4, 5]))
    bad.write_bytes(bad.read_bytes()[:-1] + b"?")
    assert store.row_ids() == set(profile.row_ids[3:])
    assert caplog.text.count("dropped") == 1 and str(bad) in caplog.text
    store.write(profile.take([0, 1, 2]))
    assert_identical(store.load().select(profile.row_ids), profile)


@pytest.mark.parametrize("content", [b"{}", b"", b"\xff\xfe", b'{"key": {}, "digest": "0"}'])
def test_a_header_that_is_not_the_keys_own_drops_the_parts(tmp_path, caplog, content):
    store = folder(tmp_path)
    store.write(make_profile(3))
    (store.path / "header.json").write_bytes(content)
    again = folder(tmp_path)
    assert again.load() is None
    assert str(store.path) in caplog.text and "read again" in caplog.text
    again.write(make_profile(3))
    assert_identical(folder(tmp_path).load(), make_profile(3))


def test_a_part_of_another_key_is_dropped(tmp_path, caplog):
    other, mine = folder(tmp_path, tokens="last"), folder(tmp_path)
    shutil.copy(other.write(make_profile(3)), mine.path)
    assert mine.load() is None and "stale" in caplog.text
    assert len(other.load()) == 3


def test_leftovers_of_killed_writes_are_no_parts(tmp_path, caplog):
    store = folder(tmp_path)
    path = store.write(make_profile(3))
    (store.path / f".{path.name}.0011223344556677.tmp").write_bytes(path.read_bytes()[:50])
    (store.path / ".header.json.aa.tmp").write_bytes(b"{")
    with caplog.at_level(logging.WARNING):
        assert_identical(folder(tmp_path).load(), make_profile(3))
    assert not caplog.text


# ---- two runs in one folder

WRITER = """
import sys
from pathlib import Path
from tests.features.test_profiles import make_profile
from tests.features.test_store import folder
profile, seed = make_profile(60), int(sys.argv[2])
for turn in range(4):
    order = list(range(0, 60, 3))
    for start in order if seed else reversed(order):
        store = folder(Path(sys.argv[1]))
        store.write(profile.take([start, start + 1, start + 2]))
    loaded = store.load()
    assert set(loaded.row_ids) == set(profile.row_ids), len(loaded)
"""


def test_two_processes_write_one_folder(tmp_path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(root)}
    both = [
        subprocess.Popen([*command, str(i)], cwd=root, env=env, stderr=subprocess.PIPE, text=True) for i in range(2)
    ]
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0 and not errors, errors
    profile = make_profile(60)
    assert_identical(folder(tmp_path).load().select(profile.row_ids), profile)
    assert not list(folder(tmp_path).path.glob("*.tmp")) and not list(folder(tmp_path).path.glob(".*"))


# ---- a disk that does not take it


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(tmp_path, monkeypatch, code):
    store = folder(tmp_path)
    profile = make_profile(4)
    store.write(profile.take([0, 1]))

    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    writes = [
        lambda: store.write(profile.take([2, 3])),
        lambda: store.write_prompts([{"name": "a"}]),
        lambda: store.write_vectors("v", np.zeros((1, 2))),
        lambda: folder(tmp_path, tokens="last"),
    ]
    for write in writes:
        with says(ProfileError, "disk is full", tmp_path, "profiles_dir"):
            write()
    monkeypatch.undo()
    assert_identical(folder(tmp_path).load(), profile.take([0, 1]))
    assert sorted(p.suffix for p in store.path.iterdir()) == [".json", ".safetensors"]


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "profiles"
    for attempt in (lambda: folder(root), lambda: check_space(root, 0)):
        with says(ProfileError, "cannot write profiles", root, "Not a directory", "profiles_dir"):
            attempt()


def test_a_folder_that_disappears(tmp_path):
    store = folder(tmp_path)
    shutil.rmtree(store.path)
    assert store.load() is None
    store.path.write_text("in the way")
    with says(ProfileError, store.path, "profiles_dir"):
        store.write(make_profile(1))


def test_space_is_checked_before(tmp_path):
    root = tmp_path / "new" / "profiles"
    check_space(root, 1000)
    assert root.is_dir() and not list(root.iterdir())
    with says(ProfileError, "no room", "5000000000000 MB are needed", root, "profiles_dir"):
        check_space(root, 5 * 10**18)


# ---- what else is kept


def test_prompts(tmp_path):
    store = folder(tmp_path)
    lines = [{"name": "a", "plain": "one\ntwo \u2028 ü"}, {"name": "b", "scored": [[0, 2]]}]
    path = store.write_prompts(lines)
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]] == lines
    assert store.load() is None


def test_vectors(tmp_path, caplog):
    store = folder(tmp_path)
    vectors = np.random.default_rng(0).normal(size=(2, 7))
    assert store.load_vectors("unaligned-10") is None and not caplog.text
    store.write_vectors("unaligned-10", vectors)
    loaded = folder(tmp_path).load_vectors("unaligned-10")
    assert loaded.dtype == np.float64 and loaded.tobytes() == vectors.tobytes()
    assert store.load() is None and not caplog.text  # no rows of queries
    path = store.path / "unaligned-10.safetensors"
    good = path.read_bytes()
    for content in (good[:-1], good[:-1] + bytes([good[-1] ^ 1]), b"", good.replace(b"sha256", b"sha257")):
        path.write_bytes(content)
        caplog.clear()
        assert store.load_vectors("unaligned-10") is None
        assert not path.exists() and str(path) in caplog.text and "again" in caplog.text
    other = folder(tmp_path, tokens="last")
    path.write_bytes(good)
    shutil.copy(path, other.path)
    assert other.load_vectors("unaligned-10") is None
