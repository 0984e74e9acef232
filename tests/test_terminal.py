"""Nothing that a record holds is a command: for the terminal, or for rich."""

from __future__ import annotations

import pytest

from lm_eval_sts.records import save_record
from tests.agreement import made
from tests.leaderboard.made import leaderboard, submission, write
from tests.test_cli import call

EVIL = "\x1b]0;mine\x07\x9b31m[red][link=https://x.org]x[/] :skull: \u202eab\u200b"
SHOWN = r"\x1b]0;mine\x07\x9b31m[red][link=https://x.org]x[/] :skull: \u202eab\u200b"


def plain(capsys: pytest.CaptureFixture[str]) -> str:
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert not {c for c in text if not c.isprintable()} - {"\n"}
    return " ".join(text.split())


def test_an_outcome(monkeypatch, capsys, tmp_path):
    measured = made.outcome({"law": 0.1, "math": -0.2, EVIL: 0.05}, model=EVIL, sft=EVIL, caveats=(EVIL,))
    save_record(measured, tmp_path / "o.json")
    assert call(monkeypatch, "outcomes", tmp_path / "o.json") == 0
    assert plain(capsys).count(SHOWN) == 4


def test_an_agreement(monkeypatch, capsys, tmp_path):
    scores = {"law": 0.1, "math": -0.2, "physics": 0.05, EVIL: 1.0}
    save_record(made.outcome(scores, model=EVIL), tmp_path / "o.json")
    save_record(made.prediction(scores, model=EVIL, predictor=EVIL), tmp_path / "p.json")
    assert call(monkeypatch, "compare", "--predictions", tmp_path / "p.json", "--outcome", tmp_path / "o.json") == 0
    assert SHOWN in plain(capsys)
    save_record(made.prediction(scores, model="org/other", predictor=EVIL), tmp_path / "p.json")
    assert call(monkeypatch, "compare", "--predictions", tmp_path / "p.json", "--outcome", tmp_path / "o.json") == 1
    assert SHOWN in plain(capsys)


def test_a_leaderboard(monkeypatch, capsys, tmp_path):
    root = leaderboard(tmp_path)
    write(root, submission(**{EVIL: 1}))
    assert call(monkeypatch, "leaderboard", "build", "--root", root) == 0
    assert f"left out: submissions/mine/1.json:36: {SHOWN}: there is no such field" in plain(capsys)
    assert call(monkeypatch, "leaderboard", "validate", "--root", root) == 1
    assert SHOWN in plain(capsys)
    (root / "submissions" / "\x1b[2J.json").write_text("{}")
    assert call(monkeypatch, "leaderboard", "build", "--root", root) == 0
    assert r"left out: submissions/\x1b[2J.json: does not belong here" in plain(capsys)
    assert EVIL not in (root / "BOARD.md").read_text() and "\x1b" not in (root / "board.json").read_text()
