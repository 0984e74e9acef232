"""Ablations against the direct way: the whole model, with a hook that takes features out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import lm_eval_sts.api as sts
from benchmarks.faithfulness import Ablated, matched
from lm_eval_sts.features.likelihood import AnsweredQuery
from lm_eval_sts.microworld.paths import asset

FEATURES = np.array([3, 918, 1021])


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(str(asset("micro/model")), dtype=torch.float32).eval()


def queries() -> list[AnsweredQuery]:
    """Random tokens; the first is special."""
    rng = np.random.default_rng(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(int(i) for i in rng.integers(5, 1900, n))

    return [AnsweredQuery(f"q{i}", (0, *ids(9 + 5 * i)), (), tuple(ids(1) for _ in range(4)), i % 4) for i in range(3)]


@pytest.mark.parametrize("ablation", ["zero", "mean"])
@pytest.mark.parametrize("features", [FEATURES[:0], FEATURES])
def test_ablations_are_those_of_the_whole_model(model, ablation, features):
    sae = sts.load_sae("micro/sae")
    ablated = Ablated(model, sae)
    asked = ablated.ask(queries(), frozenset({0}))
    found, accuracy = ablated.answers(asked, features, ablation)
    block = model.model.layers[2]
    of_sae: list[torch.Tensor] = []

    def without(module, args, output):
        x = output[0] if isinstance(output, tuple) else output
        h = sae.encode(x[0])
        h[0] = 0
        of_sae.append(h[1:])
        removed = torch.zeros_like(h)
        removed[1:, features] = h[1:, features] - (mean[features] if ablation == "mean" else 0)
        changed = x - (sae.sae.decode(removed) - sae.sae.decode(torch.zeros_like(h)))[None]
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    mean = torch.zeros(sae.d_sae)
    for _ in range(2):  # the first time for the mean
        of_sae.clear()
        handle = block.register_forward_hook(without)
        with torch.no_grad():
            last = [model(torch.tensor([query.context])).logits[0, -1].log_softmax(-1) for query in queries()]
        handle.remove()
        mean = torch.cat(of_sae).mean(dim=0)
    options = [[float(of[option[0]]) for option in q.options] for of, q in zip(last, queries(), strict=True)]
    assert found == pytest.approx(np.mean([of[q.gold] for of, q in zip(options, queries(), strict=True)]), abs=1e-3)
    right = [np.argmax(of) == q.gold for of, q in zip(options, queries(), strict=True)]
    assert accuracy == pytest.approx(np.mean(right))


def test_taking_features_out_changes_answers(model):
    ablated = Ablated(model, sts.load_sae("micro/sae"))
    asked = ablated.ask(queries(), frozenset({0}))
    active = asked.mean.argsort(descending=True)[:3].numpy()
    before = ablated.answers(asked, active[:0])[0]
    assert abs(ablated.answers(asked, active)[0] - before) > 1e-2
    silent = np.flatnonzero(asked.mean.numpy() == 0)[:3]
    assert ablated.answers(asked, silent)[0] == before


def test_others_are_as_active_and_none_is_excluded_or_taken_twice():
    mean = np.exp(np.linspace(-3, 3, 200))
    mean[:20] = 0
    top = np.array([199, 150, 100])
    excluded = np.arange(140, 200, 2)
    found = matched(mean, top, np.union1d(excluded, top), np.random.default_rng(0))
    assert len(set(found)) == 3 and not set(found) & ({*excluded, *top} | set(range(20)))
    assert np.abs(np.log(mean[found] / mean[top])).max() < 0.4
