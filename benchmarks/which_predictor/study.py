"""The study: which predictor to trust. Every table of docs/which-predictor.md, from the committed evidence.

    python -m benchmarks.which_predictor.study            writes tables, figures and results/which-predictor.json
    python -m benchmarks.which_predictor.study --check    fails where they are not what the evidence gives

Tables stand between markers in docs/which-predictor.md (one of them in README.md); the text around them is written by
hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.which_predictor import markdown
from benchmarks.which_predictor.analysis import Mask, Row, centred, contrast, masked, rows, separable_pairs
from benchmarks.which_predictor.evidence import (
    Entry,
    Target,
    board_entries,
    errors,
    make_panel,
    settings,
)
from benchmarks.which_predictor.figures import save_figures
from lm_eval_sts.agreement.correlation import fisher_z
from lm_eval_sts.agreement.reliability import reliability_of
from lm_eval_sts.files import write_atomically
from lm_eval_sts.microworld.sft_sets import sft_specs
from lm_eval_sts.microworld.split import read_split
from lm_eval_sts.microworld.world import make_world
from lm_eval_sts.records import Outcome, View

PRIMARY: Final = Path(__file__).parent / "primary.json"
RESULTS: Final = Path(__file__).parents[1] / "results" / "which-predictor.json"
APART: Final = ("oracle",)
"""Categories that are ranked apart."""


@dataclass(frozen=True)
class View_:
    """One way of holding predictions against changes.

    Attributes:
        view: Whose change.
        target: Size or signed.
        centre: Whether domain means over the settings are taken out.
    """

    view: View
    target: Target
    centre: bool


PRIMARY_VIEW: Final = View_("score", "delta", True)
COLUMNS: Final = {
    "Δ accuracy, double-centred": PRIMARY_VIEW,
    "Δ accuracy": View_("score", "delta", False),
    "|Δ| accuracy": View_("score", "magnitude", False),
    "Δ log-likelihood, double-centred": View_("choice_log_likelihood", "delta", True),
    "Δ log-likelihood": View_("choice_log_likelihood", "delta", False),
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

    @property
    def apart(self) -> tuple[str, ...]:
        """Predictors that are ranked apart."""
        return tuple(e.name for e in self.entries if e.category in APART)

    def sets(self, half: str, base: str = "micro") -> tuple[str, ...]:
        """Registered settings of one half at the main dose."""
        return tuple(f"{base}/{name}" for name in getattr(self.split, half))

    def table(
        self, chosen: Sequence[str], kind: View_, cells: Mask | None = None, entries: Sequence[Entry] | None = None
    ) -> list[Row]:
        """All predictors over the given settings, and optionally some of their cells only."""
        return rows(self.panel(chosen, kind, cells, entries), self.apart)

    def panel(
        self, chosen: Sequence[str], kind: View_, cells: Mask | None = None, entries: Sequence[Entry] | None = None
    ) -> Any:
        """The panel behind a table."""
        given = [e for e in (entries or self.entries) if all(name in e.scores for name in chosen)]
        panel = centred(make_panel(given, self.outcomes, chosen, kind.view, kind.target), kind.centre)
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

    def ceiling(self, chosen: Sequence[str], kind: View_) -> float | None:
        """Expected correlation of a predictor that knows every true signed change, tanh of the mean z over settings."""
        if kind.target != "delta":
            return None
        delta = make_panel([], self.outcomes, chosen, kind.view, "delta").measured
        se = errors(self.outcomes, chosen, kind.view)
        if kind.centre:
            k, n = delta.shape
            residual = delta - delta.mean(axis=0) - delta.mean(axis=1, keepdims=True) + delta.mean()
            share = 1 - float(np.mean(se**2)) / float((residual**2).sum() / ((k - 1) * (n - 1)))
            return float(np.sqrt(max(share, 0.0)))
        shares = [reliability_of(d, e).value or 0.0 for d, e in zip(delta, se, strict=True)]
        return float(np.tanh(np.mean(fisher_z(np.sqrt(shares)))))


def comparison(study: Study, chosen: Sequence[str]) -> dict[str, Any]:
    """Every predictor in every column."""
    return {
        title: {
            "ceiling": study.ceiling(chosen, kind),
            "rows": [asdict(row) for row in study.table(chosen, kind)],
            "separable_pairs": separable_pairs(study.panel(chosen, kind)),
        }
        for title, kind in COLUMNS.items()
    }


def subsets(study: Study, chosen: Sequence[str]) -> dict[str, Any]:
    """The primary view on parts of the test settings."""
    return {
        title: [asdict(row) for row in study.table(chosen, PRIMARY_VIEW, cells)]
        for title, cells in study.cells(chosen).items()
    }


def primary(study: Study) -> dict[str, Any]:
    """The one contrast that was declared beforehand."""
    declared = json.loads(PRIMARY.read_text(encoding="utf-8"))
    panel = study.panel(study.sets("test"), PRIMARY_VIEW)
    return {"declared": declared, "found": asdict(contrast(panel, declared["candidate"], declared["reference"]))}


def run() -> dict[str, Any]:
    """The whole study, as what is stored and shown."""
    study = Study()
    test = study.sets("test")
    return {
        "command": "python -m benchmarks.which_predictor.study",
        "primary": primary(study),
        "development": comparison(study, study.sets("development")),
        "test": comparison(study, test),
        "subsets": subsets(study, test),
        "costs": {
            e.name: {
                "token_equivalents": _known(e.token_equivalents),
                "seconds": _known(e.seconds),
                "category": e.category,
            }
            for e in study.entries
        },
    }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def rounded(value: Any) -> Any:
    """Six significant digits, as they are stored."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    found = rounded(run())
    files = {RESULTS: json.dumps(found, indent=1, ensure_ascii=False) + "\n", **markdown.pages(found)}
    if args.check:
        stale = [str(path) for path, text in files.items() if path.read_text(encoding="utf-8") != text]
        sys.exit(f"not what the evidence gives: {', '.join(stale)}" if stale else 0)
    for path, text in files.items():
        write_atomically(path, text.encode())
    save_figures(found)


if __name__ == "__main__":
    main()
