"""The study of mixing: its sources, its sets and how they are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.mixing.shares import predicted_weights
from lm_eval_sts.records import load_record, save_record
from lm_eval_sts.shipped import load_outcome
from lm_eval_sts.study.design import read_study
from microworld.sft_sets import sft_specs
from microworld.world import make_world
from studies import mixture


def test_the_study_file_has_every_set_and_arm() -> None:
    study = read_study(Path(mixture.__file__).with_suffix(".yaml"))
    mixes = {f"{name}-{arm}" for name in mixture.SETS for arm in mixture.ARMS}
    assert set(study.sets) == {*mixes, mixture.MEASURED_HERE}
    assert study.setting(mixture.MEASURED_HERE, "alone") == f"{mixture.MEASURED_HERE}-{mixture.ALONE}"
    assert study.seeds("mixed", "shipped", f"{mixture.SETS[0]}-sts") == [0, 1, 2]


def test_every_set_has_a_domain_of_its_own_and_three_seeds() -> None:
    specs = sft_specs(make_world(0))
    assert len({specs[name].surface for name in mixture.SETS}) == len(mixture.SETS) == 8
    for name in mixture.SETS:
        seeds = load_outcome(f"micro/{name}").domains[specs[name].surface].score.seed_deltas
        assert len(seeds) == (2 if name == mixture.MEASURED_HERE else 3)


def test_sources_are_drawn_anew_alike() -> None:
    world = make_world(0)
    source = mixture.source_of(world, "law_torts")
    assert source == mixture.source_of(world, "law_torts")
    assert len(set(source.examples)) > 0.9 * mixture.SUPPLY


def test_the_board_gives_shares_for_every_set() -> None:
    from lm_eval_sts.records import SftSetRef, Submission

    for name in mixture.PREDICTED.values():
        board = load_record(Submission, mixture.SUBMISSIONS / name / "1.json")
        for sft_set in mixture.SETS:
            reference = SftSetRef(name=sft_set, content_hash="unknown", n_examples=1)
            scores = board.settings[f"micro/{sft_set}"].scores
            made = mixture.prediction_of(scores, name, board.target, reference)
            assert sum(predicted_weights(made).values()) > 0
    gains = mixture.prediction_of({d: 1.0 for d in mixture.DOMAINS}, "measured change", "delta", reference)
    with pytest.raises(SettingsError, match="a loss for no domain"):
        predicted_weights(gains)


def test_what_is_looked_at() -> None:
    outcome = load_outcome("micro/add-home-short")
    changes = {name: domain.score.delta for name, domain in outcome.domains.items()}
    own, worst, mean = mixture.looked_at(changes, "biology_ecology")
    assert own == pytest.approx(-1.916667)
    assert (worst, mean) == (
        pytest.approx(100 * min(changes.values())),
        pytest.approx(100 * sum(changes.values()) / 28),
    )


def test_intervals_are_student_s() -> None:
    # t(2) at .975 is 4.3027; the standard error of 1, 2, 3 is 1 / √3.
    assert mixture.interval([1.0, 2.0, 3.0]) == "+2.00 [-0.48, +4.48]"
    assert mixture.p_value([1.0, 2.0, 3.0]) == pytest.approx(0.0742, abs=1e-4)


def test_outcomes_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "WORK", tmp_path)
    with pytest.raises(RecordError, match="add-home-short-uniform.json"):
        mixture.collect()


def test_the_report_and_its_page_are_those_of_the_kept_changes() -> None:
    text = mixture.report()
    assert (mixture.FOLDER / "report.md").read_text(encoding="utf-8") == text
    page = Path(mixture.__file__).parents[1] / "docs" / "mixture.md"
    assert text.strip() in page.read_text(encoding="utf-8")


def test_kept_changes_of_sft_alone_are_the_shipped_ones() -> None:
    kept = load_record(mixture.Changes, mixture.CHANGES).changes
    for name in mixture.SETS:
        if name != mixture.MEASURED_HERE:
            shipped = load_outcome(f"micro/{name}").domains
            assert kept[name][mixture.ALONE] == {domain: found.score.delta for domain, found in shipped.items()}


def test_the_report_compares_every_arm_with_uniform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = load_record(mixture.Changes, mixture.CHANGES)
    alike = {s: {**arms, "sts": arms["uniform"]} for s, arms in kept.changes.items()}
    monkeypatch.setattr(mixture, "CHANGES", tmp_path / "changes.json")
    save_record(kept.model_copy(update={"changes": alike}), mixture.CHANGES)
    rows = [line for line in mixture.report().splitlines() if line.startswith("| sts |")]
    assert len(rows) == 3
    assert rows[2].count("+0.00 [+0.00, +0.00]") == 3
    assert rows[0].split("|")[2:5] == next(
        line.split("|")[2:5] for line in mixture.report().splitlines() if line.startswith("| uniform |")
    )
