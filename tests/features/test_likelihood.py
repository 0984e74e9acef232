"""Log-likelihoods equal the direct way: one sequence at a time, whole, in plain transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AttentionInterface, Lfm2Config
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lm_eval_sts.errors import ModelError
from lm_eval_sts.features.likelihood import AnsweredQuery, Continuation, LikelihoodReader, likelihood_runs
from lm_eval_sts.features.prefix_cache import own_tokens
from tests.messages import says
from tests.tiny_models import ARCHITECTURES, VOCAB, build


def direct(model, context, ids) -> float:
    with torch.no_grad():
        logits = model(torch.tensor([[*context, *ids]])).logits[0].double()
    log_probabilities = torch.log_softmax(logits, dim=-1)
    return sum(float(log_probabilities[len(context) + k - 1, token]) for k, token in enumerate(ids))


def made(seed: int = 0) -> list[Continuation]:
    """Two domains of questions with options that differ in the last token, or earlier; then sequences of their own."""
    rng = np.random.default_rng(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(int(i) for i in rng.integers(0, 250, n))

    found = []
    for _ in range(2):
        shown = ids(60)
        for i in range(30):
            context, option = shown + ids(2 + i % 5), ids(2)
            found += [Continuation(context, (*option, last)) for last in (1, 2)] + [Continuation(context, ids(4))]
    return [*found, *(Continuation(ids(1 + i), ids(3 + 4 * i)) for i in range(6)), found[0]]


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_equals_the_direct_way(name):
    model, given = ARCHITECTURES[name](), made()
    found = LikelihoodReader(model).log_likelihoods(given)
    expected = np.array([direct(model, c.context, c.ids) for c in given[::7]])
    assert found[::7] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert found[-1] == found[0]


def test_does_not_depend_on_what_is_read_together():
    model, given = ARCHITECTURES["llama"](), made()
    found = LikelihoodReader(model).log_likelihoods(given)
    order = np.random.default_rng(1).permutation(len(given))
    for options in ({"max_rows": 2}, {"token_budget": 150}, {}):
        again = LikelihoodReader(model, **options).log_likelihoods([given[i] for i in order])
        assert again == pytest.approx(found[order], rel=1e-4, abs=1e-4)


def test_what_is_shared_is_run_once():
    model, given = ARCHITECTURES["llama"](), made()
    counts = []
    model.model.layers[0].register_forward_hook(lambda _, args, out: counts.append(args[0].shape[:2].numel()))
    LikelihoodReader(model).log_likelihoods(given)
    assert sum(counts) < sum(len(c.context) + len(c.ids) for c in given) / 3


def options(n: int, question: int, length: int) -> list[Continuation]:
    """Questions behind the same 60 tokens, each with ``n`` options of different first tokens."""
    rng = np.random.default_rng(3)
    shown = tuple(rng.integers(0, 250, 60).tolist())
    asked = [shown + tuple(rng.integers(0, 250, question).tolist()) for _ in range(8)]
    return [Continuation(q, (i, *rng.integers(0, 250, length - 1).tolist())) for q in asked for i in range(n)]


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "mistral", "gpt2"])
def test_a_question_longer_than_the_window_with_longer_options(name):
    model, given = ARCHITECTURES[name](), options(4, question=25, length=20)
    found = LikelihoodReader(model, token_budget=300).log_likelihoods(given)
    expected = np.array([direct(model, c.context, c.ids) for c in given[::3]])
    assert found[::3] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_question_is_run_once_for_all_its_options():
    model, given = ARCHITECTURES["llama"](), options(10, question=40, length=3)
    (run,) = likelihood_runs(given, own_tokens(model.device))
    assert run.shared == 60
    assert run.trees == ((100, (2,) * 10),) * 8
    passed = []
    reader = LikelihoodReader(model)
    reader.log_likelihoods(given)  # looks whether the model attends as it should
    model.model.layers[0].register_forward_hook(lambda _, args, out: passed.append(args[0].shape[:2].numel()))
    reader.log_likelihoods(given)
    assert sum(passed) == 60 + 8 * (40 + 10 * 2)


def test_a_hybrid_cache_with_layers_without_keys_is_not_shared():
    """Convolutions beside attention: read whole, as the direct way does."""
    config = Lfm2Config(
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention", "conv", "full_attention"],
    )
    model, given = build(config, 13), options(3, question=10, length=4)
    expected = np.array([direct(model, c.context, c.ids) for c in given[::5]])
    assert LikelihoodReader(model).log_likelihoods(given)[::5] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_model_that_attends_otherwise_is_read_without_trees(monkeypatch):
    model, given = ARCHITECTURES["llama"](), options(3, question=10, length=3)
    monkeypatch.setitem(AttentionInterface._global_mapping, "sts_shared_prefix", sdpa_attention_forward)
    expected = np.array([direct(model, c.context, c.ids) for c in given[::3]])
    assert LikelihoodReader(model).log_likelihoods(given)[::3] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_greedy():
    model = ARCHITECTURES["llama"]()
    context = (1, 2, 3)
    with torch.no_grad():
        best = int(model(torch.tensor([context])).logits[0, -1].argmax())
    given = [Continuation(context, (best,)), Continuation(context, ((best + 1) % VOCAB,))]
    assert {f.index: f.greedy for f in LikelihoodReader(model).read(given)} == {0: True, 1: False}


def test_a_long_sequence_loses_its_beginning():
    model = ARCHITECTURES["llama"]()
    long = Continuation(tuple(range(50)), (60, 61))
    (found,) = LikelihoodReader(model, max_length=20).log_likelihoods([long])
    # As in lm-eval the limit counts what is run, so not the last token.
    assert found == pytest.approx(direct(model, long.context[-19:], long.ids), rel=1e-4)
    rest = Continuation((4,), tuple(range(5, 25)))
    (found,) = LikelihoodReader(model, max_length=20).log_likelihoods([Continuation((1, 2), (3, *rest.whole))])
    assert found == pytest.approx(direct(model, rest.context, rest.ids), rel=1e-4), "more than the model holds"


def test_right_options():
    model = ARCHITECTURES["llama"]()
    answered = [AnsweredQuery("q", (5, 6, 7, i), (3,), ((1,), (2, 3)), i % 2) for i in range(3)]
    found = LikelihoodReader(model).log_likelihoods([query.answered for query in answered])
    expected = [direct(model, query.context, query.options[query.gold]) for query in answered]
    assert found == pytest.approx(expected, rel=1e-4)


def test_out_of_memory_halves_the_batch(monkeypatch):
    model, given = ARCHITECTURES["llama"](), made()
    expected = LikelihoodReader(model).log_likelihoods(given)
    plain = model.forward

    def forward(input_ids, **options):
        if len(input_ids) > 3:
            raise torch.OutOfMemoryError
        return plain(input_ids=input_ids, **options)

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    reader = LikelihoodReader(model, forward=lambda **inputs: forward(**inputs).logits)
    assert reader.log_likelihoods(given) == pytest.approx(expected, rel=1e-4, abs=1e-4)

    def none(**inputs):
        raise torch.OutOfMemoryError

    reader = LikelihoodReader(model, forward=none)
    with says(ModelError, "does not hold one sequence of 2 tokens"):
        reader.log_likelihoods([Continuation((1, 2), (3,))])


def test_what_is_not_finite_is_an_error():
    model = ARCHITECTURES["llama"]()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    with says(ModelError, "1 of 1 answers a log-likelihood that is not finite", "in float32", "damaged"):
        LikelihoodReader(model).log_likelihoods([Continuation((1, 2), (3,))])
