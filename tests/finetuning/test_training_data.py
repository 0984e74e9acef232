from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import Dataset
from jinja2 import TemplateError

from lm_eval_sts.data import SftSet, load_sft_set
from lm_eval_sts.errors import DatasetError
from lm_eval_sts.examples import Example, from_conversation, from_pair
from lm_eval_sts.finetuning.training_data import IGNORED, LengthLimit, length_limit, tokenise
from tests.messages import says
from tests.tiny_models import BOS, EOS, llama, tiny_tokenizer

PROJECT = Path(__file__).parents[2]
SET = SftSet("pairs", (Example("two plus two?", "It is four."), Example("capital of Peru?", "Lima\n\nis it.")))
ANY = LengthLimit(None, "nothing")


def text(tokenizer, ids):
    return tokenizer.decode(list(ids), skip_special_tokens=False)


def learned(tokenizer, example):
    return text(tokenizer, [label for label in example.labels if label != IGNORED])


def test_plain_text():
    tokenizer = tiny_tokenizer()
    data = tokenise(SET, tokenizer, ANY, response_delimiter=" ")
    assert [text(tokenizer, e.input_ids) for e in data.examples] == [
        "<bos>two plus two? It is four.<eos>",
        "<bos>capital of Peru? Lima\n\nis it.<eos>",
    ]
    assert [learned(tokenizer, e) for e in data.examples] == [" It is four.<eos>", " Lima\n\nis it.<eos>"]
    assert data.n_response_tokens == len(" It is four.") + len(" Lima\n\nis it.") + 2
    assert data.longest == len("capital of Peru? Lima\n\nis it.") + 2
    assert (data.response_delimiter, data.chat_template_hash, data.notes) == (" ", None, ())


def test_labels_stand_where_their_tokens_stand():
    for example in tokenise(SET, tiny_tokenizer(), ANY).examples:
        first = example.labels.index(next(label for label in example.labels if label != IGNORED))
        assert set(example.labels[:first]) == {IGNORED} and example.labels[first:] == example.input_ids[first:]


def test_an_end_that_is_there_is_not_put_twice():
    data = tokenise(SftSet("x", (Example("q", "a<eos>"),)), tiny_tokenizer(), ANY)
    assert data.examples[0].input_ids.count(EOS) == 1


def test_chat_template():
    tokenizer = tiny_tokenizer(chat_template=True)
    data = tokenise(SET, tokenizer, ANY, response_delimiter="not used")
    assert text(tokenizer, data.examples[0].input_ids) == (
        "<bos><user>\ntwo plus two?<end>\n<assistant>\nIt is four.<end>\n"
    )
    assert learned(tokenizer, data.examples[0]) == "It is four.<end>\n"
    assert data.examples[0].input_ids.count(BOS) == 1
    assert data.response_delimiter is None
    assert data.chat_template_hash == hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()


@pytest.mark.parametrize("chat_template", [False, True])
def test_as_trl_itself_prepares_the_same_pairs(chat_template, tmp_path):
    from trl import SFTConfig, SFTTrainer

    tokenizer = tiny_tokenizer(chat_template=chat_template)

    def row(e: Example):
        if not chat_template:
            return {"prompt": e.prompt, "completion": "\n" + e.response}
        return {
            "prompt": [{"role": "user", "content": e.prompt}],
            "completion": [{"role": "assistant", "content": e.response}],
        }

    arguments = SFTConfig(
        str(tmp_path), max_length=None, use_cpu=True, bf16=False, report_to="none", completion_only_loss=True
    )
    rows = Dataset.from_list([row(e) for e in SET.examples])
    prepared = SFTTrainer(llama(), arguments, train_dataset=rows, processing_class=tokenizer).train_dataset
    ours = tokenise(SET, tokenizer, ANY).examples
    assert [list(e.input_ids) for e in ours] == prepared["input_ids"][:]
    assert [list(e.labels) for e in ours] == prepared["labels"][:]


def test_a_prompt_whose_end_changes_is_noted():
    class Merging:
        """One token for ``?`` and the line break after it, as byte-pair tokenizers have."""

        chat_template, eos_token = None, None

        def __call__(self, text):
            return {"input_ids": [0 if c == "\0" else ord(c) for c in text.replace("?\n", "\0")]}

    data = tokenise(SftSet("x", (Example("a?", "b"), Example("a", "b"))), Merging(), ANY)
    assert data.examples[0].labels == (IGNORED, 0, ord("b"))
    assert any("in 1 of 2 examples" in note for note in data.notes)
    assert any("no end-of-sequence token" in note for note in data.notes)


def lengths(*sizes: int) -> SftSet:
    """Examples of these many tokens: bos, prompt of 3, line break, response, eos."""
    return SftSet("sizes", tuple(Example("abc", "x" * (size - 6)) for size in sizes))


def test_long_examples_are_listed_and_refused():
    limit = LengthLimit(20, "max_length")
    assert not tokenise(lengths(20, 19), tiny_tokenizer(), limit).long_rows
    with says(DatasetError, "sizes", "2 of 4", "20 tokens (max_length)", "1 (21 tokens), 3 (30 tokens)", "--drop_long"):
        tokenise(lengths(20, 21, 7, 30), tiny_tokenizer(), limit)
    with says(DatasetError, "and 2 more"):
        tokenise(lengths(*[21] * 12), tiny_tokenizer(), limit)


def test_long_examples_dropped_when_told():
    data = tokenise(lengths(20, 21, 7, 30), tiny_tokenizer(), LengthLimit(20, "max_length"), long_examples="drop")
    assert [len(e.input_ids) for e in data.examples] == [20, 7]
    assert data.long_rows == (1, 3)
    assert any("2 of 4 examples" in note and "dropped" in note for note in data.notes)


def test_long_examples_truncated_when_told():
    data = tokenise(lengths(20, 21, 7, 30), tiny_tokenizer(), LengthLimit(20, "max_length"), long_examples="truncate")
    whole = tokenise(lengths(20, 21, 7, 30), tiny_tokenizer(), ANY)
    assert [e.input_ids for e in data.examples] == [e.input_ids[:20] for e in whole.examples]
    assert [e.labels for e in data.examples] == [e.labels[:20] for e in whole.examples]
    assert data.long_rows == (1, 3)
    assert any("2 of 4 examples were truncated to 20" in note for note in data.notes)


def test_a_prompt_that_fills_all_leaves_nothing_to_learn():
    pairs = SftSet("x", (Example("p" * 30, "answer"), Example("p", "a")))
    data = tokenise(pairs, tiny_tokenizer(), LengthLimit(20, "max_length"), long_examples="truncate")
    assert len(data.examples) == 1
    assert any("1 of them" in note and "dropped" in note for note in data.notes)
    for way in ("truncate", "drop"):
        with says(DatasetError, "no example", "20 tokens"):
            tokenise(
                SftSet("x", pairs.examples[:1]), tiny_tokenizer(), LengthLimit(20, "max_length"), long_examples=way
            )


def test_the_smaller_limit_counts():
    assert length_limit(512, 2048) == LengthLimit(512, "max_length")
    assert length_limit(4096, 2048) == LengthLimit(2048, "the model's context")
    assert length_limit(None, 2048) == LengthLimit(2048, "the model's context")
    assert length_limit(4096, None) == LengthLimit(4096, "max_length")
    assert length_limit(None, None).tokens is None


def test_real_math_solutions():
    for folder in (PROJECT / "shared", PROJECT.parent / "shared"):
        path = folder / "data" / "sft" / "math_solutions.jsonl"
        if path.is_file():
            break
    else:
        pytest.skip("the mathematics solutions are not at hand")
    sft_set = load_sft_set(str(path))
    assert len(sft_set.examples) == 500
    tokenizer = tiny_tokenizer()
    data = tokenise(sft_set, tokenizer, ANY)
    for example, pair in zip(data.examples, sft_set.examples, strict=True):
        assert learned(tokenizer, example) == f"\n{pair.response}<eos>"


def conversation(*turns: str) -> list[dict[str, str]]:
    """Turns as ``role: content``."""
    return [dict(zip(("role", "content"), turn.split(": ", 1), strict=True)) for turn in turns]


TALK = conversation("user: two?", "assistant: 2 yes", "user: three?\nor not", "assistant: It is three")


@pytest.mark.parametrize("template", ["llama3", "gemma3", "qwen3_instruct_2507", "lfm2"])
@pytest.mark.parametrize(
    "messages",
    [TALK, [*conversation("system: be brief"), *TALK], TALK[1:], [TALK[0], *TALK], TALK[2:]],
    ids=["two exchanges", "system", "assistant first", "two users", "one exchange"],
)
def test_every_turn_of_the_assistant_is_learned_as_trl_does(template, messages):
    from trl import chat_template_utils

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = getattr(chat_template_utils, f"{template}_chat_template")
    try:
        theirs = tokenizer.apply_chat_template(
            messages,
            chat_template=chat_template_utils.get_training_chat_template(tokenizer),
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
    except TemplateError as error:
        with says(DatasetError, "1 of 1 rows are refused by the model's chat template", "(rows 0,", str(error)):
            tokenise(SftSet("x", (from_conversation(messages),)), tokenizer, ANY)
        return
    (ours,) = tokenise(SftSet("x", (from_conversation(messages),)), tokenizer, ANY).examples
    assert list(ours.input_ids) == theirs["input_ids"]
    learned_by_trl = zip(theirs["input_ids"], theirs["assistant_masks"], strict=True)
    assert list(ours.labels) == [token if mask else IGNORED for token, mask in learned_by_trl]


def test_of_a_prompt_in_turns_only_the_response_is_learned():
    tokenizer = tiny_tokenizer(chat_template=True)
    data = tokenise(SftSet("x", (from_pair(TALK[:3], TALK[3:]),)), tokenizer, ANY)
    assert learned(tokenizer, data.examples[0]) == "It is three<end>\n"
    whole = tokenise(SftSet("x", (from_conversation(TALK),)), tokenizer, ANY)
    assert whole.examples[0].input_ids == data.examples[0].input_ids
    assert learned(tokenizer, whole.examples[0]) == "2 yes<end>\nIt is three<end>\n"


def test_conversations_without_a_chat_template():
    system = from_pair("q", "a", system="be brief")
    data = tokenise(SftSet("x", (system,)), tiny_tokenizer(), ANY)
    assert text(tiny_tokenizer(), data.examples[0].input_ids) == "<bos>be brief\n\nq\na<eos>"
    assert any("what the system says stands above the prompt" in note for note in data.notes)
    with says(DatasetError, "2 of 3 rows are conversations of several turns", "no chat template", "(rows 1, 2,"):
        tokenise(SftSet("x", (system, *[from_conversation(TALK)] * 2)), tiny_tokenizer(), ANY)


STRIPPING = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] | trim }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def templated(template: str):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def test_a_chat_template_that_leaves_reasoning_out_is_refused():
    thinking = Example("q", "<think>\nhm\n</think>\n\na")
    rows = SftSet("x", (Example("q", " a "), thinking, Example("say </think> once", "a"), thinking))
    with says(DatasetError, "3 of 4 rows are not whole", "chat template", "</think>", "(rows 1, 2, 3, counted from 0)"):
        tokenise(rows, templated(STRIPPING), ANY)
    tokenise(replace(rows, examples=rows.examples[:1]), templated(STRIPPING), ANY)


@pytest.mark.parametrize(("name", "kept"), [("qwen3", True), ("deepseek_r1_distill", False)])
def test_reasoning_under_the_chat_templates_of_reasoning_models(name, kept):
    from trl import chat_template_utils

    tokenizer = templated(getattr(chat_template_utils, f"{name}_chat_template"))
    thinking = Example("q", "<think>hm</think> a")
    if kept:
        data = tokenise(SftSet("x", (thinking,)), tokenizer, ANY)
        assert "".join(learned(tokenizer, data.examples[0]).split()) == "<think>hm</think>a<|im_end|>"
    # Both leave the reasoning of earlier turns out.
    earlier = replace(thinking, before=thinking.messages, learns_before=True)
    rows = SftSet("x", (Example("q", "a"), earlier if kept else thinking))
    with says(DatasetError, "1 of 2 rows are not whole", "(rows 1,"):
        tokenise(rows, tokenizer, ANY)


def test_what_a_chat_template_puts_only_where_no_response_follows_is_noted():
    opened = templated(STRIPPING.replace("<assistant>{% endif %}", "<assistant><think>{% endif %}"))
    data = tokenise(SET, opened, ANY)
    assert learned(opened, data.examples[0]) == "It is four.<end>"
    assert any("in 2 of 2 examples (rows 0, 1, " in note and "'<think>'" in note for note in data.notes)


def test_what_opens_an_answer_may_be_a_part_of_it():
    keeping = STRIPPING.replace(".split('</think>')[-1]", "")
    opened = templated(keeping.replace("<assistant>{% endif %}", "<assistant><think>\n{% endif %}"))
    talk = from_conversation(conversation(*["user: q", "assistant: <think>\nhm</think>a"] * 2))
    assert learned(opened, tokenise(SftSet("x", (talk,)), opened, ANY).examples[0]) == "hm</think>a<end>" * 2


def test_a_prompt_that_changes_when_it_is_answered_is_refused():
    changing = "{% if messages | length > 1 %}answered{% else %}asked{% endif %}" + STRIPPING
    with says(DatasetError, "2 of 2 rows are rendered in another way", "(rows 0, 1,"):
        tokenise(SET, templated(changing), ANY)
