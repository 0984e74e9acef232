"""The code that docs/tutorials/new-predictor.md shows is whole, short, and does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lm_eval_sts.data import SftSet
from lm_eval_sts.evidence.domain import domain_queries
from lm_eval_sts.evidence.evidence import Question
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.own import OwnDomain
from lm_eval_sts.evidence.reading import read_all
from lm_eval_sts.evidence.rendering import PromptOptions
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.predictors.base import Predictor
from lm_eval_sts.records import BenchmarkRef
from tests.predictors.made import DOMAINS, SFT, N, make_evidence
from tests.tiny_models import llama, tiny_tokenizer

GUIDE = Path(__file__).parents[1] / "docs" / "tutorials" / "new-predictor.md"


def code_of(section: str) -> str:
    """The Python that stands in a section."""
    _, _, rest = GUIDE.read_text(encoding="utf-8").partition(f"# {section}\n")
    (code,) = re.findall(r"^```python\n(.*?)^```$", rest.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    return code


def run(code: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(code, str(GUIDE), "exec"), found)
    return found


def test_a_new_predictor():
    code = code_of("Write a predictor")
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


def test_a_new_kind_of_evidence(tmp_path):
    code = code_of("A new kind of evidence")
    assert len(code.splitlines()) < 30
    (kind,) = (thing for thing in run(code).values() if isinstance(thing, type) and Kind in thing.__bases__)
    model = Model(llama(), tiny_tokenizer())
    settings = ReadSettings(profiles_dir=str(tmp_path), demo_draws=1)
    ref = BenchmarkRef(name="own", source="here", version="1")
    setup = Setup(model, settings, SftSet("none", ()), ref, PromptOptions(), seed=0)
    asked = [Question(f"What is {i} and {i}?", str(2 * i)) for i in range(7)]
    domain = OwnDomain("sums", asked, 2)
    queries = domain_queries(domain, setup.options, settings, model.query_tokenizer("suffix"), model.context, 0)
    made = kind(setup)
    read_all(made.plan(Queries(None, [queries])))
    found = made.evidence()["sums"]
    for query, value in zip(queries.queries, found, strict=True):
        with torch.no_grad():
            p = model.model(torch.tensor([query.plain])).logits[0, -1].double().softmax(-1)
        assert value == pytest.approx(float(-(p * p.log()).sum()), rel=1e-5)
