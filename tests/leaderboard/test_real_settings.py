"""The outcomes of the first real model as they are registered."""

from __future__ import annotations

import pytest

from lm_eval_sts.errors import RecordError
from lm_eval_sts.leaderboard.registered import is_synthetic, read_settings
from lm_eval_sts.leaderboard.scopes import read_scopes, resolve
from lm_eval_sts.records import UNKNOWN, Outcome, load_record
from studies.real_outcomes import CAVEATS, SETTINGS, make, registered

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
    made = make(KIT, tmp_path)
    assert {path.name for path in made} == {path.name for path in SETTINGS.iterdir()}
    for path in made:
        assert path.read_bytes() == (SETTINGS / path.name).read_bytes(), path.name


@needs_kit
def test_other_weights_are_not_the_measured_ones():
    model = load_record(Outcome, SETTINGS / "gsm8k.json").model
    with pytest.raises(RecordError, match="the model's weights are 000"):
        registered(KIT, "gsm8k", model.model_copy(update={"weights_hash": "0" * 64}))
