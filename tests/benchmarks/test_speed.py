"""The speed benchmark: its floor counts what PyTorch counts, its ways agree, its command runs."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from transformers import Gemma2Config

from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def speed():
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("speed")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def shapes(speed):
    return importlib.import_module("shapes")


@pytest.fixture(scope="module")
def floor(speed):
    return importlib.import_module("floor")


def built(shapes, architecture="jumprelu", **changes):
    shape = dataclasses.replace(shapes.SHAPES["toy"], **changes)
    model = shapes.build_model(shape, CPU)
    point = shapes.hook_point(shape, model)
    return model, point, shapes.build_sae(shape, architecture, model, point)


def sliding(shapes):
    return Gemma2Config(
        vocab_size=300,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        sliding_window=16,
        attn_implementation="eager",
    )


@pytest.mark.parametrize("architecture", ["jumprelu", "topk", "standard"])
def test_ours_equals_the_direct_way(architecture, speed, shapes):
    model, point, sae = built(shapes, architecture)
    queries = shapes.build_queries(5, 40, model, draws=2)
    reader = Reader(model, point, sae)
    profile = reader.read(queries, reader.prefixes(queries))
    sums = speed.direct(model, point, sae, queries)
    active = profile.features.sum.nnz / (5 * sae.d_sae)
    assert active > 0.1
    assert float(sums[3].abs().max()) > 0
    assert speed.difference(profile, sums) < 1e-4
    sums[5][2] *= 1.01
    assert speed.difference(profile, sums) > 1e-4


def test_floor_counts_the_matrix_products_that_pytorch_runs(shapes, floor):
    """With eager attention every product is a plain one: weights and encoder are mm, attention is bmm or baddbmm."""
    from torch.utils.flop_counter import FlopCounterMode

    model, point, sae = built(shapes)
    model.config._attn_implementation = "eager"
    n, demos, own = 6, 40, shapes.QUERY_TOKENS
    queries = shapes.build_queries(n, demos, model, draws=2)
    reader = Reader(model, point, sae)
    reader.prefixes(queries)  # the first of a model is compared with whole prompts
    with FlopCounterMode(display=False) as counter:
        reader.read(queries, reader.prefixes(queries))
    counted = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()}
    flops = floor.count(model, point, sae, queries)
    assert flops.weights + flops.sae == counted["aten.mm"] + counted.get("aten.addmm", 0)
    # Eager attention also multiplies what the mask hides.
    hidden = 3 * n * own * (own - 1) // 2 + 2 * demos * (demos - 1) // 2
    attention = sum(counted.get(f"aten.{name}", 0) for name in ("bmm", "baddbmm", "baddbmm_"))
    assert flops.attention == attention - 3 * 4 * 48 * hidden


def test_floor_of_a_sliding_window_by_counting_pairs(shapes, floor):
    model, point, sae = built(shapes, config=lambda: sliding(shapes))
    own, demos = tuple(range(9)), tuple(range(50, 80))
    queries = [Query(f"q{i}", own, (demos + own,), (7, 8)) for i in range(2)]
    windows = [16 if kind == "sliding_attention" else 10**9 for kind in model.config.layer_types[:3]]
    assert len(set(windows)) == 2
    runs = [range(9)] * 2 + [range(30)] + [range(30, 39)] * 2
    pairs = sum(min(p + 1, w) for run in runs for p in run for w in windows)
    flops = floor.count(model, point, sae, queries)
    assert flops.attention == 4 * 4 * 12 * pairs
    assert flops.weights == 2 * (2 * 48 * 48 + 2 * 48 * 24 + 3 * 48 * 96) * 3 * (2 * 9 + 30 + 2 * 9)
    assert flops.sae == 2 * 48 * 256 * (2 * 2 * 2)


def test_command_writes_raw_numbers_and_a_table(speed, shapes, tmp_path, capsys, monkeypatch):
    small = dataclasses.replace(shapes.SHAPES["toy"], saes=("topk",), demos=(0, 40), draws=(1,))
    monkeypatch.setitem(shapes.SHAPES, "toy", small)
    threads = torch.get_num_threads()
    output = tmp_path / "new" / "speed.json"
    command = ["--shapes", "toy", "--repeats", "2", "--no-memory"]
    try:
        speed.main([*command, "--output", str(output)])
        printed = capsys.readouterr().out
        speed.main([*command, "--output", str(tmp_path / "again.json"), "--baseline", str(output)])
        beside = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| topk")]
    finally:
        torch.set_num_threads(threads)
    report = json.loads(output.read_text())
    records = report["shapes"]["toy"]["speed"]
    assert [r["demos"] for r in records] == [0, 40]
    for record in records:
        assert record["relative_difference"] < 1e-4
        for run in record["runs"]:
            expected = (
                sum(record["flops"][k] for k in ("weights", "attention")) / run["model_flops_a_second"]
                + record["flops"]["sae"] / run["sae_flops_a_second"]
            )
            assert run["floor"] == pytest.approx(expected)
            assert run["ours"]["wall"] > 0 and run["direct"]["wall"] > 0
    table = [line for line in printed.splitlines() if line.startswith("| topk")]
    assert len(table) == len(beside) == 2
    for first, second in zip(table, beside, strict=True):
        was = second.split("|")[-3:-1]
        assert was == [first.split("|")[5], first.split("|")[8]], "what was measured before does not stand beside"
    assert len(re.findall(r"load [\d.]+ to [\d.]+, ours had \d+% of a core", printed)) == 2
    assert all(len(record["load"]) == 2 for record in records)
    ratio = table[1].split("|")[7].split()[0]
    middle = sorted(
        run["direct"]["cpu"] / records[1]["direct_queries"] / (run["ours"]["cpu"] / records[1]["queries"])
        for run in records[1]["runs"]
    )
    assert float(ratio) == pytest.approx(sum(middle) / 2, rel=0.01)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_memory_is_measured(speed, shapes):
    found = speed.memory(shapes.SHAPES["toy"], 4, CPU)
    assert found["queries"] == 4
    assert 0 <= found["peak_bytes"] < 2**30


def test_counts_tell_copies_and_trees():
    sys.path.insert(0, str(FOLDER))
    try:
        counts = importlib.import_module("reading_counts")
    finally:
        sys.path.remove(str(FOLDER))
    keys = torch.zeros(4, 2, counts.DEMONSTRATIONS, counts.WIDTH)
    with counts.Copies() as copies:
        torch.cat([keys[:1], keys[:1]], dim=-2)  # of one row
        torch.cat([keys[..., :9, :], keys[..., :9, :]], dim=-2)  # as short as a row's own
    assert copies.bytes == 0
    with counts.Copies() as copies:
        torch.cat([keys, keys], dim=-2)
    assert copies.bytes == 2 * keys.numel() * 4


def test_tf32_has_ten_bits_of_mantissa():
    sys.path.insert(0, str(FOLDER))
    try:
        precision = importlib.import_module("sae_precision")
    finally:
        sys.path.remove(str(FOLDER))
    given = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11 + 2**-20, 1 + 2**-12, -3.0, 0.0])
    expected = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-10, 1.0, -3.0, 0.0])
    assert torch.equal(precision.tf32(given), expected)
