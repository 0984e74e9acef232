"""What the study asks: which SFT sets and cells, which changes, and what a perfect predictor could reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from benchmarks.which_predictor.analysis import Mask, Row, centred, masked, rows
from benchmarks.which_predictor.evidence import Entry, Target, board_entries, errors, panel_of, settings
from lm_eval_sts.agreement.correlation import fisher_z
from lm_eval_sts.agreement.panel import Panel
from lm_eval_sts.agreement.reliability import reliability_of
from lm_eval_sts.records import Outcome, View
from microworld.sft_sets import sft_specs
from microworld.split import read_split
from microworld.world import make_world


@dataclass(frozen=True)
class Against:
    """One way of holding predictions against changes.

    Attributes:
        view: Whose change.
        target: Size or signed.
        centre: Whether domain means over the settings are taken out.
    """

    view: View
    target: Target
    centre: bool


PRIMARY_VIEW: Final = Against("score", "delta", True)
COLUMNS: Final = {
    "Δ accuracy, double-centred": PRIMARY_VIEW,
    "Δ accuracy": Against("score", "delta", False),
    "|Δ| accuracy, double-centred": Against("score", "magnitude", True),
    "|Δ| accuracy": Against("score", "magnitude", False),
    "Δ log-likelihood, double-centred": Against("choice_log_likelihood", "delta", True),
    "Δ log-likelihood": Against("choice_log_likelihood", "delta", False),
}


class Study:
    """The evidence, and what is asked of it."""

    def __init__(self) -> None:
        self.outcomes: Mapping[str, Outcome] = settings()
        self.entries: Sequence[Entry] = board_entries()
        self.split = read_split()

    @cached_property
    def specs(self) -> Mapping[str, Any]:
        """What each SFT set holds, by its name."""
        return sft_specs(make_world(0))

    def sets(self, half: str, base: str = "micro") -> tuple[str, ...]:
        """Registered settings of one half at the main dose."""
        return tuple(f"{base}/{name}" for name in getattr(self.split, half))

    def table(
        self, chosen: Sequence[str], kind: Against, cells: Mask | None = None, entries: Sequence[Entry] | None = None
    ) -> list[Row]:
        """All predictors over the given settings, and optionally some of their cells only."""
        return rows(self.panel(chosen, kind, cells, entries))

    def panel(
        self, chosen: Sequence[str], kind: Against, cells: Mask | None = None, entries: Sequence[Entry] | None = None
    ) -> Panel:
        """The panel behind a table; of the predictors those that have scores for all the settings."""
        given = [e for e in (entries or self.entries) if all(name in e.scores for name in chosen)]
        panel = centred(panel_of(given, self.outcomes, chosen, kind.view, kind.target), kind.centre)
        return panel if cells is None else masked(panel, cells)

    def cells(self, chosen: Sequence[str]) -> dict[str, Mask]:
        """Parts of the test settings that are looked at separately, each [settings, domains]."""
        domains = list(self.outcomes[chosen[0]].domains)
        home = np.array([[self._spec(name).surface == d for d in domains] for name in chosen])
        foreign = np.array([[not self._at_home(name)] * len(domains) for name in chosen])
        held = np.array([[d in self.split.held_out_domains for d in domains] for _ in chosen])
        return {
            "all cells": np.ones_like(home),
            "off the home domain": ~home,
            "home surfaces": ~foreign,
            "foreign surfaces": foreign,
            "held-out domains": held,
        }

    def _spec(self, setting: str) -> Any:
        return self.specs[setting.partition("/")[2]]

    def _at_home(self, setting: str) -> bool:
        return self._spec(setting).surface in self.outcomes[setting].domains

    def ceiling(self, chosen: Sequence[str], kind: Against) -> float | None:
        """Expected correlation of a predictor that knows every true signed change, tanh of the mean z over settings."""
        if kind.target != "delta":
            return None
        delta = panel_of([], self.outcomes, chosen, kind.view, "delta").measured
        se = errors(self.outcomes, chosen, kind.view)
        if kind.centre:
            k, n = delta.shape
            residual = delta - delta.mean(axis=0) - delta.mean(axis=1, keepdims=True) + delta.mean()
            share = 1 - float(np.mean(se**2)) / float((residual**2).sum() / ((k - 1) * (n - 1)))
            return float(np.sqrt(max(share, 0.0)))
        shares = [reliability_of(d, e).value or 0.0 for d, e in zip(delta, se, strict=True)]
        return float(np.tanh(np.mean(fisher_z(np.sqrt(shares)))))
