"""Signed STS of a real run equals what transformers, SAELens and plain autograd give."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_sts.features.answer_gradients import AnswerGradientReader
from tests.harness.test_run import predictions_of, samples_read, sft_prompts
from tests.harness.world import World, evaluate

SUBJECTS = ("law", "math")
TASKS = [f"sts_mmlu_pro_{subject}" for subject in SUBJECTS]
NAMES = ["sts_signed", "sts_signed_top", "sts_signed_raw"]
LITTLE = {"sft_tokens": 100, "domain_tokens": 400, "predictors": NAMES}
BLOCK = 3
"""hidden_states holds the embeddings first: this is what leaves block 2, where the world's SAE reads."""


class Plain:
    """The world's model and SAE."""

    def __init__(self, world: World) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(world.model)
        self.sae = SAE.load_from_disk(world.settings["sae"])

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text)["input_ids"]

    def states(self, ids: list[int], **options) -> torch.Tensor:
        return self.model(torch.tensor([ids]), output_hidden_states=True, **options)

    def shifts(self, lines: list[dict]) -> tuple[np.ndarray, np.ndarray]:
        """Mean shift of features and of the activation over the scored tokens: [draws, d_sae], [draws, d_in]."""
        features, raw = [], []
        for draw in range(len(lines[0]["contexts"])):
            h, x = [], []
            for line in lines:
                own = [p for start, stop in line["scored"] for p in range(start, stop)]
                further = line["context_tokens"][draw] - line["plain_tokens"]
                with torch.no_grad():
                    alone = self.states(self.ids(line["plain"])).hidden_states[BLOCK][0][own]
                    shown = self.states(self.ids(line["contexts"][draw])).hidden_states[BLOCK][0]
                    shown = shown[[p + further for p in own]]
                    h.append((self.sae.encode(shown) - self.sae.encode(alone)).double().numpy())
                x.append((shown - alone).double().numpy())
            features.append(np.concatenate(h).mean(axis=0))
            raw.append(np.concatenate(x).mean(axis=0))
        return np.stack(features), np.stack(raw)

    def gradient(self, sample: dict) -> np.ndarray:
        """Gradient of the right option's log-likelihood, summed over the question's tokens: [d_in]."""
        facts = sample["arguments"][0][1]
        prompt = facts["contexts"][0]
        context, both = self.ids(prompt), self.ids(f"{prompt} The answer is ({sample['doc']['answer']}).")
        answer = both[len(context) :]
        out = self.states(both)
        log_p = torch.log_softmax(out.logits[0, len(context) - 1 : -1], dim=-1)[range(len(answer)), answer].sum()
        (gradient,) = torch.autograd.grad(log_p, out.hidden_states[BLOCK])
        further = facts["context_tokens"][0] - facts["plain_tokens"]
        own = [p + further for start, stop in facts["scored"] for p in range(start, stop)]
        return gradient[0][own].double().sum(dim=0).numpy()


def test_equals_plain_transformers(world, tmp_path):
    results = evaluate(world, TASKS, sts={**LITTLE, "profiles_dir": str(tmp_path / "p")})
    found, plain = predictions_of(results, tmp_path), Plain(world)
    lines = [json.loads(line) for line in sft_prompts(results).read_text().splitlines()]
    features, raw = plain.shifts(lines)
    rows = plain.sae.W_dec.detach().double().numpy()
    chosen = [list(draw.features) for draw in found["sts_signed_top"].selection.draws]
    for subject in SUBJECTS:
        read = samples_read(results, subject)
        assert len(read) > 2
        gradients = np.stack([plain.gradient(sample) for sample in read])
        top = [s[d] @ rows[d] for s, d in zip(features, chosen, strict=True)]
        expected = {"sts_signed": features @ rows, "sts_signed_top": np.stack(top), "sts_signed_raw": raw}
        for name, directions in expected.items():
            values = gradients @ directions.T
            domain = found[name].domains[subject]
            assert domain.score == pytest.approx(values.mean(), rel=1e-4, abs=1e-4 * np.abs(values).max()), name
            assert domain.draws == pytest.approx(tuple(values.mean(axis=0)), rel=1e-3, abs=1e-4 * np.abs(values).max())
            own = [sample[name] for sample in read]
            np.testing.assert_allclose(own, values.mean(axis=1), atol=1e-4 * np.abs(values).max(), rtol=1e-3)
    assert found["sts_signed"].sae is not None and found["sts_signed"].target == "delta"


def test_gradients_do_not_depend_on_the_sft_set(world, tmp_path, monkeypatch):
    settings = {**LITTLE, "profiles_dir": str(tmp_path / "p")}
    first = predictions_of(evaluate(world, TASKS, sts=settings), tmp_path)
    monkeypatch.setattr(AnswerGradientReader, "read", lambda *a: pytest.fail("read again"))
    lines = (world.root / "sft.jsonl").read_text().splitlines()
    (tmp_path / "other.jsonl").write_text("\n".join(lines[5:]))
    other = predictions_of(evaluate(world, TASKS, sts={**settings, "sft_set": str(tmp_path / "other.jsonl")}), tmp_path)
    assert other["sts_signed"].domains["law"].score != first["sts_signed"].domains["law"].score
