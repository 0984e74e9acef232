"""Rows of a table as examples: pairs, conversations, and what can be neither."""

from __future__ import annotations

import pytest

from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import DatasetError
from lm_eval_sts.examples import (
    Example,
    Message,
    RowError,
    find,
    fold_system,
    from_conversation,
    from_pair,
    holds,
    read_rows,
)
from lm_eval_sts.files import hash_json
from tests.messages import says

SYSTEM, USER, ASSISTANT = (Message(role, role[0]) for role in ("system", "user", "assistant"))


def turn(role: str, content: object, **more: object) -> dict[str, object]:
    return {"role": role, "content": content, **more}


Q, A, S = turn("user", "q"), turn("assistant", "a"), turn("system", "s")


@pytest.mark.parametrize(
    ("messages", "before"),
    [
        ([Q, A], []),
        ([S, Q, A], [S]),
        ([A, Q, A], [A]),
        ([Q, Q, A], [Q]),
        ([S, Q, A, Q, A], [S, Q, A]),
        ([turn("developer", "d"), Q, A], [turn("developer", "d")]),
        ([turn("system", ""), Q, A], [turn("system", "")]),
    ],
)
def test_every_turn_of_a_conversation_is_kept(messages, before):
    example = from_conversation(messages)
    assert (example.prompt, example.response) == ("q", "a")
    assert example.before == tuple(Message(str(m["role"]), str(m["content"])) for m in before)
    assert example.learns_before == (A in before)
    assert [m.content for m in example.messages] == [m["content"] for m in messages]


def test_sharegpt_and_rows_that_arrow_made_alike():
    turns = [{"from": "human", "value": "q"}, {"from": "GPT", "value": "a"}]
    assert from_conversation(turns) == from_conversation([{**t, "role": None, "content": None} for t in turns])
    assert from_conversation(turns) == Example("q", "a")


def test_parts_of_text_are_put_together_as_chat_templates_do():
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two", "image_url": None}]
    assert from_conversation([turn("user", parts), A]).prompt == "one two"


def test_trl_conversational_pairs_keep_their_roles():
    assert from_pair([S, Q, A, Q], [A]) == Example(
        "q", "a", (Message("system", "s"), Message("user", "q"), Message("assistant", "a")), learns_before=False
    )
    assert from_pair([Q], [A]) == from_pair("q", [A]) == from_pair("q", "a")
    assert from_pair("q", "a", system="s") == from_pair([S, Q], "a") == from_pair([S, Q], "a", system="s")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "do not end with a turn of the user"),
        ([], "do not end with a turn of the user"),
        ([Q], "do not end with a turn of the user"),
        ([A], "do not end with a turn of the user"),
        ([Q, A, Q], "do not end with a turn of the user"),
        ([Q, A, A], "do not end with a turn of the user"),
        ([Q, turn("assistant", None)], "blank"),
        ([Q, turn("assistant", " "), Q, A], "blank"),
        ([Q, turn("tool", "x"), A], "'tool'"),
        ([Q, turn("function_call", "x"), Q, A], "'function_call'"),
        ([Q, turn("assistant", None, tool_calls=[{"name": "f"}]), Q, A], "tool_calls"),
        ([Q, turn("assistant", "a", reasoning_content="hm")], "reasoning_content"),
        ([Q, turn("assistant", "a", weight=0), Q, A], "weight 0"),
        ([turn("user", [{"type": "image"}, {"type": "text", "text": "what?"}]), A], "no text"),
        ([turn("user", {"text": "q"}), A], "dict in place of text"),
        ("text", "role and content"),
        (["q", "a"], "role and content"),
        ({"role": "user"}, "role and content"),
        ([{"user": "q"}, {"assistant": "a"}], "role and content"),
        ([turn("user", "\ud800"), A], "surrogate"),
    ],
)
def test_conversations_that_cannot_be_used(messages, reason):
    with pytest.raises(RowError, match=reason):
        from_conversation(messages)


@pytest.mark.parametrize(
    ("prompt", "response", "reason"),
    [
        (["a", "b"], "r", "list in place of text"),
        ("q", {"text": ["r"], "answer_start": [3]}, "dict in place of text"),
        ("q", 1.5, "float in place of text"),
        ("q", True, "bool in place of text"),
        ("q", [A, Q, A], "several turns"),
        ("q", [Q], "do not end with"),
        ([A], "r", "do not end with"),
        ("q", [], "list in place of text"),
        ([{"user": "q"}], "r", "role and content"),
        (None, "r", "blank"),
        (" \n", "r", "blank"),
    ],
)
def test_pairs_that_cannot_be_used(prompt, response, reason):
    with pytest.raises(RowError, match=reason):
        from_pair(prompt, response)


def test_a_system_column_beside_another_turn_of_the_system():
    with pytest.raises(RowError, match="turn of the system and another text"):
        from_conversation([S, Q, A], system="other")


def test_added_text_is_text():
    assert from_pair("add", "3", added="1 2").prompt == "add\n1 2"
    assert from_pair("add", "3", added=" ").prompt == "add"
    with pytest.raises(RowError, match="blank"):
        from_pair(None, "3", added="1 2")
    with pytest.raises(RowError, match="list in place of text"):
        from_pair("add", "3", added=["1", "2"])


def test_every_row_that_cannot_be_used_is_named_with_its_reason():
    rows = [("q", "a"), ("", "a"), ("q", 1.5), ("q", None)]
    blank = "2 of 4 rows have a blank prompt or response (rows 1, 3, counted from 0)"
    with says(DatasetError, "SFT set x", blank, "1 of 4 rows hold float", "(rows 2, counted from 0)"):
        read_rows("x", enumerate(rows), lambda row: from_pair(*row))


def test_the_hash_of_plain_pairs_is_what_it_always_was():
    pairs = (Example("q", "a"), Example("r", "b"))
    assert SftSet("x", pairs).content_hash == hash_json([["q", "a"], ["r", "b"]])
    hashes = {
        SftSet("x", (Example("q", "a", *more),)).content_hash
        for more in [(), ((SYSTEM,),), ((USER, ASSISTANT),), ((USER, ASSISTANT), True)]
    }
    assert len(hashes) == 4


def test_what_the_system_says_is_folded_into_the_users_next_turn():
    folded = fold_system([SYSTEM, Message("developer", "d"), USER, ASSISTANT, Message("system", " "), USER])
    assert folded == [Message("user", "s\n\nd\n\nu"), ASSISTANT, USER]
    assert fold_system([SYSTEM, ASSISTANT, USER]) == [ASSISTANT, Message("user", "s\n\nu")]


def test_what_is_whole_in_a_rendered_prompt():
    text = "<u>What is it? <a><think>\nhm\n</think>\n\nfour<end>"
    assert holds(text, ["What is\nit?", "<think>hm</think> four"])
    assert not holds(text, ["four", "What"]) and not holds(text, ["four", "four"])
    assert find(text, "four") == find(text, " fo ur\n", last=True) == text.index("<end>")
    assert find(text, "five") is None and find(text, "What", 5) is None
