"""``lm-eval-sts mix`` and ``sts.mix``, on the micro world and on real data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import lm_eval_sts as sts
from lm_eval_sts.cli import app
from lm_eval_sts.data import load_sft_set
from lm_eval_sts.errors import DatasetError, SettingsError
from lm_eval_sts.microworld.data import load
from lm_eval_sts.records import MIXTURE_SUFFIX, Mixture, load_record, save_record
from lm_eval_sts.shipped import load_shipped_prediction
from tests.mixing.made import prediction, sft_set

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
SFT = "micro/sft/laws-home-long"


def run(place: Path, *words: str | Path) -> Any:
    given = (
        place / "predictions",
        "--sft_set",
        SFT,
        "--budget",
        "20",
        "--source",
        f"law_torts={place / 'torts.jsonl'}",
    )
    return CliRunner().invoke(app, ["mix", *map(str, (*given, *words))])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a prediction and a source."""
    scores = {"law_torts": 30.0, "law_statutes": 10.0}
    made = prediction(scores, se={"law_torts": 2.0, "law_statutes": 1.0}, n_questions=50)
    save_record(made, tmp_path / "predictions" / "one.json")
    rows = [{"prompt": e.prompt, "response": e.response} for e in sft_set("torts", 30).examples]
    (tmp_path / "torts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


def test_a_plan_writes_nothing(place: Path) -> None:
    before = sorted(place.rglob("*"))
    done = run(place, "--dry_run")
    assert done.exit_code == 0, done.output
    assert sorted(place.rglob("*")) == before
    assert "15 examples to 384 of micro/sft/laws-home-long, by sts_icl" in done.output
    assert "domains without a source, whose examples are not added: law_statutes" in done.output
    assert "nothing was written" in done.output


def test_the_mixed_set_and_its_manifest(place: Path) -> None:
    output = place / "mixed.jsonl"
    done = run(place, "--output", output, "--json")
    assert done.exit_code == 0, done.output
    record = load_record(Mixture, output.with_suffix(MIXTURE_SUFFIX))
    assert json.loads(done.stdout)["mixed"]["content_hash"] == record.mixed.content_hash  # type: ignore[union-attr]
    read = load_sft_set(str(output))
    assert len(read.examples) == 399
    assert read.mixture == record.reference
    # 28 domains would be read of the benchmark: 100 and 400 questions each, and five worked examples.
    assert record.n_questions == 2 * 28 * (100 + 5 + 400)


def test_a_question_that_measures_is_refused(place: Path) -> None:
    planted = load()["measure"][7]["question"]
    with (place / "torts.jsonl").open("a") as file:
        file.write(f"{json.dumps({'prompt': planted, 'response': 'nix.'})}\n")
    done = run(place, "--dry_run")
    assert isinstance(done.exception, DatasetError)
    assert "1 examples of the sources are, or nearly are, questions" in str(done.exception)
    assert "(law_torts) is micro_" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --output for the mixed set, or --dry_run"),
        (("--dry_run", "--source", "torts.jsonl"), "give DOMAIN=PLACE"),
        (("--dry_run", "--predictor", "sts_ict"), "no prediction by 'sts_ict': did you mean 'sts_icl'"),
    ],
)
def test_what_is_wrong_is_said(place: Path, words: tuple[str, ...], message: str) -> None:
    done = run(place, *words)
    assert isinstance(done.exception, SettingsError)
    assert message in str(done.exception)


def test_finetune_names_what_its_set_was_mixed_of(place: Path) -> None:
    pytest.importorskip("trl")
    from lm_eval_sts.finetuning.finetune import finetune
    from lm_eval_sts.finetuning.recipes import make_recipe
    from lm_eval_sts.finetuning.tuned import read_tuned
    from lm_eval_sts.mixing.writing import write_mixed
    from lm_eval_sts.shipped import resolve

    made = prediction({"law": 3.0, "math": 1.0})
    found = sts.mix(made, sft_set("sft", 4), {"law": sft_set("law", 8, "laws")}, budget=4, questions={})
    write_mixed(found, place / "mixed.jsonl")
    recipe = make_recipe(
        "default",
        method="lora",
        max_steps=3,
        batch_size=2,
        learning_rate=1e-2,
        warmup_ratio=0.0,
        dtype="float32",
        lora_rank=2,
    )
    finetune(resolve("micro/model"), load_sft_set(str(place / "mixed.jsonl")), place / "tuned", recipe, 0, save_steps=0)
    manifest = read_tuned(place / "tuned")
    assert manifest is not None and manifest.mixture is not None
    assert (
        manifest.mixture
        == found.record.model_copy(
            update={"mixed": manifest.sft_set.model_copy(update={"name": "mixed.jsonl"})}
        ).reference
    )


@pytest.mark.skipif(not (REAL / "real").is_dir(), reason="../shared/data/real is not at hand")
def test_real_sets_from_python() -> None:
    made = load_shipped_prediction("qwen2.5-7b-limo-sts_icl")
    sft = sts.load_sft_set(REAL / "sft" / "math_solutions.jsonl")
    sources = {name: REAL / "real" / "sft" / f"mmlu_{name}.jsonl" for name in ("physics", "psychology")}
    # These answer questions of MMLU-Pro, which the whole of it tells.
    with pytest.raises(DatasetError, match=r"mmlu_physics.jsonl \(physics\) is physics/\d+ \(100%\)"):
        sts.mix(made, sft, sources, budget=40, benchmark_path=REAL / "mmlu_pro")
    # The kit's own questions are others.
    benchmark = sts.load_domains("sts_mmlu_pro", path=REAL / "real" / "bench")
    found = sts.mix(made, sft, sources, budget=40, questions=benchmark, drop_questions=True)
    added = {name: domain.added for name, domain in found.record.domains.items() if domain.added}
    assert set(added) == set(sources)
    assert added["physics"] > added["psychology"]
    assert len(found.sft_set.examples) == len(sft.examples) + sum(added.values())
