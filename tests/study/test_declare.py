"""What is declared, what a changed design says, and what a reader is told of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from lm_eval_sts.errors import DatasetError, RecordError, SettingsError
from lm_eval_sts.records import Declaration, load_record, save_record
from lm_eval_sts.study import checks
from lm_eval_sts.study import declare as declaring
from lm_eval_sts.study.checks import check
from lm_eval_sts.study.declare import check_declaration, declare
from lm_eval_sts.study.design import design_hash
from lm_eval_sts.study.jobs import Work
from tests.study.studies import LAWS, MATHS, changed, write


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path / "work")


def at(monkeypatch, days: float) -> None:
    """Sets the clock of declarations by so many days."""
    moment = (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds")
    monkeypatch.setattr(declaring, "now", lambda: moment)


def test_what_is_written_down(tmp_path, work):
    content = changed("primary", "sft_sets", to=[LAWS])
    content["secondary"] = [{"candidate": "sts_icl", "reference": "tfidf_cosine", "target": "delta"}]
    content["recipes"]["main"] |= {"seeds": [3], "more_seeds": [{"seeds": [4], "sft_sets": [MATHS]}]}
    content["conditions"] = {"n10": {"predictors": ["sts_act"]}}
    study = write(tmp_path, content)
    declared = declare(study, work)
    assert load_record(Declaration, work.declaration) == declared
    assert declared.design_hash == design_hash(study) and declared.study == "small"
    assert declared.primary.sft_sets == (LAWS,) and declared.secondary[0].sft_sets == (LAWS, MATHS)
    assert declared.primary.candidate == "tfidf_cosine" and declared.secondary[0].target == "delta"
    assert declared.seeds == {"main": (3, 4)} and declared.predictors == ("sts_icl", "tfidf_cosine", "sts_act")
    assert declared.sft_sets[LAWS].name == f"micro/sft/{LAWS}" and len(declared.sft_sets[LAWS].content_hash) == 64
    assert declared.already == () and check_declaration(study, work) == []
    assert declare(study, work) == declared  # the same is not declared again
    assert declare(write(tmp_path, {**content, "title": "New"}), work) == declared


def test_a_changed_design_is_an_error_that_says_what_changed(tmp_path, work):
    first = declare(write(tmp_path), work)
    content = changed("recipes", "main", "max_steps", to=30)
    content["predict"]["num_fewshot"] = 1
    study = write(tmp_path, content)
    with pytest.raises(SettingsError) as told:
        declare(study, work)
    message = str(told.value)
    assert f"declared on {first.created}" in message and "--amend" in message
    assert "recipes.main.max_steps was 20, is 30" in message
    assert "predict.num_fewshot was not there, is 1" in message
    assert check_declaration(study, work)[0].startswith("The study is not the declared one: predict.num_fewshot")
    second = declare(study, work, amend=True)
    assert load_record(Declaration, work.root / "declaration.1.json") == first
    assert load_record(Declaration, work.declaration) == second
    third = declare(write(tmp_path), work, amend=True)
    assert load_record(Declaration, work.root / "declaration.2.json") == second and third.design == first.design
    told = check_declaration(write(tmp_path), work)
    assert len(told) == 2 and "was amended on" in told[1] and "max_steps was 30, is 20" in told[1]


def test_an_sft_set_whose_content_changes(tmp_path, work):
    rows = [{"prompt": f"What is {i}?", "response": str(i)} for i in range(4)]
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    content = changed("sft_sets", "test", to=[str(file)])
    declared = declare(write(tmp_path, content), work)
    assert declared.sft_sets["own"].name == "own.jsonl"  # not where it lies
    file.write_text("\n".join(map(json.dumps, rows[1:])))
    with pytest.raises(SettingsError, match="the SFT set own has other content"):
        declare(write(tmp_path, content), work)
    file.unlink()
    with pytest.raises(DatasetError, match=r"own\.jsonl"):
        declare(write(tmp_path, content), work)


def test_what_was_there_before(copied, monkeypatch):
    study, work = copied
    work.declaration.unlink()
    assert check_declaration(study, work) == ["Nothing was declared beforehand (lm-eval-sts study plan)."]
    at(monkeypatch, 1)
    declared = declare(study, work)
    assert set(declared.already) == {
        f"predict/shipped/main/{LAWS}", f"predict/shipped/main/{MATHS}", f"outcome/shipped/{LAWS}",
        f"outcome/shipped/{MATHS}",
    }  # fmt: skip
    (told,) = check_declaration(study, work)
    assert told.startswith("4 predictions and outcomes were there before the declaration of") and LAWS in told


def test_what_was_scored_before_and_is_not_named(copied):
    study, work = copied
    declared = load_record(Declaration, work.declaration)
    assert check_declaration(study, work) == []
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    save_record(declared.model_copy(update={"created": later}), work.declaration)
    (told,) = check_declaration(study, work)
    assert told.startswith(f"Made before the declaration of {later}, and not named in it: predict/shipped/main")


def test_what_was_scored_is_another_set(copied):
    study, work = copied
    declared = load_record(Declaration, work.declaration)
    other = declared.sft_sets[LAWS].model_copy(update={"content_hash": "0" * 64})
    sets = {**declared.sft_sets, LAWS: other}
    save_record(declared.model_copy(update={"sft_sets": sets}), work.declaration)
    (told,) = check_declaration(study, work)
    assert told.startswith(f"The SFT set {LAWS} that was scored is not the declared one") and "000000000000" in told


def test_a_damaged_declaration(tmp_path, work):
    study = write(tmp_path)
    declare(study, work)
    work.declaration.write_text(work.declaration.read_text().replace("magnitude", "delta"))
    for use in (declare, check_declaration):
        with pytest.raises(RecordError, match="does not match its hash"):
            use(study, work)


# ---- what is checked before


def test_all_is_well(tmp_path, work):
    check(write(tmp_path), work)
    assert not work.root.exists()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (changed("sft_sets", "test", to=["no/such.jsonl"]), ("sft_sets: such", "no/such.jsonl")),
        (changed("bases", "shipped", "model", to="/no/model"), ("bases.shipped: cannot load /no/model",)),
        (changed("bases", "shipped", "model", to="micro/modell"), ("bases.shipped", "micro/model")),
        (changed("bases", "shipped", "sae", to="micro/sea"), ("predict: ", "micro/sae")),
        (changed("predict", "tasks", to="sts_micr"), ("predict.tasks: there is no task 'sts_micr'", "sts_micro")),
        (changed("predict", "settings", "sft_tokens", to=-1), ("predict: ", "sft_tokens")),
        (changed("measure", "tasks", to=["micr"]), ("measure: there is no lm-eval task 'micr'",)),
        (changed("measure", "tasks", to=["sts_micro_law_torts"]), ("measure: task sts_micro_law_torts predicts",)),
        (changed("measure", "metric", to="f2"), ("measure: --metric f2",)),
        (
            changed("conditions", "seen", to={"predictors": ["oracle_sts_shift"]}),
            ("conditions.seen: oracle_sts_shift needs what oracles: true gives",),
        ),
        (
            changed("conditions", "fitted", to={"predictors": ["null_domain_mean"]}),
            ("conditions.fitted: null_domain_mean needs what learns: true gives",),
        ),
        (changed("primary", "candidate", to="sts_act"), ("primary: sts_act is compared and nowhere predicted",)),
        (
            changed(
                *("primary", "reference"),
                to="null_domain_mean",
                of=changed("conditions", "fitted", to={"predictors": ["null_domain_mean"], "learns": True}),
            ),
            ("primary: null_domain_mean is fitted on the very SFT sets that are compared", "double_centred: false"),
        ),
    ],
)
def test_what_can_be_known_before(tmp_path, work, content, parts):
    with pytest.raises(SettingsError) as told:
        check(write(tmp_path, content), work)
    assert all(part in str(told.value) for part in ("small.yaml", *parts)), told.value


def test_all_that_is_wrong_stands_in_one_line(tmp_path, work, monkeypatch):
    content = changed("measure", "tasks", to=["micr"])
    content["sft_sets"]["test"] = ["no/such.jsonl", "no/other.jsonl"]
    with pytest.raises(SettingsError, match=r"sft_sets: such.*; sft_sets: other.*; measure: ") as told:
        check(write(tmp_path, content), work)
    assert "\n" not in str(told.value)
    monkeypatch.setattr(checks, "_SHOWN", 1)
    with pytest.raises(SettingsError, match=r"such.*; and 2 more"):
        check(write(tmp_path, content), work)
