"""What predictions usually meant, for the verdict: from the leaderboard's raw predictions and outcomes.

    python -m benchmarks.verdict_calibration              writes lm_eval_sts/verdict/calibration.json
    python -m benchmarks.verdict_calibration --check      fails where that is not what the evidence gives

A kind of model is what shares outcomes: the shipped model of the micro world (its 24 test SFT sets, ordinary dose,
which nothing was chosen on), Qwen2.5-Coder-1.5B-Instruct on MMLU-Pro's questions (its ten registered SFT sets, on which
nothing was chosen either), and the instruction-tuned models of the STS paper's Figure 3, with its own predictions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lm_eval_sts.agreement.panel import Panel, double_centred, mean_interval, mean_z
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.leaderboard.registered import read_settings
from lm_eval_sts.leaderboard.submissions import Accepted, read_submissions
from lm_eval_sts.records import UNKNOWN, ModelRef, Outcome, Target, dump_record, load_record, save_record
from lm_eval_sts.study.design import read_study
from lm_eval_sts.verdict.calibration import (
    CALIBRATION_FILE,
    Calibrated,
    Calibration,
    Kind,
    MeanCorrelation,
    Spread,
    thirds,
)
from microworld.split import read_split

BOARD: Final = Path(__file__).parents[1] / "leaderboard"
STUDY: Final = Path(__file__).parents[1] / "studies" / "qwen-coder-cpu.yaml"
"""How the real model's predictions were made."""
MICRO_STUDY: Final = Path(__file__).parents[1] / "studies" / "micro.yaml"
"""How the micro world's predictions were made."""
COMMAND: Final = "python -m benchmarks.verdict_calibration"
QUANTILES: Final = (0.5, 0.1, 0.9)
_DIGITS: Final = 4
_PAPER: Final = ("gemma2-9b-limo", "llama3-8b-limo", "qwen2.5-7b-limo")
_DECIDE: Final = (
    *("n_features", "sft_demos", "domain_demos", "demo_draws", "sft_tokens", "domain_tokens", "tokens", "sft_scored"),
)
"""Settings that change what STS reads, besides the SAE."""

Array = npt.NDArray[np.float64]


def spreads(runs: Sequence[tuple[Array, Array]]) -> list[Spread]:
    """What was measured in each third of the domains, and how often the other SFT runs' bounds hold.

    Args:
        runs: Of each SFT run the scores and what was measured, in points, [domains] each.
    """
    by_third = [
        [measured[np.array(thirds(scores.tolist())) == third] for scores, measured in runs] for third in range(3)
    ]
    found = []
    for values in by_third:
        median, low, high = (round(float(x), _DIGITS) for x in np.quantile(np.concatenate(values), QUANTILES))
        found.append(Spread(median=median, low=low, high=high, n=sum(map(len, values)), covered=covered(values)))
    return found


def covered(values: Sequence[Array]) -> float | None:
    """Share of all SFT runs' values between the 10% and 90% quantiles of the other SFT runs' values.

    Args:
        values: Of each SFT run.
    """
    if len(values) < 2:
        return None
    inside = total = 0
    for i, own in enumerate(values):
        others = np.concatenate([other for j, other in enumerate(values) if j != i])
        low, high = np.quantile(others, QUANTILES[1:])
        inside += int(np.sum((low <= own) & (own <= high)))
        total += len(own)
    return round(inside / total, _DIGITS)


def correlation(panel: Panel) -> MeanCorrelation | None:
    """Mean correlation of the one predictor of a panel; None where it has none."""
    found = mean_z(panel)
    if not np.isfinite(found.mean[0]):
        return None
    interval = mean_interval(found)
    value, low, high = (np.tanh(float(x)) for x in (found.mean[0], interval.low[0], interval.high[0]))
    bounds = (round(low, _DIGITS), round(high, _DIGITS)) if np.isfinite(low) and np.isfinite(high) else (None, None)
    return MeanCorrelation(value=round(value, _DIGITS), low=bounds[0], high=bounds[1])


def calibrated(
    scores: Mapping[str, Mapping[str, float]],
    outcomes: Mapping[str, Outcome],
    target: Target,
    version: str,
    *,
    left_out: bool = False,
) -> Calibrated | None:
    """What one predictor's scores meant; None where it has no correlation.

    Args:
        scores: By SFT run, then by domain.
        outcomes: By SFT run.
        target: What the predictor predicts.
        version: Of the predictor.
        left_out: Whether it was fitted on the other SFT runs: then nothing is told of it without domain means.
    """
    names = [name for name in outcomes if name in scores]
    domains = sorted({domain for name in names for domain in scores[name] if domain in outcomes[name].domains})
    size = abs if target == "magnitude" else float

    def row(values: Mapping[str, float]) -> list[float]:
        return [values.get(domain, np.nan) for domain in domains]

    measured = {
        name: {domain: 100 * size(change.delta) for domain, change in outcomes[name].changes().items()}
        for name in names
    }
    panel = Panel(
        predictors=("it",),
        settings=tuple(names),
        domains=tuple(domains),
        predicted=np.array([[row(scores[name]) for name in names]]),
        measured=np.array([row(measured[name]) for name in names]),
        groups=tuple(outcomes[name].model.name for name in names),
    )
    raw = correlation(panel)
    if raw is None:
        return None
    known = np.isfinite(panel.predicted[0]) & np.isfinite(panel.measured)
    runs = [(panel.predicted[0, i, known[i]], panel.measured[i, known[i]]) for i in range(len(names))]
    return Calibrated(
        version=version,
        target=target,
        runs=len(names),
        correlation=raw,
        particular=None if left_out else correlation(double_centred(panel)),
        thirds=tuple(spreads(runs)),
    )


def predictors(accepted: Sequence[Accepted], outcomes: Mapping[str, Outcome], *, paper: bool) -> dict[str, Calibrated]:
    """All predictors that scored every SFT run, by name; none that saw a tuned model, or was fitted on one of them."""
    found = {}
    for one in accepted:
        submission = one.submission
        if (submission.version == "paper") != paper or submission.category == "oracle":
            continue
        scores = {name: submission.settings[name].scores for name in outcomes if name in submission.settings}
        if len(scores) < len(outcomes) or one.seen & set(outcomes):
            continue
        left_out = any(set(submission.fitted_for(name)) & outcomes.keys() for name in outcomes)
        made = calibrated(scores, outcomes, submission.target, submission.version, left_out=left_out)
        if made is not None:
            found[submission.predictor] = made
    return dict(sorted(found.items()))


def make() -> Calibration:
    """The figures."""
    registered = read_settings(BOARD)
    accepted = read_submissions(BOARD, settings=registered).submissions
    micro = {f"micro/{name}": registered[f"micro/{name}"] for name in read_split().test}
    real = {name: outcome for name, outcome in registered.items() if name.startswith("qwen-coder/")}
    paper = {f"published/{name}": registered[f"published/{name}"] for name in _PAPER}
    defaults = ReadSettings(sae="micro/sae").model_dump(mode="json")
    (model,) = {outcome.model for outcome in micro.values()}
    (qwen,) = {outcome.model for outcome in real.values()}
    study = read_study(STUDY, variables=False)
    micro_study = read_study(MICRO_STUDY, variables=False).predict.settings
    budgets = {name: study.predict.settings[name] for name in ("sft_tokens", "domain_tokens", "demo_draws")}
    return Calibration(
        command=COMMAND,
        kinds=(
            Kind(
                name="micro world",
                runs=f"{len(micro)} test SFT runs of the micro world",
                caveat="",
                models=(model,),
                measured_by="micro",
                sft_sets=tuple(outcome.sft_set.content_hash for outcome in micro.values() if outcome.sft_set),
                recipe="--method full --learning_rate 5e-4 --max_steps 150 --batch_size 8",
                settings={name: micro_study.get(name, defaults[name]) for name in ("sae", *_DECIDE)},
                n_domains=28,
                n_questions=100,
                predictors=predictors(accepted, micro, paper=False),
            ),
            Kind(
                name="Qwen2.5-Coder-1.5B-Instruct, Q4_K_M dequantised",
                runs=f"{len(real)} SFT runs of Qwen2.5-Coder-1.5B-Instruct",
                caveat="one seed each and a base accuracy near chance: a change has a standard error of about 2 "
                "points, so that r is low for any predictor",
                models=(qwen,),
                measured_by="mcf",
                sft_sets=tuple(outcome.sft_set.content_hash for outcome in real.values() if outcome.sft_set),
                recipe="--learning_rate 2e-4 --max_steps 112 --batch_size 16 --warmup_ratio 0.05 --max_length 700 "
                "--truncate",
                settings={"sae": study.bases[study.main_base].sae_name, **{n: defaults[n] for n in _DECIDE}, **budgets},
                n_domains=14,
                n_questions=None,
                predictors=predictors(accepted, real, paper=False),
            ),
            Kind(
                name="instruction-tuned models of 7 to 9B parameters in the STS paper",
                runs=f"the STS paper's {len(paper)} SFT runs on LIMO",
                caveat="its own scores, 8 of 14 subjects chosen by the outcome, which inflates r",
                models=tuple(
                    ModelRef(name=outcome.model.name, weights_hash=UNKNOWN, dtype=UNKNOWN) for outcome in paper.values()
                ),
                measured_by="mmlu_pro",
                sft_sets=(),
                recipe="",
                settings={},
                n_domains=8,
                n_questions=None,
                predictors=predictors(accepted, paper, paper=True),
            ),
        ),
    )


def main() -> int:
    """Writes or checks the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    made = make()
    if not parser.parse_args().check:
        save_record(made, CALIBRATION_FILE)
        return 0
    return int(dump_record(made) != dump_record(load_record(Calibration, CALIBRATION_FILE)))


if __name__ == "__main__":
    sys.exit(main())
