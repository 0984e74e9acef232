"""What each predictor cost on the micro world, measured once (benchmarks/predictor_costs.py)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from lm_eval_sts.records import Cost, Finite, Record, load_record

COSTS_FILE: Final = Path(__file__).parent / "costs.json"


class MeasuredCost(Cost):
    """A cost whose seconds, processor time of one thread, are known."""

    seconds: Annotated[Finite, Field(ge=0)]


class ReferenceCosts(Record):
    """Costs of all predictors for one setting of the micro world."""

    command: str
    hardware: str
    """On what the seconds were measured."""
    what: str
    """The setting that they were measured on."""
    recipe: dict[str, Any]
    """The fine-tuning recipe of ``finetune_and_measure``, and of trial runs."""
    finetune_and_measure: MeasuredCost
    """One fine-tuning run and its measurement: what a prediction saves."""
    predictors: dict[str, MeasuredCost]


@lru_cache(maxsize=1)
def reference_costs() -> ReferenceCosts:
    """The shipped measurements.

    Raises:
        RecordError: They are missing from the installation or not valid.
    """
    return load_record(ReferenceCosts, COSTS_FILE)
