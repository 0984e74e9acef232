"""The noise ceiling: against simulated truth, at its limits, and what it allows to be disattenuated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.agreement_ceilings import ceiling_error
from benchmarks.agreement_worlds import World
from lm_eval_sts.agreement.ceiling import ceiling, disattenuated
from lm_eval_sts.agreement.reliability import reliability_of
from lm_eval_sts.records import STATISTICS, Ceiling

DELTA = np.array([3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0])
ALL = [(target, statistic) for target in ("delta", "magnitude") for statistic in STATISTICS]


def test_signed_pearson_is_the_root_of_the_reliability():
    se = np.full(7, 1.5)
    share = reliability_of(DELTA, se)
    found = ceiling(DELTA, se, "delta", "pearson")
    assert (found.value, found.low, found.high) == pytest.approx(tuple(np.sqrt([share.value, share.low, share.high])))


@pytest.mark.parametrize(("target", "statistic"), ALL)
def test_limits(target, statistic):
    assert ceiling(DELTA, np.zeros(7), target, statistic).value == pytest.approx(1)
    assert ceiling(DELTA, np.full(7, 50.0), target, statistic).value == 0
    assert ceiling(DELTA[:2], np.ones(2), target, statistic) is None
    assert ceiling(DELTA, np.full(7, np.nan), target, statistic) is None
    assert ceiling(np.ones(7), np.zeros(7), target, statistic) is None
    values = [ceiling(DELTA, np.full(7, error), target, statistic).value for error in (0.5, 1, 2, 3)]
    assert values == sorted(values, reverse=True)


def test_the_seed_is_used():
    se = np.full(7, 1.5)
    first = ceiling(DELTA, se, "magnitude", "pearson", seed=1)
    assert first == ceiling(DELTA, se, "magnitude", "pearson", seed=1)
    assert first != ceiling(DELTA, se, "magnitude", "pearson", seed=2)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0, 1e3)), max_size=8), st.sampled_from(ALL))
def test_any_numbers(rows, which):
    delta, se = np.array(rows).reshape(-1, 2).T
    found = ceiling(delta, se, *which, draws=20)
    assert found is None or -1e-9 <= found.low <= found.value <= found.high <= 1 + 1e-9


@pytest.mark.parametrize(("target", "statistic"), ALL)
def test_simulated_truth(target, statistic):
    tolerance = 0.05 if statistic == "pearson" else 0.06
    found = ceiling_error(World(14, 0.8, 1.0, "normal", 1.0), target, statistic, 400)
    assert abs(found["error"]) <= tolerance


def test_disattenuation_is_refused_under_a_quarter_and_never_clipped():
    assert disattenuated(0.4, Ceiling(value=0.8, low=0.5, high=0.9)) == pytest.approx(0.5)
    assert disattenuated(0.9, Ceiling(value=0.8, low=0.6, high=0.9)) == pytest.approx(1.125)
    assert disattenuated(0.4, Ceiling(value=0.8, low=0.49, high=0.9)) is None
    assert disattenuated(None, Ceiling(value=0.8, low=0.6, high=0.9)) is None
    assert disattenuated(0.4, None) is None
