"""Two ranks with a disk each report what one process reports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS
from lm_eval_sts.records import save_record
from lm_eval_sts.verdict.results import read_predictions
from tests.agreement.made import outcome
from tests.harness.world import World, evaluate


def on_two_ranks(world: World, folder: Path, output: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """A run on two ranks with a disk each, compared with ``outcome.json`` in the folder."""
    launch = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone"]
    given = [world.root, folder / "profiles", output, folder / "outcome.json", json.dumps(settings)]
    return subprocess.run(
        [sys.executable, "-m", *launch, "-m", "tests.harness.data_parallel", *map(str, given)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_two_ranks_report_what_one_process_reports(world, tmp_path):
    output = tmp_path / "results_dp.json"
    deltas = {"law": 0.02, "math": -0.05, "health": 0.01}
    measured = outcome(deltas, model=world.model, sft=world.settings["sft_set"])
    save_record(measured, tmp_path / "outcome.json")
    done = on_two_ranks(world, tmp_path, output)
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


def test_two_ranks_draw_the_answers_that_one_process_draws(world, tmp_path):
    measured = outcome({"law": 0.02, "math": -0.05, "health": 0.01}, model=world.model, sft="another")
    save_record(measured, tmp_path / "outcome.json")
    rows = map(json.loads, Path(world.settings["sft_set"]).read_text().splitlines())
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows))
    settings = {
        "sft_set": str(prompts),
        "sft_answers": "sampled",
        "sampling": {"samples": 2, "max_tokens": 8},
        "predictors": ["sts_icl", "tfidf_cosine"],
        "outcome": [],
    }
    done = on_two_ranks(world, tmp_path, tmp_path / "two.json", **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    drawn = [len(list((tmp_path / "profiles" / rank).glob("answers-*/*.safetensors"))) for rank in ("rank0", "rank1")]
    assert drawn == [2, 1], "40 prompts are two chunks, one a rank, and the first rank has both"
    two = read_predictions(tmp_path / "two.json")
    tasks = ["sts_mmlu_pro_law", "sts_mmlu_pro_math", "sts_mmlu_pro_health"]
    alone = evaluate(world, tasks, sts={**settings, "profiles_dir": str(tmp_path / "alone")})
    (tmp_path / "one.json").write_text(json.dumps(alone, default=str))
    one = read_predictions(tmp_path / "one.json")
    assert [(p.predictor, p.domains) for p in one] == [(p.predictor, p.domains) for p in two]
