"""Gradients of a real run equal plain autograd through transformers; what is stored is not read again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.gradients import GradientsKind
from lm_eval_sts.features.sketch import GradientSketcher
from tests.evidence.setups import setup
from tests.harness.test_run import predictions_of, samples_read, sft_prompts
from tests.harness.world import World, evaluate
from tests.messages import says

SUBJECTS = ("law", "math")
TASKS = [f"sts_mmlu_pro_{subject}" for subject in SUBJECTS]
NAMES = ["gradient_inner", "gradient_cosine", "gradient_question_cosine", "gradient_fisher"]
LITTLE = {"sft_tokens": 100, "domain_tokens": 400, "gradient_layers": [1, 2]}


class Plain:
    """Weight gradients of the world's model by plain autograd."""

    def __init__(self, world: World) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(world.model)
        blocks = [self.model.model.layers[i] for i in (1, 2)]
        self.weights = [p for block in blocks for p in block.parameters() if p.dim() == 2]

    def gradient(self, context: list[int], answer: list[int]) -> np.ndarray:
        """Of the summed loss of the answer's tokens."""
        logits = self.model(torch.tensor([context + answer])).logits[0, len(context) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum")
        return np.concatenate([g.flatten().numpy() for g in torch.autograd.grad(loss, self.weights)]).astype(np.float64)

    def sft(self, examples: list[dict]) -> np.ndarray:
        """Of the mean loss of a token of the responses that fill the budget, as the chat template shows them."""
        total, tokens = 0.0, 0
        for example in examples:
            if tokens >= LITTLE["sft_tokens"]:
                break
            turns = [
                {"role": "user", "content": example["prompt"]},
                {"role": "assistant", "content": example["response"]},
            ]
            context = self.tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
            whole = self.tokenizer.apply_chat_template(turns, tokenize=False)
            first, both = (self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (context, whole))
            total = total + self.gradient(first, both[len(first) :])
            tokens += len(both) - len(first)
        return total / tokens

    def question(self, sample: dict) -> np.ndarray:
        prompt = sample["arguments"][0][1]["contexts"][0]
        text = f" The answer is ({sample['doc']['answer']})."
        context, both = (self.tokenizer(t)["input_ids"] for t in (prompt, prompt + text))
        return self.gradient(context, both[len(context) :])


def test_equals_plain_autograd(world, tmp_path):
    whole = {**LITTLE, "gradient_width": 10**9, "predictors": [*NAMES, "sts_act"], "profiles_dir": str(tmp_path / "p")}
    results = evaluate(world, TASKS, sts=whole)
    found, plain = predictions_of(results, tmp_path), Plain(world)
    examples = [json.loads(line) for line in (world.root / "sft.jsonl").read_text().splitlines()]
    lines = [json.loads(line) for line in sft_prompts(results).read_text().splitlines()]
    sft = plain.sft([next(e for e in examples if e["prompt"] == line["plain"]) for line in lines])
    for subject in SUBJECTS:
        read = samples_read(results, subject)
        assert len(read) > 2
        gradients = np.stack([plain.question(sample) for sample in read])
        products, mean = gradients @ sft, gradients.mean(axis=0)
        lengths = np.linalg.norm(gradients, axis=1) * np.linalg.norm(sft)
        expected = {
            "gradient_inner": products.mean(),
            "gradient_cosine": mean @ sft / np.linalg.norm(mean) / np.linalg.norm(sft),
            "gradient_question_cosine": (products / lengths).mean(),
            "gradient_fisher": (products**2).mean(),
        }
        for name, value in expected.items():
            domain = found[name].domains[subject]
            assert domain.score == pytest.approx(value, rel=1e-4, abs=1e-6), name
            assert domain.n_questions == len(read) and found[name].target == domain_target(name)
        for sample, product in zip(read, products, strict=True):
            assert sample["gradient_inner"] == pytest.approx(product, rel=1e-4, abs=1e-6)


def domain_target(name: str) -> str:
    return "magnitude" if name == "gradient_fisher" else "delta"


def test_another_sft_set_reads_only_its_own(world, tmp_path, monkeypatch):
    settings = {**LITTLE, "gradient_width": 256, "predictors": NAMES, "profiles_dir": str(tmp_path / "p")}
    read: list[int] = []
    plain = GradientSketcher.sketch

    def counted(self, pairs):
        read.append(len(pairs))
        return plain(self, pairs)

    monkeypatch.setattr(GradientSketcher, "sketch", counted)
    first = predictions_of(evaluate(world, TASKS, sts=settings), tmp_path)
    n_questions = [first["gradient_inner"].domains[subject].n_questions for subject in SUBJECTS]
    assert len(read) == 3 and sorted(read[1:]) == sorted(n_questions)
    again = predictions_of(evaluate(world, TASKS, sts=settings), tmp_path)
    assert len(read) == 3 and again["gradient_inner"].domains == first["gradient_inner"].domains
    lines = (world.root / "sft.jsonl").read_text().splitlines()
    (tmp_path / "other.jsonl").write_text("\n".join(lines[5:]))
    other = evaluate(world, TASKS, sts={**settings, "sft_set": str(tmp_path / "other.jsonl")})
    assert len(read) == 4, "one chunk of the other set, and nothing of the domains"
    scores = predictions_of(other, tmp_path)["gradient_inner"].domains
    assert scores["law"].score != first["gradient_inner"].domains["law"].score


def test_the_first_questions_only(world, tmp_path):
    settings = {**LITTLE, "gradient_width": 256, "gradient_questions": 2, "predictors": NAMES}
    results = evaluate(world, TASKS[:1], sts={**settings, "profiles_dir": str(tmp_path / "p")})
    record = predictions_of(results, tmp_path)["gradient_cosine"]
    notes = "\n".join(record.provenance.notes)
    assert record.domains["law"].n_questions == 2
    assert "gradients are of the first 2 of up to" in notes and "error of 0.0625 from it" in notes
    samples = samples_read(results, "law")
    assert ["gradient_cosine" in sample for sample in samples] == [True, True, *([False] * (len(samples) - 2))]


def test_a_block_that_is_not_there(world, tmp_path):
    with says(SettingsError, "gradient_layers: 4", "4 blocks, 0 to 3"):
        GradientsKind(setup(world, gradient_layers=[4], profiles_dir=str(tmp_path)))
