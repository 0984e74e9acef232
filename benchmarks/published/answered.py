"""Counts over the questions that both models of a published pair answered, from the public per-question outputs.

The published summary of the pairs gives the change over those questions, but not how many changed each way, without
which there is no paired error. This reads the outputs in a clone of github.com/TIGER-AI-Lab/MMLU-Pro and writes, per
subject: questions that both answered, those of them right before, gained and lost. Every count that the summary does
give must come out the same, or nothing is written.

    python -m benchmarks.published.answered CLONE mmlu_pro_post_training_pairs.json benchmarks/published/answered.json
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval_sts.files import write_atomically

ANSWER = re.compile(r"answer is \(?([A-J])\)?")
"""The first-level pattern of the repository's own scoring."""


class Graded(NamedTuple):
    """One model's output to one question."""

    question: tuple[str, ...]
    """Question, options, right letter and subject: what must agree for two outputs to be paired."""
    subject: str
    answered: bool
    right: bool


class Pair(NamedTuple):
    """Both models' outputs to one question."""

    base: Graded
    post: Graded


def outputs(clone: Path, model: str) -> dict[int, Graded]:
    """A model's graded outputs by question id; no match of the pattern is no answer, and wrong."""
    name = f"HEAD:eval_results/model_outputs_{model}_5shots.zip"
    command = ["git", "-C", str(clone), "cat-file", "blob", name]
    archive = zipfile.ZipFile(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout))
    graded = {}
    for file in archive.namelist():
        for row in json.loads(archive.read(file)):
            match = ANSWER.search(row["generated_text"] or "")
            graded[row["question_id"]] = Graded(
                question=(row["question"], *row["options"], row["answer"], row["category"]),
                subject=row["category"],
                answered=match is not None,
                right=match is not None and match.group(1) == row["answer"],
            )
    return graded


def counts(pairs: list[Pair]) -> dict[str, int]:
    """How many questions there are, how many the base model had right, and how many changed each way."""
    return {
        "n": len(pairs),
        "base_right": sum(pair.base.right for pair in pairs),
        "gained": sum(pair.post.right and not pair.base.right for pair in pairs),
        "lost": sum(pair.base.right and not pair.post.right for pair in pairs),
    }


def answered_counts(clone: Path, published: dict[str, Any]) -> dict[str, dict[str, int]]:
    """A published pair's counts over the questions both answered, by subject.

    Raises:
        ValueError: A count that is published comes out otherwise.
    """
    base, post = outputs(clone, published["base"]), outputs(clone, published["post"])
    by_subject: dict[str, list[Pair]] = defaultdict(list)
    for key in base.keys() & post.keys():
        if base[key].question == post[key].question:
            by_subject[base[key].subject].append(Pair(base[key], post[key]))
    found = {}
    for subject, figures in published["subjects"].items():
        everything = counts(by_subject[subject])
        both = counts([pair for pair in by_subject[subject] if pair.base.answered and pair.post.answered])
        net = (both["gained"] - both["lost"]) / both["n"]
        agrees = (
            all(everything[name] == figures[name] for name in ("n", "gained", "lost"))
            and abs(100 * everything["base_right"] / everything["n"] - figures["base_acc"]) < 6e-4
            and both["n"] == figures["n_both_answered"]
            and abs(100 * net - figures["delta_both_answered"]) < 6e-4
        )
        if not agrees:
            raise ValueError(f"{published['base']} → {published['post']}, {subject}: {everything}, {both}: {figures}")
        found[subject] = both
    return found


def main() -> None:
    """Reads the arguments, writes the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, help="a clone of github.com/TIGER-AI-Lab/MMLU-Pro")
    parser.add_argument("pairs", type=Path, help="mmlu_pro_post_training_pairs.json")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    head = ["git", "-C", str(arguments.clone), "rev-parse", "HEAD"]
    content = {
        "repository": "github.com/TIGER-AI-Lab/MMLU-Pro",
        "commit": subprocess.run(head, capture_output=True, check=True, text=True).stdout.strip(),
        "pairs": [
            {"base": pair["base"], "post": pair["post"], "subjects": answered_counts(arguments.clone, pair)}
            for pair in json.loads(arguments.pairs.read_text(encoding="utf-8"))["pairs"]
        ],
    }
    text = json.dumps(content, indent=1)
    # A subject's four counts on one line.
    text = re.sub(r"\{\s+(\"n\": [^{}]*?)\s+\}", lambda match: "{" + " ".join(match.group(1).split()) + "}", text)
    write_atomically(arguments.output, (text + "\n").encode())


if __name__ == "__main__":
    main()
