"""Which half of what a run read by default to keep: one draw of demonstrations for three, or half of the questions.

    python benchmarks/budgets.py                 # on one core: 8 seeds, twelve SFT sets of the micro world

Both halve the bill of ``sts_act`` and ``sts_icl`` (docs/bill.md). Each is held, domain by domain, against the score of
seven times its questions and eight draws. The micro world's own 100 questions a domain are fewer than any budget, so
budgets are scaled to the questions that the defaults read of real texts (54 of a domain, 223 of an SFT set: ``full``),
and the reference is of other questions, the 400 a domain that are there for measuring, and of other draws.

Candidates: ``three`` (three draws, full: what was the default), ``one`` (one draw, full), ``half`` (three draws, half),
and ``turns``: three draws, each text read after one of them in turn, for the cost of ``one``.

Measures, per predictor, SFT set and seed over the 28 domains: the correlation with the reference; the RMSE from it in
standard deviations of the reference between domains, and of scores divided by their mean over domains ("shares"),
since a verdict shows scores relative to each other; and how often score ± 1.96 standard errors, the reference's own
error added in square, covers it: of the questions alone (``se``, the bootstrap over questions that the record holds),
of shares, and with the spread over draws, where it is known, added: se² + s²/draws. Added after the choice, for the
errors that a verdict states now (``lm_eval_sts/records/score_errors.py``): how often these cover scores and shares
(``covered_by_errors``, ``covered_shares_by_errors``), how often the domain of the highest reference is marked as not
significantly different from the highest (``highest_marked``) and how many are (``marked``), and both by the questions'
errors alone (``…_before``).

Declared before the first run:

1. Noise is that of seeds (questions, order and draws are drawn anew): t intervals over the seeds' means over SFT sets.
2. ``one`` and ``half`` differ in agreement where the 95% interval of their difference in RMSE is without 0 for one
   predictor at least, and not the other way round for the other. The better one is then the default.
3. Otherwise the one whose stated intervals cover more nearly .95, by the mean over both predictors, where the interval
   of that difference is without 0.
4. Otherwise ``half``: the spread over draws is then known, as DESIGN rule 7 asks.
5. ``turns`` only if it beats the choice by 2. and takes less than about 60 lines.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import lm_eval_sts as sts
from lm_eval_sts.evidence.evidence import Evidence, Profiles
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.files import write_atomically
from lm_eval_sts.microworld import data
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.predictors.statistics import ratio, standard_error
from lm_eval_sts.predictors.sts import activation, squared_shift, top_features
from lm_eval_sts.records.score_errors import score_errors
from lm_eval_sts.shipped import resolve
from lm_eval_sts.verdict.groups import not_lower

NAMES = ("sts_act", "sts_icl")
SETS = (
    *("add-home-short", "mul-home-short", "chain-home-long", "graph-home-short", "organisms-home-short"),
    *("laws-home-long", "substances-home-short", "category-home-long", "arithmetic-home-short"),
    *("nature-home-short", "mathlike-home-long", "sequences-home-short"),
)
SFT_TOKENS, DOMAIN_TOKENS = 223 * 18, 54 * 20
CANDIDATES = {"three": (1.0, 3), "one": (1.0, 1), "half": (0.5, 3)}
"""Share of the budgets, and draws."""

REFERENCE_SEED, REFERENCE_DRAWS, ALL = 99, 8, 10**6


@dataclass(frozen=True)
class Scored:
    """Scores of one predictor beside one SFT set.

    Attributes:
        score: [domains].
        se: Standard errors by questions, [domains].
        draws: Scores by draw, [domains, draws], where they are known.
        errors: Half widths of the intervals that a verdict states, [domains], where they can be.
        marked: Whether a verdict marks a domain as not significantly different from the highest, [domains].
        marked_before: The same by the questions' errors alone, [domains].
    """

    score: np.ndarray
    se: np.ndarray
    draws: np.ndarray | None = None
    errors: np.ndarray | None = None
    marked: np.ndarray | None = None
    marked_before: np.ndarray | None = None


def main() -> None:
    """Reads, compares, writes ``benchmarks/results/budgets.json`` and prints it as a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--profiles", help="Folder for what is read, so that a killed run goes on.")
    given, found = parser.parse_args(), []
    with tempfile.TemporaryDirectory() as folder:
        read = _reader(given.profiles or folder)
        settings = {"sft_tokens": ALL, "domain_tokens": ALL, "demo_draws": REFERENCE_DRAWS}
        truths = [_scored(evidence) for evidence in read("measure", REFERENCE_SEED, settings)]
        settings = {"sft_tokens": SFT_TOKENS, "domain_tokens": DOMAIN_TOKENS, "demo_draws": 3}
        for seed in range(given.seeds):
            for name, evidence, truth in zip(SETS, read("test", seed, settings), truths, strict=True):
                scored = {label: _scored(_part(evidence, *of)) for label, of in CANDIDATES.items()}
                scored["turns"] = {predictor: _in_turn(evidence, predictor) for predictor in NAMES}
                for label, of_predictors in scored.items():
                    for predictor, each in of_predictors.items():
                        row = {"sft_set": name, "seed": seed, "predictor": predictor, "candidate": label}
                        found.append(row | _compared(each, truth[predictor]))
            table = _table(found)
            text = json.dumps(table, indent=1, ensure_ascii=False) + "\n"
            write_atomically(Path(__file__).with_name("results") / "budgets.json", text.encode())
            sys.stdout.write(f"seed {seed}\n")
            sys.stdout.flush()
    for row in table["candidates"] + table["differences"]:
        sys.stdout.write("  ".join(f"{key} {value}" for key, value in row.items()) + "\n")


def _reader(folder: str) -> Callable[[str, int, dict[str, int]], Iterator[Evidence]]:
    """Reads questions of one split under a seed and some settings, beside each SFT set."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = resolve("micro/model")
    model = sts.Model(AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path))
    splits = data.load()

    def read(split: str, seed: int, settings: dict[str, int]) -> Iterator[Evidence]:
        data.load.__globals__["_shipped_splits"] = lambda: {**splits, "test": splits[split]}
        benchmark, domains = sts.load_domains("sts_micro", seed=seed), None
        for name in SETS:
            evidence = sts.read(
                model,
                "micro/sae",
                sts.load_sft_set(f"micro/sft/{name}"),
                benchmark,
                predictors=NAMES,
                profiles_dir=folder,
                sft_response_delimiter=" ",
                token_budget=32_768,
                **settings,
            )
            profiles = evidence["profiles"]
            if domains is None:  # no domain's profile depends on the SFT set
                domains, benchmark = profiles.domains, replace(benchmark, domains=benchmark.domains[:1])
            yield replace(evidence, read={"profiles": replace(profiles, domains=domains)})

    return read


def _part(evidence: Evidence, share: float, draws: int) -> Evidence:
    """What is read with a share of the budgets and the first draws: queries and draws are nested."""

    def part(profile: Profile, budget: float) -> Profile:
        rows = 1 + int(np.searchsorted(np.cumsum(profile.tokens), budget))
        taken = profile.take(list(range(min(rows, len(profile)))))
        return replace(taken, shifts=taken.shifts[:draws], moves=taken.moves[:draws])

    profiles = evidence["profiles"]
    domains = {name: part(of, share * DOMAIN_TOKENS) for name, of in profiles.domains.items()}
    sft = part(profiles.sft, share * SFT_TOKENS)
    return replace(evidence, read={"profiles": Profiles(sft, profiles.demonstrations[:draws], domains)})


def _scored(evidence: Evidence) -> dict[str, Scored]:
    found = {}
    for predictor in NAMES:
        domains = get_predictor(predictor).score(evidence).domains
        names = sorted(domains)
        of = [domains[name] for name in names]
        draws = np.array([each.draws for each in of])
        known, best = score_errors(domains), not_lower(domains)
        before = not_lower({name: each.model_copy(update={"draws": ()}) for name, each in domains.items()})
        found[predictor] = Scored(
            np.array([each.score for each in of]),
            np.array([each.se for each in of]),
            draws if draws.shape[1] > 1 else None,
            np.array([known[name].half_width for name in names]),
            np.array([name in best for name in names]),
            np.array([name in before for name in names]),
        )
    return found


def _in_turn(evidence: Evidence, predictor: str) -> Scored:
    """Each text after one draw in turn, of what was read after all; the error by the bootstrap over questions."""
    profiles, sums = evidence["profiles"], activation if predictor == "sts_act" else squared_shift
    draws = profiles.sft.draws
    chosen = [
        top_features(np.asarray(profiles.sft.shifts[k].squares[k::draws].sum(axis=0)), evidence.n_features)
        for k in range(draws)
    ]
    found = []
    for domain in sorted(profiles.domains):
        profile = profiles.domains[domain]
        above = np.empty(len(profile))
        for k in range(draws):
            above[k::draws] = np.asarray(sums(profile, k)[:, chosen[k]].sum(axis=1, dtype=np.float64))[k::draws]
        statistic = ratio(above, profile.tokens)
        found.append((statistic(np.ones((1, len(profile))))[0], standard_error(statistic, len(profile), evidence.seed)))
    values = np.array(found)
    return Scored(values[:, 0], values[:, 1])


def _compared(scored: Scored, reference: Scored) -> dict[str, float]:
    score, se, draws, truth, truth_se = scored.score, scored.se, scored.draws, reference.score, reference.se
    share, true_share = score / score.mean(), truth / truth.mean()

    def covers(error: np.ndarray, other: np.ndarray, off: np.ndarray) -> float:
        return float((np.abs(off) <= 1.96 * np.sqrt(error**2 + other**2)).mean())

    found = {
        "r": float(np.corrcoef(score, truth)[0, 1]),
        "rmse": float(np.sqrt(((score - truth) ** 2).mean()) / truth.std(ddof=1)),
        "rmse_of_shares": float(np.sqrt(((share - true_share) ** 2).mean()) / true_share.std(ddof=1)),
        "covered": covers(se, truth_se, score - truth),
        "covered_shares": covers(se / score.mean(), truth_se / truth.mean(), share - true_share),
    }
    if draws is not None:
        wider = np.sqrt(se**2 + draws.var(axis=1, ddof=1) / draws.shape[1])
        found["covered_with_spread"] = covers(wider, truth_se, score - truth)
        wider = scored.errors / 1.96
        found["covered_by_errors"] = covers(wider, truth_se, score - truth)
        found["covered_shares_by_errors"] = covers(wider / score.mean(), truth_se / truth.mean(), share - true_share)
        for when, marked in (("", scored.marked), ("_before", scored.marked_before)):
            found["highest_marked" + when] = float(marked[truth.argmax()])
            found["marked" + when] = float(marked.sum())
    return found


def _table(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Means with t intervals over seeds, and of differences between candidates."""
    measures = [key for key in found[0] if key not in {"sft_set", "seed", "predictor", "candidate"}]
    labels = list(dict.fromkeys(row["candidate"] for row in found))

    def of(label: str, predictor: str | None, measure: str) -> np.ndarray:
        """Mean over SFT sets (and predictors) of each seed: [seeds]."""
        rows = [r for r in found if r["candidate"] == label and predictor in {None, r["predictor"]} and measure in r]
        return np.array([np.mean([r[measure] for r in rows if r["seed"] == s]) for s in {r["seed"] for r in rows}])

    def told(values: np.ndarray) -> str:
        if len(values) < 2:
            return "–"
        if not np.ptp(values):
            return f"{values[0]:.3f} in all"
        low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"

    return {
        "seeds": 1 + max(row["seed"] for row in found),
        "candidates": [
            {"predictor": p, "candidate": label, **{m: told(of(label, p, m)) for m in measures}}
            for p in NAMES
            for label in labels
        ],
        "differences": [
            {
                "predictor": p or "both",
                "first": a,
                "second": b,
                **{m: told(of(a, p, m) - of(b, p, m)) for m in measures[:5]},
            }
            for p in (*NAMES, None)
            for a, b in (("one", "half"), ("turns", "half"), ("turns", "one"), ("half", "three"), ("one", "three"))
        ],
    }


if __name__ == "__main__":
    main()
