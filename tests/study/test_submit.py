"""From a study's records to settings and submissions of a leaderboard."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from lm_eval_sts.data import load_sft_set
from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.leaderboard.registered import read_settings
from lm_eval_sts.leaderboard.submitting import Origin, put
from lm_eval_sts.leaderboard.validate import validate
from lm_eval_sts.records import Cost, Outcome, StudyPredictions, Submission, load_record, save_record
from lm_eval_sts.shipped import resolve
from lm_eval_sts.study.design import read_study
from lm_eval_sts.study.jobs import Work
from lm_eval_sts.study.submit import register, submissions
from tests.agreement import made
from tests.study.studies import LAWS, MATHS, changed
from tests.test_cli import call, fails

WEIGHTS = "a" * 64
CHANGES = {"law_torts": 0.1, "physics_optics": -0.2}
SCORES = {"law_torts": 1 / 3, "physics_optics": 2.0}
ORIGIN = Origin(name="A", code_url="https://example.org/code", commit="abcdef0", notes=("hello",))
FITTED = {"predictors": ["null_domain_mean"], "learns": True, "settings": {"development_view": "log_likelihood"}}


def content(name: str) -> str:
    return load_sft_set(resolve(f"micro/sft/{name}")).content_hash


def prediction(name: str, **more: Any):
    told = {"weights": WEIGHTS, "content": content(name), "tasks": "micro", "task_version": "1.0", "sae": None}
    return made.prediction(**{"scores": SCORES, "predictor": "tfidf_cosine", **told, **more})


def record(work: Work, name: str, *predictions: Any, condition: str = "main", base: str = "shipped") -> None:
    found = StudyPredictions(base=base, condition=condition, sft_set=name, predictions=predictions, seconds=1.0)
    save_record(found, work.root / "predictions" / base / condition / f"{name}.json")


class Case:
    """A study whose outcomes were measured elsewhere, at two doses for one SFT set, and a leaderboard without any."""

    def __init__(self, folder, **conditions: Any) -> None:
        given = changed("recipes", "strong", to={"learning_rate": 1e-3, "sft_sets": [LAWS]})
        given["predict"]["predictors"] = ["tfidf_cosine", "probing_1", "sts_icl"]
        given["conditions"] = conditions or {"fitted": FITTED, "n10": {"settings": {"n_features": 10}}}
        given["outcomes"] = {"shipped": ["./outcomes"]}
        for file, sft in ((LAWS, LAWS), (f"{LAWS}-strong", LAWS), (MATHS, MATHS)):
            found = made.outcome(
                CHANGES, name=f"x{file}", weights=WEIGHTS, sft=sft, content=content(sft), tasks="micro", version="1.0"
            )
            save_record(found, folder / "outcomes" / f"{file}.json")
        (folder / "small.yaml").write_text(yaml.safe_dump(given))
        self.study, self.work, self.root = read_study(folder / "small.yaml"), Work(folder / "work"), folder / "board"
        self.root.mkdir()

    def register(self, **more: Any) -> list[str]:
        found = register(self.study, self.work.root, self.root, more or None)
        return [path.relative_to(self.root / "settings").as_posix() for path in found]

    def submissions(self, **more: Any) -> dict[str, Submission]:
        found = submissions(self.study, self.work.root, self.root, ORIGIN, **more)
        return {each.predictor: each for each in found.values()}


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


def test_outcomes_become_settings_named_as_in_the_study(case):
    names = [f"small/{LAWS}.json", f"small/{MATHS}.json", f"small/{LAWS}-strong.json"]
    assert case.register() == names
    assert {name: found.name for name, found in read_settings(case.root).items()} == {
        f"small/{name}": name for name in (LAWS, f"{LAWS}-strong", MATHS)
    }
    assert case.register() == [], "what is registered stays"


def test_an_outcome_that_names_no_sft_set_gets_the_studys_and_says_so(case):
    path = case.study.path.parent / "outcomes" / f"{LAWS}.json"
    save_record(load_record(Outcome, path).model_copy(update={"sft_set": None}), path)
    case.register()
    found = read_settings(case.root)
    assert found[f"small/{LAWS}"].sft_set.content_hash == content(LAWS)
    assert "the SFT set is the one that the study file names" in found[f"small/{LAWS}"].caveats
    assert not found[f"small/{MATHS}"].caveats


def test_an_outcome_of_another_sft_set_is_refused(case):
    path = case.study.path.parent / "outcomes" / f"{LAWS}.json"
    save_record(load_record(Outcome, path.with_name(f"{MATHS}.json")), path)
    with pytest.raises(RecordError, match=f"not after the study's {LAWS}"):
        case.register()


def test_settings_of_another_model_are_not_taken_for_these(case):
    case.register()
    path = case.study.path.parent / "outcomes" / f"{LAWS}.json"
    outcome = load_record(Outcome, path)
    save_record(outcome.model_copy(update={"model": outcome.model.model_copy(update={"weights_hash": "b" * 64})}), path)
    with pytest.raises(RecordError, match="registered with another model"):
        case.register()


def test_predictions_become_submissions_in_seven_digits(case):
    case.register()
    for name in (LAWS, MATHS):
        record(case.work, name, prediction(name))
    (found,) = case.submissions(costs={"tfidf_cosine": Cost(forward_tokens=7, backward_tokens=0)}).values()
    assert list(found.settings) == [f"small/{LAWS}", f"small/{LAWS}-strong", f"small/{MATHS}"], "every dose"
    assert found.settings[f"small/{LAWS}"].scores == {"law_torts": 0.3333333, "physics_optics": 2.0}
    assert found.settings[f"small/{LAWS}"].errors == dict.fromkeys(SCORES, 0.1)
    assert (found.category, found.cost.forward_tokens) == ("predictor", 7)
    assert found.notes == ("hello", "small: sft_tokens 200, limit 6")
    put(submissions(case.study, case.work.root, case.root, ORIGIN), case.root)
    assert not validate(case.root, [], None)


def test_what_saw_a_training_run_is_for_that_dose(case):
    case.register()
    record(case.work, LAWS, prediction(LAWS, predictor="probing_1", target="delta", recipe="custom"))
    assert list(case.submissions()["probing_1"].settings) == [f"small/{LAWS}"]


def test_an_ablation_is_not_submitted_and_a_fitted_predictor_is(case):
    case.register()
    record(case.work, LAWS, prediction(LAWS, predictor="sts_icl"))
    record(case.work, LAWS, prediction(LAWS, predictor="sts_icl", scores=CHANGES), condition="n10")
    fitted = {"predictor": "null_domain_mean", "target": "delta"}
    record(case.work, LAWS, prediction(LAWS, fitted_on=(f"x{MATHS}", "law_torts"), **fitted), condition="fitted")
    record(case.work, MATHS, prediction(MATHS, fitted_on=(f"x{LAWS}", "law_torts"), **fitted), condition="fitted")
    found = case.submissions()
    assert found["sts_icl"].settings[f"small/{LAWS}"].scores["physics_optics"] == 2.0
    mean = found["null_domain_mean"]
    assert mean.fitted_for(f"small/{MATHS}") == (f"small/{LAWS}", "law_torts"), "as registered, not as measured"
    assert "small: sft_tokens 200, development_view log_likelihood, limit 6" in mean.notes


def test_what_a_file_holds_of_other_settings_stays(case):
    case.register()
    record(case.work, LAWS, prediction(LAWS))
    put(submissions(case.study, case.work.root, case.root, ORIGIN, costs={}), case.root)
    record(case.work, MATHS, prediction(MATHS))
    cost = {"tfidf_cosine": Cost(forward_tokens=1, backward_tokens=0)}
    put(submissions(case.study, case.work.root, case.root, ORIGIN, costs=cost), case.root)
    other = Origin(name="A", code_url="https://example.org/code", commit="abcdef1", notes=("again",))
    put(submissions(case.study, case.work.root, case.root, other), case.root)
    found = load_record(Submission, case.root / "submissions" / "tfidf_cosine" / "1.json")
    assert set(found.settings) == {f"small/{LAWS}", f"small/{LAWS}-strong", f"small/{MATHS}"}
    earlier = "SFT runs that were submitted earlier: commit abcdef0"
    assert found.notes == ("hello", "small: sft_tokens 200, limit 6", earlier, "again")
    assert (found.cost, found.code.commit) == (cost["tfidf_cosine"], "abcdef1")
    record(case.work, MATHS, prediction(MATHS, scores=CHANGES))
    with pytest.raises(RecordError, match="others than before"):
        put(submissions(case.study, case.work.root, case.root, ORIGIN), case.root)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weights": "f" * 64}, "the model"),
        ({"content": "f" * 64}, "the SFT set"),
        ({"tasks": "mmlu_pro"}, "the tasks mmlu_pro"),
        ({"task_version": "0.1"}, "version 0.1"),
    ],
)
def test_predictions_of_something_else_are_refused(case, wrong, said):
    case.register()
    record(case.work, MATHS, prediction(MATHS))
    record(case.work, LAWS, prediction(LAWS, **wrong))
    with pytest.raises(RecordError, match=f"shipped/{LAWS} is not about what is registered: predicted for {said}"):
        case.submissions()


def test_missing_domains_are_told_by_the_command(case, monkeypatch, capsys):
    case.register()
    record(case.work, LAWS, prediction(LAWS, scores={"law_torts": 1.0}))
    options = ("--work", case.work.root, "--root", case.root, "--name", "A", "--commit", "abcdef0")
    assert call(monkeypatch, "study", "submit", case.study.path, *options) == 1
    assert "1 of 2 domains are missing: physics_optics" in capsys.readouterr().out


def test_the_command_registers_and_submits(case, monkeypatch, capsys):
    place = (case.study.path, "--work", case.work.root, "--root", case.root)
    record(case.work, LAWS, prediction(LAWS), prediction(LAWS, predictor="sts_icl"))
    assert call(monkeypatch, "study", "submit", *place, "--settings", "--board_folder", "shipped=lab") == 0
    assert (case.root / "settings" / "lab" / f"{LAWS}.json").is_file()
    named = ("--name", "A", "--commit", "abcdef0", "--board_folder", "shipped=lab", "--predictors", "sts_icl")
    assert call(monkeypatch, "study", "submit", *place, *named) == 0
    out = capsys.readouterr()
    assert "submissions/sts_icl/1.json" in out.out and "tfidf_cosine" not in out.out and "nothing is wrong" in out.err
    assert "give --name and --commit" in fails(monkeypatch, capsys, "study", "submit", *place)


def test_what_is_not_there_is_told(case):
    with pytest.raises(RecordError, match="no settings"):
        case.submissions()
    case.register()
    with pytest.raises(SettingsError, match="holds no predictions"):
        case.submissions()
    record(case.work, LAWS, prediction(LAWS))
    with pytest.raises(SettingsError, match="no prediction of sts_act"):
        case.submissions(predictors=("sts_act",))
    with pytest.raises(SettingsError, match="register the study's outcomes first"):
        case.submissions(folders={"shipped": "elsewhere"})


def test_a_record_in_the_place_of_another_is_refused(case):
    case.register()
    record(case.work, LAWS, prediction(LAWS))
    place = case.work.root / "predictions" / "shipped" / "main"
    (place / f"{LAWS}.json").rename(place / f"{MATHS}.json")
    with pytest.raises(RecordError, match="of another job"):
        case.submissions()
