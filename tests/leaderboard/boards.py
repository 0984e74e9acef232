"""A small leaderboard with an entry of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.leaderboard_scale import SUBJECTS, outcome, submission
from lm_eval_sts.leaderboard.sealing import seal
from lm_eval_sts.records import Cost, Outcome, Scope, Scopes, Submission, Submitter, save_record

SALT = "5" * 64
TRUE = np.random.default_rng(7).normal(0, 0.03, (6, 14)) + np.random.default_rng(8).normal(0, 0.02, 14)
NASTY = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1> `a|b` </script><!-- [x](javascript:1)"


def outcomes() -> dict[str, Outcome]:
    """Five settings of one base model and benchmark, one of another."""
    found = {}
    for i in range(6):
        name = f"set-{i}" if i < 5 else "other"
        deltas = dict(zip(SUBJECTS, np.round(TRUE[i], 5).tolist(), strict=True))
        model, tasks = ("org/model-a", "mmlu_pro") if i < 5 else ("org/model-b", "quiz")
        found[f"toy/{name}"] = outcome(name, deltas, model=model, sft=f"org/set-{i}", tasks=tasks)
    return found


def noisy(noise: float, seed: int, kept: int = 5, domains: int = 14) -> dict[str, dict[str, float]]:
    predicted = TRUE + np.random.default_rng(seed).normal(0, noise, TRUE.shape) if noise else TRUE
    return {
        f"toy/set-{i}": dict(zip(SUBJECTS[:domains], np.round(predicted[i, :domains], 6).tolist(), strict=True))
        for i in range(kept)
    }


def submissions(measured: dict[str, Outcome]) -> list[Submission]:
    def made(name: str, scores: dict[str, dict[str, float]], **more: object) -> Submission:
        return submission(name, scores, outcomes=measured, **more)

    constant = {f"toy/set-{i}": {domain: float(d) for d, domain in enumerate(SUBJECTS)} for i in range(5)}
    free = Cost(forward_tokens=0, backward_tokens=0)
    return [
        made("good", noisy(0.01, 1)),
        made("good-too", noisy(0.015, 2), cost=Cost(forward_tokens=5e5, backward_tokens=2e5), salt=SALT),
        made(
            "middling", {**noisy(0.05, 3), "toy/other": dict.fromkeys(SUBJECTS, 0.0) | {"law": 1.0}},
            cost_of=("elsewhere",),
        ),
        made("sizes", {k: {d: abs(x) for d, x in v.items()} for k, v in noisy(0.02, 4).items()}, target="magnitude"),
        made("poor", noisy(0.4, 5), cost=None),
        made("null_constant", constant, category="null", cost=free, target="magnitude"),
        made("oracle_noisy", noisy(0.002, 6), category="oracle"),
        made("part", noisy(0.02, 9, kept=3)),
        made("fitted", noisy(0.02, 10), fitted_on=("toy/set-0", "toy/set-1", "law")),
        made("paper", noisy(0.02, 11, kept=2, domains=8), category="published", notes=("8 domains, selected",)),
        made(
            "nasty", noisy(0.1, 12), title=NASTY, description=f"{NASTY}\n\nmore", source=NASTY, evidence=(NASTY,),
            notes=(NASTY,), submitter=Submitter(name=NASTY, url="https://example.org/?a=1&b=(2)"),
        ),
    ]  # fmt: skip


def write(root: Path) -> Path:
    """Writes the leaderboard; returns its folder."""
    measured = outcomes()
    for name, one in measured.items():
        save_record(one, root / "settings" / f"{name}.json")
    for one in submissions(measured):
        save_record(one, root / "submissions" / one.predictor / f"{one.version}.json")
        if one.salt:
            sealed = seal(one).model_copy(update={"created": "2026-01-01T00:00:00+00:00"})
            save_record(sealed, root / "seals" / one.predictor / f"{one.version}.json")
    scope = Scope(name="toys", title="Toy settings", description="Five sets.", settings=("toy/set-*",))
    save_record(Scopes(scopes=(scope,)), root / "scopes.json")
    return root
