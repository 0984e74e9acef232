"""Queries: which tokens are scored, and that they are the same in every prompt."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_sts.errors import PromptError
from lm_eval_sts.features.queries import (
    Prompts,
    Query,
    QueryTokenizer,
    TokensRule,
    common_suffix,
    shared_prefix,
)
from lm_eval_sts.records.prediction import PromptRef
from tests.messages import says
from tests.tiny_models import BOS, tiny_tokenizer

SPECIAL = frozenset({ord("^"), ord("$")})


def letters(rule="suffix", **options) -> QueryTokenizer:
    """One token a letter; ^ and $ are special tokens."""
    return QueryTokenizer(lambda text: [ord(c) for c in text], SPECIAL, rule, **options)


def scored_text(query: Query, side: int | None = None) -> str:
    ids = query.plain if side is None else query.contexts[side]
    return "".join(chr(ids[p + len(ids) - len(query.plain)]) for p in query.scored)


@pytest.mark.parametrize(
    ("plain", "contexts", "expected"),
    [
        ("^query", ("^demo query",), "query"),  # the suffix ends where the special token stands
        ("^query", ("^demo\nquery", "^other one\nquery"), "query"),
        ("^a query", ("^demo query",), " query"),  # what they happen to share counts
        ("^x query", ("^demo query", "^demox query"), " query"),  # the shortest suffix of all draws
        ("^query$", ("^demo$query$",), "query"),  # special tokens inside and at the end are left out
        ("query", ("query",), "uery"),  # no BOS: the prompt's first token is the attention sink
        ("query", ("demo query",), "uery"),
        ("a query", ("demo query",), " query"),  # it stands outside the suffix
        ("^que$ry", ("^demo que$ry",), "query"),
        ("^query", (), "query"),
    ],
)
def test_the_aligned_suffix(plain, contexts, expected):
    query = letters()(Prompts("q", plain, contexts))
    assert scored_text(query) == expected
    assert all(scored_text(query, k) == expected for k in range(len(contexts)))
    assert query.name == "q"
    last = letters("last")(Prompts("q", plain, contexts))
    assert scored_text(last) == expected[-1]


@pytest.mark.parametrize(
    ("plain", "contexts", "expected"),
    [
        ("^query", ("^demo query",), "^query"),
        (
            "^$query$",
            ("^$demo$query$", "^$x$query$"),
            "^$query$",
        ),  # the $ before the query is the head's or the suffix's
        ("^$^query", ("^$demo\nquery",), "^$query"),  # the third special token stands in one prompt only
        ("query", ("demo query",), "uery"),
        ("^query", (), "^query"),
        ("^que$ry", ("^demo^que$ry",), "^que$ry"),  # the whole plain prompt is the suffix
    ],
)
def test_special_tokens_where_they_are_asked_for(plain, contexts, expected):
    query = letters("special")(Prompts("q", plain, contexts))
    for ids in (query.plain, *query.contexts):
        assert "".join(chr(ids[p]) for p in query.positions(len(ids))) == expected


def test_the_head_stands_at_the_start_of_every_prompt():
    query = letters("special")(Prompts("q", "^query", ("^demo query",)))
    assert (query.head, query.scored) == (1, (0, 1, 2, 3, 4, 5))
    assert query.positions(11) == [0, 6, 7, 8, 9, 10]
    assert query.row_id != letters()(Prompts("q", "^query", ("^demo query",))).row_id


def test_what_comes_after_the_first_tokens():
    query = letters()(Prompts("q", "^query=answer", ("^demo query=answer",)))
    assert scored_text(query.after(7), 0) == "answer"
    with says(PromptError, "question q: no token to score after its first 13"):
        query.after(13)


texts = st.text(alphabet="ab^$", max_size=8)


@settings(deadline=None)
@given(texts, st.lists(texts, min_size=1, max_size=3), st.text(alphabet="ab^$", max_size=4))
def test_scored_tokens_are_the_same_in_every_prompt_and_all_there_are(plain, contexts, end):
    prompts = Prompts("q", plain + end, tuple(c + end for c in contexts))
    try:
        query = letters()(prompts)
    except PromptError as error:
        shared = prompts.plain and all(c and c[-1] == prompts.plain[-1] for c in prompts.contexts)
        assert not shared or "no token to score" in str(error)
        return
    assert {scored_text(query), *(scored_text(query, k) for k in range(len(contexts)))} == {scored_text(query)}
    shared = max(
        n
        for n in range(len(prompts.plain) + 1)
        if all(c.endswith(prompts.plain[len(prompts.plain) - n :]) for c in prompts.contexts)
    )
    kept = min(shared, len(prompts.plain) - 1)
    assert scored_text(query) == prompts.plain[len(prompts.plain) - kept :].replace("^", "").replace("$", "")


def test_prompts_that_end_differently_name_the_question():
    with says(PromptError, "question law/7", "nothing to align", "template"):
        letters()(Prompts("law/7", "^query!", ("^demo query?",)))
    with says(PromptError, "question law/7"):
        letters()(Prompts("law/7", "", ("^demo",)))


@pytest.mark.parametrize("plain", ["^", "^$", "a$", "a"])
def test_nothing_to_score_names_the_question(plain):
    with says(PromptError, "question law/8", "no token to score", "empty"):
        letters()(Prompts("law/8", plain, ("b" + plain[-1],)))


# ---- with a tokenizer


def byte_tokenizer(rule, tokenizer) -> QueryTokenizer:
    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def offsets(text: str):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoded["input_ids"], encoded["offset_mapping"]

    return QueryTokenizer(encode, frozenset(tokenizer.all_special_ids), rule, offsets)


def prompts_of(tokenizer, question: str, chat: bool) -> Prompts:
    shown = [("Wie viel?", "7"), ("Why?", "because")]
    if chat:

        def render(*turns: str) -> str:
            roles = ("user", "assistant")
            messages = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
            return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    else:

        def render(*turns: str) -> str:
            return "<bos>" + "\n\n".join(turns)

    return Prompts("q", render(question), tuple(render(q, a, question) for q, a in shown), question)


@pytest.mark.parametrize(
    ("rule", "chat", "expected"),
    [
        ("suffix", False, "Wie groß?"),
        ("content", False, "Wie groß?"),
        ("last", False, "?"),
        ("suffix", True, "<user>\nWie groß?<end>\n<assistant>\n"),
        ("content", True, "Wie groß?"),
        ("last", True, "\n"),
    ],
)
def test_rules_with_and_without_a_chat_template(rule, chat, expected):
    tokenizer = tiny_tokenizer(chat_template=True)
    prompts = prompts_of(tokenizer, "Wie groß?", chat)
    query = byte_tokenizer(rule, tokenizer)(prompts)
    assert tokenizer.decode([query.plain[p] for p in query.scored]) == expected
    for ids in query.contexts:
        assert tokenizer.decode([ids[p + len(ids) - len(query.plain)] for p in query.scored]) == expected
    assert query.plain[0] == BOS and 0 not in query.scored


def test_content_takes_the_last_occurrence_of_the_question():
    tokenizer = tiny_tokenizer()
    prompts = Prompts("q", "<bos>why why", ("<bos>x why why",), "why")
    query = byte_tokenizer("content", tokenizer)(prompts)
    assert query.scored == (5, 6, 7)


def test_content_that_cannot_be_found_names_the_question():
    tokenizer = tiny_tokenizer()
    with says(PromptError, "question q", "tokens: suffix"):
        byte_tokenizer("content", tokenizer)(Prompts("q", "<bos>why", ("<bos>x why",), "how"))
    with says(PromptError, "fast tokenizer", "tokens: suffix"):
        letters("content")
    other = QueryTokenizer(lambda text: [1, 2], frozenset(), "content", lambda text: ([1], [(0, 1)]))
    with says(PromptError, "question q"):
        other(Prompts("q", "ab", ("ab",), "a"))


# ---- what is made of them


def test_spans_cover_the_scored_positions():
    query = Query("q", (1,) * 9, (), (0, 1, 2, 5, 7, 8))
    assert query.scored_spans() == [[0, 3], [5, 6], [7, 9]]
    assert [p for start, stop in query.scored_spans() for p in range(start, stop)] == list(query.scored)


def test_row_id_changes_with_everything_that_is_read():
    base = Query("q", (1, 2, 3), ((4, 1, 2, 3), (5, 1, 2, 3)), (1, 2))
    others = [
        Query("q", (9, 2, 3), base.contexts, base.scored),
        Query("q", base.plain, ((9, 1, 2, 3), (5, 1, 2, 3)), base.scored),
        Query("q", base.plain, ((4, 1, 2, 3), (9, 1, 2, 3)), base.scored),
        Query("q", base.plain, ((5, 1, 2, 3), (4, 1, 2, 3)), base.scored),
        Query("q", base.plain, base.contexts[:1], base.scored),
        Query("q", base.plain, base.contexts, (2,)),
        Query("q", (1, 2), ((3, 4, 1, 2, 3), (5, 1, 2, 3)), base.scored),
    ]
    assert len({q.row_id for q in [base, *others]}) == len(others) + 1
    assert Query("another name", *(base.plain, base.contexts, base.scored)).row_id == base.row_id
    assert len(base.row_id) == 24


ids = st.lists(st.integers(0, 2), max_size=6)


@given(ids, ids)
def test_common_suffix(a, b):
    n = common_suffix(a, b)
    assert a[len(a) - n :] == b[len(b) - n :]
    assert n == min(len(a), len(b)) or a[-n - 1] != b[-n - 1]


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=1, max_size=4), st.data())
def test_shared_prefix(sequences, data):
    limits = [data.draw(st.integers(0, len(s))) for s in sequences]
    n = shared_prefix(sequences, limits)
    assert len({tuple(s[:n]) for s in sequences}) == 1
    longer = min(min(limits), n + 1)
    assert n == longer or len({tuple(s[:longer]) for s in sequences}) > 1


def test_records_know_every_rule():
    """Records import nothing of the features, so they name the rules again."""
    (known,) = [kind for kind in get_args(PromptRef.model_fields["tokens"].annotation) if kind is not type(None)]
    assert get_args(known) == get_args(TokensRule)
