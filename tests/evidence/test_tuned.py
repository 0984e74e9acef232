"""Oracles in a run: base and tuned model on the same tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.finetuning.tuned import MANIFEST
from lm_eval_sts.records import ModelRef, SftSetRef, save_record
from tests.finetuning.test_tuned import manifest
from tests.harness.test_run import predictions_of, samples_read, sft_prompts
from tests.harness.world import evaluate
from tests.messages import says
from tests.tiny_models import VOCAB

LAW = ["sts_mmlu_pro_law"]
NAMES = ("oracle_sts_act", "oracle_sts_icl", "oracle_sts_shift")
REPRESENTATION = ("oracle_representation_cosine", "oracle_representation_cka")


@pytest.fixture(scope="module")
def adapter(world, tmp_path_factory) -> Path:
    """An adapter that changes much."""
    folder = tmp_path_factory.mktemp("tuned") / "adapter"
    model = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32)
    torch.manual_seed(0)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def results(world, adapter):
    names = [*NAMES, *REPRESENTATION]
    return evaluate(
        world, LAW, sts={"predictors": names, "tuned": str(adapter), "domain_tokens": 1000}, batch_size="auto"
    )


def test_they_equal_transformers_peft_and_saelens_alone(world, adapter, results):
    tokenizer = AutoTokenizer.from_pretrained(world.model)
    sae = SAE.load_from_disk(world.settings["sae"])
    base = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32).eval()
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(world.model), adapter).eval()

    @torch.no_grad()
    def activations(model, text, facts, shift=0) -> torch.Tensor:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        assert ids.shape[1] == facts["plain_tokens"] + shift
        x = model(ids, output_hidden_states=True).hidden_states[3][0]
        return torch.cat([x[start + shift : stop + shift] for start, stop in facts["scored"]])

    def read(model, prompts) -> list[torch.Tensor]:
        return [activations(model, plain, facts) for plain, facts in prompts]

    def total(rows: list[torch.Tensor]) -> np.ndarray:
        return torch.cat(rows).double().numpy()

    lines = [json.loads(line) for line in sft_prompts(results).read_text().splitlines()]
    sft = [(line["plain"], line) for line in lines]
    law = [sample["arguments"][0] for sample in samples_read(results, "law")]
    with torch.no_grad():
        shift = total([sae.encode(b) - sae.encode(a) for a, b in zip(read(base, sft), read(tuned, sft), strict=True)])
        chosen = np.argsort(-(shift**2).sum(axis=0))[:10]
        x, y = read(base, law), read(tuned, law)
        h, g = total([sae.encode(a) for a in x]), total([sae.encode(b) for b in y])
        icl = []
        for k in range(2):
            moved = [
                activations(base, facts["contexts"][k], facts, facts["context_tokens"][k] - facts["plain_tokens"])
                for _, facts in law
            ]
            icl.append(((total([sae.encode(m) for m in moved]) - h)[:, chosen] ** 2).sum(axis=1).mean())
    before, after = total(x).mean(axis=0), total(y).mean(axis=0)
    p, q = (np.stack([rows.double().mean(0).numpy() for rows in side]) for side in (x, y))
    p, q = p - p.mean(axis=0), q - q.mean(axis=0)
    expected = {
        "oracle_sts_act": h[:, chosen].sum(axis=1).mean(),
        "oracle_sts_icl": np.mean(icl),
        "oracle_sts_shift": ((g - h)[:, chosen] ** 2).sum(axis=1).mean(),
        "oracle_representation_cosine": 1 - before @ after / np.linalg.norm(before) / np.linalg.norm(after),
        "oracle_representation_cka": 1
        - np.linalg.norm(p.T @ q) ** 2 / np.linalg.norm(p.T @ p) / np.linalg.norm(q.T @ q),
    }
    row = results["results"][LAW[0]]
    for name, value in expected.items():
        assert row[f"{name},none"] == pytest.approx(value, rel=1e-4), name
        assert value > 1e-3


def test_the_record_says_that_the_manifest_is_missing_and_how_features_were_selected(results, tmp_path):
    records = predictions_of(results, tmp_path)
    assert any("has no manifest" in note for note in records["oracle_sts_act"].provenance.notes)
    selection = records["oracle_sts_shift"].selection
    assert selection.moved_by == "training" and len(selection.draws) == 1 and selection.draws[0].demonstrations == ()


def test_a_second_run_reads_nothing_again(world, adapter, results, monkeypatch):
    from lm_eval_sts.features.reader import Reader

    monkeypatch.setattr(Reader, "read", lambda *a: pytest.fail("read again"))
    sts = {"predictors": ["oracle_sts_shift"], "tuned": str(adapter), "domain_tokens": 1000}
    again = evaluate(world, LAW, sts=sts, batch_size="auto")
    name = "oracle_sts_shift,none"
    assert again["results"][LAW[0]][name] == results["results"][LAW[0]][name]


def test_what_does_not_belong_here_is_refused(world, adapter, tmp_path):
    from lm_eval_sts.evidence.tuned import TunedKind
    from tests.evidence.setups import setup

    ours = setup(world)
    with says(SettingsError, "oracles need the tuned model", "set tuned"):
        TunedKind(ours)
    with says(SettingsError, str(tmp_path), "neither an adapter nor a model"):
        TunedKind(setup(world, tuned=str(tmp_path)))
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in adapter.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    given = setup(world, tuned=str(folder))
    base, sft_set = given.model.reference, given.sft_set
    right = SftSetRef(name="mine", content_hash=sft_set.content_hash, n_examples=40)

    def written(reference: ModelRef, on: SftSetRef) -> None:
        save_record(manifest(reference).model_copy(update={"sft_set": on}), folder / MANIFEST)

    written(base, right)
    assert TunedKind(given).notes == []
    written(base, right.model_copy(update={"name": "other", "content_hash": "f" * 64}))
    with says(SettingsError, "was tuned on other", sft_set.name):
        TunedKind(given)
    other = base.model_copy(update={"tensors_hash": "e" * 64})
    written(other, right)
    with says(ModelError, "eeeeeeeeeeee", base.tensors_hash[:12]):
        TunedKind(given)


def test_a_model_that_cannot_be_loaded_again_is_refused(world, adapter):
    from lm_eval_sts.evidence.tuned import TunedKind
    from tests.evidence.setups import setup

    given = setup(world, tuned=str(adapter))
    lm = given.model.lm
    for name, value, part in (
        ("peft", "x", "merge it"),
        ("delta", "x", "delta weights"),
        ("pretrained", lm.model, "as an object"),
    ):
        before = getattr(lm, name)
        setattr(lm, name, value)
        with says(ModelError, "a second time", part):
            TunedKind(given)
        setattr(lm, name, before)


def test_another_model_than_lm_evals_is_not_taken_for_it(world, adapter):
    from tests.evidence.setups import setup

    given = setup(world, tuned=str(adapter))
    source = given.model.source("a test")
    with torch.no_grad():
        given.model.model.lm_head.weight[VOCAB - 1] += 1.0
    with says(ModelError, "is not the model that lm-eval loaded"):
        given.model.tuned(source, adapter)
    with says(ModelError, "cannot load the model in", "/nowhere"):
        given.model.tuned(replace(source, path="/nowhere"), Path("/nowhere"))
