"""The study of mixing on the micro world: its mixed sets, and what came out.

    python -m studies.mixture make                 # its sets, from predictions and outcomes on the board
    lm-eval-sts study run studies/mixture.yaml --only 'base/*' 'tune/*' --workers 2
    python -m studies.mixture collect              # studies/mixture/changes.json, of the study's outcomes
    python -m studies.mixture report [--check]     # studies/mixture/report.md, of these changes

What is compared is declared in docs/mixture.md.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from scipy.stats import ttest_1samp

from lm_eval_sts.agreement.differences import holm
from lm_eval_sts.data import SftSet, load_sft_set
from lm_eval_sts.errors import RecordError, StsError
from lm_eval_sts.examples import Example
from lm_eval_sts.mixing.mix import Mixing, mix
from lm_eval_sts.mixing.writing import write_mixed
from lm_eval_sts.records import (
    BenchmarkRef,
    Document,
    DomainScore,
    Finite,
    ModelRef,
    Outcome,
    Prediction,
    PromptRef,
    Provenance,
    Rule,
    Setting,
    SftSetRef,
    Submission,
    Target,
    load_record,
    save_record,
)
from lm_eval_sts.shipped import load_outcome, resolve
from microworld.domains import DOMAINS, MIXTURES
from microworld.questions import domain_convention, draw_question, draw_skill
from microworld.sft_sets import sft_specs
from microworld.world import World, make_world
from studies import written_or_checked

FOLDER: Final = Path(__file__).parent / "mixture"
WORK: Final = Path(__file__).parent / "mixture.study"
CHANGES: Final = FOLDER / "changes.json"
SUBMISSIONS: Final = Path(__file__).parents[1] / "leaderboard" / "submissions"

BUDGET: Final = 128
SUPPLY: Final = 200
"""Examples of each domain's source."""
SETS: Final = (
    *("add-home-short", "laws-home-long", "nature-home-short", "mathlike-home-long", "max-home-short"),
    *("people-home-long", "program-home-short", "archives-home-short"),
)
"""Sets on a home surface, each of another domain: the seven of which three seeds were measured, and one more."""
PREDICTED: Final = {"sts": "sts_icl", "words": "tfidf_cosine", "signed": "probing_20"}
ARMS: Final = ("uniform", "random", *PREDICTED, "oracle")
ALONE: Final = "alone"
SEEDS: Final = (0, 1, 2)
MEASURED_HERE: Final = "archives-home-short"
"""The one of which two seeds ship; its three are run again."""
LOOKED_AT: Final = ("own domain", "worst domain", "mean of domains")


def source_of(world: World, domain: str) -> SftSet:
    """A user's own data of a domain: questions of its skills, words and convention, of no split of the benchmark."""
    rng = random.Random(f"{world.seed}/mixture/{domain}")
    examples = []
    for _ in range(SUPPLY):
        skill = draw_skill(MIXTURES[domain], rng)
        question = draw_question(world, world.surfaces[domain], skill, domain_convention(world, domain), "train", rng)
        examples.append(Example(question.prompt, question.worked))
    return SftSet(f"{domain} of the micro world", tuple(examples))


def prediction_of(scores: Mapping[str, float], predictor: str, target: Target, sft_set: SftSetRef) -> Prediction:
    """Scores of the board, or a measured change, as a prediction: without errors, so that shares have no interval."""
    return Prediction(
        predictor=predictor,
        predictor_version="1",
        target=target,
        setting=Setting(
            model=ModelRef(name="micro/model", weights_hash="unknown", dtype="float32"),
            sft_set=sft_set,
            benchmark=BenchmarkRef(name="sts_micro", source="lm_eval_sts.microworld.data.load", version="1.0"),
            prompt=PromptRef(chat_template_hash=None, system_instruction=None, fewshot_as_multiturn=None, tokens=None),
        ),
        sae=None,
        selection=None,
        domains={
            name: DomainScore(score=scores[name], se=None, draws=(), n_questions=None, n_tokens=None)
            for name in DOMAINS
        },
        provenance=Provenance(package_versions={}, command="studies.mixture", created="", seed=0, settings={}),
    )


def make() -> None:
    """Writes the mixed sets."""
    from lm_eval_sts.harness.questions import evaluation_questions

    world = make_world(0)
    sources = {domain: source_of(world, domain) for domain in DOMAINS}
    board = {arm: load_record(Submission, SUBMISSIONS / name / "1.json") for arm, name in PREDICTED.items()}
    questions: dict[str, tuple[str, ...]] = {}
    for number, name in enumerate(SETS):
        sft_set = load_sft_set(resolve(f"micro/sft/{name}"))
        reference = sft_set.reference.model_copy(update={"name": f"micro/sft/{name}"})
        outcome = load_outcome(f"micro/{name}")
        changes = {domain: found.score.delta for domain, found in outcome.domains.items()}
        by: dict[str, tuple[Prediction, Rule]] = {
            arm: (prediction_of(s.settings[f"micro/{name}"].scores, s.predictor, s.target, reference), "predicted")
            for arm, s in board.items()
        }
        by["oracle"] = (prediction_of(changes, "measured change", "delta", reference), "predicted")
        by |= {rule: (by["sts"][0], rule) for rule in ("uniform", "random")}
        questions = questions or evaluation_questions(by["sts"][0].setting.benchmark)
        named = SftSet(reference.name, sft_set.examples)
        for arm in ARMS:
            prediction, rule = by[arm]
            found = mix(prediction, named, sources, questions, Mixing(BUDGET, rule=rule, seed=number))
            if found.record.n_added != BUDGET:
                raise RecordError(f"{name}, {arm}: {found.record.n_added} of {BUDGET} examples")
            write_mixed(found, FOLDER / "sets" / f"{name}-{arm}.jsonl", overwrite=True)


class Changes(Document):
    """What the outcomes of the study say of accuracy."""

    kind: Literal["mixture study"] = "mixture study"
    seeds: tuple[int, ...]
    changes: dict[str, dict[str, dict[str, Finite]]]
    """By SFT set, arm and domain, means over seeds."""


def collect() -> None:
    """Writes the changes of all SFT sets and arms.

    Raises:
        RecordError: An outcome is missing, or has other seeds.
    """
    changes: dict[str, dict[str, dict[str, float]]] = {}
    for name in SETS:
        for arm in (ALONE, *ARMS):
            path = WORK / "outcomes" / "shipped" / f"{name}-{arm}.json"
            shipped = arm == ALONE and name != MEASURED_HERE
            outcome = load_outcome(f"micro/{name}") if shipped else load_record(Outcome, path)
            if outcome.seeds != SEEDS:
                raise RecordError(f"{name}, {arm}: seeds {outcome.seeds} in place of {SEEDS}")
            changes.setdefault(name, {})[arm] = {d: found.score.delta for d, found in outcome.domains.items()}
    save_record(Changes(seeds=SEEDS, changes=changes), CHANGES)


def looked_at(changes: Mapping[str, float], own: str) -> tuple[float, float, float]:
    """Change of accuracy in points: in the SFT set's own domain, in the domain that lost most, and on average."""
    points = {name: 100 * change for name, change in changes.items()}
    return points[own], min(points.values()), float(np.mean(list(points.values())))


def interval(values: Sequence[float]) -> str:
    """Mean with its 95% interval over SFT sets: Student's t, as the jackknife over them gives."""
    low, high = ttest_1samp(values, 0.0).confidence_interval()
    return f"{np.mean(values):+.2f} [{low:+.2f}, {high:+.2f}]"


def p_value(values: Sequence[float]) -> float:
    """Two-sided, of a mean of differences over SFT sets: Student's t."""
    return float(ttest_1samp(values, 0.0).pvalue)


def report() -> str:
    """What came out."""
    specs, changes = sft_specs(make_world(0)), load_record(Changes, CHANGES).changes
    seen = {arm: {s: looked_at(changes[s][arm], specs[s].surface) for s in SETS} for arm in (ALONE, *ARMS)}
    lines = [
        f"{len(SETS)} SFT sets, {len(SEEDS)} seeds each. Points of accuracy; means over SFT sets with 95% intervals "
        "(t)."
    ]
    lines += ["", f"| arm | {' | '.join(LOOKED_AT)} |", "|---|---|---|---|"]
    for arm in seen:
        cells = [interval([seen[arm][s][i] for s in SETS]) for i in range(len(LOOKED_AT))]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    lines += ["", f"Gain over SFT alone, points per 100 examples added ({BUDGET} were):", ""]
    lines += [f"| arm | {' | '.join(LOOKED_AT)} |", "|---|---|---|---|"]
    for arm in ARMS:
        rows = [[100 / BUDGET * (seen[arm][s][i] - seen[ALONE][s][i]) for s in SETS] for i in range(len(LOOKED_AT))]
        lines.append(f"| {arm} | {' | '.join(map(interval, rows))} |")
    lines += ["", "Compared with the uniform mix (p of the worst domain; Holm over the five arms):", ""]
    lines += ["| arm | own domain | worst domain | p | Holm | mean of domains |", "|---|---|---|---|---|---|"]
    differences = {
        arm: [[seen[arm][s][i] - seen["uniform"][s][i] for s in SETS] for i in range(len(LOOKED_AT))]
        for arm in ARMS[1:]
    }
    p = [p_value(rows[1]) for rows in differences.values()]
    for (arm, rows), own_p, adjusted in zip(differences.items(), p, holm(p), strict=True):
        first, worst, mean = map(interval, rows)
        lines.append(f"| {arm} | {first} | {worst} | {own_p:.3f} | {adjusted:.3f} | {mean} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m studies.mixture", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["make", "collect", "report"])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the report is another")
    given = parser.parse_args()
    if given.what != "report":
        make() if given.what == "make" else collect()
        return
    written_or_checked(report(), FOLDER / "report.md", "python -m studies.mixture report", check=given.check)


if __name__ == "__main__":
    try:
        main()
    except StsError as error:
        sys.exit(f"error: {error}")
