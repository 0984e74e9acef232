"""The STS paper's settings (arXiv 2603.02908): measured changes after SFT on LIMO.

Only the change of a subject was published, to a hundredth of a point; its standard error is estimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any, Final

from benchmarks.published.common import LIMO, PAPER, domain, limo_set, measurement, provenance, reference
from lm_eval_sts.records import Change, DomainOutcome, Outcome

FLIP_RATE: Final = 0.2
"""Share of questions assumed to change between right and wrong where only the net change was published."""


def estimated_change(percent: float, n: int) -> Change:
    """A change of which only the value was published.

    Every question changes by −1, 0 or 1; where a share f changes at all, the variance of its change is f − Δ², and
    of the mean over n questions (f − Δ²)/n.
    """
    delta = round(percent / 100, 6)  # 6: undoes the division's binary remainder, not the printed digits
    return Change(n=n, base=None, tuned=None, delta=delta, se=sqrt((FLIP_RATE - delta**2) / n), se_kind="estimated")


def limo_outcomes(tables: dict[str, Any], sizes: Mapping[str, int]) -> Iterator[Outcome]:
    """Tables 2 to 4: each model's 14 subjects after SFT on LIMO; Gemma's in both readings of psychology."""
    yield limo_outcome(tables, 2, sizes)
    yield limo_outcome(tables, 3, sizes)
    yield limo_outcome(tables, 4, sizes, psychology_caveat(-0.5, "gemma2-9b-limo-as-printed"), psychology=-0.5)
    printed = limo_outcome(tables, 4, sizes, psychology_caveat(-0.05, "gemma2-9b-limo"))
    yield printed.model_copy(update={"name": "gemma2-9b-limo-as-printed"})


def psychology_caveat(here: float, other: str) -> str:
    """What the two records of Gemma say of their one difference, in points."""
    return (
        f"Psychology is {here:.2f} points here. Table 4 prints -0.05, which no whole number of 798 questions gives; "
        "Figure 3 (c, f) plots 0.50 without a sign, which 4 questions give: -0.50 is likely what was measured. "
        f"{other} holds the other reading: never count both."
    )


def limo_outcome(
    tables: dict[str, Any], number: int, sizes: Mapping[str, int], *caveats: str, **readings: float
) -> Outcome:
    """One model's outcome from its table.

    Args:
        tables: The decoded file of the paper's tables.
        number: The table's.
        sizes: Questions by subject.
        caveats: To stand before those of every LIMO outcome.
        readings: Subjects whose change, in points, is not taken as printed.
    """
    model, setup = tables[f"table{number}"]["model"], tables["setup"]
    deltas = {**tables[f"table{number}"]["delta"], **readings}
    reliability = tables["derived_here"]["per_model"][model]["approx_reliability"]
    low, high = (reliability[f"all14|signed|discordance={rate}"] for rate in ("0.3", "0.1"))
    return Outcome(
        name=LIMO[model].name,
        model=reference(LIMO[model].model),
        sft_set=limo_set(setup),
        recipe=None,
        measurement=measurement(),
        domains={
            domain(subject): DomainOutcome(score=estimated_change(deltas[subject], n)) for subject, n in sizes.items()
        },
        source=f"{PAPER}, Table {number} of {tables['source']}",
        caveats=(
            *caveats,
            f"Standard errors are estimates, sqrt(({FLIP_RATE} - change^2)/n): they assume that {FLIP_RATE:.0%} of the "
            "answers change between right and wrong; the paper publishes none. In the shipped base -> post-trained "
            f"pairs 20-29% change. With 10% the reliability would be {high:.2f}, with 30% {low:.2f}.",
            "Questions a subject are those of the 12,032-question release; the paper does not state its own.",
            "Printed to 0.01 points, some values rounded and some cut; the smallest are a few questions.",
            "How many fine-tuning seeds stand behind a value, and their spread, is not published.",
        ),
        provenance=provenance({"model": model, "flip_rate": FLIP_RATE, "paper_setup": setup}),
    )
