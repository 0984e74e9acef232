"""The agreement as a row of lm-eval's own table: what ``lm-eval-sts compare`` finds, and nothing unless asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from lm_eval.utils import make_table

from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.agreement.row import hold_against
from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.records import Agreement, parse_record, save_record
from lm_eval_sts.verdict.results import read_predictions
from tests.agreement.made import PROVENANCE, outcome, prediction
from tests.harness.world import SUBJECTS, evaluate
from tests.messages import says

ROW = "sts_mmlu_pro_agreement"
SOME = [f"sts_mmlu_pro_{subject}" for subject in ("law", "math", "health", "physics", "history")]
SHOWN = ["sts_icl", "null_constant"]
"""The second has no correlation, and no line."""


def made(world, name: str = "measured", **changes):
    deltas = np.random.default_rng(0).normal(0, 0.05, len(SUBJECTS))
    options = {"model": world.model, "sft": world.settings["sft_set"]} | changes
    return outcome(dict(zip(SUBJECTS, map(float, deltas), strict=True)), name=name, **options)


@pytest.fixture(scope="module")
def files(world, tmp_path_factory) -> dict[str, str]:
    """Outcomes of this setting under two names, and of others."""
    folder = tmp_path_factory.mktemp("outcomes")
    outcomes = {
        "measured": made(world),
        "again": made(world, "again", se=0.02),
        "set": made(world, "set", sft="x/y"),
        "tasks": made(world, "tasks", tasks="micro", version="1.0"),
        "version": made(world, "version", version="3.0"),
        "model": made(world, "model", model="x/model"),
        "absurd": made(world, "absurd", se=1e9),
        "domains": outcome({"sports": 0.1}, name="domains", model=world.model, sft=world.settings["sft_set"]),
    }
    for name, record in outcomes.items():
        save_record(record, folder / f"{name}.json")
    return {name: str(folder / f"{name}.json") for name in outcomes}


@pytest.fixture(scope="module")
def results(world, files):
    return evaluate(world, sts={"predictors": SHOWN, "outcome": files["measured"]}, limit=3)


def printed(results) -> list[list[str]]:
    """Cells of the lines that lm-eval prints for the row."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in make_table(results).splitlines()]
    first = next((i for i, line in enumerate(lines) if line[0].removeprefix("- ") == ROW), len(lines))
    after = next((i for i in range(first + 1, len(lines)) if lines[i][0]), len(lines))
    return lines[first:after]


def test_the_row_holds_the_numbers_of_compare(results, world, files, tmp_path):
    exported = tmp_path / "results_1.json"
    exported.write_text(json.dumps(results, default=str))
    alone = compare(read_predictions(exported), [made(world)], Rules(), PROVENANCE)
    row, whole = results["results"][ROW], results["configs"][ROW]["metadata"]["sts_results"]["agreement"]
    record = parse_record(Agreement, whole["magnitude"], ROW)
    assert list(whole) == ["magnitude"] and record.model_copy(update={"provenance": PROVENANCE}) == alone
    assert record.target == "magnitude" and record.provenance.settings["target"] is None
    assert record.provenance.package_versions["torch"]
    pearson = alone.settings[0].pearson
    metrics = {
        "pearson_sts_icl": pearson.value,
        "pearson_sts_icl_low": pearson.interval.low,
        "pearson_sts_icl_high": pearson.interval.high,
        "pearson_ceiling_magnitude": pearson.ceiling.value,
    }
    found = {name.removesuffix(",none"): value for name, value in row.items() if name.startswith("pearson")}
    assert {name: value for name, value in found.items() if not name.endswith("_stderr")} == pytest.approx(metrics)
    assert {value for name, value in found.items() if name.endswith("_stderr")} == {"N/A"}


def test_lm_eval_prints_the_row(results):
    row, lines = results["results"][ROW], printed(results)
    names = ["pearson_ceiling_magnitude", "pearson_sts_icl", "pearson_sts_icl_high", "pearson_sts_icl_low"]
    assert [line[4] for line in lines] == names
    for line in lines:
        assert line[3] == "5" and line[6] == f"{row[f'{line[4]},none']:.4f}" and line[8] == "N/A"
        assert line[5] == ("↑" if line[4] == "pearson_sts_icl" else "")


def test_sizes_by_default_and_signs_by_the_sign_score(caplog):
    scores = {name: float(i % 5) for i, name in enumerate(SUBJECTS)}
    deltas = {name: (-1) ** i * score / 100 for i, (name, score) in enumerate(scores.items())}
    size, signed = prediction(scores, predictor="size"), prediction(deltas, predictor="signed", target="delta")
    elsewhere = prediction({"sports": 1.0}, predictor="elsewhere")
    with caplog.at_level("INFO", logger="lm_eval_sts"):
        found = hold_against([size, signed, elsewhere], [outcome(deltas)], ("size", "signed"))
    assert found.metrics["pearson_size"] > 0.999 < found.metrics["pearson_signed"]
    assert found.metrics["sign_score_signed"] == pytest.approx(100 * np.mean(np.abs(list(deltas.values()))))
    assert found.metrics["sign_score_signed_low"] < found.metrics["sign_score_signed"]
    assert found.metrics["sign_score_constant"] < found.metrics["sign_score_signed"]
    assert not {"sign_score_size", "pearson_ceiling_delta"} & set(found.metrics)
    assert [record["target"] for record in found.dump["agreement"].values()] == ["magnitude"]
    alone = hold_against([signed], [outcome(deltas)], ("signed",))
    assert list(alone.dump["agreement"]) == ["delta"] and "pearson_ceiling_delta" in alone.metrics
    assert hold_against([], [outcome(deltas)], ()).dump == {"agreement": {}}
    assert "elsewhere left out" in caplog.text and "errors are estimates" not in caplog.text
    only = hold_against([size, signed], [outcome(deltas)], ("size",))
    assert {name.split("_")[1] for name in only.metrics} == {"size", "ceiling"}
    assert hold_against([elsewhere], [outcome(deltas)], ("elsewhere",)).metrics == {}


def test_lm_eval_writes_it(results, tmp_path):
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(tmp_path))
    tracker.general_config_tracker.model_name_sanitized = "model"
    tracker.save_results_aggregated(results=dict(results), samples=results["samples"])
    tracker.save_results_samples(task_name=ROW, samples=results["samples"][ROW])
    (file,) = tmp_path.rglob("results_*.json")
    written = json.loads(file.read_text())
    assert written["results"][ROW] == results["results"][ROW]
    assert "agreement" in written["configs"][ROW]["metadata"]["sts_results"]
    assert [p.predictor for p in read_predictions(tmp_path)] == SHOWN


def test_nothing_without_an_outcome(world):
    found = evaluate(world, [ROW, *SOME], sts={"predictors": ["sts_icl"]}, limit=3)
    assert not [name for name in found["results"][ROW] if "," in name] and printed(found) == []
    assert found["configs"][ROW]["metadata"]["sts_results"] == {}


def test_several_outcomes_of_one_setting_are_averaged(world, files):
    """Those of other settings are left out, as by ``lm-eval-sts compare``."""
    chosen = [files[name] for name in ("measured", "again", "set")]
    found = evaluate(world, [ROW, *SOME], sts={"predictors": ["sts_icl"], "outcome": chosen}, limit=3)
    record = found["configs"][ROW]["metadata"]["sts_results"]["agreement"]["magnitude"]
    assert record["raw"]["means"][0]["settings"] == ["measured", "again"]
    row, ceilings = found["results"][ROW], [one["pearson"]["ceiling"]["value"] for one in record["settings"]]
    assert row["pearson_sts_icl,none"] == record["raw"]["means"][0]["correlation"]
    assert min(ceilings) < row["pearson_ceiling_magnitude,none"] < max(ceilings)


def test_one_subject(world, files, caplog):
    """It has no row of its own; with the agreement's task beside it there is nothing to correlate, which is said."""
    law = ["sts_mmlu_pro_law"]
    sts = {"predictors": ["sts_icl"], "outcome": files["measured"]}
    with caplog.at_level("INFO"):
        alone = evaluate(world, law, sts=sts, limit=3)
    assert list(alone["results"]) == law and f"{ROW} is not among the tasks" in caplog.text
    both = evaluate(world, [ROW, *law], sts=sts, limit=3)
    assert printed(both) == []
    record = both["configs"][ROW]["metadata"]["sts_results"]["agreement"]["magnitude"]
    assert record["settings"][0]["notes"][0] == "no correlation: 1 domains"


def test_alone_it_is_refused(world, files):
    with says(SettingsError, ROW, "no domain", "name sts_mmlu_pro in --tasks"):
        evaluate(world, [ROW], sts={"outcome": files["measured"]})


@pytest.mark.parametrize(
    ("name", "kind", "parts"),
    [
        ("set", SettingsError, ("none was measured in this run's setting", "sft.jsonl", "x/y")),
        ("tasks", SettingsError, ("predicted for the tasks mmlu_pro", "measured with micro")),
        ("version", SettingsError, ("version 3.1", "version 3.0")),
        ("model", SettingsError, ("measured on x/model",)),
        ("domains", SettingsError, ("domains has none of this run's domains", "sports")),
        ("absurd", RecordError, ("absurd", "is no change of a score")),
        ("nowhere", RecordError, ("no outcome 'nowhere' ships",)),
    ],
)
def test_an_outcome_of_another_setting_is_refused_before_anything_is_read(name, kind, parts, world, files, monkeypatch):
    monkeypatch.setattr("lm_eval_sts.harness.run.read", lambda *given: pytest.fail("began to read"))
    sts = {"predictors": ["sts_icl"], "outcome": files.get(name, name)}
    with says(kind, *parts):
        evaluate(world, [*SOME, ROW], sts=sts, limit=3)


@pytest.mark.parametrize("given", [3, {"a": "b"}])
def test_the_setting_takes_names(world, given):
    with says(SettingsError, "outcome"):
        evaluate(world, [ROW], sts={"outcome": given})
