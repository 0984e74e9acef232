"""The outcomes of the first real model as they are registered."""

from __future__ import annotations

import json

import pytest

from lm_eval_sts.agreement.matching import differences
from lm_eval_sts.errors import RecordError
from lm_eval_sts.leaderboard.checks import check_submission
from lm_eval_sts.leaderboard.registered import is_synthetic, read_settings
from lm_eval_sts.leaderboard.scopes import read_scopes, resolve
from lm_eval_sts.leaderboard.submitting import Origin, make_submissions
from lm_eval_sts.records import UNKNOWN, Outcome, load_record
from studies.real_outcomes import CAVEATS, SETTINGS, make, registered
from tests.agreement import made

BOARD = SETTINGS.parents[1]
PROJECT = BOARD.parent
PLACES = [folder / "shared" / "data" / "real" for folder in (PROJECT, PROJECT.parent)]
KIT = next((place for place in PLACES if place.is_dir()), PLACES[0])

needs_kit = pytest.mark.skipif(not KIT.is_dir(), reason="the kit of the real model is not at hand")


def real() -> dict[str, Outcome]:
    return {name: found for name, found in read_settings(BOARD).items() if name.startswith("qwen-coder/")}


def test_one_model_ten_sft_sets_and_what_must_be_known_of_them():
    outcomes = real().values()
    assert len(outcomes) == 10
    (model,) = {outcome.model for outcome in outcomes}
    assert not is_synthetic(model.name)
    assert UNKNOWN not in (model.weights_hash, model.tensors_hash, model.config_hash)
    assert len({outcome.sft_set.content_hash for outcome in outcomes}) == 10
    for outcome in outcomes:
        assert outcome.sft_set.name == f"real/{outcome.name}"
        assert outcome.recipe.lora_rank == outcome.recipe.lora_alpha == 32
        assert set(CAVEATS) < set(outcome.caveats)
        assert any("one fine-tuning seed" in each for each in outcome.caveats)
        assert len(outcome.changes("choice_log_likelihood")) == len(outcome.changes()) == 14


def test_their_scopes_show_the_log_likelihood_and_accuracy_beside_it():
    scopes = {scope.name: resolve(scope, read_settings(BOARD)) for scope in read_scopes(BOARD)}
    assert scopes["qwen-coder"].view == "choice_log_likelihood"
    assert scopes["qwen-coder-accuracy"].view == "score"
    assert scopes["qwen-coder"].settings == scopes["qwen-coder-accuracy"].settings == tuple(real())


@needs_kit
def test_the_kit_gives_them_again(tmp_path):
    files = make(KIT, tmp_path)
    assert {path.name for path in files} == {path.name for path in SETTINGS.iterdir()}
    for path in files:
        assert path.read_bytes() == (SETTINGS / path.name).read_bytes(), path.name


@needs_kit
def test_other_weights_are_not_the_measured_ones():
    model = load_record(Outcome, SETTINGS / "gsm8k.json").model
    with pytest.raises(RecordError, match="the model's weights are 000"):
        registered(KIT, "gsm8k", model.model_copy(update={"weights_hash": "0" * 64}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights_hash": "f" * 64, "tensors_hash": "f" * 64}, "predicted from another base model than was measured"),
        ({"content_hash": "f" * 64}, "predicted from another SFT set than was measured"),
        ({"weights_hash": UNKNOWN}, "weights_hash is unknown"),
        ({"scores": {"biology": 1.0}}, "13 of 14 domains are missing"),
        ({"scores": {"biology_genetics": 1.0}}, "has no domain 'biology_genetics'"),
    ],
)
def test_predictions_of_something_else_are_refused(change, said):
    name = "submissions/tfidf_cosine/1.json"
    data = json.loads((BOARD / name).read_text())
    data["settings"] = {"qwen-coder/gsm8k": data["settings"]["qwen-coder/gsm8k"]}
    assert not check_submission(data, name, real())
    data["settings"]["qwen-coder/gsm8k"] |= change
    assert any(said in found.message for found in check_submission(data, name, real()))


@pytest.mark.parametrize("tasks", ["mmlu_pro", "micro"])
def test_predictions_of_other_questions_fit_none(tasks):
    outcome = real()["qwen-coder/gsm8k"]
    given = {"model": outcome.model.name, "weights": outcome.model.weights_hash, "task_version": "1.0"}
    given |= {"content": outcome.sft_set.content_hash}
    fits = made.prediction(dict.fromkeys(outcome.domains, 1.0), tasks="mcf", **given)
    other = made.prediction(dict.fromkeys(outcome.domains, 1.0), tasks=tasks, **given)
    assert not differences(fits, outcome)
    with pytest.raises(RecordError, match=f"predicted for the tasks {tasks}, measured with mcf"):
        make_submissions([other], real(), Origin(name="A", commit="abcdef0"), {})
