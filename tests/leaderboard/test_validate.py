"""Validation: each thing that can be wrong is told, with its line, and all of them at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_eval_sts.errors import RecordError
from lm_eval_sts.leaderboard.validate import validate
from lm_eval_sts.records import Outcome, load_record, save_record
from tests.leaderboard.made import OTHER, SETTING, leaderboard, line_of, submission, told, write
from tests.messages import says
from tests.test_files import JSON
from tests.test_record_loaders import places


@pytest.fixture
def root(tmp_path):
    return leaderboard(tmp_path)


def test_a_good_submission(root):
    assert told(root, write(root, submission())) == []
    assert validate(root) == []


@pytest.mark.parametrize(
    ("changes", "marked", "said"),
    [
        ({"settings__a/onn": SETTING}, '"a/onn"', "there is no registered setting 'a/onn': did you mean 'a/one'?"),
        ({"settings__zzz/zzz": SETTING}, '"zzz/zzz"', "there is no registered setting 'zzz/zzz'"),
        ({"settings__a/one__scores__math": ...}, '"scores"', "a/one: 1 of 3 domains are missing: math"),
        ({"settings__a/one__scores__maths": 1.0}, '"maths"', "a/one has no domain 'maths': did you mean 'math'?"),
        ({"settings__a/one__errors__lax": 1.0}, '"lax"', "a/one: an error for 'lax', which has no score"),
        (
            {"settings__a/one__weights_hash": OTHER},
            '"weights_hash"',
            "a/one: predicted from another base model than was measured "
            "(weights or config cccccccccccc and aaaaaaaaaaaa)",
        ),
        (
            {"settings__a/one__content_hash": OTHER},
            '"content_hash"',
            "a/one: predicted from another SFT set than was measured (content cccccccccccc and bbbbbbbbbbbb)",
        ),
        (
            {"settings__a/one__weights_hash": "unknown"},
            '"weights_hash"',
            "a/one: weights_hash is unknown: what was read must be known, except for published scores",
        ),
        (
            {"fitted_on": ["law", "a/one", "a/on"]},
            '"a/on"',
            "fitted_on: 'a/on' is neither a registered setting nor a domain of one: did you mean 'a/one'?",
        ),
        (
            {"settings__a/one__fitted_on": ["../x"]},
            '"../x"',
            "fitted_on: '../x' is neither a registered setting nor a domain of one",
        ),
        (
            {"predictor": "null_mine"},
            '"category"',
            "category: a predictor named null_… belongs to the category 'null'",
        ),
        (
            {"predictor": "oracle_x"},
            '"category"',
            "category: a predictor named oracle_… belongs to the category 'oracle'",
        ),
        ({"predictor": "con"}, '"predictor"', "predictor 'con' cannot be a file name on Windows: choose another"),
        ({"version": "1."}, '"version"', "version '1.' cannot be a file name on Windows: choose another"),
        ({"salt": "0" * 64}, '"salt"', "salt: there is no valid seal seals/mine/1.json that it could open"),
    ],
)
def test_what_is_wrong_with_one_submission(root, changes, marked, said):
    path = write(root, submission(**changes))
    assert told(root, path) == [f"{line_of(path, marked)}: {said}"]


@pytest.mark.parametrize("changes", [{"submitter__name": "  "}, {"title": "\t"}, {"notes": [" "]}])
def test_a_line_of_nothing_but_blanks_is_none(root, changes):
    (said,) = told(root, write(root, submission(**changes)))
    assert "should match pattern" in said


def test_what_is_allowed(root):
    known = {"weights_hash": OTHER, "content_hash": OTHER}
    for changes in (
        {"settings__b/three": {**SETTING, **known}},  # the setting's own hashes are not known
        {"settings__a/one__weights_hash": OTHER, "settings__a/one__dtype": "float16"},  # another dtype, another hash
        {"settings__a/one__scores": dict.fromkeys(SETTING["scores"], 1.0)},  # constant
        {"fitted_on": ["a/one", "law"]},  # overlaps: shown apart, not refused
        {"category": "oracle"},
        {"settings__a/one__errors": {}},
    ):
        assert told(root, write(root, submission(**changes))) == []


def test_another_pad_token_makes_no_other_model(root):
    """Weights and config apart decide where both sides know them; older submissions and settings have one hash."""
    file = root / "settings" / "a" / "one.json"
    outcome = load_record(Outcome, file)
    known = {"tensors_hash": "1" * 64, "config_hash": "2" * 64}
    model = outcome.model.model_copy(update=known)
    ours = {**SETTING, "dtype": model.dtype}

    def said(**changes):
        return told(root, write(root, submission(**{"settings__a/one": {**ours, **changes}})))

    assert said(**known) == [] and len(said(**known, weights_hash=OTHER)) == 1, "the setting does not know them yet"
    save_record(outcome.model_copy(update={"model": model}), file)
    assert said() == said(**known) == said(**known, weights_hash=OTHER) == []
    (one,) = said(**{**known, "config_hash": "3" * 64})
    assert one.endswith(f"than was measured (config {'3' * 12} and {'2' * 12})")
    (one,) = said(weights_hash=OTHER)
    assert one.endswith("(weights or config cccccccccccc and aaaaaaaaaaaa)")


def test_published_scores_may_lack_domains_and_hashes(root):
    lacking = {"weights_hash": "unknown", "content_hash": "unknown", "scores": {"law": 1.0, "math": 2.0}}
    path = write(root, submission(category="published", **{"settings__a/one": lacking}))
    assert told(root, path) == []
    assert len(told(root, write(root, submission(**{"settings__a/one": lacking})))) == 3


def test_everything_is_told_at_once(root):
    changes = {
        "predictor": "null_x",
        "settings__a/one__scores__law": float("nan"),
        "settings__a/one__scores__math": ...,
        "settings__a/nope": SETTING,
        "fitted_on": ["nope"],
        "extra": 1,
    }
    path = write(root, submission(**changes), "submissions/null_x/9.json")
    found = told(root, path)
    assert len(found) == 7
    for part in ("extra", "should be a finite", "missing: math", "'a/nope'", "fitted_on: 'nope'", "null_…", "lies in"):
        assert any(part in each for each in found), part


def test_a_file_lies_where_its_content_belongs(root):
    path = write(root, submission(), "submissions/other/2.json")
    said = "lies in submissions/other/2.json, but its content belongs in submissions/mine/1.json"
    assert told(root, path) == [f"{line_of(path, 'predictor')}: {said}"]


def test_names_that_lead_elsewhere(root):
    path = write(root, submission(predictor="../../settings/a", version="one"), "submissions/x/1.json")
    found = told(root, path)
    assert any("predictor: String should match pattern" in each for each in found)
    (stranger,) = validate(root, [root / "submissions" / ".." / "settings" / "a" / "one.json"])
    assert "does not lie below" in stranger.message
    (stranger,) = validate(root, [root / "settings" / "a" / "one.json"])
    assert "does not belong here" in stranger.message
    (stranger,) = validate(root, [root / "submissions" / "none.json"])
    assert stranger.message == "there is no such file"


def test_what_else_lies_there(root):
    write(root, submission())
    folder = root / "submissions"
    (folder / ".gitkeep").touch()
    (folder / "mine" / "run.py").write_text("raise SystemExit")
    (folder / "linked").symlink_to(root / "settings")
    (folder / "mine" / "2.json").symlink_to("/etc/passwd")
    (folder / "mine" / "new\nline.json").write_text("{")
    found = {problem.file.rpartition("/")[2]: str(problem) for problem in validate(root)}
    assert set(found) == {"run.py", "linked", "2.json", "new\nline.json"}
    assert "does not belong here" in found["run.py"] and "does not belong here" in found["linked"]
    assert "2.json is a link" in found["2.json"]
    assert "new\\nline.json:1: is not JSON" in found["new\nline.json"] and "\n" not in found["new\nline.json"]


def test_a_whole_folder_that_is_a_link(root, tmp_path):
    write(root, submission())
    (root / "submissions").rename(tmp_path / "elsewhere")
    (root / "submissions").symlink_to(tmp_path / "elsewhere")
    (problem,) = validate(root)
    assert "does not belong here" in problem.message


def test_copies(root):
    first = write(root, submission(predictor="a"))
    copy = write(root, submission(predictor="b", version="7"))
    (problem,) = told(root, copy)
    assert "the same scores as a 1 in every setting" in problem
    assert "the same scores as b 7" in told(root, first)[0], "of two the one that was asked for is to blame"
    assert [problem.file for problem in validate(root)] == [copy.as_posix()]
    constant = {"settings__a/one__scores": dict.fromkeys(SETTING["scores"], 1.0)}
    write(root, submission(predictor="a", **constant))
    assert told(root, write(root, submission(predictor="b", version="7", **constant))) == []


def test_a_part_of_another_submission_is_a_copy_and_more_is_not(root):
    two = {**SETTING, "content_hash": OTHER, "scores": {"law": 4.0, "math": 2.0, "physics": 1.0}}
    whole = write(root, submission(predictor="whole", **{"settings__a/two": two}))
    part = write(root, submission(predictor="part"))
    assert "the same scores as whole 1" in told(root, part)[0]
    assert told(root, whole) == []


def test_a_predictor_keeps_its_target(root):
    write(root, submission())
    other = {"settings__a/one__scores__law": -3.0, "target": "delta", "version": "2"}
    path = write(root, submission(**other))
    said = "target is 'delta', but version 1 has 'magnitude': give the predictor another name"
    assert told(root, path) == [f"{line_of(path, 'target')}: {said}"]


def test_a_leaderboard_without_settings(tmp_path):
    with says(RecordError, "no settings below", "--root"):
        validate(tmp_path)


def git(root, *arguments: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def committed(root):
    """The leaderboard with one submission, in a git repository."""
    write(root, submission())
    git(root.parent, "init", "--quiet")
    git(root.parent, "add", ".")
    git(root.parent, "commit", "--quiet", "-m", "first")
    return root


@pytest.mark.parametrize(
    ("changes", "marked", "said"),
    [
        (
            {"settings__a/one__scores__law": 1.50003},
            '"a/one"',
            "the predictions for a/one were changed (the score of law was 1.5, now 1.50003: more than 1e-05 of the "
            "setting's largest apart)",
        ),
        (
            {"settings__a/one__errors": {}},
            '"a/one"',
            "the predictions for a/one were changed (law has an error on one side only)",
        ),
        (
            {"fitted_on": ["a/two"]},
            '"a/one"',
            "the predictions for a/one were changed (fitted on other settings or domains)",
        ),
        ({"target": "delta"}, '"target"', "target was 'magnitude', now 'delta'"),
        ({"category": "oracle"}, '"category"', "category was 'predictor', now 'oracle'"),
        (
            {"settings": {"a/strong": {**SETTING, "errors": {}}}},
            '"settings"',
            "the predictions for a/one were taken out",
        ),
    ],
)
def test_predictions_do_not_change_under_a_version(committed, changes, marked, said):
    path = write(committed, submission(**changes))
    assert told(committed, path) == []
    advice = "scores never change under a version: raise the version"
    assert told(committed, path, "HEAD") == [f"{line_of(path, marked)}: {said}: {advice}"]


def test_what_may_change(committed):
    assert validate(committed, base="HEAD") == []
    rerun = {"settings__a/one__scores__law": 1.5 * (1 + 1e-7), "settings__a/one__scores__physics": 0.1 - 1e-6}
    assert told(committed, write(committed, submission(**rerun)), "HEAD") == []
    more = {"settings__a/strong": SETTING, "title": "Better", "notes": ["more"]}
    assert told(committed, write(committed, submission(**more)), "HEAD") == []
    write(committed, submission(version="2", **{"settings__a/one__scores__law": 9.0}))
    assert validate(committed, base="HEAD") == []


def test_what_is_taken_out(committed):
    shutil.rmtree(committed / "submissions")
    (problem,) = validate(committed, base="HEAD")
    assert str(problem).endswith("submissions/mine/1.json: was taken out: what was submitted once stays")
    assert validate(committed) == []


def test_what_was_broken_may_be_put_right(committed):
    path = write(committed, submission(target="sign"))
    git(committed, "commit", "--quiet", "-am", "broken")
    write(committed, submission(**{"settings__a/one__scores__law": 9.0}))
    assert told(committed, path, "HEAD") == []
    assert told(committed, path, "HEAD~1") != []


def test_a_copy_is_the_later_one(committed):
    copy = write(committed, submission(predictor="earlier_in_the_alphabet", title="Another"))
    assert [problem.file for problem in validate(committed, base="HEAD")] == [copy.as_posix()]


def test_revisions_that_are_not_there(committed, tmp_path):
    for revision in ("nope", "--output=x", ""):
        with says(RecordError, f"there is no commit {revision!r}"):
            validate(committed, base=revision)
    elsewhere = leaderboard(tmp_path / "elsewhere")
    with says(RecordError, "there is no commit 'HEAD~9'"):
        validate(elsewhere, base="HEAD~9")


def test_a_submission_of_hypertext_is_text(root):
    """Nothing of it is refused, nothing is changed: the page must escape it."""
    evil = "<script>alert(1)</script>"
    path = write(root, submission(title=evil, description=evil, notes=[evil], submitter__name=evil))
    assert told(root, path) == []
    assert json.loads(path.read_text())["title"] == evil


VALUES = JSON | st.sampled_from(["a/one", "law", "unknown", "../x", "null_", "\x00", "", 10**400, float("nan"), [], {}])


@given(st.sampled_from(places(submission())[1:]), VALUES, st.text(max_size=5) | st.sampled_from(["law", "a/one"]))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_anywhere_and_any_further_key(tmp_path, place, value, key):
    """Never anything but problems, each on one line and at a line of the file."""
    root = tmp_path / "leaderboard"
    if not root.exists():
        leaderboard(tmp_path)
    data = submission()
    target = data
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    if isinstance(target, dict):
        target.setdefault(key, value)
    path = write(root, data, "submissions/mine/1.json")
    lines = len(path.read_text(encoding="utf-8").splitlines())
    for problem in validate(root):
        assert problem.file == path.as_posix()
        assert problem.line is None or 1 <= problem.line <= lines
        assert str(problem).isprintable()


def test_validation_loads_nothing_heavy():
    """Continuous integration installs pydantic, typer and rich only."""
    code = "import json, sys, lm_eval_sts.leaderboard.validate, lm_eval_sts.cli; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"torch", "lm_eval", "numpy", "scipy", "transformers", "datasets", "pandas", "jinja2", "altair"}
