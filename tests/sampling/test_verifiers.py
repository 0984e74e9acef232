"""Verifiers: what each counts as right, which prompts it can say something of, and the user's own."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

import pytest

from lm_eval_sts.errors import DatasetError, SettingsError, VerifierError
from lm_eval_sts.sampling import math_process, math_worker
from lm_eval_sts.sampling.prompts import Prompt, PromptSet
from lm_eval_sts.sampling.verifiers import NAMES, Verifier, get_verifier, verifiable
from tests.docs.blocks import blocks
from tests.messages import says

WORKED = "She sells 9 eggs.\nShe makes 9 * 2 = $<<9*2=18>>18.\n#### 18"


def right(verifier: Verifier, response: str, answer: str | None) -> bool:
    return verifier(response, Prompt("q", answer=answer))


@pytest.fixture(scope="module")
def mathematical() -> Verifier:
    return get_verifier("math")


# ---- exact


@pytest.mark.parametrize(
    ("response", "answer", "is_right"),
    [
        ("Paris", "Paris", True),
        (" paris\n", "PARIS", True),
        ("New   York", "new\nyork", True),
        ("STRASSE", "straße", True),
        ("re\u0301sume\u0301", "résumé", True),
        ("10²", "102", False),
        ("Paris.", "Paris", False),
        ("It is Paris", "Paris", False),
        ("", "Paris", False),
    ],
)
def test_exact(response, answer, is_right):
    assert right(get_verifier("exact"), response, answer) is is_right


@pytest.mark.parametrize(
    ("pattern", "response", "answer", "is_right"),
    [
        ("#### (.+)", "…\n#### 18", "18", True),
        ("#### (.+)", "…\n#### 18", WORKED, True),
        ("#### (.+)", "18", "18", False),
        ("#### (.+)", "#### 17 #### 18\n#### 19", "19", True),
        ("#### (.+)", "#### 19\n#### 18", "19", False),
        (r"[0-9]+", "between 3 and 18 eggs", "18", True),
        (r"[0-9]*", "18 eggs", "18", True),
        (r"(yes)|(no)", "yes, no, well: no", "NO", True),
        (r"capital: (\w+)|is (\w+)", "the capital is Rome", "rome", True),
        (r"<a>(.*?)</a>", "<a> x </a><a> </a>", "x", True),
    ],
)
def test_a_pattern_finds_what_is_compared(pattern, response, answer, is_right):
    verifier = get_verifier("exact", pattern)
    assert verifier.pattern == pattern
    assert right(verifier, response, answer) is is_right


def test_a_pattern_is_for_the_others_too(mathematical):
    pattern = "<a>(.*?)</a>"
    assert right(get_verifier("numeric", pattern), "<a>1,000</a> and 3", "1000")
    assert not right(get_verifier("numeric", pattern), "1000", "1000")
    assert right(get_verifier("choice", pattern), "<a>(B)</a> not C", "B")
    assert right(get_verifier("math", pattern), "<a>x+1</a> and 3", "1+x")
    with says(SettingsError, "pattern '('", "no regular expression"):
        get_verifier("exact", "(")
    with says(SettingsError, "a pattern is not for the verifier 'os.path:join'"):
        get_verifier("os.path:join", "x")
    with says(SettingsError, "no verifier 'exat'"):
        get_verifier("exat", "x")


# ---- numbers and letters


@pytest.mark.parametrize(
    ("response", "answer", "is_right"),
    [
        ("9 eggs at $2: $18 a day.", WORKED, True),
        (WORKED, "18", True),
        ("#### 18.0", "18", True),
        ("The answer is not 5, it is 6.", "6", True),
        ("The answer is not 5, it is 6.", "5", False),
        ("The answer is 6, not 5.", "5", False),
        ("1000", "1,000", True),
        ("$5", "$5.00", True),
        ("50%", "50", True),
        ("50%", "0.5", False),
        (".5", "\\frac{1}{2}", True),
        (".333", "1/3", False),
        ("-3", "3", False),
        ("1e2", "100", True),
        ("none", "18", False),
        ("none", "none", False),
        ("The answer is 3.", "(2, 3)", False),
        ("It was founded in 1912.", "Founded in 1912, it has 30 members since 1912", False),
    ],
)
def test_numeric(response, answer, is_right):
    assert right(get_verifier("numeric"), response, answer) is is_right


@pytest.mark.parametrize("answer", ["B", "b", "(B)", "B)", "B.", "B. Mitochondria", "The answer is (B)."])
def test_choice(answer):
    verifier = get_verifier("choice")
    assert right(verifier, "Cells breathe there. The answer is (B).", answer)
    assert right(verifier, "b", answer)
    assert not right(verifier, "The answer is (C).", answer)
    assert not right(verifier, "It is B or C.", answer)
    assert not right(verifier, "The answer is (B).", "mitochondria")


# ---- math-verify


@pytest.mark.parametrize(
    ("response", "answer", "is_right"),
    [
        ("Thus $x = \\boxed{\\frac{2}{4}}$.", "\\frac{1}{2}", True),
        ("Thus \\boxed{0.5}.", "$\\frac12$", True),
        ("Expanded it is $1 + 2x + x^2$.", "(x+1)^2", True),
        ("x^2+1", "1", False),
        ("$[2,5)$", "The domain is $\\boxed{[2,5)}$.", True),
        ("$[2,5]$", "[2,5)", False),
        ("So \\boxed{2\\sqrt{3}}", "\\sqrt{12}", True),
        ("The answer is 18.", WORKED, True),
        ("That is $\\$32{,}348$.", "\\$32,\\!348", True),
        (WORKED, "18", True),
        (WORKED, "19", False),
        ("#### Sum\n\\boxed{5}", "5", True),
        ("no idea", "5", False),
        ("", "5", False),
        ("5\ud800", "5", True),
    ],
)
def test_math(mathematical, response, answer, is_right):
    assert right(mathematical, response, answer) is is_right


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("x+1", "$x+1$"),
        ("so 3\n#### 18", "$18$"),
        ("#### One\n#### Two\n$3$", "#### One\n#### Two\n$3$"),
        ("#### $18", "$18"),
        ("\\boxed{3}", "\\boxed{3}"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_what_math_verify_reads_of_a_text(text, read):
    assert math_worker.to_read(text) == read


def test_math_is_for_any_thread(mathematical):
    found: list[bool] = []

    def ask(answer: str) -> None:
        found.append(right(mathematical, "$\\frac{1}{2}$", answer))

    threads = [threading.Thread(target=ask, args=(answer,)) for answer in ("0.5", "1/2", "\\frac{2}{4}")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of the processor's time there")
def test_a_comparison_without_end_is_not_equal(monkeypatch, caplog):
    monkeypatch.setattr(math_process, "_CPU_SECONDS", 2.0)
    process = math_process.MathProcess()
    tower = "$9^{9^{9^{9}}} - 9^{9^{9^9}} + 1$"
    with caplog.at_level(logging.WARNING):
        assert not process.equal("1", tower)
    assert "came to no end" in caplog.text
    assert process.equal("1", "$1$")


def test_a_comparison_that_hangs_is_ended(monkeypatch, caplog):
    monkeypatch.setattr(math_process, "_WAIT_SECONDS", 0.0)
    assert not math_process.MathProcess().equal("1", "$1$")
    assert "came to no end" in caplog.text


def test_math_that_cannot_be_used_says_why(tmp_path, monkeypatch):
    (tmp_path / "math_verify.py").write_text("raise OSError('broken')")
    monkeypatch.syspath_prepend(tmp_path)
    with says(VerifierError, "math-verify cannot be used (OSError: broken)", "lm-eval-sts[verify]"):
        math_process.MathProcess().readable("1")


def test_math_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(math_process.util, "find_spec", lambda name: None)
    with says(SettingsError, "math-verify", "not installed", "pip install 'lm-eval-sts[verify]'"):
        get_verifier("math")


# ---- which prompts


@pytest.mark.parametrize(
    ("name", "readable", "unreadable"),
    [
        ("exact", "anything", None),
        ("numeric", WORKED, "Paris"),
        ("choice", "(B)", "Paris"),
        ("math", "x^2", "no formula\nat all"),
    ],
)
def test_prompts_that_cannot_be_verified_are_named(name, readable, unreadable):
    verifier = get_verifier(name)
    assert verifier.needs_answer
    answers = [None, readable, unreadable, readable, " "]
    prompts = tuple(Prompt("q", answer=answer) for answer in answers)
    found = verifiable(verifier, PromptSet("set", prompts))
    assert found.rows == (1, 3)
    nothing = "3 of 5 prompts have no answer and cannot be verified (rows 0, 2, 4, counted from 0)"
    without = "2 of 5 prompts have no answer and cannot be verified (rows 0, 4, counted from 0)"
    other = "1 of 5 prompts have an answer that it cannot read and cannot be verified (rows 2, counted from 0)"
    assert found.notes == ((nothing,) if unreadable is None else (without, other))
    assert [verifier.reads(prompt) for prompt in prompts] == [i in found.rows for i in range(5)]
    assert not any(verifier("", prompt) or verifier("None", prompt) for prompt in prompts)
    whole = verifiable(verifier, PromptSet("set", prompts[1:2]))
    assert (whole.rows, whole.notes) == ((0,), ())


def test_a_set_of_which_nothing_can_be_verified_is_refused():
    prompts = (Prompt("q"), Prompt("q", answer="Paris"))
    with says(
        DatasetError,
        "prompt set a.jsonl: no prompt can be verified by numeric",
        "1 of 2 prompts have no answer",
        "1 of 2 prompts have an answer that it cannot read",
        "name the column of answers (columns read: question, target)",
    ):
        verifiable(get_verifier("numeric"), PromptSet("a.jsonl", prompts, columns=("question", "target")))
    with says(DatasetError, "name the column of answers, or choose another verifier"):
        verifiable(get_verifier("numeric"), PromptSet("a.jsonl", prompts))


# ---- of one's own

OWN = """
from fractions import Fraction

def long(response, prompt):
    return len(response) > len(prompt.prompt)

def fails(response, prompt):
    raise KeyError(response)

def says_one(response, prompt):
    return 1

def one(response):
    return True

def knows(response, prompt):
    return response == prompt.answer

knows.needs_answer = True
number = 5

class Checker:
    def __call__(self, response, prompt):
        return response == "yes"

checker = Checker()
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "own_checks.py"
    path.write_text(OWN)
    (tmp_path / "broken_checks.py").write_text("import nothing_of_this_name")
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    for name in ("own_checks", "broken_checks"):
        sys.modules.pop(name, None)


def test_a_function_of_ones_own(own):
    verifier = get_verifier("own_checks:long")
    assert (verifier.name, verifier.pattern, verifier.needs_answer) == ("own_checks:long", None, False)
    assert [verifier(text, Prompt("abc")) for text in ("abcd", "abc")] == [True, False]
    assert get_verifier("own_checks:checker")("yes", Prompt("q"))
    assert verifiable(verifier, PromptSet("set", (Prompt("q"), Prompt("p")))).rows == (0, 1)
    knows = get_verifier("own_checks:knows")
    assert knows.needs_answer
    assert knows("a", Prompt("q", answer="a")) and not knows("None", Prompt("q"))
    assert verifiable(knows, PromptSet("set", (Prompt("q"), Prompt("p", answer="?")))).without_answer == (0,)


def test_the_function_in_the_documentation(own):
    (block,) = (block for block in blocks("docs/verifiers.md") if block.language == "python")
    own.write_text(block.text)
    verifier = get_verifier("own_checks:short")
    assert verifier.needs_answer
    assert (
        right(verifier, "It is 18 ", "18") and not right(verifier, "18" * 500, "18") and not right(verifier, "", "18")
    )


def test_the_version_is_of_what_decides(own):
    before = get_verifier("own_checks:long")
    assert before == get_verifier("own_checks:long") != get_verifier("own_checks:knows")
    own.write_text(OWN + "\n# changed")
    assert get_verifier("own_checks:long").version != before.version
    assert get_verifier("math").version == f"1, math-verify {math_process.version()}"
    assert {get_verifier(name).version for name in NAMES if name != "math"} == {"1"}
    assert get_verifier("exact") == get_verifier("exact") != get_verifier("exact", "x")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("exat", ["no verifier 'exat'", "did you mean 'exact'?", "exact, numeric, math, choice, or module:function"]),
        ("", ["no verifier ''"]),
        ("own_checks", ["no verifier 'own_checks'"]),
        ("https://example.org/x:f", ["no verifier"]),
        ("../own_checks:long", ["no verifier"]),
        ("own_checks:checker.x", ["no verifier"]),
        ("none_of_the_name:f", ["none_of_the_name:f cannot be imported", "No module named", "PYTHONPATH"]),
        ("broken_checks:f", ["broken_checks:f cannot be imported", "nothing_of_this_name"]),
        ("own_checks:none", ["none is not there in own_checks"]),
        ("own_checks:number", ["number is int, no function in own_checks"]),
        ("own_checks:one", ["own_checks:one must take (response, prompt)", "too many positional arguments"]),
    ],
)
def test_a_verifier_that_is_none(own, name, parts):
    with says(SettingsError, *parts):
        get_verifier(name)


def test_a_function_that_fails_says_at_which_prompt(own):
    prompt = Prompt("What\nis it? " + "x" * 100)
    with says(VerifierError, "own_checks:fails failed at the prompt 'What is it? xxx", "…'", "KeyError: 'r'"):
        get_verifier("own_checks:fails")("r", prompt)
    with says(VerifierError, "own_checks:says_one gave int at the prompt 'q'", "must return True or False"):
        get_verifier("own_checks:says_one")("r", Prompt("q"))
