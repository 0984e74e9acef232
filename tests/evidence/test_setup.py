"""What the keys of stored numbers depend on."""

from __future__ import annotations

from dataclasses import replace

from sae_lens import SAE

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.profiles import LayersKind
from lm_eval_sts.evidence.setup import Queries, attach
from lm_eval_sts.evidence.trial_runs import TrialRunsKind
from lm_eval_sts.features.sae import wrap_sae
from lm_eval_sts.features.sft_queries import SftQueries
from tests.evidence.setups import setup
from tests.messages import says


def test_where_generation_ends_changes_no_key_and_rope_does(world, tmp_path):
    def key(**config: object) -> str:
        made = setup(world, profiles_dir=str(tmp_path))
        made.model.model.config.update(config)
        return made.store("law", {}).digest

    assert key() == key(eos_token_id=7, pad_token_id=9)
    assert key() != key(rms_norm_eps=1e-3)


def test_an_sae_that_is_centred_is_another_one(world):
    """Its metadata alone say so, and the hash of an SAE's content leaves metadata out."""
    model = setup(world).model
    sae = SAE.load_from_disk(world.settings["sae"])
    plain = attach(model, wrap_sae(sae, "sae"))
    centred = replace(plain, sae=replace(plain.sae, center_input=True))
    assert plain.sae.content_hash == centred.sae.content_hash and plain.key != centred.key


def test_one_sae_twice_is_refused(world):
    with says(SettingsError, "more_saes", "once more"):
        LayersKind(setup(world, more_saes=[world.settings["sae"] + "/"]))


def test_a_trial_run_depends_on_how_examples_are_put(world, tmp_path):
    """Their tokens are not among those that are measured, which name what is stored."""
    made = setup(world, profiles_dir=str(tmp_path), probing_steps=[1])
    kind, tokenizer = TrialRunsKind(made), made.model.tokenizer

    def keys() -> list[str]:
        return [reading.store.digest for reading in kind.plan(Queries(SftQueries([], [], [], (), ()), []))]

    before, after = keys()
    tokenizer.chat_template += " "
    again = keys()
    assert again[0] == before and again[1] != after
