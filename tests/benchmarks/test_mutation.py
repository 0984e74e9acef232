"""The mutation benchmark: a fault that tests see is told from one that they do not, in a small tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray")

from benchmarks import mutation

CODE = """
PAIRS = list(zip("a", "b", strict=True))

def half(x: int | None) -> float:
    if y := x:
        return y / 2

def is_large(x: int) -> bool:
    return x > 3
"""
TEST = """
from lm_eval_sts.agreement.numbers import half
def test_half(): assert half(3) == 1.5
"""

MORE_TESTS = """
from lm_eval_sts.agreement.numbers import is_large
def test_large(): assert [is_large(x) for x in (2, 3, 4)] == [False, False, True]
"""


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    for name, text in {
        "lm_eval_sts/__init__.py": "",
        "lm_eval_sts/agreement/__init__.py": "",
        "lm_eval_sts/agreement/numbers.py": CODE,
        "tests/agreement/test_numbers.py": TEST,
    }.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "tree"))
    return tmp_path / "tree"


def test_a_fault_that_no_test_sees_is_missed(tree, tmp_path, monkeypatch, capsys):
    def tried(**how) -> mutation.Sample:
        return mutation.try_faults(tree, "agreement", tmp_path / "session", size=9, seed=0, **how)

    sample = tried()
    assert {(fault.before, fault.noticed) for fault in sample.faults} == {
        ("return y / 2", True),
        ("return x > 3", False),
    }
    assert len(sample.faults) == 4, "operator and number of both functions; no annotation, no guard"
    assert (tree / "lm_eval_sts/agreement/numbers.py").read_text() == CODE
    with monkeypatch.context() as patch:
        patch.setattr(mutation, "mutate_and_test", lambda *_: pytest.fail("tried again"))
        assert tried() == sample

    output = tmp_path / "mutation.json"
    missed = sample.faults[2]
    reason = {"module": missed.module, "before": missed.before, "after": missed.after, "why": "nobody calls it"}
    output.write_text(json.dumps({"packages": {"records": {"kept": True}}, "equivalent": [reason]}))
    monkeypatch.setattr(mutation, "show", lambda _: None)
    mutation.record({"agreement": sample}, 0, output)
    written = json.loads(output.read_text())
    found = written["packages"]["agreement"]
    assert (found["faults"], found["noticed"], found["equivalent"], len(found["missed"])) == (4, 2, 1, 1)
    assert written["packages"]["records"] == {"kept": True} and written["equivalent"] == [reason]

    (tree / "tests/agreement/test_numbers.py").write_text(TEST + MORE_TESTS)
    assert all(fault.noticed for fault in tried(again=True).faults), "the missed ones, with the new test"


def test_tests_that_fail_anyway_notice_nothing(tree, tmp_path):
    (tree / "tests/agreement/test_numbers.py").write_text("def test(): assert False")
    with pytest.raises(RuntimeError, match="fail without a fault"):
        mutation.try_faults(tree, "agreement", tmp_path / "session", size=1, seed=0)
