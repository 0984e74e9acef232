"""Answers to prompts: what is drawn, kept, stored and said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import lm_eval_sts as sts
from lm_eval_sts.errors import DatasetError, RecordError, SettingsError
from lm_eval_sts.evidence.rendering import PromptOptions
from lm_eval_sts.evidence.settings import ReadSettings, validated
from lm_eval_sts.harness import generating
from lm_eval_sts.records import Sampling, load_record
from lm_eval_sts.sampling.prompts import PromptSet
from lm_eval_sts.sampling.sample import Asking, Sampled, sample
from lm_eval_sts.sampling.writing import write_sampled
from tests.harness.world import World, evaluate, make_world
from tests.messages import says

ASKED = [(f"stone number {i}?", str(i)) for i in range(70)]
WORDS = {"pattern": r"^\s*(\w+)", "samples": 2, "max_tokens": 20, "verifier": "exact"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def model(world: World) -> sts.Model:
    loaded = AutoModelForCausalLM.from_pretrained(world.model)
    return sts.Model(loaded, AutoTokenizer.from_pretrained(world.model), name=world.model)


class Writer:
    """Answers prompts as told, and remembers what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.calls, self.arguments = answers, [], {}

    def __call__(self, prompts: Sequence[str], arguments: Mapping[str, Any]) -> list[str]:
        self.calls.append(list(prompts))
        self.arguments = dict(arguments)
        return [self.answers[i % len(self.answers)].format(p.split()[-1].rstrip("?")) for i, p in enumerate(prompts)]


def drawn(
    model: sts.Model,
    folder: Path,
    writer: Any,
    prompts: PromptSet | None = None,
    answers: str = "verified",
    options: PromptOptions = PromptOptions(),  # noqa: B008  # immutable
    seed: int = 0,
    **sampling: Any,
) -> Sampled:
    given = {"sft_answers": answers, "profiles_dir": str(folder), "sampling": {**WORDS, **sampling}}
    settings = validated(ReadSettings, given, "here")
    return sample(Asking(model, settings, options, seed), prompts or sts.load_prompts(ASKED), writer)


def test_verified_answers_become_responses_and_the_others_are_counted(model, tmp_path):
    found = drawn(model, tmp_path, Writer(" {0} stone\n", " river"), samples=2)
    assert [(e.prompt, e.response) for e in found.sft_set.examples] == [(p, f"{a} stone") for p, a in ASKED]
    record = found.record
    assert (record.asked, record.verified, record.solved, record.cut, record.left_out) == (70, 70, 70, 0, {})
    assert found.sft_set.sampling == record.reference
    assert record.prompts.n_examples == record.sampled.n_examples == 70
    assert any("50% of the answers were verified (exact), and 70 of 70 prompts" in n for n in found.sft_set.notes)


def test_up_to_keep_different_answers_of_a_prompt_are_kept(model, tmp_path):
    writer = Writer(" {0} stone", " {0} stone", " {0} river", " {0}")
    for keep, expected in ((1, ["7 stone"]), (2, ["7 stone", "7 river"]), (9, ["7 stone", "7 river", "7"])):
        found = drawn(model, tmp_path, writer, samples=4, keep=keep)
        assert [e.response for e in found.sft_set.examples if e.prompt == ASKED[7][0]] == expected
    assert len(writer.calls) == 3, "70 prompts are answered 32 at a time, once for all three"


def test_what_is_drawn_is_kept_for_another_verifier_and_for_none(model, tmp_path):
    writer = Writer(" {0} stone", " river stone")
    verified = drawn(model, tmp_path, writer)
    numbers = drawn(model, tmp_path, writer, verifier="numeric", pattern=None)
    unfiltered = drawn(model, tmp_path, writer, answers="sampled", verifier=None, pattern=None)
    assert len(writer.calls) == 3
    assert verified.sft_set.examples == numbers.sft_set.examples == unfiltered.sft_set.examples
    assert (unfiltered.record.verified, unfiltered.record.solved) == (None, None)
    drawn(model, tmp_path, writer, seed=1)
    drawn(model, tmp_path, writer, temperature=0.5)
    assert len(writer.calls) == 9


def test_the_model_s_whole_distribution_is_asked_for(model, tmp_path):
    writer = Writer(" {0} stone")
    drawn(model, tmp_path, writer, temperature=0.7, top_p=0.9, stop=["END"])
    assert writer.arguments == {
        "until": ["END", "\n\n"],
        "max_gen_toks": 20,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 0,
        "repetition_penalty": 1.0,
    }
    assert writer.calls[0][0] == "stone number 0?\n", "without a template, the response delimiter stands before answers"


def test_a_delimiter_of_spaces_belongs_to_the_answer(model, tmp_path):
    settings = validated(
        ReadSettings,
        {"sft_answers": "sampled", "profiles_dir": str(tmp_path), "sft_response_delimiter": " ", "sampling": {}},
        "here",
    )
    writer = Writer(" stone")
    found = sample(Asking(model, settings, PromptOptions(), 0), sts.load_prompts(["river"]), writer)
    assert writer.calls == [["river"] * 8]
    assert [e.response for e in found.sft_set.examples] == ["stone"]


def test_answers_that_may_be_cut_are_not_verified(model, tmp_path):
    whole, long = " {0} stone", " {0} stone river stone river stone river stone river"
    found = drawn(model, tmp_path, Writer(whole, long), keep=2)
    assert (found.record.cut, found.record.verified) == (70, 70)
    assert {len(e.response.split()) for e in found.sft_set.examples} == {2}
    assert any("70 answers reached 20 tokens" in note for note in found.sft_set.notes)


def test_prompts_without_a_response_are_named_by_reason(model, tmp_path):
    prompts = sts.load_prompts(
        [("right 5?", "5"), ("wrong 6?", "7"), ("unknown 8?", None), ("stone " * model.context, "1"), ("right 9?", "9")]
    )
    found = drawn(model, tmp_path, Writer(" {0}"), prompts=prompts)
    assert found.record.left_out == {
        "no answer to verify with": (2,),
        "too long for the context": (3,),
        "no verified answer": (1,),
    }
    assert [e.prompt for e in found.sft_set.examples] == ["right 5?", "right 9?"]
    assert any(
        note.startswith("1 prompts without a response, no verified answer (rows 1,") for note in found.sft_set.notes
    )


def test_no_response_at_all_is_an_error_that_counts_why(model, tmp_path):
    with says(DatasetError, "none of 70 has an answer", "no verified answer: 70", "answers sampled"):
        drawn(model, tmp_path, Writer(" river"))
    with says(DatasetError, "none of 2 has an answer", "blank answers only: 2"):
        drawn(model, tmp_path, Writer(" \n"), prompts=sts.load_prompts(["a", "b"]), answers="sampled", verifier=None)
    with says(DatasetError, "no prompt can be verified by exact", "have no answer"):
        drawn(model, tmp_path, Writer(" 1"), prompts=sts.load_prompts(["a"]))
    with says(SettingsError, f"max_tokens of sampling is {model.context}", "lower it"):
        drawn(model, tmp_path, Writer(" 1"), max_tokens=model.context)


def test_at_most_max_prompts_are_answered_drawn_by_the_seed(model, tmp_path):
    writer = Writer(" {0}")
    found = drawn(model, tmp_path, writer, max_prompts=10)
    asked = [e.prompt for e in found.sft_set.examples]
    assert len(asked) == 10 and asked == [p for p, _ in ASKED if p in asked]
    assert len(found.record.left_out["not asked (max_prompts)"]) == 60
    again = drawn(model, tmp_path, Writer(" {0}"), max_prompts=10, seed=5)
    assert asked != [e.prompt for e in again.sft_set.examples]


def test_answers_of_a_model_do_not_depend_on_where_a_run_was_stopped(world, model, tmp_path):
    """Through lm-eval's own generation, on a model of random weights."""
    generate, calls = generating.generator(model), []

    def stopped(prompts: Sequence[str], arguments: Mapping[str, Any]) -> list[str]:
        calls.append(len(prompts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(prompts, arguments)

    options = {"answers": "sampled", "verifier": None, "pattern": None}
    whole = drawn(model, tmp_path / "a", generate, **options)
    with pytest.raises(KeyboardInterrupt):
        drawn(model, tmp_path / "b", stopped, **options)
    resumed = drawn(model, tmp_path / "b", generate, **options)
    assert calls == [64, 64], "two answers to each of 32 prompts at a time"
    assert whole.sft_set.examples == resumed.sft_set.examples
    assert len({e.response for e in whole.sft_set.examples}) > 40, "answers are drawn, not the likeliest"
    other = drawn(model, tmp_path / "c", generate, seed=1, **options)
    assert other.sft_set.examples != whole.sft_set.examples


def test_a_template_puts_prompts_as_conversations(model, tmp_path):
    from lm_eval_sts.evidence.rendering import options_for

    writer = Writer(" stone")
    options = options_for(model.tokenizer, model.name, apply_chat_template=True, system_instruction="Be brief.")
    drawn(model, tmp_path, writer, sts.load_prompts(["river"]), "sampled", options, verifier=None, pattern=None)
    expected = model.tokenizer.apply_chat_template(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "river"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert writer.calls[0][0] == expected.rstrip(" ")
    assert writer.arguments["until"] == []


def test_what_is_written_is_read_again_with_its_manifest(model, tmp_path):
    found = drawn(model, tmp_path, Writer(" {0} stone", " river"))
    file = tmp_path / "sampled.jsonl"
    record = write_sampled(found, file)
    assert load_record(Sampling, tmp_path / "sampled.sampling.json") == record
    read = sts.load_sft_set(file)
    assert read.examples == found.sft_set.examples
    assert read.sampling == record.reference
    with says(RecordError, "is there already", "--overwrite"):
        write_sampled(found, file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[1:]) + "\n")
    with says(RecordError, "is not what sampled.sampling.json beside it says"):
        sts.load_sft_set(file)


@pytest.mark.parametrize("given, parts", [
    ({"sft_answers": "verified"}, ["needs a verifier"]),
    ({"sampling": {"samples": 2}}, ["sampling is not used", "verified"]),
    ({"sft_answers": "sampled", "sampling": {"temprature": 1}}, ["temprature"]),
    ({"sft_answers": "sampled", "sampling": {"samples": 0}}, ["sampling.samples", "greater than 0"]),
    ({"sft_answers": "wrong"}, ["sft_answers", "'given', 'verified' or 'sampled'"]),
    ({"sft_answers": "sampled", "sampling": {"temperature": float("inf")}}, ["sampling.temperature"]),
])  # fmt: skip
def test_settings_that_do_not_fit_are_refused(given, parts):
    with says(SettingsError, *parts):
        validated(ReadSettings, given, "the settings under 'sts'")


def test_a_run_on_prompts_gives_what_a_run_on_the_written_set_gives(world, model, tmp_path):
    rows = [json.loads(line) for line in Path(world.settings["sft_set"]).read_text().splitlines()]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows))
    sampling = {"samples": 2, "max_tokens": 12}
    run = {"predictors": ["sts_act", "sts_icl", "tfidf_cosine"]}
    on_prompts = {**run, "sft_set": str(prompts), "sft_answers": "sampled", "sampling": sampling}
    first = evaluate(world, ["sts_mmlu_pro_law"], sts=on_prompts, batch_size=4)
    record = first["configs"]["sts_mmlu_pro_law"]["metadata"]["sts_results"]["predictions"][0]
    reference = sts.load_prompts(prompts).reference
    assert record["setting"]["sft_set"] == reference.model_dump()
    assert any("80 answers of" in note and "to 40 prompts" in note for note in record["provenance"]["notes"])

    file = tmp_path / "sampled.jsonl"
    with_batch = sts.Model(model.model, model.tokenizer, name=world.model, max_rows=4)
    write_sampled(sts.sample(with_batch, sts.load_prompts(prompts), answers="sampled", **sampling,
                             profiles_dir=world.settings["profiles_dir"]), file)  # fmt: skip
    second = evaluate(world, ["sts_mmlu_pro_law"], sts={**run, "sft_set": str(file)}, batch_size=4)
    assert first["results"]["sts_mmlu_pro_law"] == second["results"]["sts_mmlu_pro_law"]


def test_prompts_that_cannot_be_used_stop_a_run_before_the_model_is_read(world, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "stone"}\n')
    with says(DatasetError, "no column 'gold'"):
        evaluate(world, ["sts_mmlu_pro_law"], sts={"sft_set": str(tmp_path / "p.jsonl"), "sft_answers": "verified",
                                                   "sampling": {"verifier": "exact", "answer": "gold"}})  # fmt: skip
    by_exact = {"sft_answers": "verified", "sampling": {"verifier": "exact"}}
    with says(DatasetError, "no prompt has an answer that exact could compare with", "sampled"):
        evaluate(world, ["sts_mmlu_pro_law"], sts={"sft_set": str(tmp_path / "p.jsonl"), **by_exact})
    with says(SettingsError, "sft_columns", "rename"):
        evaluate(world, ["sts_mmlu_pro_law"], sts={"sft_answers": "sampled", "sft_columns": ["prompt", "response"]})
