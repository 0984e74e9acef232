"""The reader equals the direct way: one prompt at a time, whole forward, no cache, all in plain PyTorch."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from lm_eval_sts.features.hooks import resolve_hook_point
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import load_sae
from lm_eval_sts.features.sums import RunningPeak
from tests.tiny_models import ARCHITECTURES, LAYERS, VOCAB
from tests.tiny_saes import save_continuous_sae, save_tiny_sae

TOLERANCE = 1e-4


def make_queries(n: int, *, demos: int = 40, draws: int = 2, seed: int = 0) -> list[Query]:
    """Random token ids: a shared start, other demonstrations a draw, a query of its own length."""
    rng = np.random.default_rng(seed)

    def ids(k: int) -> tuple[int, ...]:
        return tuple(int(i) for i in rng.integers(0, 250, k))

    start, shown = ids(10), [ids(demos) for _ in range(draws)]
    queries = []
    for i in range(n):
        own = ids(3 + 5 * (i % 4))
        scored = tuple(range(10, 10 + len(own)))
        contexts = tuple(start + demonstration + own for demonstration in shown)
        queries.append(Query(f"q{i}", start + own, contexts, scored[1:] if i % 3 == 0 else scored))
    return queries


def direct(model, block, sae, queries: list[Query]) -> dict[str, np.ndarray]:
    """Dense sums by the most literal reading of the formulas."""

    def activations(ids: tuple[int, ...]) -> torch.Tensor:
        caught = []
        handle = block.register_forward_hook(lambda m, a, out: caught.append(out[0] if isinstance(out, tuple) else out))
        with torch.no_grad():
            model(input_ids=torch.tensor([ids]))
        handle.remove()
        return caught[0][0]

    rows: dict[str, list] = {"h": [], "h2": [], "x": [], "x2": []}
    for query in queries:
        positions = torch.tensor(query.scored)
        x = activations(query.plain)[positions].double()
        h = sae.encode(x.float()).double()
        rows["h"].append(h.sum(0)), rows["h2"].append((h**2).sum(0))
        rows["x"].append(x.sum(0)), rows["x2"].append((x**2).sum(0))
        for k, ids in enumerate(query.contexts):
            y = activations(ids)[positions + len(ids) - len(query.plain)].double()
            g = sae.encode(y.float()).double()
            rows.setdefault(f"d{k}", []).append((g - h).sum(0))
            rows.setdefault(f"d2{k}", []).append(((g - h) ** 2).sum(0))
            rows.setdefault(f"m2{k}", []).append(((y - x) ** 2).sum(0))
    return {name: torch.stack(values).numpy() for name, values in rows.items()}


def sums_of(profile: Profile) -> dict[str, np.ndarray]:
    """What ``direct`` gives, out of a profile."""
    got = {
        "h": profile.features.sum.toarray(),
        "h2": profile.features.squares.toarray(),
        "x": profile.stream.sum,
        "x2": profile.stream.squares,
    }
    for k in range(profile.draws):
        got |= {
            f"d{k}": profile.shifts[k].sum.toarray(),
            f"d2{k}": profile.shifts[k].squares.toarray(),
            f"m2{k}": profile.moves[k].squares,
        }
    return got


def assert_equal(profile: Profile, expected: dict[str, np.ndarray], tolerance: float = TOLERANCE) -> None:
    got = sums_of(profile)
    for name, value in expected.items():
        error = np.abs(got[name] - value).max() / np.abs(value).max()
        assert error < tolerance, f"{name}: relative error {error:.1e}"


@pytest.fixture
def sae(tmp_path):
    return load_sae(str(save_tiny_sae(tmp_path / "sae", d_in=48)))


def blocks_of(model):
    return next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == LAYERS)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equals_the_direct_way(name, sae):
    model = ARCHITECTURES[name]()
    queries = make_queries(9)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae, token_budget=300, pad_id=VOCAB - 1)
    profile = reader.read(queries, reader.prefixes(queries))
    assert [p.length for p in reader.prefixes(queries)] == [10, 50, 50]
    assert profile.row_ids == tuple(q.row_id for q in queries)
    assert profile.tokens.tolist() == [len(q.scored) for q in queries]
    assert_equal(profile, direct(model, blocks_of(model)[2], sae, queries))


def test_a_token_at_the_start_of_every_prompt_counts_and_does_not_move(sae):
    """BOS, where it is scored: no token before it differs, so demonstrations change its features by exactly nothing."""
    model = ARCHITECTURES["llama"]()
    block = blocks_of(model)[2]
    without = [replace(q, scored=tuple(range(10, len(q.plain)))) for q in make_queries(6)]
    queries = [replace(q, scored=(0, *q.scored), head=1) for q in without]
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae, token_budget=300, pad_id=VOCAB - 1)
    profile = reader.read(queries, reader.prefixes(queries))
    expected = direct(model, block, sae, without)
    first = direct(model, block, sae, [replace(q, scored=(0,), contexts=()) for q in without])
    assert all(np.abs(first[name]).max() > 0 for name in first)
    assert_equal(profile, {name: value + first.get(name, 0.0) for name, value in expected.items()})


@pytest.mark.parametrize("tokens_a_block", [1, 3, 128])
def test_peaks_are_the_largest_activations_and_change_no_sum(sae, tokens_a_block, monkeypatch):
    """However blocks are cut; and the sums are bit for bit those of a reader that looks for no peaks."""
    model = ARCHITECTURES["llama"]()
    queries = make_queries(9)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae, token_budget=300)
    prefixes = reader.prefixes(queries)
    cuts = [slice(i, i + tokens_a_block) for i in range(0, 400, tokens_a_block)]
    monkeypatch.setattr(reader, "slices", lambda n, _=1: (slice(c.start, min(c.stop, n)) for c in cuts if c.start < n))
    profile = reader.read(queries, prefixes)
    assert np.array_equal(profile.peaks.value.indices, profile.features.sum.indices)
    block = blocks_of(model)[2]
    for i, query in enumerate(queries):
        caught = []
        handle = block.register_forward_hook(lambda m, a, out, caught=caught: caught.append(out))
        with torch.no_grad():
            model(input_ids=torch.tensor([query.plain]))
        handle.remove()
        out = caught[0][0] if isinstance(caught[0], tuple) else caught[0]
        h = sae.encode(out[0][torch.tensor(query.scored)] if out.dim() == 3 else out[torch.tensor(query.scored)])
        entries = slice(profile.peaks.value.indptr[i], profile.peaks.value.indptr[i + 1])
        features = profile.peaks.value.indices[entries]
        value, at = profile.peaks.value.data[entries], profile.peaks.at.data[entries]
        np.testing.assert_allclose(value, h.max(dim=0).values[features].numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(h[torch.from_numpy(at).long(), features].numpy(), value, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(RunningPeak, "see", lambda *_: None)
    without = reader.read(queries, prefixes)
    for name, total in sums_of(without).items():
        assert total.tobytes() == sums_of(profile)[name].tobytes(), name


def test_peaks_do_not_grow_with_tokens(sae):
    """One value and one place for every feature of a query that is active, however long the query is."""
    model = ARCHITECTURES["llama"]()
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    sizes = []
    for repeats in (1, 20):
        own = tuple(range(20, 30)) * repeats
        query = Query("q", own, (), tuple(range(len(own))))
        profile = reader.read([query], reader.prefixes([query]))
        assert profile.peaks.value.nnz == profile.features.sum.nnz <= sae.d_sae
        sizes.append(profile.peaks.value.data.nbytes + profile.peaks.at.data.nbytes)
    assert max(sizes) <= 8 * sae.d_sae


@pytest.mark.parametrize("rows", [1, 2, 5, 64])
@pytest.mark.parametrize("name", ["gemma3", "mistral", "gpt2"])
def test_batch_size_changes_nothing(name, rows, sae):
    model = ARCHITECTURES[name]()
    queries = make_queries(7, seed=1)
    point = resolve_hook_point(model, sae.hook_name)
    reader = Reader(model, point, sae, max_rows=rows)
    assert_equal(reader.read(queries, reader.prefixes(queries)), direct(model, blocks_of(model)[2], sae, queries))


def test_first_and_last_layer_and_no_shared_prefix(tmp_path):
    model = ARCHITECTURES["gpt2"]()
    for hook, block in (
        ("blocks.0.hook_resid_pre", None),
        (f"blocks.{LAYERS - 1}.hook_resid_post", LAYERS - 1),
    ):
        sae = load_sae(str(save_tiny_sae(tmp_path / hook, d_in=48, hook_name=hook)))
        point = resolve_hook_point(model, hook)
        reader = Reader(model, point, sae)
        queries = make_queries(5, seed=2)
        alone = [reader.read([q], reader.prefixes([q])) for q in queries]
        together = reader.read(queries, reader.prefixes(queries))
        merged = Profile.merge(alone).select(together.row_ids)
        np.testing.assert_allclose(together.stream.sum, merged.stream.sum, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            together.shifts[1].squares.toarray(), merged.shifts[1].squares.toarray(), rtol=1e-4, atol=1e-4
        )
        if block is not None:
            assert_equal(together, direct(model, blocks_of(model)[block], sae, queries))


def test_a_prefix_serves_many_batches_unchanged(sae):
    model = ARCHITECTURES["gemma2"]()
    queries = make_queries(6, seed=3)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae, max_rows=2)
    prefixes = reader.prefixes(queries)
    before = copy.deepcopy([layer.keys for layer in prefixes[1].cache.layers if layer.is_initialized])
    first = reader.read(queries, prefixes)
    second = reader.read(list(reversed(queries)), prefixes)
    assert all(torch.equal(a, b.keys) for a, b in zip(before, prefixes[1].cache.layers, strict=False))
    assert_equal(second.select(first.row_ids), direct(model, blocks_of(model)[2], sae, queries))


def test_layers_above_the_sae_never_run(sae):
    model = ARCHITECTURES["llama"]()
    calls = []
    blocks_of(model)[3].register_forward_hook(lambda *a: calls.append(1))
    queries = make_queries(3)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    reader.read(queries, reader.prefixes(queries))
    assert not calls


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_are_read_in_their_own_dtype(dtype, tmp_path):
    """As far from float32 as the direct way is: a model read in float32 is nearer, an SAE in half precision farther.

    Both ways round after every operation, wherever a processor adds up; their errors differ by a tenth at most over
    seeds and instruction sets.
    """
    from sae_lens import SAE

    folder = str(save_continuous_sae(tmp_path / "sae", d_in=48))
    sae, plain_sae = load_sae(folder), SAE.load_from_disk(folder, dtype="float32").requires_grad_(False)
    model = ARCHITECTURES["llama"]().to(dtype)
    exact = copy.deepcopy(model).float()
    queries = make_queries(12, seed=4)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    ours = sums_of(reader.read(queries, reader.prefixes(queries)))
    plain, truth = (direct(m, blocks_of(m)[2], plain_sae, queries) for m in (model, exact))
    for name, value in truth.items():
        error, expected = (np.sqrt(((sums[name] - value) ** 2).mean()) for sums in (ours, plain))
        assert expected / 1.3 < error < expected * 1.3, f"{name}: error {error:.1e}, of the direct way {expected:.1e}"


def test_non_finite_activations_name_the_layer(sae):
    from lm_eval_sts.errors import ModelError

    model = ARCHITECTURES["llama"]()
    queries = make_queries(3)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    with torch.no_grad():
        blocks_of(model)[1].mlp.down_proj.weight.fill_(float("inf"))
    with pytest.raises(ModelError, match=r"layer 2.*question q\d.*in float32, so its weights are damaged"):
        reader.read(queries, reader.prefixes(queries))


def test_the_question_that_is_not_finite_is_named(sae, monkeypatch):
    """By the activations, or by an SAE whose weights are finite."""
    from lm_eval_sts.errors import ModelError, SaeError

    model = ARCHITECTURES["llama"]()
    queries = make_queries(4)
    odd = 255
    queries[2] = replace(queries[2], plain=(*queries[2].plain[:-1], odd))
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    real = Reader.encode

    def overflowing(self, x):
        features = real(self, x)
        features[:, 0] = float("inf")
        return features

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "encode", overflowing)
        with pytest.raises(SaeError, match=r"hook_resid_post \(layer 2\) are not finite on question q\d, whose"):
            reader.read(queries, reader.prefixes(queries))
    with torch.no_grad():
        model.get_input_embeddings().weight[odd] = float("nan")
    with pytest.raises(ModelError, match=r"layer 2\) are not finite on question q2:"):
        reader.read(queries, reader.prefixes(queries))


@pytest.mark.parametrize("fault", ["raises", "other numbers"])
def test_a_cache_that_the_model_cannot_use_is_not_shared(sae, fault, caplog):
    model = ARCHITECTURES["llama"]()
    queries = make_queries(4)
    expected = direct(model, blocks_of(model)[2], sae, queries)

    def odd(module, args, kwargs):
        if kwargs.get("use_cache") and fault == "raises":
            raise ValueError("a cache of its own")
        if kwargs.get("past_key_values") is not None and kwargs["past_key_values"].get_seq_length():
            kwargs["position_ids"] = 2 * kwargs["position_ids"]
        return args, kwargs

    model.register_forward_pre_hook(odd, with_kwargs=True)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    prefixes = reader.prefixes(queries)
    assert [p.length for p in prefixes] == [0, 0, 0] and "cannot be shared" in caplog.text
    assert_equal(reader.read(queries, prefixes), expected)


def test_out_of_memory_halves_the_batch(sae, monkeypatch):
    model = ARCHITECTURES["llama"]()
    queries = make_queries(8, seed=5)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae, max_rows=8)
    real, sizes = Reader._read_rows, []

    def limited(self, batch, prefixes):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError
        return real(self, batch, prefixes)

    monkeypatch.setattr(Reader, "_read_rows", limited)
    profile = reader.read(queries, reader.prefixes(queries))
    assert max(sizes) == 8 and sizes.count(2) == 4
    assert_equal(profile, direct(model, blocks_of(model)[2], sae, queries))


class Int8Linear(torch.nn.Module):
    """Weight-only quantisation, as torchao and bitsandbytes do it: integers and a scale, dequantised in the forward."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight.to(x.dtype) * self.scale, self.bias)


def test_quantised_weights(sae):
    model = ARCHITECTURES["qwen2"]()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear):
                setattr(module, name, Int8Linear(child))
    queries = make_queries(6, seed=6)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    assert_equal(reader.read(queries, reader.prefixes(queries)), direct(model, blocks_of(model)[2], sae, queries))


def test_a_model_that_accelerate_has_spread_out(sae, tmp_path):
    """What parallelize=True makes: layers in different places, moved by accelerate's hooks; here one on disk."""
    from transformers import AutoModelForCausalLM

    whole = ARCHITECTURES["llama"]()
    whole.save_pretrained(tmp_path / "model")
    places = {name: "cpu" for name in ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")}
    places |= {f"model.layers.{i}": "disk" if i == 1 else "cpu" for i in range(LAYERS)}
    spread = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", device_map=places, offload_folder=str(tmp_path / "offload"), dtype=torch.float32
    ).eval()
    queries = make_queries(6, seed=7)
    reader = Reader(spread, resolve_hook_point(spread, sae.hook_name), sae, max_rows=2)
    assert_equal(reader.read(queries, reader.prefixes(queries)), direct(whole, blocks_of(whole)[2], sae, queries))


def test_a_peft_model(sae):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(ARCHITECTURES["gpt2"](), LoraConfig(init_lora_weights=False, target_modules=["c_attn"]))
    queries = make_queries(5, seed=8)
    reader = Reader(model.eval(), resolve_hook_point(model, sae.hook_name), sae)
    assert_equal(reader.read(queries, reader.prefixes(queries)), direct(model, blocks_of(model)[2], sae, queries))
