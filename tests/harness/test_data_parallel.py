"""Two ranks with a disk each report what one process reports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS
from lm_eval_sts.records import save_record
from lm_eval_sts.verdict.results import read_predictions
from tests.agreement.made import outcome
from tests.harness.world import evaluate


def test_two_ranks_report_what_one_process_reports(world, tmp_path):
    output = tmp_path / "results_dp.json"
    deltas = {"law": 0.02, "math": -0.05, "health": 0.01}
    measured = outcome(deltas, model=world.model, sft=world.settings["sft_set"])
    save_record(measured, tmp_path / "outcome.json")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "0",
        "--standalone",
    ]
    done = subprocess.run(
        [
            *command,
            "-m",
            "tests.harness.data_parallel",
            str(world.root),
            str(tmp_path / "profiles"),
            str(output),
            str(tmp_path / "outcome.json"),
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(output.read_text())
    tasks = ["sts_mmlu_pro_law", "sts_mmlu_pro_math", "sts_mmlu_pro_health"]
    sts = {"profiles_dir": str(tmp_path / "alone"), "outcome": str(tmp_path / "outcome.json")}
    alone = evaluate(world, [*tasks, "sts_mmlu_pro_agreement"], sts=sts)
    ours, theirs = ({**found["results"]["sts_mmlu_pro_agreement"], "sample_len": None} for found in (results, alone))
    assert ours == theirs and "pearson_sts_icl,none" in ours, "the agreement, which every rank reports"
    for task in tasks:
        assert results["results"][task] == alone["results"][task], "bit for bit"
        assert results["n-samples"][task]["effective"] == alone["n-samples"][task]["effective"]
        ours = {s["doc_id"]: s.get("sts_icl") for s in results["samples"][task]}
        assert ours == {s["doc_id"]: s.get("sts_icl") for s in alone["samples"][task]}
    predictions = read_predictions(output)
    assert tuple(p.predictor for p in predictions) == DEFAULT_PREDICTORS
    assert all(set(p.domains) == {"law", "math", "health"} for p in predictions)
    read = {rank: len(list((tmp_path / "profiles" / rank).rglob("*.safetensors"))) for rank in ("rank0", "rank1")}
    assert read["rank1"] > 0 and read["rank0"] > read["rank1"], "both read, and rank 0 has everything"
