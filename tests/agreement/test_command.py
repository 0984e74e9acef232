"""``lm-eval-sts compare``: what it reads, prints and writes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from lm_eval_sts.commands.compare import compare, read_all_predictions
from lm_eval_sts.commands.terminal import SpreadCommand
from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.records import Agreement, load_record, save_record
from lm_eval_sts.shipped import load_outcomes
from tests.agreement.made import named, outcome, prediction
from tests.agreement.test_compare import DELTAS, SCORES
from tests.messages import says
from tests.verdict.test_results import result_json


def run(*arguments: object, width: int = 200):
    app = typer.Typer()
    app.command("compare", cls=SpreadCommand)(compare)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"COLUMNS": str(width)})


def shown(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output + str(done.exception)
    return " ".join(done.stdout.split())


PAPER = ["--predictions", "gemma2-9b-limo-sts_act", "gemma2-9b-limo-sts_icl", "--outcome", "gemma2-9b-limo"]


def test_the_paper_s_gemma(tmp_path):
    text = shown(*PAPER, "--output", tmp_path / "a.json")
    for part in (
        "Compared with the size of the change |Δ| (score, points): 2 predictors, 1 SFT run, 14 domains",
        "for the correlation with the measured change, over domains like these",
        "noise ceiling 0.74",
        "without engineering, which changes it most: Pearson -0.24",
        "without engineering, which changes it most: Pearson 0.07",
        "0.60 [-0.92, 1.00]",
        "sts_act and sts_icl are not significantly different",
        "Williams' test, a check",
        "Warnings",
        "estimates from an assumption",
        "inflate correlations",
        str(tmp_path / "a.json"),
    ):
        assert part in text, part
    found = load_record(Agreement, tmp_path / "a.json")
    assert [one.predictor for one in found.settings] == ["sts_act", "sts_icl"]
    assert found.provenance.settings["interval"] == "measured" and found.provenance.package_versions["numpy"]


def test_options():
    text = shown(
        *PAPER, "--interval", "true", "--target", "delta", "--domains", "engineering,law,other,biology,physics"
    )
    assert "the signed change" in text and "free of measurement error, over these domains" in text
    assert "no sign is predicted" in text


def test_values_may_stand_in_a_row_or_be_repeated():
    repeated = ["--predictions", PAPER[1], "--predictions", PAPER[2], "--outcome=gemma2-9b-limo"]
    assert shown(*repeated) == shown(*PAPER)
    assert "Usage" in run("gemma2-9b-limo-sts_act", *PAPER).stderr
    assert "Usage" in run(*PAPER, "--seed", "1", "2").stderr


def test_several_settings_and_signs(tmp_path):
    for i in range(3):
        made = outcome({name: (i + 1) * delta for name, delta in DELTAS.items()}, name=f"o{i}", sft=f"x/{i}")
        save_record(made, tmp_path / "outcomes" / f"{i}.json")
        for name, target in (("constant", "magnitude"), ("signed", "delta"), ("worse", "delta")):
            scores = DELTAS if name == "signed" else SCORES
            scores = scores if name == "constant" else {d: s * (i + 1) for d, s in scores.items()}
            made = prediction(scores, predictor=name, target=target, sft=f"x/{i}")
            save_record(made, tmp_path / "predictions" / f"{name}-{i}.json")
    (tmp_path / "predictions" / "notes.json").write_text('{"kind": "other"}')
    text = shown("--predictions", tmp_path / "predictions", "--outcome", tmp_path / "outcomes")
    assert "Compared with the size of the change" in text and "sign accuracy" not in text
    assert "Leading: signed." in text and "the best is among those whose place starts at 1 (95%)" in text
    assert "Double-centred: constant: undefined" in text and "--all: every number" in text
    signed = shown("--predictions", tmp_path / "predictions", "--outcome", tmp_path / "outcomes", "--target", "delta")
    assert "1 leading; all others ruled out" in signed and "no sign is predicted: compared with" in signed
    for width in (80, 120):
        done = run("--predictions", tmp_path / "predictions", "--outcome", tmp_path / "outcomes", "--all", width=width)
        lines = done.stdout.splitlines()
        assert max(map(len, lines)) <= width and "\x1b" not in done.stdout
        assert "sign accuracy (attenuated)" in " ".join(done.stdout.split())
        for heading in (
            "worse in o2, 9 domains",
            "double-centred",
            "o2: org/model on x/2, 9 domains",
            "Notes",
            "Warnings",
        ):
            assert heading in done.stdout


def test_many_predictors_fit_a_screen(tmp_path):
    generator = np.random.default_rng(0)
    save_record(outcome(DELTAS), tmp_path / "o.json")
    for i in range(30):
        scores = {domain: float(x) for domain, x in zip(DELTAS, generator.random(9), strict=True)}
        name = f"null_{i}" if i < 3 else f"a_predictor_with_a_long_name_{i}"
        save_record(prediction(scores, predictor=name), tmp_path / "p" / f"{i}.json")
    done = run("--predictions", tmp_path / "p", "--outcome", tmp_path / "o.json", width=80)
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 36 and "… and 22 more." in lines
    assert re.search(r"(nothing leads|\d+ leading); \d+ more not ruled out, 3 of them nulls", done.stdout)
    assert "cannot be told apart from the best" in " ".join(done.stdout.split())


def test_one_predictor_is_not_ranked(tmp_path):
    text = shown(*PAPER[:2], *PAPER[3:])
    assert "sts_act is not significantly associated with it: r = 0.60" in text and "place" not in text


def test_a_result_file_of_lm_eval(tmp_path):
    records = [prediction(SCORES, predictor=name).model_dump(mode="json") for name in ("sts_act", "sts_icl")]
    (tmp_path / "results_1.json").write_text(json.dumps(result_json(*records)))
    for place in (tmp_path, tmp_path / "results_1.json"):
        assert [p.predictor for p in read_all_predictions([str(place)])] == ["sts_act", "sts_icl"]


def test_patterns_of_shipped_outcomes():
    names = [o.name for o in load_outcomes(["mathstral*", "yi-6b-chat"])]
    assert names == ["mathstral-7b-over-v0.1", "mathstral-7b-over-v0.2", "yi-6b-chat"]


def test_what_is_not_there(tmp_path):
    with says(RecordError, "no outcome in none-*"):
        load_outcomes(["none-*"])
    with says(RecordError, tmp_path):
        load_outcomes([str(tmp_path)])
    with says(RecordError, tmp_path, "--output_path"):
        read_all_predictions([str(tmp_path)])
    with says(RecordError, "gemma2-9b-limo-sts_act"):
        read_all_predictions(["gemma2-9b-limo-sts_at"])
    with says(RecordError, "none.json"):
        read_all_predictions(["none.json"])


@pytest.mark.parametrize(
    ("option", "value", "kind", "part"),
    [
        ("--target", "sign", SettingsError, "magnitude, delta"),
        ("--view", "accuracy", SettingsError, "choice_log_likelihood"),
        ("--interval", "both", SettingsError, "measured, true"),
        ("--figure", "a.gif", SettingsError, ".svg"),
        ("--scatter", "sts_act", SettingsError, "--figure"),
        ("--view", "answered", RecordError, "no view"),
    ],
)
def test_wrong_options(option, value, kind, part):
    done = run(*PAPER, option, value)
    assert type(done.exception) is kind and part in str(done.exception) and not done.stdout


def test_a_mismatch_needs_force(tmp_path):
    save_record(prediction(named(range(9)), sft="x/y"), tmp_path / "p.json")
    save_record(outcome(DELTAS), tmp_path / "o.json")
    done = run("--predictions", tmp_path / "p.json", "--outcome", tmp_path / "o.json")
    assert isinstance(done.exception, RecordError) and "--force_match" in str(done.exception)
    text = shown("--predictions", tmp_path / "p.json", "--outcome", tmp_path / "o.json", "--force_match")
    assert "matched by force: predicted for the SFT set x/y, measured after org/set" in text
