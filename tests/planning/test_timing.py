"""The model of time: fitted to stored measurements, and checked on shapes that were left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.planning.devices import CPU, DEVICES, find_device
from lm_eval_sts.planning.timing import ACTIVITIES, Measurement, fit, leave_one_out, measurements, time_model
from lm_eval_sts.planning.work import Work


def runs(on, activity):
    return [run for run in measurements().runs if (run.on, run.activity) == (on, activity)]


def test_a_fit_finds_the_factors_that_made_the_times():
    same = {"activity": "reading", "on": "gpu", "device": "x", "what": ""}
    parts = [(1.0, 0.1, 0.0), (0.5, 0.4, 0.2), (2.0, 0.0, 0.1), (1.0, 1.0, 1.0)]
    made = [
        Measurement(**same, shape=str(i), computing=x, moving=y, calls=z, seconds=2 * x + 5 * y + 3 * z)
        for i, (x, y, z) in enumerate(parts)
    ]
    assert fit(made) == pytest.approx((2.0, 5.0, 3.0))
    assert all(np.allclose(ratios, 1) for ratios in leave_one_out(made).values())


@pytest.mark.parametrize(
    ("on", "activity", "most"), [("gpu", "reading", 1.3), *(("cpu", activity, 1.5) for activity in ACTIVITIES)]
)
def test_shapes_that_were_left_out_are_predicted(on, activity, most):
    """What docs/plan.md reports; the measurements are stored, so that no machine decides this test."""
    left_out = leave_one_out(runs(on, activity))
    assert len(left_out) >= 3
    for shape, ratios in left_out.items():
        assert 1 / most < math.exp(np.mean(np.log(ratios))) < most, shape


@pytest.mark.parametrize("on", ["gpu", "cpu"])
def test_the_interval_holds_most_of_what_was_measured(on):
    inside = total = 0
    for activity in {run.activity for run in measurements().runs if run.on == on}:
        model = time_model(activity, on)
        for ratios in leave_one_out(runs(on, activity)).values():
            inside += sum(1 / model.over <= ratio <= model.factor for ratio in ratios)
            total += len(ratios)
    assert inside / total >= 0.85


def test_what_was_not_measured_on_a_gpu_says_so_and_is_less_sure():
    reading, training = time_model("reading", "gpu"), time_model("training", "gpu")
    assert (reading.of, training.of) == ("reading", "reading")
    assert reading.over == reading.factor < training.over


def test_more_work_takes_longer():
    model, device = time_model("reading", "gpu"), find_device("h100")
    one = model.span(Work(dense=1e15, moved=1e12), device, 2)
    two = model.span(Work(dense=2e15, moved=2e12), device, 2)
    assert two.seconds == pytest.approx(2 * one.seconds)
    assert one.low < one.seconds < one.high


def test_the_stored_floors_are_those_of_todays_counting():
    """Floors of the accelerator's figures, recomputed from the shapes of the benchmark."""
    benchmark = pytest.importorskip("benchmarks.plan_costs")
    assert benchmark.gpu_measurements() == [run for run in measurements().runs if run.on == "gpu"]


def test_peak_memory_of_reading_is_the_keys_and_values_and_less_than_with_copies():
    """Beyond the model 12.4, 6.0 and at most 4.6 GB were measured with a copy for every row (benchmarks/README.md)."""
    benchmark = pytest.importorskip("benchmarks.plan_costs")
    from lm_eval_sts.planning.predicting import Reader, Texts, profiles
    from lm_eval_sts.planning.saes import SaeShape
    from lm_eval_sts.planning.shapes import shape_of

    for name, measured in {"gemma-2-9b": 12.4e9, "llama-3-8b": 6.0e9, "qwen2.5-7b": 4.6e9}.items():
        of = benchmark.SHAPES[name]
        model = benchmark.build_model(of, torch.device("meta"))
        shape = shape_of(model, name)
        sae = SaeShape(name, shape.width, of.d_sae, 0, of.layer + 1, known=True)
        reader = Reader(shape, model, find_device("h200"), sae, (), 100 * 10**9)
        texts = Texts((0, 8000), (np.full(157, 64), np.full(157, 8064)), 157 * 64)
        kept = 8000 * (of.layer + 1) * 2 * shape.kv_heads * shape.head_dim * shape.item
        assert kept < sum(profiles(reader, [texts], sae, None).memory.values()) < measured, name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("H100", "h100"),
        ("RTX 4090", "rtx-4090"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("4090", "rtx-4090"),
        ("cpu", "cpu"),
    ]
    + [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("L4", "l4"),
    ],
)
def test_devices_however_they_are_written(written, name):
    assert find_device(written).name == name


def test_a_device_that_is_not_known_names_the_nearest():
    with pytest.raises(SettingsError, match="did you mean 'h100'"):
        find_device("h10")


def test_every_device_states_where_its_figures_are_from():
    assert all(device.source and device.half >= device.single > 0 for device in DEVICES.values())
    assert CPU.is_cpu
