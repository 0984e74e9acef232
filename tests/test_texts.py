"""Text of unknown origin: hidden characters, terminals, names that read alike, paths of a machine."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import this_command
from lm_eval_sts.texts import hidden, local_path, printable, skeleton, why_no_name, without_paths


@pytest.mark.parametrize(
    "character",
    [
        "\x00", "\x1b", "\r", "\x7f", "\x9b", "\xad", "\xa0", "\u034f", "\u061c", "\u115f", "\u180e", "\u200b",
        "\u200d", "\u200f", "\u2028", "\u202e", "\u2066", "\u2800", "\u3000", "\u3164", "\ue000", "\ufdd0",
        "\ufe0f", "\ufeff", "\uffa0", "\udcff", "\U000e0041", "\U000e0101", "\U0010ffff",
    ],
)  # fmt: skip
def test_what_hides(character):
    assert hidden(f"a{character}b") == character
    assert character not in printable(f"a{character}b") and printable(f"a{character}b").isascii()
    assert character not in str(RecordError(f"a{character}b"))


def test_marks_pile_up_to_four():
    assert hidden("e" + "\u0301" * 4) is None
    assert hidden("e" + "\u0301" * 5) == "\u0301"


def test_ordinary_text_is_left_alone():
    text = "Žluťoučký 학습 học e\u0301 🦜 – “a”… |Δ|/σ हिन्दी\n\tindented"
    assert hidden(text) is None
    line = text.partition("\n")[0]
    assert printable(line) == line


@given(st.text())
def test_an_error_line_is_printable(text):
    assert str(RecordError(text)).isprintable()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sts_icl", "sts_ic1"), ("sts_icl", "sts-icl"), ("sts_icl", "sts_lcl"), ("A. Nother", "a nother"),
        ("José", "Jose"), ("Moore", "M0ore"), ("Barney", "Bamey"), ("Łukasz", "lukasz"), ("Isık", "Isik"),
    ],
)  # fmt: skip
def test_names_that_read_alike(one, other):
    assert skeleton(one) == skeleton(other)


def test_names_that_do_not():
    names = ("probing_1", "probing_5", "probing_20", "probing_2_0", "李明", "李民", "Анна", "A")
    assert len(set(map(skeleton, names))) == len(names)


@pytest.mark.parametrize("name", ["Ä. Nother", "李明 (Ming Li)", "東京テスト", "Анна", "O'Brien & søn, 2nd"])
def test_ordinary_names(name):
    assert why_no_name(name) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("\u0410lice", "mixes letters of CYRILLIC and LATIN"),
        ("Ali\u03f2e", "plain letters"),
        ("ﬁne", "plain letters: 'fine'"),
        ("𝐀lice", "plain letters: 'Alice'"),
        ("al\u0251n", "phonetic alphabet"),
    ],
)
def test_names_that_imitate(name, why):
    assert why in (why_no_name(name) or "")


PATHS = {
    "/home/jane/model": "model",
    "/home/Jane Doe/my model": "my model",
    "~/runs/model": "model",
    "~jane/model": "model",
    r"C:\Users\jane\model": "model",
    "D:/data/model/": "model",
    r"\\server\jane\model": "model",
    "file:///home/jane/model": "model",
    "/home/jane": "…",
    r"C:\Users\jane": "…",
    "~jane/": "…",
    "pretrained=/home/jane/model,dtype=float32": "pretrained=model,dtype=float32",
    '{"sae": "/home/Jane Doe/sae", "sft_set": "/data/x.json"}': '{"sae": "sae", "sft_set": "x.json"}',
    "SAE: /home/jane/sae, blocks.2": "SAE: sae, blocks.2",
    "read from (/data/x.json); then ~/y.": "read from (x.json); then y.",
}


@pytest.mark.parametrize("text", PATHS)
def test_paths_are_cut_down(text):
    assert local_path(text) is not None
    assert without_paths(text) == PATHS[text]
    assert local_path(PATHS[text]) is None


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/~jane/code?x=/a", "org/model", "and/or, n/a, 1/2, |Δ|/sigma", "</script>",
        "a relative/path",
        "arXiv 2603.02908, §4.1", "12 tokens / s", "~3 s", "C: three",
    ],
)  # fmt: skip
def test_what_is_no_path(text):
    assert local_path(text) is None and without_paths(text) == text


def test_the_command_in_a_record(monkeypatch, tmp_path):
    arguments = ["--output", str(tmp_path / "out.json"), f"--model_args=pretrained={tmp_path}/m,dtype=auto", "results/"]
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "lm-eval-sts"), "compare", *arguments])
    assert this_command() == "lm-eval-sts compare --output out.json --model_args=pretrained=m,dtype=auto results/"
