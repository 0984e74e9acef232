"""Real base → post-trained pairs: from counts of questions in public per-question outputs, so with paired errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from benchmarks.published.common import Named, domain, measurement, provenance, reference
from lm_eval_sts.outcomes.changes import Paired, paired_change
from lm_eval_sts.records import Change, DomainOutcome, Outcome

PAIRS: Final[Mapping[tuple[str, str], Named]] = {
    ("Meta-Llama-3_1-8B", "Meta-Llama-3_1-8B-Instruct"): Named("llama3.1-8b-instruct", "meta-llama/Llama-3.1-8B"),
    ("Meta-Llama-3_1-70B", "Meta-Llama-3_1-70B-Instruct"): Named("llama3.1-70b-instruct", "meta-llama/Llama-3.1-70B"),
    ("Mistral-7B-v0.1", "Mistral-7B-Instruct-v0.1"): Named("mistral-7b-v0.1-instruct", "mistralai/Mistral-7B-v0.1"),
    ("Mistral-7B-v0.2-hf", "Mistral-7B-Instruct-v0.2"): Named("mistral-7b-v0.2-instruct", "Mistral-7B-v0.2-hf"),
    ("Mixtral-8x7B-v0.1", "Mixtral-8x7B-Instruct-v0.1"): Named(
        "mixtral-8x7b-v0.1-instruct", "mistralai/Mixtral-8x7B-v0.1"
    ),
    ("Yi-6B", "Yi-6b-Chat"): Named("yi-6b-chat", "01-ai/Yi-6B"),
    ("Mistral-7B-v0.1", "mathstral-7B"): Named("mathstral-7b-over-v0.1", "mistralai/Mistral-7B-v0.1"),
    ("Mistral-7B-v0.2-hf", "mathstral-7B"): Named("mathstral-7b-over-v0.2", "Mistral-7B-v0.2-hf"),
}


def counted_change(n: int, base_right: int, gained: int, lost: int) -> Change:
    """The record of a right-or-wrong score from its counts: whichever questions they were, the figures are the same."""
    base = np.zeros(n)
    base[:base_right] = 1
    tuned = base.copy()
    tuned[:lost] = 0
    tuned[base_right : base_right + gained] = 1
    # Runs under known seeds are not at hand.
    return paired_change(Paired(base, tuned[None]), None).model_copy(update={"seed_deltas": ()})


def score_change(figures: Mapping[str, Any]) -> Change:
    """The change of accuracy, from the published counts; accuracies have digits enough to be counts again."""
    n = figures["n"]
    return counted_change(n, round(figures["base_acc"] * n / 100), figures["gained"], figures["lost"])


def unparsed_change(figures: Mapping[str, Any]) -> Change:
    """The change of the share without an extracted answer.

    How many had none before, how many had none after, and how many had one both times are published; that gives how
    many changed each way.
    """
    n, both = figures["n"], figures["n_both_answered"]
    before, after = (round(figures[name] * n / 100) for name in ("base_miss", "post_miss"))
    return counted_change(n, before, gained=n - both - before, lost=n - both - after)


def pair_outcome(pair: dict[str, Any], answered: Mapping[str, Any], commit: str) -> Outcome:
    """One base → post-trained pair."""
    base, post = pair["base"], pair["post"]
    named, excluded = PAIRS[base, post], pair["n_common"] - pair["n_used"]
    caveats = [
        f"{base} -> {post}: {pair['note']}. The change is that of all of post-training; on what, is not published.",
        'Scored strictly: the letter after "answer is", and no such letter is wrong. A change of format counts as a '
        "change of score; see the unparsed and answered views.",
        f"Over the {len(pair['subjects'])} subjects the change correlates at "
        f"{pair['corr_delta_vs_change_in_missing']:+.2f} with the change in unparsed answers.",
        "One run of each model, both with the scripts of TIGER-AI-Lab/MMLU-Pro, not lm-eval; prompts, template and "
        "decoding are not recorded.",
    ]
    if not pair["same_base_certain"]:
        caveats.append(
            "The base model is not certain: mathstral-7b-over-v0.1 and mathstral-7b-over-v0.2 hold the same tuned run "
            "against two candidates. Never count both."
        )
    if excluded:
        caveats.append(
            f"{excluded} of {pair['n_common']:,} questions are left out: the two runs show them differently."
        )
    return Outcome(
        name=named.name,
        model=reference(named.model),
        sft_set=None,
        recipe=None,
        measurement=measurement(metric_filter='strict: "answer is (X)"', lm_eval_version="none"),
        domains={
            domain(subject): DomainOutcome(
                score=score_change(figures),
                answered=counted_change(**answered[subject]),
                unparsed=unparsed_change(figures),
            )
            for subject, figures in pair["subjects"].items()
        },
        split_half={"score": pair["reliability"], "answered": pair["reliability_both_answered"]},
        source=f"github.com/TIGER-AI-Lab/MMLU-Pro at {commit}, eval_results/model_outputs_{base}_5shots.zip and "
        f"model_outputs_{post}_5shots.zip (per-question 5-shot chain-of-thought outputs)",
        caveats=tuple(caveats),
        provenance=provenance(
            {
                "base": base,
                "post": post,
                "scoring": "strict",
                "n_common": pair["n_common"],
                "excluded": pair["excluded"],
            }
        ),
    )
