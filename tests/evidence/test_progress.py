"""Progress: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

SCRIPT = """
from lm_eval_sts.evidence.reading import reading_progress
with reading_progress(100) as start:
    start("law")(50)
"""


def test_nothing_where_there_is_no_terminal():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_bar_with_what_is_read_on_a_terminal():
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, env={**os.environ, "TERM": "xterm"})
    assert process.wait() == 0
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "reading law" in shown and "━" in shown
