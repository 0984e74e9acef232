"""The code that CONTRIBUTING.md shows is whole, short, and does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_eval_sts.predictors.base import Predictor
from tests.predictors.made import DOMAINS, SFT, N, make_evidence

GUIDE = Path(__file__).parents[1] / "CONTRIBUTING.md"


def code_of(section: str) -> str:
    """The Python that stands in a section."""
    _, _, rest = GUIDE.read_text(encoding="utf-8").partition(f"\n## {section}\n")
    (code,) = re.findall(r"^```python\n(.*?)^```$", rest.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    return code


def run(code: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(code, str(GUIDE), "exec"), found)
    return found


def test_a_new_predictor():
    code = code_of("A new predictor")
    assert len(code.splitlines()) < 30
    (predictor,) = (thing for thing in run(code).values() if isinstance(thing, Predictor))
    found = predictor.score(make_evidence())
    used = sum(h.sum(axis=0) for h in SFT.h)
    top = np.argsort(-used)[:N]
    for domain, tokens in DOMAINS.items():
        h = np.concatenate(tokens.h)
        assert found.domains[domain].score == pytest.approx(h[:, top].sum() / h.sum(), rel=1e-5)
        own = [of[:, top].sum() / of.sum() if of.any() else np.nan for of in tokens.h]
        np.testing.assert_allclose(found.questions[domain], own, rtol=1e-5)
    assert found.domains["law"].se > 0 and not found.notes
