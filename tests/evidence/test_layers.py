"""Several SAEs in one run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_sts.errors import SaeError, SettingsError
from tests.evidence.setups import setup
from tests.harness.test_run import predictions_of, samples_read, sft_prompts
from tests.harness.world import evaluate
from tests.messages import says
from tests.tiny_saes import save_tiny_sae

LAW = ["sts_mmlu_pro_law"]
NAMES = ["sts_act_layers", "sts_icl_layers"]


@pytest.fixture(scope="module")
def other_sae(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("saes") / "first"
    return str(save_tiny_sae(folder, d_in=48, d_sae=64, hook_name="blocks.0.hook_resid_post", seed=1))


@pytest.fixture(scope="module")
def results(world, other_sae):
    return evaluate(world, LAW, sts={"predictors": NAMES, "more_saes": [other_sae]}, batch_size="auto")


def test_it_equals_transformers_and_saelens_alone(world, other_sae, results, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(world.model)
    model = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32).eval()
    saes = [(SAE.load_from_disk(world.settings["sae"]), 3), (SAE.load_from_disk(other_sae), 1)]

    @torch.no_grad()
    def features(text, facts, shift=0) -> torch.Tensor:
        states = model(tokenizer(text, return_tensors="pt")["input_ids"], output_hidden_states=True).hidden_states
        positions = [p + shift for start, stop in facts["scored"] for p in range(start, stop)]
        return torch.cat([sae.encode(states[i][0][positions]) for sae, i in saes], dim=-1).double()

    def read(prompts):
        h = [features(plain, facts) for plain, facts in prompts]
        shown = [
            [
                features(facts["contexts"][k], facts, facts["context_tokens"][k] - facts["plain_tokens"])
                for _, facts in prompts
            ]
            for k in range(2)
        ]
        return torch.cat(h).numpy(), [torch.cat(draw).numpy() for draw in shown]

    lines = [json.loads(line) for line in sft_prompts(results).read_text().splitlines()]
    sft, sft_shown = read([(line["plain"], line) for line in lines])
    chosen = [np.argsort(-((draw - sft) ** 2).sum(axis=0))[:10] for draw in sft_shown]
    law, law_shown = read([sample["arguments"][0] for sample in samples_read(results, "law")])
    row = results["results"][LAW[0]]
    act = np.mean([law[:, c].sum(axis=1).mean() for c in chosen])
    icl = np.mean([((s - law)[:, c] ** 2).sum(axis=1).mean() for s, c in zip(law_shown, chosen, strict=True)])
    assert row["sts_act_layers,none"] == pytest.approx(act, rel=1e-4)
    assert row["sts_icl_layers,none"] == pytest.approx(icl, rel=1e-4)
    record = predictions_of(results, tmp_path)["sts_icl_layers"]
    assert record.selection.space == "saes"
    assert [set(draw.features) for draw in record.selection.draws] == [set(map(int, c)) for c in chosen]
    assert any("2 SAEs side by side" in note for note in record.provenance.notes)


def test_without_more_saes_it_is_refused(world):
    from lm_eval_sts.evidence.profiles import LayersKind

    with says(SettingsError, "set more_saes"):
        LayersKind(setup(world))
    with says(SettingsError, "set more_saes"):
        evaluate(world, LAW, sts={"predictors": NAMES}, model="dummy")


def test_one_that_does_not_fit_is_refused(world, tmp_path):
    from lm_eval_sts.evidence.profiles import LayersKind

    wide = save_tiny_sae(tmp_path / "wide", d_in=40)
    with says(SaeError, "width 40", "48"):
        LayersKind(setup(world, more_saes=[str(wide)]))
