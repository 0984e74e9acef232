"""Sketches of gradients against the weight gradients of plain autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.features.backward import Backward
from lm_eval_sts.features.hooks import find_blocks
from lm_eval_sts.features.likelihood import AnsweredQuery, Continuation
from lm_eval_sts.features.sketch import GradientSketcher
from tests.messages import says
from tests.tiny_models import ARCHITECTURES

EVERYTHING = 10**9


def make_pairs(*shapes: tuple[int, int], seed: int = 0) -> list[Continuation]:
    rng = np.random.default_rng(seed)
    texts = [(tuple(int(i) for i in rng.integers(0, 250, n)), first) for n, first in shapes]
    return [Continuation(ids[:first], ids[first:]) for ids, first in texts]


PAIRS = make_pairs((12, 5), (30, 20), (7, 1), (25, 24))


def autograd(model, maps: list[str], pair: Continuation) -> np.ndarray:
    """The gradient of the summed loss with respect to the maps' weights, by transformers' own loss."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.zero_grad()
    ids = torch.tensor([pair.whole])
    labels = ids.clone()
    labels[0, : len(pair.context)] = -100
    loss = model(input_ids=ids, labels=labels, use_cache=False).loss * len(pair.ids)
    loss.backward()
    path, _ = find_blocks(model)
    weights = [model.get_submodule(f"{path}.{name}") for name in maps]
    parts = [m.weight.grad.T if type(m).__name__ == "Conv1D" else m.weight.grad for m in weights]
    model.zero_grad(set_to_none=True)
    return np.concatenate([part.flatten().numpy() for part in parts])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sketch_as_long_as_the_weights_is_the_gradient(architecture):
    model = ARCHITECTURES[architecture]()
    sketcher = GradientSketcher(Backward(model, token_budget=70), width=EVERYTHING)
    found = sketcher.sketch(PAIRS)
    expected = np.stack([autograd(model, sketcher.maps, pair) for pair in PAIRS])
    assert found.shape == expected.shape == (len(PAIRS), sketcher.k)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert sketcher.error == 0.0 and bool(sketcher.notes) == (architecture == "qwen3_moe")


@pytest.fixture(scope="module")
def llama():
    return ARCHITECTURES["llama"]()


def test_inner_products_are_unbiased_and_their_error_falls_with_k(llama):
    backward = Backward(llama)
    exact = GradientSketcher(backward, width=EVERYTHING).sketch(PAIRS)
    lengths = np.linalg.norm(exact, axis=1)
    expected = exact @ exact.T / np.outer(lengths, lengths)
    for k in (256, 4096):
        errors = []
        for seed in range(16):
            sketches = GradientSketcher(backward, width=k, seed=seed).sketch(PAIRS).astype(np.float64)
            assert sketches.shape == (len(PAIRS), k)
            errors.append(sketches @ sketches.T / np.outer(lengths, lengths) - expected)
        spread = np.sqrt(np.mean(np.square(errors)))
        assert 0.5 < spread * np.sqrt(k) < 2.0, "as a projection to k numbers has"
        assert np.abs(np.mean(errors, axis=0)).max() < 4 * np.std(errors, axis=0).max() / np.sqrt(16)


def test_seed_and_name_decide_the_sketch(llama):
    def sketch(**options):
        return GradientSketcher(Backward(llama), width=64, **options).sketch(PAIRS)

    np.testing.assert_array_equal(sketch(seed=1), sketch(seed=1))
    assert np.abs(sketch(seed=1) - sketch(seed=2)).max() > 0.1
    whole = GradientSketcher(Backward(llama), width=64, layers=[1, 3], seed=1).sketch(PAIRS)
    parts = [GradientSketcher(Backward(llama), width=64, layers=[i], seed=1).sketch(PAIRS) for i in (1, 3)]
    np.testing.assert_allclose(whole, sum(parts), atol=1e-4)


def test_blocks_are_chosen(llama):
    sketcher = GradientSketcher(Backward(llama), width=100, layers=[3, 1])
    assert {name.partition(".")[0] for name in sketcher.maps} == {"1", "3"} and sketcher.error == 1 / sketcher.k
    assert len(sketcher.maps) == 14 and sketcher.maps[0] == "1.self_attn.q_proj"
    assert "in 100 numbers: cosines have a standard error of 0.1000" in sketcher.notes[0]
    with says(SettingsError, "gradient_layers: 4", "4 blocks, 0 to 3"):
        GradientSketcher(Backward(llama), layers=[0, 4])


def test_batches_change_nothing(llama):
    whole = GradientSketcher(Backward(llama), width=512).sketch(PAIRS)
    for options in ({"max_rows": 1}, {"token_budget": 40}):
        again = GradientSketcher(Backward(llama, **options), width=512).sketch(PAIRS)
        np.testing.assert_allclose(again, whole, atol=1e-5 * np.abs(whole).max())


def test_the_model_is_left_as_it_was(llama):
    trained = [name for name, p in llama.named_parameters() if "layers.1" in name]
    for name, parameter in llama.named_parameters():
        parameter.requires_grad_(name in trained)
    before = {name: p.detach().clone() for name, p in llama.named_parameters()}
    GradientSketcher(Backward(llama), width=64).sketch(PAIRS)
    assert [name for name, p in llama.named_parameters() if p.requires_grad] == trained
    assert all(p.grad is None and torch.equal(p, before[name]) for name, p in llama.named_parameters())
    assert not any(m._forward_hooks for m in llama.modules())


def test_bfloat16_is_near(llama):
    model = ARCHITECTURES["llama"]().to(torch.bfloat16)
    found = GradientSketcher(Backward(model), width=EVERYTHING).sketch(PAIRS)
    exact = GradientSketcher(Backward(llama), width=EVERYTHING).sketch(PAIRS)
    cosines = (found * exact).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.98


def test_long_texts_lose_their_beginning(llama):
    sketcher = GradientSketcher(Backward(llama, max_length=10), width=512)
    (pair,) = make_pairs((30, 25))
    cut = Continuation(pair.context[19:], pair.ids)
    np.testing.assert_allclose(sketcher.sketch([pair]), sketcher.sketch([cut]), atol=1e-6)
    assert sketcher.sketch([Continuation(pair.whole[:3], pair.whole[3:])]).shape == (1, 512), (
        "more response than the model holds"
    )


def test_a_question_is_learned_as_its_right_option():
    query = AnsweredQuery("q", (1, 2, 3), (1, 2), ((7,), (8, 9)), 1)
    assert query.answered == Continuation((1, 2, 3), (8, 9)) and len(query.answered) == 5


def test_out_of_memory_halves_the_batch(llama, monkeypatch):
    backward = Backward(llama)
    whole = GradientSketcher(backward, width=64).sketch(PAIRS)
    likelihood, most = Backward.log_likelihood, []

    def scarce(self, pairs, *args):
        most.append(len(pairs))
        if len(pairs) > 1:
            raise torch.OutOfMemoryError("no")
        return likelihood(self, pairs, *args)

    sketcher = GradientSketcher(backward, width=64)
    monkeypatch.setattr(Backward, "log_likelihood", scarce)
    np.testing.assert_allclose(sketcher.sketch(PAIRS), whole, atol=1e-5 * np.abs(whole).max())
    assert max(most) == 4
    monkeypatch.setattr(Backward, "log_likelihood", lambda *a: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with says(ModelError, "gradients of one text of 30 tokens", "gradient_layers"):
        sketcher.sketch(PAIRS[1:2])


def test_what_is_not_finite(monkeypatch):
    model = ARCHITECTURES["llama"]()
    sketcher = GradientSketcher(Backward(model), width=64)
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    with says(ModelError, "not finite", "in float32", "damaged"):
        sketcher.sketch(PAIRS)
