"""The study of demonstrations for rejection sampling: what is kept, and its report."""

from __future__ import annotations

from pathlib import Path

import pytest

import lm_eval_sts as sts
from lm_eval_sts.records import Outcome, load_record, save_record
from studies import rejection

ROOT = Path(rejection.__file__).parents[1]


def made(name: str) -> rejection.Made:
    return load_record(rejection.Made, rejection.FOLDER / "made" / f"{name}.json")


def test_every_set_is_whole() -> None:
    for name in rejection.SETS:
        found, outcome = made(name), load_record(Outcome, rejection.FOLDER / "outcomes" / f"{name}.json")
        assert set(found.scores) == {*rejection.KINDS, "oracle"}
        assert set(found.verified) == {f"{seed}/{n}" for seed in rejection.SEEDS for n in (1, 2, 3)}
        assert outcome.seeds == rejection.SEEDS
        assert outcome.sft_set == sts.load_sft_set(f"micro/sft/{name}").reference
        for kind, scores in found.scores.items():
            assert set(scores) == set(rejection.ORACLES if kind == "oracle" else rejection.PREDICTORS)
            assert all(set(of) == set(outcome.domains) for of in scores.values())


def test_prompts_are_the_sets_and_answers_their_first_words() -> None:
    rows = rejection.prompts_of("add-home-short")
    examples = sts.load_sft_set("micro/sft/add-home-short").examples
    assert [row["prompt"] for row in rows] == [example.prompt for example in examples]
    assert all(f" {row['answer']} " in row["prompt"].replace("\n", " ") for row in rows), "one of the options"


def test_the_report_and_its_page_are_of_what_is_kept() -> None:
    text = rejection.report()
    assert (rejection.FOLDER / "report.md").read_text(encoding="utf-8") == text
    first = text[: text.index("**size, accuracy**")].strip()
    assert first in (ROOT / "docs" / "sampling.md").read_text(encoding="utf-8")


def test_what_is_compared_is_demonstrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the scores of reference demonstrations in place of the others, no difference is left."""
    for name in rejection.SETS:
        found = made(name)
        alike = {**found.scores, **dict.fromkeys(("verified", "sampled"), found.scores["reference"])}
        save_record(found.model_copy(update={"scores": alike}), tmp_path / "made" / f"{name}.json")
    (tmp_path / "outcomes").symlink_to(rejection.FOLDER / "outcomes")
    monkeypatch.setattr(rejection, "FOLDER", tmp_path)
    lines = [line for line in rejection.report().splitlines() if line.startswith("| sts_icl, verified − reference")]
    assert len(lines) == len(rejection.COLUMNS)
    assert all("+0.00 [+0.00, +0.00]" in line for line in lines)
