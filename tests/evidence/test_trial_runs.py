"""Trial runs: against fine-tuning in plain PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.evidence.trial_runs import TrialRunsKind
from tests.evidence.setups import setup
from tests.harness.test_run import predictions_of, samples_read
from tests.harness.world import evaluate, make_world
from tests.messages import says

LAW = ["sts_mmlu_pro_law"]
# The whole set in every step, so that the order of the examples does not matter.
RECIPE = {"method": "full", "learning_rate": 1e-3, "batch_size": 40, "weight_decay": 0.0, "dtype": "float32"}
SETTINGS = {
    "predictors": ["probing_1", "probing_5"],
    "probing_recipe": RECIPE,
    "probing_steps": [1, 5],
    "probing_questions": 3,
    "domain_tokens": 1000,
}


@pytest.fixture(scope="module")
def plain_world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("plain"), chat_template=False)


@pytest.fixture(scope="module")
def results(plain_world):
    found = evaluate(plain_world, LAW, sts=SETTINGS, batch_size="auto", torch_random_seed=7, numpy_random_seed=7)
    found["drawn"] = (np.random.random(), float(torch.rand(1)))  # noqa: NPY002 - the global generator is tested
    return found


def gold(model, tokenizer, samples) -> np.ndarray:
    """Log-likelihood of each right answer after the benchmark's prompt, one at a time."""
    values = []
    for sample in samples:
        prompt = tokenizer(sample["arguments"][0][1]["contexts"][0])["input_ids"]
        answer = tokenizer(f" The answer is ({sample['doc']['answer']}).", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        values.append(float(logits.log_softmax(-1)[range(len(answer)), answer].double().sum()))
    return np.array(values)


def test_it_equals_plain_fine_tuning(plain_world, results, tmp_path):
    import json

    tokenizer = AutoTokenizer.from_pretrained(plain_world.model)
    model = AutoModelForCausalLM.from_pretrained(plain_world.model, dtype=torch.float32).eval()
    rows = [json.loads(line) for line in Path(plain_world.settings["sft_set"]).read_text().splitlines()]
    samples = samples_read(results, "law")[:3]
    before, optimiser = gold(model, tokenizer, samples), torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
    records = predictions_of({k: v for k, v in results.items() if k != "drawn"}, tmp_path)
    for step in range(1, 6):
        total = tokens = 0
        for row in rows:
            prompt = tokenizer(row["prompt"])["input_ids"]
            whole = tokenizer(f"{row['prompt']}\n{row['response']}{tokenizer.eos_token}")["input_ids"]
            logits = model(torch.tensor([whole])).logits[0, len(prompt) - 1 : -1]
            total = total - logits.log_softmax(-1)[range(len(whole) - len(prompt)), whole[len(prompt) :]].sum()
            tokens += len(whole) - len(prompt)
        (total / tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step in (1, 5):
            change = gold(model, tokenizer, samples) - before
            found = records[f"probing_{step}"].domains["law"]
            assert found.score == pytest.approx(change.mean(), rel=1e-3, abs=1e-4)
            assert abs(change.mean()) > 1e-2 and found.n_questions == 3 and found.se > 0
            assert [s[f"probing_{step}"] for s in samples] == pytest.approx(change, rel=1e-3, abs=1e-4)


def test_questions_that_were_not_measured_have_no_value(results):
    rest = samples_read(results, "law")[3:]
    assert rest and all("probing_1" not in sample for sample in rest)


def test_the_record_says_how(results, tmp_path):
    record = predictions_of({k: v for k, v in results.items() if k != "drawn"}, tmp_path)["probing_5"]
    assert (record.target, record.sae) == ("delta", None)
    assert any("learning rate 0.001 held constant without warm-up" in note for note in record.provenance.notes)


def test_tuned_models_are_removed_and_a_second_run_trains_nothing(plain_world, results, monkeypatch):
    from lm_eval_sts.finetuning import finetune as module

    left = list(Path(plain_world.settings["profiles_dir"]).glob("trial-run-*"))
    assert not left
    monkeypatch.setattr(module, "finetune", lambda *a, **k: pytest.fail("trained again"))
    again = evaluate(plain_world, LAW, sts=SETTINGS, batch_size="auto")
    assert again["results"][LAW[0]]["probing_5,none"] == results["results"][LAW[0]]["probing_5,none"]


def test_the_global_generators_are_left_as_they_were(results):
    generator = torch.Generator().manual_seed(7)
    assert results["drawn"] == (np.random.RandomState(7).random_sample(), float(torch.rand(1, generator=generator)))


def test_refusals(world, monkeypatch):
    given = setup(world, predictors=["probing_1"])
    given.model.lm.peft = "adapter"
    with says(ModelError, "a trial run loads", "merge it"):
        TrialRunsKind(given)
    given.model.lm.peft = None
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    with says(SettingsError, "one process on one device", "CUDA_VISIBLE_DEVICES"):
        TrialRunsKind(given)


def test_another_tokenizer_than_that_of_the_models_folder_is_refused(world, plain_world):
    given = {"pretrained": plain_world.model, "tokenizer": world.model}
    with says(SettingsError, plain_world.model, "another one was given"):
        evaluate(plain_world, LAW, sts=SETTINGS, model_args=given)


def test_questions_that_a_trial_run_leaves_out_have_no_value_of_it(plain_world, caplog):
    """lm-eval warns where metrics of a task are of different numbers of questions."""
    chosen = SETTINGS | {"predictors": ["sts_act", "probing_1"], "probing_steps": [1]}
    with caplog.at_level("WARNING"):
        found = evaluate(plain_world, LAW, sts=chosen)
    rows = [(sample["sts_act"], sample["probing_1"]) for sample in samples_read(found, "law")]
    assert len(rows) > 3 and [row[1] is None for row in rows] == [False] * 3 + [True] * (len(rows) - 3)
    assert all(row[0] is not None for row in rows)
    assert "not scored on the same number" not in caplog.text
    assert found["n-samples"]["sts_mmlu_pro_law"]["effective"] == len(rows)
