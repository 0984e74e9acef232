"""``lm-eval-sts explain`` on finished runs: what it prints and writes, and one line for what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lm_eval_sts.cli import app
from lm_eval_sts.errors import ProfileError, RecordError, SettingsError
from lm_eval_sts.evidence.store import Store
from lm_eval_sts.records import Explanation, load_record
from lm_eval_sts.verdict.results import read_predictions
from tests.explanation.runs import Runs
from tests.messages import says


def shown(*arguments: object, width: int = 80) -> str:
    done = CliRunner().invoke(
        app, ["explain", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": str(width)}
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def written(tmp_path: Path, *arguments: object) -> Explanation:
    (tmp_path / "explanation.json").write_text(shown(*arguments, "--json"))
    return load_record(Explanation, tmp_path / "explanation.json")


@pytest.mark.parametrize("predictor", ["sts_act", "sts_icl", "sts_signed", "sts_signed_top"])
def test_the_parts_make_the_recorded_scores(runs: Runs, tmp_path, predictor):
    found = written(tmp_path, runs.first.parent, "--predictor", predictor)
    (recorded,) = [p for p in read_predictions(runs.first) if p.predictor == predictor]
    assert set(found.domains) == set(recorded.domains) and found.setting == recorded.setting
    for name, domain in recorded.domains.items():
        parts = np.array(found.domains[name].parts)
        assert found.domains[name].score == pytest.approx(domain.score, rel=1e-12)
        assert parts.sum() + found.domains[name].rest == pytest.approx(domain.score, rel=1e-14)
        assert parts.any() and (predictor == "sts_signed" or abs(found.domains[name].rest) < 1e-6 * np.abs(parts).sum())
    frame = found.to_frame()
    assert frame.groupby("domain")["part"].sum().to_dict() == pytest.approx(
        {name: domain.score for name, domain in recorded.domains.items()}, rel=1e-12
    )
    assert "law" in found._repr_html_()


def test_tokens_are_those_of_the_texts(runs: Runs, tmp_path):
    found = written(tmp_path, runs.first)
    for name in ("sft", "law"):
        passages = [p for feature in found.features for p in feature.passages.get(name, ())]
        assert passages and all(p.activation > 0 and p.token for p in passages)
        assert all(p.question.startswith(f"{name}/") for p in passages)
    questions = json.loads(runs.first.read_text())["configs"]
    assert questions and set(found.texts) == {q.question for d in found.domains.values() for q in d.questions}
    assert all("Which" in text for text in found.texts.values())


def test_the_overview_fits_the_terminal(runs: Runs):
    for width in (60, 80, 120):
        lines = shown(runs.first, width=width).splitlines()
        assert max(map(len, lines)) <= width and len(lines) <= 24
    text = " ".join(shown(runs.first).split())
    assert "features of 96 are predicted to shift (in any of 2 draws of demonstrations)" in text
    assert "law" in text and "Next: --domain NAME" in text
    longer = shown(runs.first, "--all")
    assert len(longer.splitlines()) > len(shown(runs.first).splitlines())


def test_one_domain_one_feature(runs: Runs, tmp_path):
    found = written(tmp_path, runs.first)
    text = shown(runs.first, "--domain", "law")
    assert "sum" in text and f"{found.domains['law'].score:.4g}" in text and "law/" in text
    feature = found.features[0]
    text = " ".join(shown(runs.first, "--feature", feature.feature).split())
    assert f"Feature {feature.feature}:" in text and f"{feature.share:.1%} of the whole shift" in text
    assert f"[{feature.passages['sft'][0].token.strip()}" in text.replace("[ ", "[")


def test_a_signed_predictor_without_features_names_its_questions(runs: Runs, tmp_path):
    found = written(tmp_path, runs.first, "--predictor", "loss_rehearsal")
    assert not found.features and all(len(d.questions) for d in found.domains.values())
    for domain in found.domains.values():
        sizes = [abs(q.value) for q in domain.questions]
        assert sizes == sorted(sizes, reverse=True)
    assert set(found.to_frame().columns) == {"domain", "question", "value"}
    assert "adds up no features" in shown(runs.first, "--predictor", "loss_rehearsal")


def test_two_runs(runs: Runs, tmp_path):
    found = written(tmp_path, runs.first, runs.second)
    assert found.shared is not None and found.shared.other.endswith("other.jsonl")
    assert 0 <= found.shared.overlap <= 1 and set(found.shared.domains) == set(found.domains)
    text = " ".join(shown(runs.first, runs.second).split())
    assert "sft.jsonl and other.jsonl both shift" in text
    both = tmp_path / "both"
    for run in (runs.first, runs.second):
        shutil.copytree(run.parent, both / run.parent.name)
    assert written(tmp_path, both).shared == found.shared
    shutil.copytree(runs.first.parent, both / "copy")
    assert written(tmp_path, both).shared == found.shared, "a copy is no third run"
    with says(SettingsError, "loss_rehearsal selects no features"):
        shown(runs.first, runs.second, "--predictor", "loss_rehearsal")


# ---- what is wrong


@pytest.mark.parametrize(
    ("arguments", "kind", "parts"),
    [
        (("--domain", "lwa"), SettingsError, ("--domain lwa", "did you mean 'law'")),
        (("--feature", "x"), SettingsError, ("--feature x", "nearest of")),
        (("--predictor", "sts_ict"), SettingsError, ("--predictor sts_ict", "did you mean 'sts_icl'")),
        (("--predictor", "loss_gold"), SettingsError, ("loss_gold cannot be explained", "sts_icl")),
        (("--html", "/dev/null/x.html"), RecordError, ("cannot write /dev/null/x.html",)),
    ],
)
def test_wrong_options(runs: Runs, arguments, kind, parts):
    with says(kind, *parts):
        shown(runs.first, *arguments)


def test_a_folder_without_a_run(tmp_path, runs: Runs):
    with says(RecordError, "no run of a task sts_…", tmp_path):
        shown(tmp_path)
    (tmp_path / "other.json").write_text('{"configs": {"t": {"metadata": {}}}}')
    with says(RecordError, "no run of a task sts_…", "1 JSON files"):
        shown(tmp_path)
    with says(RecordError, "cannot read", "none"):
        shown(tmp_path / "none")


def test_a_run_of_an_earlier_release(tmp_path, runs: Runs):
    data = json.loads(runs.first.read_text())
    for config in data["configs"].values():
        results = config["metadata"]["sts_results"]
        results.pop("kept", None), results.pop("content_hash", None)
    (tmp_path / "results.json").write_text(json.dumps(data))
    with says(RecordError, "written by an earlier release", "run the same lm_eval command again"):
        shown(tmp_path)


def test_a_changed_record_is_refused(tmp_path, runs: Runs):
    text = runs.first.read_text().replace('"neuronpedia_id": null', '"neuronpedia_id": "evil"')
    (tmp_path / "results.json").write_text(text)
    with says(RecordError, "does not match its hash"):
        shown(tmp_path)


def stores(runs: Runs, copy: Path) -> Path:
    shutil.copytree(runs.world.settings["profiles_dir"], copy)
    return copy


def test_profiles_that_were_moved_deleted_or_damaged(tmp_path, runs: Runs):
    moved = stores(runs, tmp_path / "moved")
    assert shown(runs.first, "--profiles_dir", moved) == shown(runs.first)
    (part,) = [p for p in moved.glob("sts_mmlu_pro-law-*") if p.is_dir()]
    damaged = next(part.glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with says(ProfileError, "missing or damaged", part.name, "run the same lm_eval command again"):
        shown(runs.first, "--profiles_dir", moved)
    shutil.rmtree(part)
    with says(ProfileError, "gone or damaged", part.name):
        shown(runs.first, "--profiles_dir", moved)
    with says(ProfileError, "gone or damaged", tmp_path / "nowhere"):
        shown(runs.first, "--profiles_dir", tmp_path / "nowhere")


def test_profiles_from_before_peaks_were_kept(tmp_path, runs: Runs):
    """They give the same parts, and a note says how to add what is missing."""
    old = stores(runs, tmp_path / "old")
    for part in old.glob("sts_mmlu_pro-law-*/*.safetensors"):
        store = Store(old, "x", json.loads((part.parent / "header.json").read_text())["key"])
        moved = Store.load(_at(store, part.parent), part.stem)
        _at(store, part.parent).write(part.stem, {k: v for k, v in moved.items() if not k.startswith("peak")})
    text = " ".join(shown(runs.first, "--profiles_dir", old).split())
    assert "where features fire is not kept for law:" in text and '"profiles_dir"' in text
    found = written(tmp_path, runs.first, "--profiles_dir", old)
    whole = written(tmp_path, runs.first)
    assert found.domains == whole.domains
    assert all("law" not in f.passages for f in found.features) and any(f.passages for f in found.features)


def _at(store: Store, path: Path) -> Store:
    store.path = path
    return store


def test_nothing_that_is_stored_is_touched(runs: Runs):
    def state() -> dict[str, float]:
        return {str(p): p.stat().st_mtime_ns for p in Path(runs.world.settings["profiles_dir"]).rglob("*")}

    before = state()
    shown(runs.first, runs.second)
    assert state() == before
