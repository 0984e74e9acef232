"""The number and the letter that a text gives as its answer, as models and data sets write them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_sts.sampling.extraction import letter_alone, letter_in, number_in


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # worked answers, and few-shot's forms
        ("She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\nShe makes 9 * 2 = $<<9*2=18>>18.\n#### 18", 18),
        ("#### 1,000", 1000),
        ("#### -3", -3),
        ("#### $18.50", "18.5"),
        ("#### 70%", 70),
        ("so 2 + 3 = 5. #### 5", 5),
        ("#### 18\n#### 19", 19),
        ("#### 18 dollars a day", 18),
        ("#### x = 4", 4),
        ("#### 18\nThat took 3 steps.", 18),
        ("#### Step 3\nIn all 7 days.", 7),
        ("#### 2. Add them\nThat is 9.", 9),
        ("The answer is 18.", 18),
        ("The final answer is: **18**", 18),
        ("Answer: $1,250.00", 1250),
        ("answer = -4", -4),
        ("The answer is x = 5, as 2 + 3 is.", 5),
        ("The answer is $18 per day, over 7 days.", 18),
        ("The answer is 5. No, the answer is 6 (not 5).", 6),
        ("The answer is 6, not 5.", 6),
        ("The answer is not 5, it is 6.", 6),
        ("The answer is 5 + 3 = 8", 8),
        ("The answer is unknown; 3 of them left", 3),
        ("\\boxed{18} is the answer: 7 tries", 18),
        ("first \\boxed{3}, then \\boxed{4}", 4),
        ("Thus $x = \\boxed{-\\frac{1}{2}}$.", "-1/2"),
        ("\\boxed{\\frac12}", "1/2"),
        ("\\boxed{\\frac9{18}}", "1/2"),
        ("\\boxed{\\frac{9} 6}", "3/2"),
        ("\\boxed{\\dfrac{3}{6}}", "1/2"),
        ("\\boxed{1\\tfrac{3}{4}}", "7/4"),
        ("\\boxed{\\$18.00}", 18),
        ("\\boxed{50\\%}", 50),
        ("\\boxed{90^\\circ}", 90),
        ("\\boxed{90^{\\circ}}", 90),
        ("\\boxed{18\\text{ km/h}}", 18),
        ("\\boxed{5 \\text{ m}^2}", 5),
        ("\\boxed{12 cm^{2}}", 12),
        ("\\boxed{1,\\!000,\\!000}", 1000000),
        ("\\boxed{10{,}000}", 10000),
        ("\\boxed{\\text{18}}", 18),
        ("\\fbox{7}", 7),
        # the last number
        ("1,000", 1000),
        ("It costs $5.00", 5),
        ("It is -$3.50", "-7/2"),
        ("It is $-3.50", "-7/2"),
        ("50%", 50),
        (".5", "1/2"),
        ("0.50", "1/2"),
        ("+5", 5),
        ("it is −7 °C", -7),
        ("x=-5", -5),
        ("(-5)", -5),
        ("10-4=6", 6),
        ("3/4 of it", "3/4"),
        ("1 3/4", "7/4"),
        ("-1 3/4", "-7/4"),
        ("1½ cups", "3/2"),
        ("½", "1/2"),
        ("1.5e3", 1500),
        ("2E-3", "1/500"),
        ("12\u202f500", 12500),
        ("12\\,500", 12500),
        ("US$5", 5),
        ("5 dollars and 20 cents, or 520", 520),
        ("5€", 5),
        ("**18**", 18),
        ("\\(5\\)", 5),
        ("$5$", 5),
        ("5cm", 5),
        ("the 3rd", 3),
        ("18!", 18),
        ("18.", 18),
        ("x_2 is 3, as of H2O", 3),
        ("007", 7),
    ],
)
def test_numbers(text, value):
    assert number_in(text) == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "no number", "six", "x_2", "H2O", "v1.2"),
        *("\\boxed{x + 1}", "5 or \\boxed{3, 4}", "5 \\boxed{}", "\\boxed{2\\sqrt{3}}", "\\boxed{2x}", "\\boxed{18"),
        *("\\boxed{\\frac{\\pi}{2}}", "\\frac{\\pi}{2}", "\\boxed{1 \\pm 2}", "\\boxed{2(3)}", "\\boxed{\\pi}"),
        *("10-5", "10 - 5", "3 + 4", "3–5", "5 * 2", "6/ 2", "6 ÷ 2", "(3)-2", "x-5", "COVID-19", "- 5"),
        *("10^3", "10^{3}", "2**10", "2^3^4", "x^2", "√3", "\\sqrt2 + \\sqrt{2}", "3\\sqrt2", "3 \\pi", "3π", "5²"),
        *("1/0", "2 4/2", "5/6/2020", "3:45", "2:3", "1,2,3", "3,14", "1,00", "1.2.3", "1.000,5", "12,34,567"),
        *("5 000", "2,000 3/4", "5k", "2x", "1e999", "1e", "9" * 61, "1.5e10.5"),
        *("The answer is 5*2", "The answer is (2, 3).", "The answer is 2 or 3", "The answer is 18, 5 more than 13"),
        *("(2, 3)", "(-2, -3)", "2; 3", "2 or 3", "2 and -3", "on May 5, 2020", "2516_8", "2516_{8}", "2(3)", "f(3)"),
    ],
)
def test_what_is_not_plainly_a_number(text):
    assert number_in(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, 18) for text in ("18", " 18.0\n", "$18", "18 dollars a day", "x = 18", "\\frac{36}2", "1\n#### 18")),
        *((text, 18) for text in ("3 times 6. The answer is 18.", "3 times 6: \\boxed{18}", "36/2")),
        *((text, None) for text in ("3 times 6 is 18", "(2, 18)", "2x + 18", "18 of 36", "2020, or 18", "a 18 b 3")),
    ],
)
def test_the_last_number_of_prose_need_not_count(text, value):
    assert number_in(text, of_prose=False) == value


@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["{}", "{:,}", "#### {:,}", "\\boxed{{{}}}", "The answer is ${}$, after 3 tries"]),
)
def test_integers_however_they_are_written(number, form):
    assert number_in(form.format(number)) == number


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.sampled_from(["{}/{}", "\\frac{{{}}}{{{}}}"]))
def test_fractions_are_exact(above, below, form):
    assert number_in(form.format(above, below)) == Fraction(above, below)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_decimals_are_exact(number):
    assert number_in(f"#### {number:f}") == Fraction(number)


@given(st.text(alphabet="0123456789.,:/-+ eE$\\{}boxedfrac#answeri\n½^", max_size=60))
def test_no_text_is_too_odd(text):
    found = number_in(text)
    assert found is None or number_in(f"#### {found}") == found
    assert letter_in(text) in {None, *"ABCDEFGHIJ"}


@pytest.mark.parametrize(
    "text", ["9" * 100_000, "1," * 50_000, "\\boxed{" * 20_000, "answer is " * 20_000, "- 5 " * 30_000]
)
def test_a_model_that_repeats_itself_has_no_number(text):
    assert number_in(text) is None
    assert letter_in(text) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Let's think step by step. ... The answer is (B).", "B"),
        ("The answer is B because light is a wave.", "B"),
        ("the best answer is: C", "C"),
        ("**Answer: (D)**", "D"),
        ("Answer: **D**", "D"),
        ("the answer is option E.", "E"),
        ("the answer is \\(F\\)", "F"),
        ("the answer is $\\boxed{G}$", "G"),
        ("Suppose the answer is (A). Then 1 = 2, so the answer is (H).", "H"),
        ("The answer is not (B), so the answer is (C).", "C"),
        ("So \\boxed{\\text{(I)}}", "I"),
        ("\\boxed{j}", "J"),
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("I weighed them.\n\n(C)", "C"),
        ("B. Mitochondria", "B"),
        ("B) mitochondria", "B"),
        ("(B) mitochondria\nThey are where it happens.", "B"),
    ],
)
def test_letters(text, letter):
    assert letter_in(text) == letter


@pytest.mark.parametrize(
    "text",
    [
        *("", "I think B", "vitamin C", "The answer is not (B), it is (C).", "The answer is I think B"),
        *(
            "The answer is A and B.",
            "The answer is (A), (C)",
            "the answer is A or B",
            "The answer is Apple",
            "answer B?",
        ),
        *("the answer is (K)", "The answer is a dog", "E. coli is it", "A dog", "Q: 3?\nA: 18", "A's", "K", "(a) dog"),
        "(A) one\n(B) two",
        "\\boxed{A, B}",
    ],
)
def test_what_chooses_no_letter(text):
    assert letter_in(text) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [*((text, "B") for text in ("B", "b", "(B)", "B)", "B.", " (b). ", "B:")), ("(B", None), ("BC", None), ("K", None)],
)
def test_a_letter_alone(text, letter):
    assert letter_alone(text) == letter
