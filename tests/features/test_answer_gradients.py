"""Answer gradients at a hook point against finite differences, and what a decoder writes against the SAE's own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from lm_eval_sts.errors import HookPointError, SaeError
from lm_eval_sts.features.answer_gradients import AnswerGradientReader, Decoder
from lm_eval_sts.features.backward import Backward
from lm_eval_sts.features.hooks import resolve_hook_point
from lm_eval_sts.features.likelihood import AnsweredQuery
from lm_eval_sts.features.sae import load_sae
from tests.messages import says
from tests.tiny_models import ARCHITECTURES, WIDTH

HOOKS = [
    *("blocks.2.hook_resid_pre", "blocks.2.hook_resid_mid", "blocks.2.hook_resid_post"),
    *("blocks.1.hook_mlp_out", "blocks.1.hook_attn_out", "blocks.1.attn.hook_z"),
]


def make_queries() -> list[AnsweredQuery]:
    """Questions of different lengths after worked examples that they share."""
    rng = np.random.default_rng(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(int(i) for i in rng.integers(0, 250, n))

    shared = ids(40)
    return [
        AnsweredQuery(f"q{n}", shared + ids(n), tuple(range(41, 40 + n)), (ids(m), ids(m + 1)), 1)
        for n, m in ((12, 3), (7, 1), (9, 2))
    ]


QUERIES = make_queries()


def save_sae(folder, hook: str, width: int = WIDTH, kind: str = "standard", **config):
    """An SAE of any kind with random weights."""
    import sae_lens.saes as saes
    from sae_lens.saes.sae import SAEMetadata

    makers = {
        "standard": (saes.StandardSAE, saes.StandardSAEConfig),
        "jumprelu": (saes.JumpReLUSAE, saes.JumpReLUSAEConfig),
        "gated": (saes.GatedSAE, saes.GatedSAEConfig),
        "topk": (saes.TopKSAE, partial(saes.TopKSAEConfig, k=8)),
        "topk_rescaled": (saes.TopKSAE, partial(saes.TopKSAEConfig, k=8, rescale_acts_by_decoder_norm=True)),
    }
    made, options = makers[kind]
    torch.manual_seed(0)
    sae = made(options(d_in=width, d_sae=96, device="cpu", metadata=SAEMetadata(hook_name=hook), **config))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape))
    folder.mkdir(parents=True, exist_ok=True)
    sae.save_model(folder)
    return folder


def log_likelihood(model, query: AnsweredQuery, move=None, at: str = "") -> float:
    """By transformers alone; ``move`` is added to the activation of the question's tokens, wherever it is used."""
    point = resolve_hook_point(model, at) if at else None

    def add(values) -> None:
        values = values if isinstance(values, tuple) else (values,)
        values[point.slot][:, list(query.question)] += move

    handles = []
    if point is not None:
        module = model.get_submodule(point.module)
        if point.side == "input" and isinstance(point.slot, str):
            handles.append(module.register_forward_pre_hook(lambda m, a, k: add((k[point.slot],)), with_kwargs=True))
        elif point.side == "input":
            handles.append(module.register_forward_pre_hook(lambda m, a: add(a)))
        else:
            handles.append(module.register_forward_hook(lambda m, a, out: add(out)))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([query.answered.whole]), use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    log_p = torch.log_softmax(logits.double(), dim=-1)
    first = len(query.context) - 1
    return sum(float(log_p[first + i, token]) for i, token in enumerate(query.answered.ids))


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "gpt_neox", "mistral"])
def test_gradients_are_what_finite_differences_give(architecture, tmp_path):
    model, doubled = ARCHITECTURES[architecture](), ARCHITECTURES[architecture]().double()
    for hook in HOOKS:
        if architecture == "gpt_neox" and "mid" in hook:
            continue
        point = resolve_hook_point(model, hook)
        sae = load_sae(str(save_sae(tmp_path / hook, hook, point.width)))
        reader = AnswerGradientReader(Backward(model, token_budget=60), point, Decoder(sae))
        prefix = reader.prefix(QUERIES)
        assert prefix.length == 40
        found = reader.read(QUERIES, prefix)
        np.testing.assert_array_equal(found[:, 0], found[:, 1])
        for query, (gradient, _) in zip(QUERIES, found, strict=True):
            move = torch.randn(point.width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            step = 2e-2  # RMSNorm computes in float32 whatever the model's dtype
            near, far = (
                log_likelihood(doubled, query, s * move, hook) - log_likelihood(doubled, query, -s * move, hook)
                for s in (step, 2 * step)
            )
            expected = (8 * near - far) / (12 * step)
            scale = float(np.linalg.norm(gradient)) * float(move.norm())
            assert float(gradient @ move.numpy()) == pytest.approx(expected, abs=1e-4 * scale), hook


def test_a_prefix_that_is_not_shared_gives_the_same(tmp_path):
    model = ARCHITECTURES["llama"]()
    point = resolve_hook_point(model, HOOKS[2])
    decoder = Decoder(load_sae(str(save_sae(tmp_path / "sae", HOOKS[2]))))
    reader = AnswerGradientReader(Backward(model), point, decoder)
    together = reader.read(QUERIES, reader.prefix(QUERIES))
    apart = np.concatenate([reader.read([query], reader.prefix(QUERIES[:1])) for query in QUERIES[:1]])
    np.testing.assert_allclose(together[:1], apart, atol=1e-5)
    alone = AnsweredQuery("alone", QUERIES[0].context[35:], tuple(range(6, 17)), QUERIES[0].options, 1)
    assert reader.prefix([alone]).length == 0 and reader.read([alone], reader.prefix([alone])).shape == (1, 2, WIDTH)


def test_what_is_cut_off_does_not_count(tmp_path):
    model = ARCHITECTURES["llama"]()
    point = resolve_hook_point(model, HOOKS[2])
    decoder = Decoder(load_sae(str(save_sae(tmp_path / "sae", HOOKS[2]))))
    query = QUERIES[0]  # 52 tokens, and 4 of the option, of which the last is not read
    reader = AnswerGradientReader(Backward(model, max_length=20), point, decoder)
    cut = AnsweredQuery("cut", query.context[35:], tuple(p - 35 for p in query.question), query.options, 1)
    whole = AnswerGradientReader(Backward(model), point, decoder)
    expected = whole.read([cut], whole.prefix([cut]))
    np.testing.assert_allclose(reader.read([query], reader.prefix([query])), expected, atol=1e-6)


def test_a_hook_point_that_never_fires(tmp_path):
    model = ARCHITECTURES["llama"]()
    point = replace(resolve_hook_point(model, HOOKS[2]), slot=7)
    reader = AnswerGradientReader(Backward(model), point, Decoder(load_sae(str(save_sae(tmp_path / "sae", HOOKS[2])))))
    with says(HookPointError, "never fired", HOOKS[2]):
        reader.read(QUERIES, reader.prefix(QUERIES))


KINDS = ["standard", "jumprelu", "gated", "topk", "topk_rescaled"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaling", ["none", "layer_norm", "constant_norm_rescale"])
def test_rows_are_what_the_sae_writes_for_a_feature(kind, scaling, tmp_path):
    """One more of feature j at a token changes the SAE's output there by that token's scale times row j."""
    sae = load_sae(str(save_sae(tmp_path / "sae", HOOKS[2], kind=kind, normalize_activations=scaling)))
    decoder = Decoder(sae)
    x = 3.0 * torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(2))
    h = sae.encode(x)
    scale = decoder.scale(x).double().numpy()
    assert decoder.scales_tokens == (scaling != "none") == bool(np.abs(scale - 1).max() > 1e-6)

    def decoded(features: torch.Tensor) -> np.ndarray:
        sae.encode(x)  # SAELens keeps the scales of the last tokens that it encoded, once
        with torch.no_grad():
            return sae.sae.decode(features).double().numpy()

    features = np.array([0, 17, 95])
    for feature, row in zip(features, decoder.rows(features), strict=True):
        more = h.clone()
        more[:, feature] += 1.0
        difference = decoded(more) - decoded(h)
        np.testing.assert_allclose(difference, scale[:, None] * row, atol=2e-5 * np.abs(difference).max() + 2e-5)


def test_scaled_gradients_weigh_each_token(tmp_path):
    model = ARCHITECTURES["llama"]()
    point = resolve_hook_point(model, HOOKS[2])
    sae = load_sae(str(save_sae(tmp_path / "sae", HOOKS[2], normalize_activations="constant_norm_rescale")))
    reader = AnswerGradientReader(Backward(model), point, Decoder(sae))
    prefix = reader.prefix(QUERIES)
    (whole,) = reader.read(QUERIES[:1], prefix)
    query, total = QUERIES[0], np.zeros(WIDTH)
    with torch.no_grad():
        ids = torch.tensor([query.answered.whole])
        states = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[3][0]
    for position in query.question:  # one token at a time
        one = AnsweredQuery("one", query.context, (position,), query.options, 1)
        ((raw, _),) = reader.read([one], prefix)
        total += raw * float(states[position].norm()) / WIDTH**0.5
    np.testing.assert_allclose(whole[1], total, atol=1e-4 * np.abs(total).max())


def test_an_sae_that_writes_something_else_is_refused(tmp_path, monkeypatch):
    sae = load_sae(str(save_sae(tmp_path / "sae", HOOKS[2])))
    decode = sae.sae.decode
    monkeypatch.setattr(sae.sae, "decode", lambda h: decode(h**2 + h))
    with says(SaeError, "does not write sums of its decoder's rows"):
        Decoder(sae)
