"""lm-eval's model with shared prefixes answers as lm-eval's own does."""

from __future__ import annotations

import random

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from peft import PromptTuningConfig, get_peft_model

from lm_eval_sts.outcomes.model_loading import load_model
from lm_eval_sts.outcomes.shared_prefix import SharedPrefixLM
from tests.tiny_models import ARCHITECTURES, save, tiny_tokenizer


def requests(kind="loglikelihood"):
    """Two domains of questions after their own demonstrations, options of one and of several tokens."""
    rng = random.Random(0)
    words = ["stone ", "river ", "proof ", "market ", "treaty "]
    texts = []
    for _ in range(2):
        shown = "".join(rng.choice(words) for _ in range(8))
        for _ in range(6):
            question = shown + "".join(rng.choice(words) for _ in range(rng.randint(1, 4))) + "="
            texts += [(question, option) for option in ("a", "b", "cd", " efg")]
    texts += [("", "alone"), ("ends in a space ", "b"), ("<bos>given", "b")]
    if kind == "loglikelihood_rolling":
        texts = [(context + continuation,) for context, continuation in texts[:5]]
    return [Instance(kind, {}, args, i) for i, args in enumerate(texts)]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mistral"])
@pytest.mark.parametrize("options", [{}, {"max_length": 40}])
def test_equals_lm_evals_own(name, options):
    model, tokenizer = ARCHITECTURES[name](), tiny_tokenizer()
    arguments = {"pretrained": model, "tokenizer": tokenizer, "batch_size": 3, **options}
    expected = HFLM(**arguments).loglikelihood(requests(), disable_tqdm=True)
    found = SharedPrefixLM(**arguments).loglikelihood(requests(), disable_tqdm=True)
    assert [a for a, _ in found] == pytest.approx([a for a, _ in expected], rel=1e-4, abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_adapters_that_put_tokens_before_every_text_are_run_as_lm_eval_does(tmp_path):
    base = save(ARCHITECTURES["llama"](), tiny_tokenizer(), tmp_path / "base")
    config = PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    get_peft_model(ARCHITECTURES["llama"](), config).save_pretrained(tmp_path / "adapter")
    args = {"pretrained": str(base), "peft": str(tmp_path / "adapter")}
    expected, found = (
        load_model(args, 3, "cpu", share_prefix=share).loglikelihood(requests(), disable_tqdm=True)
        for share in (False, True)
    )
    assert found == expected


def test_rolling_equals_lm_evals_own():
    model, tokenizer = ARCHITECTURES["llama"](), tiny_tokenizer()
    arguments = {"pretrained": model, "tokenizer": tokenizer, "batch_size": 3, "max_length": 16}
    both = [
        kind(**arguments).loglikelihood_rolling(requests("loglikelihood_rolling"), disable_tqdm=True)
        for kind in (HFLM, SharedPrefixLM)
    ]
    assert both[1] == pytest.approx(both[0], rel=1e-4)


def test_runs_fewer_tokens():
    model, tokenizer = ARCHITECTURES["llama"](), tiny_tokenizer()
    counts = []
    model.model.layers[0].register_forward_hook(lambda _, args, out: counts.append(args[0].shape[:2].numel()))
    tokens = []
    for kind in (HFLM, SharedPrefixLM):
        lm = kind(pretrained=model, tokenizer=tokenizer, batch_size=4)
        counts.clear()
        lm.loglikelihood(requests()[:48], disable_tqdm=True)
        tokens.append(sum(counts))
    assert tokens[1] < tokens[0] / 2


def test_takes_an_adapter():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(ARCHITECTURES["llama"](), LoraConfig(target_modules="all-linear", init_lora_weights=False))
    arguments = {"pretrained": model, "tokenizer": tiny_tokenizer(), "batch_size": 3}
    both = [kind(**arguments).loglikelihood(requests(), disable_tqdm=True) for kind in (HFLM, SharedPrefixLM)]
    assert [a for a, _ in both[1]] == pytest.approx([a for a, _ in both[0]], rel=1e-4, abs=1e-4)
