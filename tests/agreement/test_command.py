"""``lm-eval-sts compare``: what it reads, prints and writes."""

from __future__ import annotations

import json

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


def run(*arguments: object):
    app = typer.Typer()
    app.command("compare", cls=SpreadCommand)(compare)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"COLUMNS": "200"})


def shown(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output + str(done.exception)
    return " ".join(done.stdout.split())


PAPER = ["--predictions", "gemma2-9b-limo-sts_act", "gemma2-9b-limo-sts_icl", "--outcome", "gemma2-9b-limo"]


def test_the_paper_s_gemma(tmp_path):
    text = shown(*PAPER, "--output", tmp_path / "a.json")
    for part in (
        "Agreement with the size of the change (score, points)",
        "for the correlation with the measured change, over domains like these",
        "expected for a perfect predictor",
        "engineering: -0.24",
        "engineering: 0.07",
        "0.60 [-0.92, 1.00]",
        "sts_act and sts_icl are not separable",
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
    assert "2 of 3 pairs are separable (Holm). Leading (not separable from the best): signed." in text
    assert "sign accuracy (attenuated)" in text and "Double-centred: constant: undefined" in text


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
        ("--figure", "a.pdf", SettingsError, ".svg"),
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
