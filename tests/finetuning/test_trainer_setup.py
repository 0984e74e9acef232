"""What surrounds TRL's trainer."""

from __future__ import annotations

import warnings

import datasets
import pytest
from transformers.utils import logging

from lm_eval_sts.finetuning.trainer_setup import quiet_libraries


@pytest.fixture
def library_state():
    """Puts verbosity and progress bars back."""
    verbosity, ours, theirs = (
        logging.get_verbosity(),
        datasets.is_progress_bar_enabled(),
        logging.is_progress_bar_enabled(),
    )
    yield
    logging.set_verbosity(verbosity)
    (datasets.enable_progress_bars if ours else datasets.disable_progress_bars)()
    (logging.enable_progress_bar if theirs else logging.disable_progress_bar)()


@pytest.mark.parametrize("of_datasets", [True, False])
@pytest.mark.parametrize("of_transformers", [True, False])
def test_libraries_are_as_loud_as_before_once_it_is_over(of_datasets, of_transformers, library_state):
    (datasets.enable_progress_bars if of_datasets else datasets.disable_progress_bars)()
    (logging.enable_progress_bar if of_transformers else logging.disable_progress_bar)()
    logging.set_verbosity_info()
    with pytest.raises(RuntimeError, match="inside"), warnings.catch_warnings(record=True) as heard, quiet_libraries():
        warnings.warn("renamed", FutureWarning, stacklevel=1)
        assert not datasets.is_progress_bar_enabled() and not logging.is_progress_bar_enabled()
        assert logging.get_verbosity() == logging.ERROR
        raise RuntimeError("inside")
    assert not heard
    assert (datasets.is_progress_bar_enabled(), logging.is_progress_bar_enabled()) == (of_datasets, of_transformers)
    assert logging.get_verbosity() == logging.INFO
