"""What was read, on disk: what is damaged, stale, half-written or in the way."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lm_eval_sts.errors import ProfileError
from lm_eval_sts.evidence.profiles import PROFILES
from lm_eval_sts.evidence.store import Store, check_space, load_kept
from tests.features.test_profiles import assert_identical, make_profile
from tests.messages import says

KEY = {"model": {"name": "org/model", "weights": "ab"}, "tokens": "suffix"}


def folder(root: Path, **changes) -> Store:
    return Store(root, "sts_mmlu_pro-law", {**KEY, **changes})


def write(store: Store, profile, name: str = "part") -> Path:
    store.write(name, PROFILES.pack(profile))
    return store.path / f"{name}.safetensors"


def load(store: Store, name: str = "part"):
    tensors = store.load(name)
    return None if tensors is None else PROFILES.unpack(tensors)


def test_round_trip(tmp_path):
    profile = make_profile(5)
    store = folder(tmp_path)
    assert load(store) is None and not store.has("part")
    path = write(store, profile)
    again = folder(tmp_path)
    assert_identical(load(again), profile)
    assert again.has("part")
    assert store.path.parent == tmp_path and store.path.name.startswith("sts_mmlu_pro-law-")
    assert json.loads((store.path / "header.json").read_text())["key"]["model"]["name"] == "org/model"
    assert sorted(p.name for p in store.path.iterdir()) == ["header.json", path.name]


def test_profiles_from_before_peaks_were_kept_are_read(tmp_path):
    profile, store = make_profile(4), folder(tmp_path)
    tensors = {name: value for name, value in PROFILES.pack(profile).items() if not name.startswith("peak")}
    store.write("part", tensors)
    old = load(store)
    assert old.peaks is None
    assert_identical(old, replace(profile, peaks=None))
    write(store, profile.take([0, 1]), "new")
    assert load(store, "new").peaks is not None
    assert PROFILES.join([old, load(store, "new")]).peaks is None


def test_what_a_run_kept_is_read_and_left_alone(tmp_path):
    store, profile = folder(tmp_path), make_profile(3)
    path = write(store, profile)
    assert_identical(PROFILES.unpack(load_kept(store.path, store.digest, "part")), profile)
    before = {p: p.read_bytes() for p in store.path.iterdir()}
    with says(ProfileError, "no longer what this run wrote", store.path):
        load_kept(store.path, "another digest", "part")
    with says(ProfileError, "missing or damaged", "other.safetensors"):
        load_kept(store.path, store.digest, "other")
    path.write_bytes(path.read_bytes()[:-1])
    with says(ProfileError, "missing or damaged", path):
        load_kept(store.path, store.digest, "part")
    assert path.exists() and {p.name for p in before} == {p.name for p in store.path.iterdir()}
    header = json.loads((store.path / "header.json").read_text())
    header["key"]["format"] = 1
    (store.path / "header.json").write_text(json.dumps(header))
    with says(ProfileError, "format 1, this release reads 2"):
        load_kept(store.path, store.digest, "part")
    for content in ("[]", "{", '{"digest": 1}'):
        (store.path / "header.json").write_text(content)
        with says(ProfileError, "gone or damaged", "--profiles_dir"):
            load_kept(store.path, store.digest, "part")
    shutil.rmtree(store.path)
    with says(ProfileError, "gone or damaged", "run the same lm_eval command again"):
        load_kept(store.path, store.digest, "part")
    assert not store.path.exists()


def test_a_profile_without_draws_or_without_active_features(tmp_path):
    plain = make_profile(2, draws=0)
    silent = make_profile(2, d_sae=1, seed=4)
    for name, profile in (("a", plain), ("b", silent)):
        write(folder(tmp_path, tokens=name), profile)
        assert_identical(load(folder(tmp_path, tokens=name)), profile)


def test_arrays_keep_their_dtype_and_shape(tmp_path):
    store = folder(tmp_path)
    arrays = {"wide": np.random.default_rng(0).normal(size=(2, 7)), "none": np.zeros((0, 3), np.float32)}
    store.write("arrays", arrays)
    loaded = folder(tmp_path).load("arrays")
    for name, array in arrays.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        assert loaded[name].tobytes() == array.tobytes()


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
    write(folder(tmp_path), make_profile(2))
    other = folder(tmp_path, **changes)
    assert other.path != folder(tmp_path).path and load(other) is None


@pytest.mark.parametrize("label", ["../../out", "..", "", "a/b", "über law", "x" * 300, ".hidden"])
def test_a_label_never_leaves_the_root(tmp_path, label):
    store = Store(tmp_path / "root", label, KEY)
    assert store.path.parent == tmp_path / "root" and store.path.is_dir()
    assert not store.path.name.startswith(".")


# ---- damage


def test_every_flipped_byte_is_found(tmp_path, caplog):
    """Whatever byte is damaged, header included: the part is dropped, or the numbers are the same."""
    profile = make_profile(2, d_sae=3, d_in=1, draws=1)
    store = folder(tmp_path)
    path = write(store, profile)
    good = path.read_bytes()
    unchanged = 0
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1
        path.write_bytes(bad)
        caplog.clear()
        loaded = load(store)
        if loaded is None:
            assert not path.exists() and "dropped" in caplog.text and path.name in caplog.text
        else:
            assert_identical(loaded, profile)
            unchanged += 1
    assert unchanged < 8  # padding of the file's header only


def test_every_truncation_is_found(tmp_path):
    store = folder(tmp_path)
    path = write(store, make_profile(2, d_sae=3, d_in=1, draws=1))
    good = path.read_bytes()
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        assert load(store) is None and not path.exists()


def test_a_damaged_file_leaves_the_others(tmp_path, caplog):
    profile = make_profile(6)
    store = folder(tmp_path)
    bad, _ = write(store, profile.take([0, 1, 2]), "a"), write(store, profile.take([3, 4, 5]), "b")
    bad.write_bytes(bad.read_bytes()[:-1] + b"?")
    assert load(store, "a") is None
    assert_identical(load(store, "b"), profile.take([3, 4, 5]))
    assert caplog.text.count("dropped") == 1 and str(bad) in caplog.text


@pytest.mark.parametrize("content", [b"{}", b"", b"\xff\xfe", b'{"key": {}, "digest": "0"}'])
def test_a_header_that_is_not_the_keys_own_drops_the_parts(tmp_path, caplog, content):
    store = folder(tmp_path)
    write(store, make_profile(3))
    (store.path / "header.json").write_bytes(content)
    again = folder(tmp_path)
    assert load(again) is None
    assert str(store.path) in caplog.text and "read again" in caplog.text
    write(again, make_profile(3))
    assert_identical(load(folder(tmp_path)), make_profile(3))


def test_a_part_of_another_key_is_dropped(tmp_path, caplog):
    other, mine = folder(tmp_path, tokens="last"), folder(tmp_path)
    shutil.copy(write(other, make_profile(3)), mine.path)
    assert load(mine) is None and "stale" in caplog.text
    assert len(load(other)) == 3


def test_leftovers_of_killed_writes_are_no_parts(tmp_path, caplog):
    store = folder(tmp_path)
    path = write(store, make_profile(3))
    (store.path / f".{path.name}.0011223344556677.tmp").write_bytes(path.read_bytes()[:50])
    (store.path / ".header.json.aa.tmp").write_bytes(b"{")
    with caplog.at_level(logging.WARNING):
        assert_identical(load(folder(tmp_path)), make_profile(3))
    assert not caplog.text


# ---- two runs in one folder

WRITER = """
import sys
from pathlib import Path
from tests.features.test_profiles import make_profile
from tests.evidence.test_store import folder, load, write
profile, seed = make_profile(60), int(sys.argv[2])
for turn in range(4):
    order = list(range(0, 60, 3))
    for start in order if seed else reversed(order):
        store = folder(Path(sys.argv[1]))
        write(store, profile.take([start, start + 1, start + 2]), str(start))
    assert all(load(store, str(start)) is not None for start in order)
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
    for start in range(0, 60, 3):
        assert_identical(load(folder(tmp_path), str(start)), profile.take([start, start + 1, start + 2]))
    assert not list(folder(tmp_path).path.glob("*.tmp")) and not list(folder(tmp_path).path.glob(".*"))


# ---- a disk that does not take it


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(tmp_path, monkeypatch, code):
    store = folder(tmp_path)
    profile = make_profile(4)
    write(store, profile.take([0, 1]))

    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    writes = [
        lambda: write(store, profile.take([2, 3]), "more"),
        lambda: store.write_prompts([{"name": "a"}]),
        lambda: folder(tmp_path, tokens="last"),
    ]
    for attempt in writes:
        with says(ProfileError, "disk is full", tmp_path, "profiles_dir"):
            attempt()
    monkeypatch.undo()
    assert_identical(load(folder(tmp_path)), profile.take([0, 1]))
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
    assert load(store) is None
    store.path.write_text("in the way")
    with says(ProfileError, store.path, "profiles_dir"):
        write(store, make_profile(1))


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
