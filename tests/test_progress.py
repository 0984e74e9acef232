"""A line a minute where there is no terminal."""

from __future__ import annotations

import re
import subprocess
import sys

LIBRARY = """
from lm_eval_sts import progress
progress.SECONDS = {seconds}
from tqdm import tqdm
with progress.a_line_a_minute():
    for _ in tqdm(range(3), desc="Running requests"):
        pass
"""

OURS = """
from lm_eval_sts import progress
progress.SECONDS = {seconds}
with progress.line_a_minute(1000, "reading law", "tokens") as bar:
    bar.update(500)
    bar.update(250)
"""


def errors(script, seconds):
    done = subprocess.run(
        [sys.executable, "-c", script.format(seconds=seconds)], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return done.stderr


def test_what_takes_less_than_a_minute_says_nothing():
    assert errors(LIBRARY, 60) == errors(OURS, 60) == ""


def test_lines_of_libraries_name_what_is_done_and_what_is_left():
    lines = errors(LIBRARY, 0).splitlines()
    assert lines
    assert all(re.fullmatch(r"Running requests: \d+%, \d of 3 ?, [\d:?]+ left", line) for line in lines)


def test_our_lines_do_too():
    assert re.search(r"^reading law: 75%, 750 of 1000 tokens, \d\d:\d\d left$", errors(OURS, 0), re.MULTILINE)


def test_durations_for_people():
    from lm_eval_sts.progress import duration

    assert [duration(s) for s in (5, 600, 6 * 3600, 5 * 86400)] == ["5 s", "10 min", "6.0 h", "5.0 days"]
