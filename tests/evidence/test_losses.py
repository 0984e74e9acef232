"""Losses of a real run equal what transformers alone gives for prompts that are put together here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_sts.evidence.losses import LossesKind, Rehearsal, RehearsalKind
from lm_eval_sts.features.likelihood import LikelihoodReader
from tests.harness.test_run import predictions_of, samples_read, sft_prompts
from tests.harness.world import World, evaluate, make_world

SUBJECTS = ("law", "math")
TASKS = [f"sts_mmlu_pro_{subject}" for subject in SUBJECTS]
ENOUGH = {"sft_tokens": 300, "domain_tokens": 1500}
LOSSES = [
    *("loss_gold", "loss_gap", "loss_rehearsal", "loss_rehearsal_alone"),
    *("loss_entropy", "loss_margin", "null_base_accuracy"),
]


@pytest.fixture
def kinds(monkeypatch) -> list[RehearsalKind]:
    """The rehearsals of the runs of a test."""
    return noted(monkeypatch, RehearsalKind)


@pytest.fixture
def asked(monkeypatch) -> list[LossesKind]:
    """The losses of the runs of a test."""
    return noted(monkeypatch, LossesKind)


def noted(monkeypatch, kind: type) -> list:
    made: list = []
    plain = kind.__init__

    def init(self, setup):
        plain(self, setup)
        made.append(self)

    monkeypatch.setattr(kind, "__init__", init)
    return made


@pytest.fixture
def read(monkeypatch) -> list[int]:
    """How many continuations were read in one go, each time."""
    counts: list[int] = []
    plain = LikelihoodReader.log_likelihoods

    def counted(self, continuations):
        counts.append(len(continuations))
        return plain(self, continuations)

    monkeypatch.setattr(LikelihoodReader, "log_likelihoods", counted)
    return counts


class Plain:
    """The world's model in plain transformers."""

    def __init__(self, world: World) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(world.model)

    def ids(self, text: str, **options: bool) -> list[int]:
        return self.tokenizer(text, **options)["input_ids"]

    def log_likelihood(self, context: list[int], continuation: list[int]) -> float:
        with torch.no_grad():
            logits = self.model(torch.tensor([context + continuation])).logits[0]
        found = torch.log_softmax(logits[len(context) - 1 : -1], dim=-1)
        return float(found[range(len(continuation)), continuation].sum())

    def option(self, prompt: str, letter: str) -> float:
        text = f" The answer is ({letter})."
        context, whole = self.ids(prompt), self.ids(prompt + text)
        return self.log_likelihood(context, whole[len(context) :])


def test_equals_plain_transformers(world, tmp_path):
    results = evaluate(
        world, TASKS, sts={**ENOUGH, "predictors": [*LOSSES, "sts_act"], "profiles_dir": str(tmp_path / "p")}
    )
    found = predictions_of(results, tmp_path)
    plain = Plain(world)
    questions = {q["question"]: q for q in rows(world.root / "benchmark" / "test.parquet")}
    lines = [json.loads(line) for line in sft_prompts(results).read_text().splitlines()]
    shown = [context.removesuffix(lines[0]["plain"]) for context in lines[0]["contexts"]]
    assert len(shown) == 2 and all(text.count("Solve:") == 2 for text in shown)
    sft = rows(world.root / "sft.jsonl")
    per_token = loss_of_responses(plain, [next(r for r in sft if r["prompt"] == line["plain"]) for line in lines])
    for subject in SUBJECTS:
        read = samples_read(results, subject)
        assert len(read) > 2
        options, right, after, instead = [], [], [], []
        for sample in read:
            question = questions[sample["doc"]["question"]]
            prompt = sample["arguments"][0][1]["contexts"][0]
            options.append(np.array([plain.option(prompt, letter) for letter in "ABCD"]))
            right.append(question["answer_index"])
            after.append([plain.option(text + prompt, question["answer"]) for text in shown])
            instead.append([plain.option(text + sample["arguments"][0][0], question["answer"]) for text in shown])
        gold = np.array([o[i] for o, i in zip(options, right, strict=True)])
        p = [np.exp(o) / np.exp(o).sum() for o in options]
        others = [np.delete(o, i).max() for o, i in zip(options, right, strict=True)]
        expected = {
            "loss_gold": -gold.mean(),
            "loss_gap": -abs(-gold.sum() / (len(gold) * len(" The answer is (A).")) - per_token),
            "loss_rehearsal": (np.array(after).mean(axis=1) - gold).mean(),
            "loss_rehearsal_alone": (np.array(instead).mean(axis=1) - gold).mean(),
            "loss_entropy": np.mean([-(q * np.log(q)).sum() for q in p]),
            "loss_margin": -np.abs(gold - others).mean(),
            "null_base_accuracy": np.mean([o.argmax() == i for o, i in zip(options, right, strict=True)]),
        }
        for name, value in expected.items():
            assert found[name].domains[subject].score == pytest.approx(value, abs=1e-4, rel=1e-4), name
        assert found["loss_rehearsal"].domains[subject].draws == pytest.approx(
            tuple(np.array(after).mean(axis=0) - gold.mean()), abs=1e-4, rel=1e-4
        )


def rows(path: Path) -> list[dict]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    import datasets

    return datasets.Dataset.from_parquet(str(path)).to_list()


def loss_of_responses(plain: Plain, examples: list[dict]) -> float:
    """Mean loss of a token of the responses that fill the budget, in the conversation that the template makes."""
    total = tokens = 0
    for example in examples:
        if tokens >= ENOUGH["sft_tokens"]:
            break
        turns = [{"role": "user", "content": example["prompt"]}, {"role": "assistant", "content": example["response"]}]
        context = plain.tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        whole = plain.tokenizer.apply_chat_template(turns, tokenize=False)
        assert whole.startswith(context)
        ids = plain.ids(whole[len(context) :], add_special_tokens=False)
        total -= plain.log_likelihood(plain.ids(context, add_special_tokens=False), ids)
        tokens += len(ids)
    return total / tokens


def test_another_sft_set_reads_only_its_own_side(world, tmp_path, read, monkeypatch):
    sts = {**ENOUGH, "predictors": LOSSES, "profiles_dir": str(tmp_path)}
    first = evaluate(world, TASKS, sts=sts)["results"]
    assert len(read) == 1 + 3 * len(SUBJECTS)
    assert evaluate(world, TASKS, sts=sts)["results"] == first
    assert len(read) == 1 + 3 * len(SUBJECTS), "all was there"
    other = tmp_path / "other.jsonl"
    lines = (world.root / "sft.jsonl").read_text().replace("First", "Last")
    other.write_text(lines)
    second = evaluate(world, TASKS, sts={**sts, "sft_set": str(other)})["results"]
    assert len(read) == 2 + 5 * len(SUBJECTS), "its responses, and each domain after its demonstrations, twice"
    for task in TASKS:
        assert second[task]["loss_gold,none"] == first[task]["loss_gold,none"]
        assert second[task]["loss_rehearsal,none"] != first[task]["loss_rehearsal,none"]


SYSTEM = {"system_instruction": "Be brief."}
CHAT = {"apply_chat_template": True, **SYSTEM}


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({}, "<bos>Solve: "),
        (SYSTEM, "<bos>Be brief.\n\nSolve: "),
        ({**CHAT, "fewshot_as_multiturn": True}, "<bos>[SYS]Be brief."),
        ({**CHAT, "fewshot_as_multiturn": False}, "<bos>[SYS]Be brief."),
    ],
)
def test_where_the_sft_examples_stand(world, tmp_path, kinds, asked, monkeypatch, options, start):
    sts = {**ENOUGH, "predictors": ["loss_rehearsal", "loss_entropy"], "profiles_dir": str(tmp_path)}
    evaluate(world, TASKS[:1], sts=sts, **options)
    tokenizer = AutoTokenizer.from_pretrained(world.model)
    law, own = kinds[0]._planned["law"], asked[0]._asked["law"]
    assert len(law) == 2 and len(law[0]) == len(own) > 2
    for after, query in zip(law[0], own, strict=True):
        text, alone = tokenizer.decode(after.context), tokenizer.decode(query.context)
        assert after.ids == query.answered.ids
        assert text.startswith(start)
        assert text.count("Solve: ") == 2 and text.count("So ") == 2
        first_question = text.index("Which law", text.rindex("So "))
        assert text[first_question:] == alone[alone.index("Which law") :]
        if options.get("fewshot_as_multiturn"):
            assert text.count("<user>\nSolve: ") == 2 and text.count("<assistant>\nFirst ") == 2
            assert "Solve: " not in text[: text.index("[/SYS]")]
        elif "apply_chat_template" in options:
            assert text.count("<user>") == 1 and "<user>\nSolve: " in text
    # Joined tokens are those of the whole text, for every question.
    monkeypatch.setattr(Rehearsal, "_head", lambda self, opening: None)
    evaluate(world, TASKS[:1], sts=sts, **options)
    assert kinds[1]._planned["law"] == kinds[0]._planned["law"]


def test_examples_that_do_not_fit_are_left_out_from_the_front(world, tmp_path, kinds, asked):
    sts = {**ENOUGH, "predictors": ["loss_rehearsal", "loss_entropy"], "domain_demos": 2, "demo_draws": 1}
    evaluate(world, TASKS[:1], sts={**sts, "profiles_dir": str(tmp_path / "a")})
    (draw,), own = kinds[0]._planned["law"], asked[0]._asked["law"]
    longest = max(len(c) for c in draw)
    alone = max(len(query.answered) for query in own)
    between = (longest + alone) // 2
    shorter = evaluate(
        world,
        TASKS[:1],
        sts={**sts, "profiles_dir": str(tmp_path / "b")},
        model_args={"pretrained": world.model, "max_length": between},
    )
    (cut,) = kinds[1]._planned["law"]
    left = [len(a.context) - len(b.context) for a, b in zip(draw, cut, strict=True) if b is not None]
    assert left and all(n >= 0 for n in left) and any(left)
    assert all(len(c) <= between for c in cut if c is not None)
    for before, after in zip(draw, cut, strict=True):
        if after is not None and len(after.context) < len(before.context):
            assert before.context[-len(after.context) + 1 :] == after.context[1:], "BOS, then the end of the same"
    (note,) = [n for n in kinds[1].notes if "rehearsed questions did not fit" in n]
    record = predictions_of(shorter, tmp_path)["loss_rehearsal"]
    assert note in record.provenance.notes


def test_no_example_fits(world, tmp_path, kinds, asked):
    sts = {**ENOUGH, "predictors": ["loss_rehearsal", "loss_gold", "loss_entropy"], "domain_demos": 2, "demo_draws": 1}
    evaluate(world, TASKS[:1], sts={**sts, "profiles_dir": str(tmp_path / "a")})
    alone = max(len(query.answered) for query in asked[0]._asked["law"])
    results = evaluate(
        world,
        TASKS[:1],
        sts={**sts, "profiles_dir": str(tmp_path / "b")},
        model_args={"pretrained": world.model, "max_length": alone},
    )
    losses = asked[1].evidence()
    missing = np.isnan(kinds[1].evidence()["law"])
    assert missing.any() and np.isfinite(losses.gold_log_likelihood("law")).all()
    assert f"all of them before {missing.sum()}" in kinds[1].notes[0]
    assert np.isfinite(results["results"][TASKS[0]]["loss_gold,none"])


def test_only_what_is_needed_is_read(world, tmp_path, read):
    sts = {**ENOUGH, "predictors": ["loss_rehearsal_alone"], "profiles_dir": str(tmp_path)}
    alone = evaluate(world, TASKS, sts=sts)["results"]
    assert len(read) == 2 * len(SUBJECTS), "each domain's right options, before and after SFT examples alone"
    both = evaluate(world, TASKS, sts={**sts, "predictors": ["loss_rehearsal_alone", "loss_entropy"]})["results"]
    assert len(read) == 3 * len(SUBJECTS), "all options, which include the right ones"
    for task in TASKS:
        name = "loss_rehearsal_alone,none"
        assert both[task][name] == pytest.approx(alone[task][name], abs=1e-5)


def test_a_task_that_is_silent_about_answers(world, tmp_path, monkeypatch):
    from lm_eval_sts.errors import SettingsError
    from lm_eval_sts.harness.task import TransferTask
    from tests.messages import says

    monkeypatch.setattr(TransferTask, "options", lambda self, doc: None)
    with says(SettingsError, "sts_mmlu_pro_law does not say what an answer looks like", "metadata.answers"):
        evaluate(world, TASKS[:1], sts={"predictors": ["loss_gold"], "profiles_dir": str(tmp_path)})


def test_another_architecture(tmp_path):
    """A tokenizer without chat template: responses are trained on as plain text."""
    world = make_world(tmp_path, "gpt2", chat_template=False)
    results = evaluate(world, TASKS[:1], sts={"predictors": LOSSES}, batch_size=4)
    assert all(np.isfinite(results["results"][TASKS[0]][f"{name},none"]) for name in LOSSES)
