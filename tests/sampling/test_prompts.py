"""Prompts: of which columns, with which answers, and what is said about those that cannot be used."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lm_eval_sts.data import load_sft_set
from lm_eval_sts.dataset_columns import CONVERSATIONS, PAIRS
from lm_eval_sts.errors import DatasetError
from lm_eval_sts.examples import Message
from lm_eval_sts.files import hash_json
from lm_eval_sts.sampling.prompts import ANSWERS, Prompt, PromptSet, given_prompts, load_prompts
from tests.messages import says

NO_ANSWER = "{0} of {0} prompts have no answer to compare a response with"
OF_COLUMN = "column of the prompt set that a response is compared with: {}"
OF_TURNS = "the prompt set's responses are compared with the last turns of its conversations"
USER, ASSISTANT, SYSTEM = ({"role": role, "content": role[0]} for role in ("user", "assistant", "system"))


@pytest.fixture
def write(tmp_path):
    def write(*rows: dict[str, Any]) -> str:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


@pytest.mark.parametrize("name", ["prompt", "question", "problem", "instruction", "query", "input", "Problem"])
def test_a_column_of_prompts_is_enough(write, name):
    path = write({name: "How many?", "id": 1}, {name: "Why?", "id": 2})
    loaded = load_prompts(path)
    assert loaded.prompts == (Prompt("How many?"), Prompt("Why?"))
    assert loaded.columns == (name,)
    assert (loaded.name, loaded.revision) == (path, "unknown")
    assert loaded.notes == ("columns of the prompt set that are left out: id", NO_ANSWER.format(2))
    with says(DatasetError, "not recognised"):
        load_sft_set(path)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_of_an_sft_set_the_prompts_are_its_own(write, pair):
    asked, answered = pair
    path = write({asked: "How many?", answered: "Two.", "System": "Be brief."}, {asked: "Why?", answered: "It is."})
    loaded = load_prompts(path)
    assert [(p.before, p.prompt, p.answer) for p in loaded.prompts] == [
        (e.before, e.prompt, e.response) for e in load_sft_set(path).examples
    ]
    assert loaded.prompts[0].turns == (Message("system", "Be brief."), Message("user", "How many?"))
    assert set(loaded.columns) == {asked, answered, "System"}
    assert loaded.notes == (OF_COLUMN.format(answered),)


def test_pairs_come_before_prompts_alone(write):
    loaded = load_prompts(write({"prompt": "no", "question": "q", "solution": "s"}))
    assert loaded.prompts == (Prompt("q", answer="s"),)
    assert loaded.notes[0] == "columns of the prompt set that are left out: prompt"


def test_the_answer_is_of_the_first_known_column_that_has_any(write):
    row = {"prompt": "q", **{name: name for name in reversed(ANSWERS)}}
    for name in ANSWERS:
        loaded = load_prompts(write(row, {**row, name: None}))
        assert [prompt.answer for prompt in loaded.prompts] == [name, None]
        assert loaded.notes[-2:] == (
            OF_COLUMN.format(name),
            "1 of 2 prompts have no answer to compare a response with",
        )
        row[name] = ""
    assert load_prompts(write(row)).prompts == (Prompt("q"),)


def test_named_columns_come_first(write):
    path = write({"prompt": "p", "frage": "f", "answer": "a", "loesung": 5, "system": "s"})
    assert load_prompts(path, column="frage", answer="loesung").prompts == (Prompt("f", answer="5"),)
    assert load_prompts(path, column="frage").prompts == (Prompt("f", answer="a"),)
    loaded = load_prompts(path, answer="loesung")
    assert loaded.prompts == (Prompt("p", (Message("system", "s"),), "5"),)
    assert loaded.columns == ("prompt", "loesung", "system")
    assert loaded.notes[0] == "columns of the prompt set that are left out: frage, answer"
    with says(DatasetError, path, "no column 'fragen' (column): did you mean 'frage'?"):
        load_prompts(path, column="fragen")
    with says(DatasetError, path, "no column 'answers' (answer): did you mean 'answer'?"):
        load_prompts(path, answer="answers")
    with says(DatasetError, path, "its column 'prompt' holds the prompts: name another one of answers"):
        load_prompts(path, answer="prompt")


def test_a_column_named_for_the_answers_is_no_part_of_the_prompt(write):
    path = write({"question": "q", "evidence": "e"})
    assert load_prompts(path, answer="evidence").prompts == (Prompt("q", answer="e"),)
    with says(DatasetError, path, "prompt set", "column 'evidence' seems to belong", 'column of prompts: "question"'):
        load_prompts(path)
    loaded = load_prompts(path, column="question")
    assert loaded.prompts == (Prompt("q"),)
    assert loaded.notes[0] == "columns of the prompt set that are left out: evidence"


def test_the_input_of_an_instruction_belongs_to_its_prompt(write):
    path = write({"instruction": "Add.", "input": "1 2"}, {"instruction": "Sing.", "input": ""})
    assert load_prompts(path).prompts == (Prompt("Add.\n1 2"), Prompt("Sing."))
    assert load_prompts(path).columns == ("instruction", "input")


def test_prompts_that_are_conversations(write):
    rows = [{"prompt": [SYSTEM, USER, ASSISTANT, USER], "ground_truth": 4}, {"prompt": [USER], "ground_truth": None}]
    loaded = load_prompts(write(*rows))
    before = (Message("system", "s"), Message("user", "u"), Message("assistant", "a"))
    assert loaded.prompts == (Prompt("u", before, "4"), Prompt("u"))
    assert loaded.prompts[0].turns == (*before, Message("user", "u"))
    assert loaded.notes[0] == OF_COLUMN.format("ground_truth")
    with says(DatasetError, "1 of 3 rows have a prompt that does not end with a turn of the user (rows 2, counted"):
        load_prompts(write(*rows, {"prompt": [USER, ASSISTANT]}))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_whole_conversations(write, name):
    asked = {"from": "human", "value": "again"}
    rows: list[dict[str, Any]] = [{name: [USER, ASSISTANT]}, {name: [USER, ASSISTANT, asked]}]
    loaded = load_prompts(write(*rows))
    before = (Message("user", "u"), Message("assistant", "a"))
    assert loaded.prompts == (Prompt("u", answer="a"), Prompt("again", before))
    assert loaded.notes == (OF_TURNS, "1 of 2 prompts have no answer to compare a response with")
    loaded = load_prompts(write(rows[1]))
    assert (loaded.prompts, loaded.notes) == ((Prompt("again", before),), (NO_ANSWER.format(1),))


def test_of_conversations_with_a_column_of_answers_the_last_turns_do_not_count(write):
    path = write(
        {"messages": [USER, ASSISTANT], "solution": "1", "system": "s"},
        {"messages": [USER], "solution": "2"},
        {"messages": [USER, {**ASSISTANT, "id": 1}], "solution": ""},
    )
    loaded = load_prompts(path)
    assert loaded.prompts == (Prompt("u", (Message("system", "s"),), "1"), Prompt("u", (), "2"), Prompt("u"))
    assert loaded.columns == ("messages", "solution", "system")
    assert loaded.notes == (
        "fields of the prompt set's messages that are left out: id",
        OF_COLUMN.format("solution"),
        "1 of 3 prompts have no answer to compare a response with",
    )
    with says(DatasetError, "column 'tools'", "belong to the prompt"):
        load_prompts(write({"messages": [USER], "tools": [{"name": "f"}]}))


@pytest.mark.parametrize(
    ("cell", "answer"),
    [
        ("B", "B"),
        ("worked\n#### 18", "worked\n#### 18"),
        (18, "18"),
        (18.5, "18.5"),
        (72.0, "72.0"),
        (float("nan"), None),
        (None, None),
        (" \n", None),
        ([], None),
        ([ASSISTANT], "a"),
    ],
)
def test_an_answer_is_text_or_a_number(cell, answer):
    assert given_prompts([{"prompt": "q", "answer": cell}, {"prompt": "q", "answer": "1"}]).prompts[0].answer == answer


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        (True, "answer that is bool, neither text nor a number: name another column"),
        (["18"], "answer that is list"),
        (float("inf"), "answer that is float"),
        ([USER, ASSISTANT], "answer that is not one turn of the assistant"),
    ],
)
def test_other_answers_are_refused_with_their_rows(cell, part):
    with says(DatasetError, "prompt set of given rows", "1 of 2 rows have an", part, "(rows 1,"):
        given_prompts([{"prompt": "q", "label": 1}, {"prompt": "q", "label": cell}])


@pytest.mark.parametrize("blank", ["", " \n", None])
def test_blank_prompts_are_refused_with_their_rows(write, blank):
    with says(
        DatasetError, "prompt set", "2 of 3 rows have a blank prompt (rows 0, 2, counted from 0): mend or remove"
    ):
        load_prompts(write({"question": blank}, {"question": "q"}, {"question": blank}))
    with says(DatasetError, "1 of 2 rows have a blank prompt (rows 1,"):
        load_prompts(write({"messages": [USER, ASSISTANT]}, {"messages": [{**USER, "content": blank}]}))
    with says(DatasetError, "1 of 2 rows have a blank prompt (rows 1,"):
        load_prompts(write({"messages": [USER]}, {"messages": [ASSISTANT]}))


def test_columns_that_are_not_recognised(write):
    path = write({"text": "t", "chosen": "c", "rejected": "r"})
    with says(DatasetError, f"prompt set {path}", "text, chosen, rejected", "expected prompt, question", "messages"):
        load_prompts(path)
    assert load_prompts(path, column="text", answer="chosen").prompts == (Prompt("t", answer="c"),)


def test_splits_and_files_are_as_of_an_sft_set(tmp_path):
    with says(DatasetError, "prompt set", "does not exist"):
        load_prompts(str(tmp_path / "none.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with says(DatasetError, "prompt set", "is empty"):
        load_prompts(str(tmp_path / "empty.jsonl"))
    for split, text in (("train", "q"), ("test", "p")):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / f"{split}.jsonl").write_text(json.dumps({"question": text}))
    assert load_prompts(str(tmp_path / "set")).prompts == (Prompt("q"),)
    assert load_prompts(str(tmp_path / "set"), split="test").prompts == (Prompt("p"),)
    with says(DatasetError, "prompt set", "no split 'dev'"):
        load_prompts(str(tmp_path / "set"), split="dev")


def test_prompts_of_python():
    turns = [SYSTEM, USER]
    said = (Message("system", "s"),)
    assert given_prompts(["q", "p"]).prompts == (Prompt("q"), Prompt("p"))
    assert given_prompts([turns, [*turns, ASSISTANT]]).prompts == (Prompt("u", said), Prompt("u", said, "a"))
    pairs = given_prompts([("q", "a"), ["q", 5], (turns, "a"), ("q", None)])
    assert pairs.prompts == (Prompt("q", (), "a"), Prompt("q", (), "5"), Prompt("u", said, "a"), Prompt("q"))
    assert (pairs.name, pairs.columns) == ("of given rows", ())
    assert pairs.notes == ("1 of 4 prompts have no answer to compare a response with",)
    assert given_prompts(text for text in "ab").prompts == (Prompt("a"), Prompt("b"))
    rows = given_prompts([{"frage": "q", "antwort": "a"}], column="frage", answer="antwort")
    assert rows.prompts == (Prompt("q", answer="a"),)


def test_prompts_of_a_dataset():
    from datasets import Dataset

    table = Dataset.from_dict({"problem": ["q", "p"], "answer": [0.1, 3.0]})
    assert given_prompts(table.with_format("numpy")).prompts == (Prompt("q", answer="0.1"), Prompt("p", answer="3.0"))


@pytest.mark.parametrize(
    "source", ["text", {"prompt": ["q"]}, 5, [5], [("q", "a", "b")], ["q", {"prompt": "q"}], [None]]
)
def test_what_is_no_prompt_set(source):
    with says(DatasetError, f"a prompt set of {type(source).__name__}", "(prompt, answer) pairs"):
        given_prompts(source)


def test_columns_are_of_rows_only():
    for names in ({"column": "a"}, {"answer": "a"}):
        with says(DatasetError, "a prompt set of list"):
            given_prompts(["q"], **names)
    with says(DatasetError, "prompt set of given rows is empty"):
        given_prompts([])


def test_a_data_frame_is_no_list_of_its_columns():
    import pandas as pd

    frame = pd.DataFrame({"prompt": ["q"], "answer": [2]})
    with says(DatasetError, "a prompt set of DataFrame", 'to_dict("records")'):
        given_prompts(frame)
    assert given_prompts(frame.to_dict("records")).prompts == (Prompt("q", answer="2"),)
    assert given_prompts(frame["prompt"]).prompts == (Prompt("q"),)


def test_the_hash_is_of_what_is_asked_in_its_order():
    def of(*prompts: Prompt) -> str:
        return PromptSet("name", prompts).content_hash

    one, two = Prompt("q", answer="a"), Prompt("p")
    others = [of(two, one), of(one), of(Prompt("q", (Message("user", "u"),), "a"), two)]
    assert len({of(one, two), *others}) == 4
    assert of(one, two) == PromptSet("another", (one, two), notes=("n",)).content_hash
    assert of(one, two) == of(Prompt("q"), two), "with what an answer is compared makes no other set of prompts"
    assert of(two) == hash_json([["p", []]])


def test_repeated_prompts_are_counted():
    loaded = given_prompts([{"prompt": "q", "answer": 1}] * 3 + [{"prompt": "q", "answer": 2}])
    assert loaded.notes[0] == "2 of 4 rows of the prompt set repeat an earlier row"
