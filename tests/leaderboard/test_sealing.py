"""Seals: predictions that are shown afterwards are those that were sealed, or are refused."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_sts.errors import RecordError
from lm_eval_sts.leaderboard.sealing import commitment, new_salt, reveal_file, seal, seal_file, why_closed
from lm_eval_sts.leaderboard.submissions import read_submissions
from lm_eval_sts.leaderboard.validate import validate
from lm_eval_sts.records import Outcome, Seal, Submission, load_record, save_record
from tests.leaderboard.made import SETTING, leaderboard, line_of, submission, told, write
from tests.leaderboard.test_validate import git
from tests.messages import says

SALT = "5" * 64


@pytest.fixture
def root(tmp_path):
    return leaderboard(tmp_path)


@pytest.fixture
def private(tmp_path):
    """A submission for a setting that is not registered yet, outside of the leaderboard."""
    return write(tmp_path / "private", submission(settings={"a/new": SETTING}))


def register(root):
    """The outcome becomes known."""
    registered = load_record(Outcome, root / "settings" / "a" / "one.json")
    save_record(registered.model_copy(update={"name": "new"}), root / "settings" / "a" / "new.json")


def changed(path, **changes):
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, **changes}))
    return path


def test_sealed_then_revealed(root, private):
    sealed = seal_file(private, root)
    assert sealed == root / "seals" / "mine" / "1.json"
    assert validate(root) == []
    text = sealed.read_text()
    assert "law" not in text and "2.25" not in text and load_record(Submission, private).salt not in text
    register(root)
    path = reveal_file(private, root)
    assert validate(root) == []
    (found,) = read_submissions(root).submissions
    assert found.path == path and found.sealed == {"a/new"}


def test_what_was_never_sealed_is_not_marked(root):
    write(root, submission())
    (found,) = read_submissions(root).submissions
    assert found.sealed == frozenset()


def test_settings_that_were_added_later_are_not_marked(root, private):
    seal_file(private, root)
    register(root)
    path = reveal_file(private, root)
    changed(path, settings={"a/new": SETTING, "a/one": SETTING})
    (found,) = read_submissions(root).submissions
    assert set(found.submission.settings) == {"a/new", "a/one"} and found.sealed == {"a/new"}


def test_the_commitment_is_what_the_documentation_says():
    """Recomputed with the standard library alone."""
    record = Submission(**submission(salt=SALT, fitted_on=["law", "a/two"]))
    facts = '{"category":"predictor","predictor":"mine","target":"magnitude","version":"1"}'
    settings = (
        '{"a/one":{"content_hash":"' + "b" * 64 + '","dtype":"unknown","errors":{"law":0.5},'
        '"fitted_on":["a/two","law"],"scores":{"law":1.5,"math":2.25,"physics":0.1},'
        '"weights_hash":"' + "a" * 64 + '"}}'
    )
    text = f'["lm-eval-sts seal 1","{SALT}",{facts},{settings}]'
    assert seal(record).commitment == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"settings__a/one__scores__law": 1.5000000000000002},
        {"settings__a/one__errors": {}},
        {"settings__a/one__weights_hash": "d" * 64},
        {"settings__a/one__tensors_hash": "d" * 64},
        {"settings__a/one__config_hash": "d" * 64},
        {"fitted_on": ["law"]},
        {"settings__a/one__fitted_on": ["law"]},
        {"target": "delta"},
        {"category": "oracle"},
        {"predictor": "other"},
        {"version": "2"},
        {"salt": "6" * 64},
    ],
)
def test_other_predictions_open_no_seal(changes):
    sealed = seal(Submission(**submission(salt=SALT)))
    assert why_closed(Submission(**submission(salt=SALT)), sealed) is None
    assert "does not open its seal" in (why_closed(Submission(**submission(**{"salt": SALT, **changes})), sealed) or "")


def test_words_are_not_sealed():
    sealed = seal(Submission(**submission(salt=SALT)))
    assert why_closed(Submission(**submission(salt=SALT, title="Other", notes=["x"])), sealed) is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_counts(one, other):
    """Two scores have one commitment only where they are one number, also after a file was written and read."""

    def committed(law: float) -> str:
        text = Submission(**submission(**{"settings__a/one__scores__law": law})).model_dump_json()
        return commitment(Submission.model_validate_json(text), ["a/one"], SALT)

    same = one == other and str(one) == str(other)
    assert (committed(one) == committed(other)) == same


def test_salts_are_new_each_time():
    salts = {new_salt() for _ in range(100)}
    assert len(salts) == 100 and all(len(salt) == 64 for salt in salts)


def test_sealing_again_changes_nothing(root, private):
    sealed = seal_file(private, root)
    before = sealed.read_bytes(), private.read_bytes()
    assert seal_file(private, root) == sealed
    assert (sealed.read_bytes(), private.read_bytes()) == before
    changed(private, target="delta")
    with says(RecordError, private, "does not open its seal"):
        seal_file(private, root)


def test_what_cannot_be_sealed(root, private, tmp_path):
    with says(RecordError, "lies in the leaderboard"):
        seal_file(write(root, submission()), root)
    with says(RecordError, "a/one is registered: its outcome is known"):
        seal_file(write(tmp_path / "late", submission()), root)
    with says(RecordError, "cannot read"):
        seal_file(tmp_path / "none.json", root)


def test_what_cannot_be_revealed(root, private):
    with says(RecordError, "there is no seal", "not revealed but submitted"):
        reveal_file(private, root)
    seal_file(private, root)
    with says(RecordError, private, "does not open its seal"):
        reveal_file(changed(private, salt="0" * 64), root)
    with says(RecordError, private, "sealed: reveal them with the salt"):
        reveal_file(changed(private, salt=None), root)


def test_what_does_not_open_its_seal_is_refused_and_not_marked(root, private):
    seal_file(private, root)
    register(root)
    path = reveal_file(private, root)
    for changes, said in (
        ({"salt": "0" * 64}, "does not open its seal"),
        (
            {"settings": {"a/one": SETTING}},
            "its seal also holds a/new: everything that was sealed is shown, or nothing",
        ),
    ):
        bent = write(root, {**json.loads(path.read_text()), **changes})
        (problem,) = told(root, bent)
        assert said in problem
        found = read_submissions(root)
        assert said in found.warnings[0].message
        assert [each.sealed for each in found.submissions] == [frozenset()]


def test_predictions_without_a_salt_are_open_ones(root, private):
    seal_file(private, root)
    register(root)
    write(root, submission(settings={"a/new": SETTING}))
    assert validate(root) == []
    assert [each.sealed for each in read_submissions(root).submissions] == [frozenset()]


def test_a_seal_takes_no_open_submission_from_the_board(root, private):
    """Neither one's own, nor a stranger's: sealed settings stand beside open ones, and are added when revealed."""
    open_one = write(root, submission())
    sealed = seal_file(private, root)
    assert validate(root) == []
    (found,) = read_submissions(root).submissions
    assert found.path == open_one and found.sealed == frozenset()
    register(root)
    assert reveal_file(private, root) == open_one
    assert validate(root) == []
    (found,) = read_submissions(root).submissions
    assert set(found.submission.settings) == {"a/one", "a/new"} and found.sealed == {"a/new"}
    stranger = {**json.loads(sealed.read_text()), "commitment": "0" * 64}
    sealed.write_text(json.dumps(stranger, indent=1))
    (found,) = read_submissions(root).submissions
    assert set(found.submission.settings) == {"a/one", "a/new"} and found.sealed == frozenset()


def test_what_could_not_be_revealed_is_not_sealed(root, private):
    write(root, submission(target="delta"))
    with says(RecordError, "mine 1: target or category are others than before"):
        seal_file(private, root)
    assert not (root / "seals").exists()


def test_sealed_settings_need_not_be_registered_yet(root, tmp_path):
    both = write(tmp_path / "private", submission(settings={"a/new": SETTING, "a/later": SETTING}))
    seal_file(both, root)
    register(root)
    reveal_file(both, root)
    assert validate(root) == []
    (found,) = read_submissions(root).submissions
    assert set(found.submission.settings) == {"a/new"} == found.sealed


def test_a_submission_of_which_nothing_is_registered_waits(root, private):
    seal_file(private, root)
    reveal_file(private, root)
    found = read_submissions(root)
    assert (found.submissions, found.problems) == ((), ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"commitment": "0"}, "commitment: String should match pattern"),
        ({"created": "yesterday"}, "created: 'yesterday' is no time in ISO 8601"),
        ({"settings": ["a/new", "a/new"]}, "settings: a name comes twice"),
        ({"settings": []}, "settings: Tuple should have at least 1 item"),
        ({"predictor": "other"}, "lies in seals/mine/1.json, but its content belongs in seals/other/1.json"),
        ({"salt": "0" * 64}, "salt: there is no such field"),
    ],
)
def test_what_is_wrong_with_a_seal(root, private, changes, said):
    sealed = seal_file(private, root)
    data = {**json.loads(sealed.read_text()), **changes}
    sealed.write_text(json.dumps(data, indent=1))
    (problem,) = told(root, sealed)
    assert said in problem
    assert problem.startswith(f"{line_of(sealed, next(iter(changes)))}: ")
    assert said in read_submissions(root).problems[0].message


def test_seals_in_the_history(root, private):
    git(root.parent, "init", "--quiet")
    git(root.parent, "add", "leaderboard")
    git(root.parent, "commit", "--quiet", "-m", "first")
    sealed = seal_file(private, root)
    assert validate(root, base="HEAD") == []
    register(root)
    (problem,) = told(root, sealed, "HEAD")
    assert "a/new is registered: its outcome is known, and nothing is left to seal" in problem
    assert told(root, sealed) == [], "without a base nothing tells when it was sealed"
    git(root.parent, "add", "leaderboard")
    git(root.parent, "commit", "--quiet", "-m", "sealed, then measured")
    assert validate(root, base="HEAD") == []
    other = Seal(**{**json.loads(sealed.read_text()), "commitment": "0" * 64})
    sealed.write_text(other.model_dump_json(indent=2))
    assert told(root, sealed, "HEAD") == ["None: was changed: a seal never changes"]
    shutil.rmtree(root / "seals")
    (problem,) = validate(root, base="HEAD")
    assert "was taken out" in problem.message
