"""From predictions to submissions that are valid, by function and by command."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lm_eval_sts.errors import RecordError
from lm_eval_sts.leaderboard.registered import read_settings
from lm_eval_sts.leaderboard.submissions import read_submissions
from lm_eval_sts.leaderboard.submitting import Description, Origin, make_submissions, merge, put
from lm_eval_sts.leaderboard.validate import validate
from lm_eval_sts.records import Cost, Submission, load_record
from tests.agreement import made
from tests.leaderboard.made import CONTENT, DOMAINS, OTHER, WEIGHTS, leaderboard
from tests.messages import says
from tests.test_cli import call, fails
from tests.verdict.test_results import result_json

SCORES = {"law": 1.5, "math": 2.0, "physics": 0.25}
KNOWN = {"weights": WEIGHTS, "content": CONTENT}
ORIGIN = Origin(name="A", code_url="https://example.org/code", commit="abcdef0", notes=("hello",))
WORDS = Description(
    category="predictor", title="Title", description="Describes.", source="a paper", evidence=("texts",)
)
OPTIONS = ("--name", "A", "--code_url", "https://example.org/code", "--commit", "abcdef0")


@pytest.fixture
def root(tmp_path):
    return leaderboard(tmp_path)


def submissions(root, *predictions, **more):
    described = {prediction.predictor: WORDS for prediction in predictions}
    return make_submissions(predictions, read_settings(root), ORIGIN, described, **more)


def test_a_prediction_becomes_a_submission(root):
    (found,) = submissions(root, made.prediction(SCORES, **KNOWN))
    assert list(found.settings) == ["a/one", "a/strong"], "every dose of the SFT set"
    one = found.settings["a/one"]
    assert (one.scores, one.errors) == (SCORES, dict.fromkeys(DOMAINS, 0.1))
    assert (one.weights_hash, one.content_hash, one.dtype) == (WEIGHTS, CONTENT, "bfloat16")
    assert (found.predictor, found.version, found.target, found.category) == ("sts_icl", "1", "magnitude", "predictor")
    assert found.notes == ("hello", "SAE: r/i, h")


def test_one_submission_a_predictor_and_version(root):
    found = submissions(
        root,
        made.prediction(SCORES, **KNOWN),
        made.prediction(SCORES, **{**KNOWN, "content": OTHER}),
        made.prediction(SCORES, version="2", target="delta", **KNOWN),
        made.prediction(SCORES, predictor="other", se=None, shares=True, sae=None, **KNOWN),
    )
    told = [(each.predictor, each.version, each.target, list(each.settings)) for each in found]
    both = ["a/one", "a/strong"]
    assert told == [
        ("sts_icl", "1", "magnitude", [*both, "a/two"]),
        ("sts_icl", "2", "delta", both),
        ("other", "1", "magnitude", both),
    ]
    assert found[2].settings["a/one"].errors == {}
    assert found[2].notes == ("hello", "reads questions that were also asked to measure the outcome")


def test_what_it_was_fitted_on_is_told_by_registered_names(root):
    one = made.prediction(SCORES, fitted_on=("two", "law"), **KNOWN)
    (found,) = submissions(root, one)
    assert found.fitted_on == ("a/two", "law")
    two = made.prediction(SCORES, fitted_on=("one", "strong"), **{**KNOWN, "content": OTHER})
    (found,) = submissions(root, one, two)
    assert found.fitted_on == ()
    assert found.fitted_for("a/one") == found.fitted_for("a/strong") == ("a/two", "law")
    assert found.fitted_for("a/two") == ("a/one", "a/strong")


@pytest.mark.parametrize(
    ("predictions", "said"),
    [
        (
            [made.prediction(SCORES, weights="d" * 64)],
            "no registered setting for sts_icl on sts_mmlu_pro, org/model and org/set: nearest are ",
        ),
        ([made.prediction(SCORES, **KNOWN)] * 2, None),
        ([made.prediction(SCORES, **KNOWN), made.prediction(SCORES, se=0.2, **KNOWN)], "two predictions of sts_icl"),
        (
            [made.prediction(SCORES, **KNOWN), made.prediction(SCORES, target="delta", **{**KNOWN, "content": OTHER})],
            "some predictions have the target magnitude, others delta",
        ),
        ([made.prediction(SCORES, predictor="../mine", **KNOWN)], "not a valid Submission: predictor"),
        ([made.prediction(SCORES, version="1/2", **KNOWN)], "not a valid Submission: version"),
    ],
)
def test_what_makes_no_submission(root, predictions, said):
    if said is None:
        assert len(submissions(root, *predictions)) == 1  # the same twice is once
        return
    with says(RecordError, said):
        submissions(root, *predictions)


def test_what_is_not_registered_is_left_out_and_named(root, caplog):
    """A folder of results holds more settings than were measured, and registered."""
    others = [made.prediction(SCORES, predictor=name, weights="d" * 64) for name in ("sts_act", "sts_icl")]
    found = submissions(root, *others, made.prediction(SCORES, **KNOWN))
    assert [(each.predictor, list(each.settings)) for each in found] == [("sts_icl", ["a/one", "a/strong"])]
    (told,) = caplog.messages
    assert told.startswith(
        "left out: no registered setting for sts_act, sts_icl on sts_mmlu_pro, org/model and org/set"
    )


def test_a_setting_that_is_not_registered_yet(root):
    (found,) = submissions(root, made.prediction(SCORES, weights="d" * 64), setting="a/new")
    assert list(found.settings) == ["a/new"]
    with says(RecordError, "not a valid Submission: settings.../x"):
        submissions(root, made.prediction(SCORES), setting="../x")


def test_settings_are_added(root, tmp_path):
    (one,) = submissions(root, made.prediction(SCORES, fitted_on=("law",), **KNOWN))
    (two,) = submissions(root, made.prediction(SCORES, **{**KNOWN, "content": OTHER}))
    put({tmp_path / "x.json": one}, tmp_path)
    put({tmp_path / "x.json": two}, tmp_path)
    both = load_record(Submission, tmp_path / "x.json")
    assert list(both.settings) == ["a/one", "a/strong", "a/two"]
    assert [both.fitted_for(name) for name in both.settings] == [("law",), ("law",), ()]
    put({tmp_path / "x.json": one}, tmp_path)
    assert load_record(Submission, tmp_path / "x.json") == both


def test_predictions_are_not_replaced(root):
    (one,) = submissions(root, made.prediction(SCORES, **KNOWN))
    for changes, said in (
        ({"se": 0.2}, "the error of law was 0.1, now 0.2: more than 1e-05 of the setting's largest apart"),
        ({"fitted_on": ("law",)}, "fitted on other settings or domains"),
        ({"weights": "e" * 64}, "weights_hash was aaaaaaaaaaaa, now eeeeeeeeeeee"),
    ):
        (other,) = submissions(root, made.prediction(SCORES, **{**KNOWN, **changes}), setting="a/one")
        with says(RecordError, f"sts_icl 1: the predictions for a/one are others than before ({said}): raise"):
            merge(one, other)
    known = {"tensors_hash": "1" * 64, "config_hash": "2" * 64}
    one, other = (
        submission.model_copy(
            update={"settings": {"a/one": submission.settings["a/one"].model_copy(update={**known, **more})}}
        )
        for submission, more in ((one, {}), (one, {"weights_hash": "e" * 64}))
    )
    assert merge(one, other).settings == one.settings, "another pad token is no other model"
    (other,) = submissions(root, made.prediction(SCORES, target="delta", **{**KNOWN, "content": OTHER}))
    with says(RecordError, "sts_icl 1: target or category are others than before"):
        merge(one, other)


def test_an_honest_rerun_is_no_change(root):
    """Another order of summation gives the seventh digit otherwise, and what cancels to nearly 0 more than that."""
    scores = {"law": 1.5, "math": 2.0, "physics": 1e-9}
    rerun = {"law": 1.5 * (1 + 2e-7), "math": 2.0 * (1 - 1e-7), "physics": -3e-8}
    (one,) = submissions(root, made.prediction(scores, **KNOWN))
    (two,) = submissions(root, made.prediction(rerun, **KNOWN))
    assert merge(one, two).settings == one.settings, "what was put forward first stays"
    (far,) = submissions(root, made.prediction({**scores, "math": 2.00005}, **KNOWN))
    with says(RecordError, "the score of math was 2, now 2.00005: more than 1e-05 of the setting's largest apart"):
        merge(one, far)


PUTS = """
import sys
from multiprocessing import get_context
from pathlib import Path
from threading import BrokenBarrierError
from lm_eval_sts.leaderboard import submitting
from lm_eval_sts.records import Cost, Submission, load_record

def run(barrier, source, target):
    def slowly(kind, path):
        found = load_record(kind, path)
        try:
            barrier.wait(3)  # until the other one has read, too, if it may
        except BrokenBarrierError:
            pass
        return found
    submitting.load_record = slowly
    submitting.put({Path(target): load_record(Submission, Path(source))}, Path(target).parent)

if __name__ == "__main__":
    target, *sources = sys.argv[1:]
    context = get_context("fork")
    barrier = context.Barrier(2)
    both = [context.Process(target=run, args=(barrier, source, target)) for source in sources]
    for one in both:
        one.start()
    for one in both:
        one.join()
    sys.exit(max(one.exitcode for one in both))
"""


def test_two_at_once_lose_nothing(root, tmp_path):
    """Each is given time to read what the other has not written yet; with a lock only one of them can."""
    (first,) = submissions(root, made.prediction(SCORES, weights="d" * 64), setting="x/first")
    put({tmp_path / "both.json": first}, tmp_path)
    sources = []
    for name in ("a", "b"):
        (each,) = submissions(root, made.prediction(SCORES, weights="d" * 64), setting=f"x/{name}")
        put({tmp_path / f"{name}.json": each}, tmp_path)
        sources.append(tmp_path / f"{name}.json")
    (tmp_path / "puts.py").write_text(PUTS)
    command = [sys.executable, tmp_path / "puts.py", tmp_path / "both.json", *sources]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.returncode == 0, done.stderr
    assert list(load_record(Submission, tmp_path / "both.json").settings) == ["x/a", "x/b", "x/first"]


def test_all_are_written_or_none(root, tmp_path):
    (one,) = submissions(root, made.prediction(SCORES, **KNOWN))
    (other,) = submissions(root, made.prediction({**SCORES, "law": 9.0}, **KNOWN))
    put({tmp_path / "old.json": one}, tmp_path)
    with says(RecordError, "others than before"):
        put({tmp_path / "new.json": one, tmp_path / "old.json": other}, tmp_path)
    assert not (tmp_path / "new.json").exists()


def test_no_path_of_the_machine_goes_out(root):
    """SAE, notes, what a user writes, and names that are no outcomes: each may be a path."""
    home = "/home/Jane Doe/runs"
    one = made.prediction(SCORES, sae=f"{home}/sae", fitted_on=(f"{home}/out.json",), **KNOWN)
    origin = Origin(
        name="A", commit="abcdef0", url="https://example.org/~jane/x", notes=("see (/home/jane) and ~/notes",)
    )
    words = Description(
        category="predictor",
        title="T",
        description=f"Reads '{home}/x'.",
        source=r"C:\papers\p.pdf",
        evidence=("file:///data/texts.json",),
    )
    (found,) = make_submissions([one], read_settings(root), origin, {"sts_icl": words})
    text = found.model_dump_json()
    assert (
        "jane" not in text.lower().replace("~jane/x", "")
        and "home" not in text
        and "papers" not in text
        and "/data" not in text
    )
    assert (found.source, found.evidence, found.description) == ("p.pdf", ("texts.json",), "Reads 'x'.")
    assert found.notes[-1] == "SAE: sae, h" and found.fitted_on == ("out.json",)
    assert found.submitter.url == "https://example.org/~jane/x"


def write_results(path, *predictions):
    path.write_text(json.dumps(result_json(*(each.model_dump(mode="json") for each in predictions))))
    return path


def test_from_a_result_file_to_the_board(root, tmp_path, monkeypatch, capsys):
    """The command, twice, for another setting each time; what it says of our own predictors comes from them."""
    one = write_results(
        tmp_path / "results_1.json",
        made.prediction(SCORES, **KNOWN),
        made.prediction(dict.fromkeys(SCORES, 1.0), predictor="null_constant", **KNOWN),
    )
    two = write_results(tmp_path / "results_2.json", made.prediction(SCORES, **{**KNOWN, "content": OTHER}))
    costs = tmp_path / "costs.json"
    cost = {"forward_tokens": 1e6, "backward_tokens": 0, "seconds": 2.5}
    table = {"sts_icl": cost, "null_constant": {**cost, "hardware": "a GPU"}}
    costs.write_text(json.dumps({"hardware": "a CPU", "predictors": table, "command": "ours"}))
    assert call(monkeypatch, "leaderboard", "submit", one, *OPTIONS, "--root", root, "--costs", costs) == 0
    assert call(monkeypatch, "leaderboard", "submit", two, *OPTIONS, "--root", root, "--costs", costs) == 0
    shown = capsys.readouterr()
    assert (root / "submissions" / "sts_icl" / "1.json").as_posix() in shown.out
    assert validate(root) == []
    found = {each.submission.predictor: each.submission for each in read_submissions(root).submissions}
    assert set(found) == {"sts_icl", "null_constant"}
    assert list(found["sts_icl"].settings) == ["a/one", "a/strong", "a/two"]
    assert found["sts_icl"].cost.token_equivalents == 1e6
    assert "2603.02908" in found["sts_icl"].source
    assert found["null_constant"].category == "null"
    assert {name: each.cost.hardware for name, each in found.items()} == {"sts_icl": "a CPU", "null_constant": "a GPU"}


def test_problems_are_printed_as_validation_does(root, tmp_path, monkeypatch, capsys):
    results = write_results(tmp_path / "results_1.json", made.prediction({"law": 1.0, "lax": 2.0}, **KNOWN))
    assert call(monkeypatch, "leaderboard", "submit", results, *OPTIONS, "--root", root) == 1
    shown = capsys.readouterr()
    path, *problems = shown.out.splitlines()
    assert path.endswith("submissions/sts_icl/1.json")
    assert len(problems) == 4 and shown.err == "4 problems in 1 files\n"
    assert any("2 of 3 domains are missing: math, physics" in problem for problem in problems)
    assert any("a/one has no domain 'lax': did you mean 'law'?" in problem for problem in problems)


def test_predictors_that_are_not_installed_are_described(root, tmp_path, monkeypatch, capsys):
    results = write_results(tmp_path / "results_1.json", made.prediction(SCORES, predictor="mine", **KNOWN))
    command = ("leaderboard", "submit", results, *OPTIONS, "--root", root)
    error = fails(monkeypatch, capsys, *command)
    assert "no predictor 'mine' is installed" in error
    assert "--category, --title, --description, --source, --evidence" in error
    words = ("--category", "predictor", "--title", "T", "--description", "D", "--source", "S")
    assert call(monkeypatch, *command, *words, "--evidence", "texts", "losses", "--notes", "one", "two") == 0
    found = load_record(Submission, root / "submissions" / "mine" / "1.json")
    assert (found.title, found.evidence) == ("T", ("texts", "losses"))
    assert found.notes == ("one", "two", "SAE: r/i, h")


def test_some_predictors_only(root, tmp_path, monkeypatch, capsys):
    both = [
        made.prediction({**SCORES, "law": law}, predictor=name, **KNOWN)
        for name, law in (("sts_act", 1), ("sts_icl", 2))
    ]
    results = write_results(tmp_path / "results_1.json", *both)
    command = ("leaderboard", "submit", results, *OPTIONS, "--root", root, "--predictors")
    assert "--predictors sts_acd: the results hold sts_act, sts_icl" in fails(monkeypatch, capsys, *command, "sts_acd")
    assert call(monkeypatch, *command, "sts_act") == 0
    assert [each.submission.predictor for each in read_submissions(root).submissions] == ["sts_act"]


def test_sealed_and_revealed_by_command(root, tmp_path, monkeypatch, capsys):
    results = write_results(tmp_path / "results_1.json", made.prediction(SCORES, weights="d" * 64))
    private = tmp_path / "private"
    command = ("leaderboard", "submit", results, *OPTIONS, "--root", root, "--setting", "a/new", "--output", private)
    assert call(monkeypatch, *command) == 0
    file = private / "sts_icl" / "1.json"
    assert call(monkeypatch, "leaderboard", "seal", file, "--root", root) == 0
    assert "keep" in capsys.readouterr().out
    assert call(monkeypatch, "leaderboard", "validate", "--root", root) == 0
    assert call(monkeypatch, "leaderboard", "reveal", file, "--root", root) == 0
    assert read_submissions(root).problems == ()


def test_validate_by_command(root, tmp_path, monkeypatch, capsys):
    results = write_results(tmp_path / "results_1.json", made.prediction(SCORES, **KNOWN))
    assert call(monkeypatch, "leaderboard", "submit", results, *OPTIONS, "--root", root) == 0
    path = root / "submissions" / "sts_icl" / "1.json"
    path.write_text(path.read_text().replace('"law": 1.5', '"law": NaN'))
    capsys.readouterr()
    assert call(monkeypatch, "leaderboard", "validate", path, "--root", root) == 1
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 2 and shown.err == "2 problems in 1 files\n"
    assert shown.out.startswith(f"{path.as_posix()}:")
    assert "no commit 'nope'" in fails(monkeypatch, capsys, "leaderboard", "validate", "--root", root, "--base", "nope")
    assert "no settings below" in fails(monkeypatch, capsys, "leaderboard", "validate", "--root", tmp_path / "x")


def test_costs_that_are_none(root, tmp_path, monkeypatch, capsys):
    results = write_results(tmp_path / "results_1.json", made.prediction(SCORES, **KNOWN))
    costs = tmp_path / "costs.json"
    negative = '{"predictors": {"sts_icl": {"forward_tokens": -1}}}'
    for text, said in (("[]", "not a table"), (negative, "sts_icl: not a valid Cost")):
        costs.write_text(text)
        command = ("leaderboard", "submit", results, *OPTIONS, "--root", root, "--costs", costs)
        assert said in fails(monkeypatch, capsys, *command)
    assert not (root / "submissions").exists()


def test_a_cost_says_what_it_is_of(root):
    """Where a later submission for another folder knows none, the earlier one's is not taken for it."""
    (one,) = submissions(root, made.prediction(SCORES, **KNOWN))
    cost = Cost(forward_tokens=1, backward_tokens=0)
    priced = one.model_copy(update={"cost": cost})
    other = one.model_copy(update={"settings": {"b/x": one.settings["a/one"]}})
    assert (priced.cost_of, priced.cost_folders) == ((), {"a"})
    merged = merge(priced, other)
    assert (merged.cost, merged.cost_of, merged.cost_folders) == (cost, ("a",), {"a"})
    assert merge(merged, other).cost_of == ("a",)
    assert merge(merged, other.model_copy(update={"cost": cost})).cost_of == ()
    dear = other.model_copy(update={"cost": Cost(forward_tokens=2, backward_tokens=0)})
    assert (merge(priced, dear).cost, merge(priced, dear).cost_of) == (dear.cost, ("b",))
    assert merge(one, other).cost_of == ()
