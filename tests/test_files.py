"""Atomic writes and content hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_sts.errors import BusyError
from lm_eval_sts.files import file_hashes, hash_json, locked, write_atomically

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_new_files_can_be_read_by_those_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "shared", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o640


def test_hashes_of_files_by_their_place(tmp_path):
    (tmp_path / "below").mkdir()
    files = [tmp_path / "b", tmp_path / "below" / "a"]
    for file in files:
        file.write_bytes(file.name.encode())
    expected = {"b": hashlib.sha256(b"b").hexdigest(), "below/a": hashlib.sha256(b"a").hexdigest()}
    assert list(file_hashes(tmp_path, reversed(files)).items()) == list(expected.items())


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_keeps_the_old_content_and_leaves_nothing(tmp_path, monkeypatch, where, failure):
    path = tmp_path / "kept"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(*((os, "fsync") if where == "fsync" else (Path, "replace")), fail)
    with pytest.raises(type(failure)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_a_killed_write_keeps_the_old_content(tmp_path):
    path = tmp_path / "kept"
    write_atomically(path, b"old")
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom lm_eval_sts.files import write_atomically\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_atomically(Path({str(path)!r}), b'new')\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert path.read_bytes() == b"old"


def test_readers_never_see_half_a_file(tmp_path):
    path, contents = tmp_path / "f", [bytes([k]) * 200_000 for k in range(2)]
    write_atomically(path, contents[0])
    writers = [threading.Thread(target=lambda c=c: [write_atomically(path, c) for _ in range(20)]) for c in contents]
    for writer in writers:
        writer.start()
    while any(w.is_alive() for w in writers):
        assert path.read_bytes() in contents


@settings(deadline=None, max_examples=40)
@given(JSON)
def test_hash_does_not_depend_on_the_order_of_keys(value):
    def turned(v: object) -> object:
        if isinstance(v, dict):
            return {key: turned(v[key]) for key in reversed(list(v))}
        return [turned(x) for x in v] if isinstance(v, list) else v

    assert hash_json(value) == hash_json(turned(value))
    assert len(hash_json(value)) == 64


def test_hash_tells_values_apart():
    values = [[], {}, None, 0, "0", [0], ["0"], [[0]], {"0": 0}, ["ab"], ["a", "b"], "é", "e"]
    assert len({hash_json(v) for v in values}) == len(values)


HOLDS = """
import sys
from pathlib import Path
from lm_eval_sts.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_by_one_process_until_it_ends(tmp_path):
    command = [sys.executable, "-c", HOLDS, tmp_path]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="another process is writing to"), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    with locked(tmp_path), locked(tmp_path):  # a killed holder leaves nothing behind; the same thread may nest
        pass
    with locked(tmp_path):
        pass
