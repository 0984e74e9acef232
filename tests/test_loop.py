"""The README's loop on the micro model: predict, fine-tune, measure, compare; its figures recomputed with pandas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from lm_eval_sts.cli import app
from lm_eval_sts.harness.discovery import our_tasks
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.outcomes import lm_eval_run
from lm_eval_sts.records import Outcome, load_record
from lm_eval_sts.verdict.results import read_predictions
from microworld.domains import DOMAINS

PROJECT = Path(__file__).parents[1]
SFT = "micro/sft/laws-home-long"
LIMIT = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything that the four commands leave behind."""
    root = tmp_path_factory.mktemp("loop")
    model = ["--model", "hf", "--model_args", f"pretrained={asset('micro/model')}", "--device", "cpu"]
    settings = {"sft_set": SFT, "demo_draws": 1, "sft_tokens": 400, "profiles_dir": str(root / "profiles")}
    predict = [*model, "--tasks", "sts_micro", "--limit", "3", "--output_path", str(root / "results")]
    subprocess.run(
        [sys.executable, "-m", "tests.harness.quick_lm_eval", *predict, "--metadata", json.dumps({"sts": settings})],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    train = ["--method", "full", "--learning_rate", "1e-3", "--max_steps", "20", "--batch_size", "8"]
    base_tuned = ["--base", "micro/model", "--tuned", str(root / "tuned"), "--tasks", "micro", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        # Scanning lm-eval's own task files takes half a minute.
        patch.setattr(lm_eval_run, "build_task_manager", lambda *_: our_tasks())
        run("finetune", "--model", "micro/model", "--sft_set", SFT, "--output", str(root / "tuned"), *train)
        measure = [*base_tuned, "--limit", str(LIMIT), "--share_prefix", "--batch_size", "32"]
        run("measure", *measure, "--model_args", "dtype=float32", "--output", str(root / "outcome.json"))
    compare = ["--predictions", str(root / "results"), "--outcome", str(root / "outcome.json")]
    (root / "compared.txt").write_text(run("compare", *compare, "--output", str(root / "agreement.json")))
    return root


def run(*arguments):
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_outcome_is_of_what_was_trained(folder):
    outcome = load_record(Outcome, folder / "outcome.json")
    assert set(outcome.domains) == set(DOMAINS)
    assert (outcome.model.name, outcome.sft_set.name, outcome.seeds) == ("micro/model", SFT, (0,))
    assert outcome.recipe.max_steps == 20
    assert {c.se_kind for c in outcome.changes().values()} == {"paired"}
    assert all(change.n == LIMIT for change in outcome.changes().values())


def samples(folder: Path, adapter: bool) -> pd.DataFrame:
    """The raw samples of one of the two runs, as lm-eval wrote them."""
    rows = []
    for results in (folder / "outcome.runs").rglob("results_*.json"):
        pretrained = json.loads(results.read_text())["config"]["model_args"]["pretrained"]
        if ("tuned" in str(pretrained)) != adapter:
            continue
        for file in results.parent.glob("samples_*.jsonl"):
            for line in file.read_text().splitlines():
                sample = json.loads(line)
                likelihoods = [float(answer[0]) for answer in sample["filtered_resps"]]
                gold = likelihoods[int(sample["target"])]
                rows.append((sample["doc"]["category"], sample["doc_id"], sample["acc"], gold))
    return pd.DataFrame(rows, columns=["domain", "doc_id", "acc", "gold"]).set_index(["domain", "doc_id"]).sort_index()


def test_deltas_and_errors_come_out_of_the_raw_samples(folder):
    base, tuned = samples(folder, adapter=False), samples(folder, adapter=True)
    assert len(base) == len(tuned) == LIMIT * len(DOMAINS)
    change = tuned - base
    mean, error = change.groupby("domain").mean(), change.groupby("domain").sem(ddof=1)
    outcome = load_record(Outcome, folder / "outcome.json")
    for name, domain in outcome.domains.items():
        assert domain.score.delta == pytest.approx(mean.loc[name, "acc"], abs=1e-9)
        assert domain.log_likelihood.delta == pytest.approx(mean.loc[name, "gold"], abs=1e-6)
        assert domain.log_likelihood.se == pytest.approx(error.loc[name, "gold"], rel=1e-6)
        if error.loc[name, "acc"] > 0:
            assert domain.score.se == pytest.approx(error.loc[name, "acc"], rel=1e-6)
        else:
            assert domain.score.se > 0
    assert change["acc"].abs().sum() > 0


def test_compare_matches_them(folder):
    agreement = json.loads((folder / "agreement.json").read_text())
    assert agreement["kind"] == "agreement"
    text = (folder / "compared.txt").read_text()
    assert {"sts_act", "sts_icl"} <= {p.predictor for p in read_predictions(folder / "results")}
    assert "Compared with the size of the change" in text and "not ruled out" in text
    assert {"sts_act", "sts_icl"} <= {one["predictor"] for one in agreement["settings"]}
    assert "not known on both sides" not in text  # base model, SFT set and benchmark were checked
    assert "one fine-tuning seed" in text
