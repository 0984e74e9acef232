"""The SFT set in a run: read as it is now, and rendered whole."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from lm_eval_sts.data import RowRules, SftSet, checked_benchmark
from lm_eval_sts.errors import DatasetError, PromptError
from lm_eval_sts.evidence.answers import training_pairs
from lm_eval_sts.evidence.rendering import PromptOptions, opening_of, render_for
from lm_eval_sts.examples import Example, Message, from_conversation, from_pair
from lm_eval_sts.predictors.preflight import sft_set_of
from lm_eval_sts.predictors.settings import Settings
from tests.messages import says
from tests.tiny_models import tiny_tokenizer

SETTINGS = Settings(sft_response_delimiter=" = ", sft_example_delimiter=" / ")
TURNS = [Message("user", "q"), Message("assistant", "a"), Message("user", "r")]


@pytest.mark.parametrize("folder", [False, True])
def test_what_changed_under_the_same_time_is_read_again(tmp_path, folder):
    file = tmp_path / "set" / "train.jsonl"
    file.parent.mkdir()
    source, none = str(file.parent if folder else file), RowRules((None, ()), (None, ()), None)
    for response in ("one", "two"):
        file.write_text(json.dumps({"prompt": "q", "response": response}) + "\n")
        for path in (file, file.parent):
            os.utime(path, ns=(10**18, 10**18))
        assert sft_set_of(Settings(sft_set=source)).examples == (Example("q", response),)
        assert checked_benchmark(source, None, {}, none)["train"]["response"][:] == [response]


def options(template=None, *, multiturn: bool = True, system: str | None = None) -> PromptOptions:
    return PromptOptions(system, template is not None, multiturn, template)


def chat(messages, add_generation_prompt):
    return "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>" * add_generation_prompt


def test_turns_as_text_and_as_a_conversation():
    assert render_for(options(), SETTINGS)(TURNS) == "q = a / r"
    assert render_for(options(system="s"), SETTINGS)(TURNS) == "s\n\nq = a / r"
    assert render_for(options(chat), SETTINGS)(TURNS) == "<user>q<assistant>a<user>r<assistant>"
    assert render_for(options(chat, multiturn=False), SETTINGS)(TURNS) == "<user>q = a / r<assistant>"
    twice = [Message("assistant", "hello"), TURNS[0], *TURNS]
    assert render_for(options(), SETTINGS)(twice) == "hello / q / q = a / r"


def test_an_opening_holds_whole_conversations():
    opening = opening_of([from_pair("q", "a", system="s"), from_conversation(_turns("q", "a", "r", "b"))], SETTINGS)
    assert opening.text == "s\n\nq = a / q = a / r = b / "
    assert [m["role"] for m in opening.messages] == ["user", "assistant"] * 3
    assert opening.messages[0]["content"] == "s\n\nq"


def test_a_chat_template_that_refuses_is_named():
    def strict(messages, add_generation_prompt):
        raise RuntimeError("roles must alternate")

    with says(PromptError, "chat template refuses", "user, assistant, user", "roles must alternate", "'q'"):
        render_for(options(strict), SETTINGS)(TURNS)


def test_the_last_response_of_a_conversation_is_a_training_pair():
    tokenizer = tiny_tokenizer(chat_template=True)

    def pairs(sft_set, rows, context=1000):
        model = SimpleNamespace(tokenizer=tokenizer, context=context)
        return training_pairs(SimpleNamespace(model=model, sft_set=sft_set, settings=SETTINGS), rows)

    sft_set = SftSet("x", (Example("r", "b"), from_conversation(_turns("q", "a", "r", "b"))))
    for pair in pairs(sft_set, [0, 1]):
        assert tokenizer.decode(pair.ids) == "b<end>\n"
    # What is cut after a response leaves it the last.
    (pair,) = pairs(sft_set, [1], context=len(pair) - len("b<end>\n"))
    assert tokenizer.decode(pair.ids) == "a<end>\n"
    tokenizer.chat_template = "{% for m in messages %}{{ m.content.split('|')[-1] }}{% endfor %}"
    with says(DatasetError, "1 of 2 rows are not whole", "(rows 2,"):
        pairs(SftSet("x", (Example("q", "a"), Example("r", "b"), Example("r", "so|b"))), [1, 2])


def test_responses_are_read_until_they_fill_the_budget():
    """Rows are chosen by the tokens of their prompts; where responses are longer, not all of them are read."""
    tokenizer = tiny_tokenizer(chat_template=True)
    sft_set = SftSet("x", tuple(Example("q", str(i) * 50) for i in range(9)))

    def pairs(budget, notes):
        settings = SETTINGS.model_copy(update={"sft_tokens": budget})
        model = SimpleNamespace(tokenizer=tokenizer, context=1000)
        return training_pairs(SimpleNamespace(model=model, sft_set=sft_set, settings=settings), range(9), notes)

    notes: list[str] = []
    whole = pairs(10_000, notes)
    assert len(whole) == 9 and not notes
    each = len(whole[0].ids)
    assert pairs(2 * each, notes) == whole[:2] and pairs(2 * each + 1, notes) == whole[:3] and pairs(1, []) == whole[:1]
    assert notes[0] == f"responses were read of the first 2 of 9 SFT examples read: {2 * each} tokens (sft_tokens)"


def _turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]
