"""The SFT set's queries and the demonstrations drawn for them."""

from __future__ import annotations

import pytest

from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import DatasetError, PromptError
from lm_eval_sts.examples import Example, Message
from lm_eval_sts.features.queries import QueryTokenizer
from lm_eval_sts.features.sft_queries import SftQueries, sft_queries
from tests.messages import says


def render(turns: list[Message]) -> str:
    return "^" + "".join({"user": "\n", "assistant": "="}[turn.role] + turn.content for turn in turns)[1:]


TOKENIZE = QueryTokenizer(lambda text: [ord(c) for c in text], frozenset({ord("^")}))


def make_set(n: int, *, long: set[int] = frozenset()) -> SftSet:
    """Examples of 4 + 4 letters; those in ``long`` have an answer of 200."""
    return SftSet("org/set", tuple(Example(f"q{i:03}", "x" * (200 if i in long else 4)) for i in range(n)))


def draw(sft_set: SftSet, **changes) -> SftQueries:
    options = {"render": render, "demos": 2, "draws": 3, "budget": 10**6, "context": 100, "seed": 0}
    return sft_queries(sft_set, tokenize=TOKENIZE, **{**options, **changes})


def rows_of(found: SftQueries) -> list[int]:
    return [int(p.name.removeprefix("sft/")) for p in found.prompts]


@pytest.mark.parametrize("n", [3, 4, 6, 7, 40])
@pytest.mark.parametrize("draws", [1, 3])
def test_no_demonstration_is_a_query_and_nothing_else_is_left_out(n, draws):
    found = draw(make_set(n), draws=draws)
    shown = {row for rows in found.demonstrations for row in rows}
    assert len(found.demonstrations) == draws
    assert all(len(set(rows)) == 2 for rows in found.demonstrations)
    assert sorted(rows_of(found)) == sorted(set(range(n)) - shown) != []


def test_prompts_are_the_query_after_each_draws_demonstrations():
    sft_set = make_set(9)
    found = draw(sft_set)
    assert [q.name for q in found.queries] == [p.name for p in found.prompts]
    for row, prompts, query in zip(rows_of(found), found.prompts, found.queries, strict=True):
        asked = sft_set.examples[row].prompt
        assert prompts.plain == f"^{asked}" and prompts.content == asked
        for rows, text in zip(found.demonstrations, prompts.contexts, strict=True):
            shown = [sft_set.examples[r] for r in rows]
            assert text == "^" + "".join(f"{e.prompt}={e.response}\n" for e in shown) + asked
        assert "".join(chr(query.plain[p]) for p in query.scored) == asked


def test_responses_are_scored_after_their_prompt_where_asked_for():
    sft_set = make_set(9)
    found, asked = draw(sft_set, response=lambda example: f"={example.response}"), draw(sft_set)
    assert found.rows == asked.rows and found.demonstrations == asked.demonstrations
    for whole, half, query in zip(found.prompts, asked.prompts, found.queries, strict=True):
        assert (whole.plain, whole.content) == (half.plain + "=xxxx", "=xxxx")
        assert whole.contexts == tuple(text + "=xxxx" for text in half.contexts)
        for ids in (query.plain, *query.contexts):
            assert "".join(chr(ids[p]) for p in query.positions(len(ids))) == "=xxxx"
    with says(PromptError, "fits the model's context of 22 tokens"):
        draw(sft_set, response=lambda example: "x" * 40, context=22, demos=1)


def test_draws_are_disjoint_where_there_are_enough():
    found = draw(make_set(7))
    assert len({row for rows in found.demonstrations for row in rows}) == 6
    assert found.notes == ()


def test_overlapping_draws_are_said():
    found = draw(make_set(6))
    assert all(len(set(rows)) == 2 for rows in found.demonstrations)
    assert len(found.notes) == 1 and "3 draws" in found.notes[0] and "overlap: only 5 examples" in found.notes[0]


def test_the_seed_decides_and_nothing_else():
    sft_set = make_set(40)
    assert draw(sft_set) == draw(sft_set)
    others = [draw(sft_set, seed=s) for s in (1, 2, 3)]
    assert len({o.demonstrations for o in others}) == 3
    assert len({tuple(rows_of(o)) for o in others}) == 3
    assert rows_of(others[0]) != sorted(rows_of(others[0]))


def test_the_first_queries_do_not_depend_on_the_number_of_draws():
    few, many = draw(make_set(40), draws=1, budget=40), draw(make_set(40), draws=5, budget=40)
    assert rows_of(few) == rows_of(many)
    assert many.demonstrations[:1] == few.demonstrations


def test_the_budget_counts_scored_tokens():
    sft_set = make_set(40)
    whole = rows_of(draw(sft_set))
    for budget, n in ((1, 1), (4, 1), (5, 2), (40, 10), (41, 11), (10**6, 34)):
        assert rows_of(draw(sft_set, budget=budget)) == whole[:n]


def test_long_examples_are_never_shown_and_their_number_is_said():
    long = set(range(0, 40, 2))
    found = draw(make_set(40, long=long))
    assert not long & {row for rows in found.demonstrations for row in rows}
    (note,) = found.notes
    left_out = int(note.split(" of ")[0])
    looked_at = int(note.split(" of ")[1].split()[0])
    assert looked_at == left_out + 6 and left_out > 0
    assert "over 37 tokens" in note and "100-token context" in note and "left out" in note


def test_no_example_fits():
    with says(PromptError, "only 0 of 8 examples of SFT set org/set", "37 tokens", "lower sft_demos"):
        draw(make_set(8, long=set(range(8))))
    with says(PromptError, "only 1 of 8 examples"):
        draw(make_set(8, long=set(range(7))))


def test_queries_that_do_not_fit_are_left_out_and_counted():
    sft_set = SftSet("org/set", tuple(Example("q" * (80 if i % 4 == 0 else 4), "x") for i in range(40)))
    found = draw(sft_set, context=70)
    shown = {row for rows in found.demonstrations for row in rows}
    assert not [row for row in rows_of(found) if row % 4 == 0] and len(found.queries) == 30 - len(shown)
    assert any(note.startswith("10 SFT queries did not fit") and "70-token" in note for note in found.notes)


def test_no_query_fits():
    # Every example serves as a demonstration (14 letters of 15), and none fits after two others.
    sft_set = SftSet("org/set", tuple(Example("q" * 12, "") for _ in range(9)))
    with says(PromptError, "no query of SFT set org/set", "context of 40 tokens", "2 demonstrations"):
        draw(sft_set, context=40)


@pytest.mark.parametrize(("n", "demos"), [(1, 1), (2, 2), (3, 5)])
def test_fewer_examples_than_needed(n, demos):
    with says(DatasetError, "SFT set org/set", f"has {n} examples", f"{demos + 1} or more", "sft_demos"):
        draw(make_set(n), demos=demos)


def test_a_query_that_cannot_be_scored_is_named():
    sft_set = SftSet("org/set", tuple(Example("^", "x") for _ in range(4)))
    with says(PromptError, "question sft/"):
        draw(sft_set, draws=1)


def test_a_conversation_is_asked_up_to_its_last_prompt():
    before = (Message("system", "s"), Message("user", "u"), Message("assistant", "a"))
    sft_set = SftSet("org/set", tuple(Example(f"q{i}", "x", before) for i in range(7)))
    found = draw(sft_set)
    for row, prompts in zip(found.rows, found.prompts, strict=True):
        assert prompts.plain == f"^s\n\nu=a\nq{row}" and prompts.content == f"q{row}"
        for rows, text in zip(found.demonstrations, prompts.contexts, strict=True):
            assert text == "^" + "".join(f"s\n\nu=a\nq{r}=x\n" for r in rows) + prompts.plain[1:]
    assert found.notes == ()


def test_what_rendering_leaves_out_is_noted_with_the_rows():
    def stripping(turns: list[Message]) -> str:
        return render([Message(t.role, t.content.split("|")[-1]) for t in turns])

    examples = [Example(f"q{i}", "because|x" if i % 2 else "x") for i in range(7)]
    found = draw(SftSet("org/set", tuple(examples)), render=stripping)
    cut = sorted(row for rows in found.demonstrations for row in rows if row % 2)
    (note,) = found.notes
    assert f"leaves out a part of {len(cut)} SFT demonstrations (rows {', '.join(map(str, cut))}, counted" in note
    asked = [Example(f"because|q{i}", "x") for i in range(7)]
    found = draw(SftSet("org/set", tuple(asked)), render=stripping)
    assert any(f"1 SFT queries (rows {found.rows[0]}, counted" in note for note in found.notes)


def test_a_row_that_cannot_be_rendered_is_named():
    def strict(turns: list[Message]) -> str:
        if any(turn.content == "bad" for turn in turns):
            raise PromptError("the chat template refuses it")
        return render(turns)

    sft_set = SftSet("org/set", (*make_set(6).examples, Example("bad", "x")))
    for seed in range(3):
        with says(PromptError, "SFT set org/set: row 6 (counted from 0): the chat template refuses it"):
            draw(sft_set, seed=seed, render=strict)
