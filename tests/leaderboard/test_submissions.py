"""Reading all submissions: the good ones, and what is wrong with the others."""

from __future__ import annotations

import gc
import json

import pytest

from lm_eval_sts.errors import RecordError
from lm_eval_sts.leaderboard.registered import read_settings
from lm_eval_sts.leaderboard.submissions import read_submissions
from lm_eval_sts.records import Submission
from tests.leaderboard.made import OTHER, SETTING, leaderboard, submission, write
from tests.messages import says

TWO = {**SETTING, "content_hash": OTHER}


@pytest.fixture
def root(tmp_path):
    return leaderboard(tmp_path)


def test_settings_by_name(root):
    assert list(read_settings(root)) == ["a/one", "a/strong", "a/two", "b/three"]
    (root / "settings" / "a" / "With Space.json").write_text("{}")
    with says(RecordError, "With Space.json", "rename"):
        read_settings(root)


def test_settings_behind_links_count(root, tmp_path):
    (root / "settings" / "b").rename(tmp_path / "b")
    (root / "settings" / "linked").symlink_to(tmp_path / "b")
    assert "linked/three" in read_settings(root)


def test_a_broken_setting_stops_everything(root):
    (root / "settings" / "a" / "broken.json").write_text("{}")
    with says(RecordError, "broken.json", "not a valid Outcome"):
        read_submissions(root)


def test_an_empty_leaderboard(root):
    found = read_submissions(root)
    assert (found.submissions, found.problems) == ((), ())


def test_the_good_and_the_broken(root):
    good = [write(root, submission(predictor=name, **{"settings__a/one__scores__law": law})) for name, law in LAWS]
    broken = write(root, submission(predictor="broken", target="sign"))
    nonsense = root / "submissions" / "mess" / "1.json"
    nonsense.parent.mkdir()
    nonsense.write_bytes(b"\xff")
    found = read_submissions(root)
    assert [each.path for each in found.submissions] == sorted(good)
    assert [each.submission for each in found.submissions] == [
        Submission(**json.loads(path.read_text())) for path in sorted(good)
    ]
    assert [problem.file for problem in found.problems] == [broken.as_posix(), nonsense.as_posix()]
    assert found == read_submissions(root, settings=read_settings(root))
    assert gc.isenabled()


LAWS = [("zeta", 3.0), ("alpha", 4.0)]


def test_a_copy_displaces_nothing(root):
    """Which of the two came first is not known here: both are shown, and it is said."""
    write(root, submission(predictor="a"))
    write(root, submission(predictor="b"))
    found = read_submissions(root)
    assert [each.submission.predictor for each in found.submissions] == ["a", "b"]
    assert found.problems == () and "the same scores as a 1" in found.warnings[0].message


@pytest.mark.parametrize(
    ("fitted", "seen", "domains"),
    [
        ({}, set(), set()),
        ({"fitted_on": ["a/one"]}, {"a/one", "a/strong"}, set()),
        ({"fitted_on": ["a/two"]}, {"a/two"}, set()),
        ({"fitted_on": ["b/three"]}, set(), set()),
        ({"fitted_on": ["law", "physics"]}, set(), {"law", "physics"}),
        # fitted on all others, setting by setting
        (
            {"settings__a/one__fitted_on": ["a/two"], "settings__a/two__fitted_on": ["a/one", "law"]},
            set(),
            {"law"},
        ),
        ({"fitted_on": ["a/two"], "settings__a/two__fitted_on": []}, set(), set()),
        ({"settings__a/strong__fitted_on": ["a/one"]}, {"a/strong"}, set()),
    ],
)
def test_what_was_seen(root, fitted, seen, domains):
    """A setting of the same base model and SFT set, in another dose, has been seen too."""
    settings = {"settings__a/strong": dict(SETTING), "settings__a/two": dict(TWO)}
    write(root, submission(**settings, **fitted))
    (found,) = read_submissions(root).submissions
    assert (found.seen, found.seen_domains) == (seen, domains)


def test_settings_of_unknown_training_are_only_themselves(root):
    write(root, submission(fitted_on=["b/three"], **{"settings__b/three": TWO}))
    assert read_submissions(root).submissions[0].seen == {"b/three"}
