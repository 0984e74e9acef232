"""lm-eval-sts sample, and a run on prompts through its verdict's next command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import lm_eval_sts as sts
from lm_eval_sts.cli import app
from lm_eval_sts.errors import DatasetError, RecordError, SettingsError
from lm_eval_sts.finetuning.tuned import read_tuned
from lm_eval_sts.harness.predicting import load_model, predict
from lm_eval_sts.records import Sampling, load_record
from lm_eval_sts.shipped import resolve
from lm_eval_sts.verdict.next_step import sample_command

MICRO = ("micro/sft/add-home-short", "--model", "micro/model", "--max_tokens", "48", "--stop", "\\n")
FIRST_WORD = ("--verifier", "exact", "--pattern", r"^\s*([^\s.]+)")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["sample", *arguments], catch_exceptions=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("sampled")
    few = ("--max_prompts", "40", "--samples", "4", "--profiles_dir", str(folder / "profiles"))
    return folder, run(*MICRO, *FIRST_WORD, *few, "--output", str(folder / "s.jsonl"))


def test_it_writes_right_answers_of_the_model_and_says_how_many(written):
    folder, done = written
    assert done.exit_code == 0, done.output
    record = load_record(Sampling, folder / "s.sampling.json")
    assert 0.2 < record.verified / 160 < 0.8, "the micro world's model answers about .45 of these rightly"
    right = {e.prompt: e.response.split()[0] for e in sts.load_sft_set("micro/sft/add-home-short").examples}
    sampled = sts.load_sft_set(folder / "s.jsonl").examples
    assert len(sampled) == record.solved == record.sampled.n_examples
    assert all(e.response.split()[0] == right[e.prompt] for e in sampled)
    said = " ".join(done.stdout.split())
    assert f"{record.solved} of 40 prompts have such an answer" in said
    assert "344 prompts without a response, not asked (max_prompts)" in said
    assert sampled[0].response in said


def test_what_was_tuned_on_it_names_its_model_and_verifier(written):
    folder, _ = written
    command = [
        "finetune",
        "--model",
        "micro/model",
        "--sft_set",
        str(folder / "s.jsonl"),
        "--output",
        str(folder / "t"),
    ]
    options = [
        "--method",
        "full",
        "--learning_rate",
        "1e-4",
        "--max_steps",
        "3",
        "--batch_size",
        "2",
        "--dtype",
        "float32",
    ]
    done = CliRunner().invoke(app, [*command, *options])
    assert done.exit_code == 0, done.output
    sampling = read_tuned(folder / "t").sampling
    assert (sampling.model, sampling.by.verifier, sampling.by.samples) == ("micro/model", "exact", 4)
    assert sampling == load_record(Sampling, folder / "s.sampling.json").reference


@pytest.mark.parametrize("given, kind, parts", [
    (("--answers", "all"), SettingsError, ["--answers all", "verified"]),
    ((), SettingsError, ["give --verifier", "--answers sampled"]),
    (("--verifier", "exakt"), SettingsError, ["no verifier 'exakt'", "exact"]),
    (("--verifier", "exact", "--answer", "gold"), DatasetError, ["no column 'gold'"]),
    (("--verifier", "exact", "--samples", "0"), SettingsError, ["sampling.samples"]),
    (("--verifier", "exact", "--batch_size", "few"), SettingsError, ["batch_size 'few'"]),
])  # fmt: skip
def test_wrong_options_are_told_before_any_model_is_loaded(tmp_path, given, kind, parts):
    done = run(*MICRO, *given, "--output", str(tmp_path / "s.jsonl"))
    assert isinstance(done.exception, kind), done.output
    assert all(part in str(done.exception) for part in parts), done.exception
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told_before_any_model_is_loaded(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(*MICRO, *FIRST_WORD, "--output", str(tmp_path / "file" / "s.jsonl"))
    assert isinstance(done.exception, RecordError), done.output
    assert str(tmp_path / "file") in str(done.exception)


def test_a_set_without_responses_says_what_can_be_done():
    prompts = [{"prompt": "stone?", "hint": "a"}, {"prompt": "river?", "hint": "b"}]
    with pytest.raises(DatasetError, match="prompts only.*lm-eval-sts sample, or sft_answers"):
        sts.load_sft_set(prompts)


def test_the_verdict_s_next_command_writes_what_was_predicted(tmp_path, monkeypatch):
    sampling: dict[str, Any] = {"verifier": "exact", "pattern": FIRST_WORD[3], "max_tokens": 48, "stop": ["\n"]}
    settings = {
        "sft_set": "micro/sft/add-home-short",
        "sft_answers": "verified",
        "sampling": {**sampling, "max_prompts": None, "samples": 2},
        "predictors": ["tfidf_cosine"],
        "profiles_dir": str(tmp_path / "profiles"),
    }
    lm = load_model({"pretrained": resolve("micro/model"), "dtype": "float32"}, "cpu", 32)
    (prediction,) = predict(lm, "sts_micro", settings, limit=2).predictions
    assert prediction.setting.sft_set == sts.load_prompts("micro/sft/add-home-short").reference
    command = shlex.split(" ".join(sample_command(prediction)))
    assert command[:2] == ["lm-eval-sts", "sample"]
    monkeypatch.chdir(tmp_path)
    done = run(*command[2:], "--profiles_dir", str(tmp_path / "profiles"), "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["by"]["seed"] == 1234 and record["asked"] == 384
    answers = list((tmp_path / "profiles").glob("answers-*"))
    assert len(answers) == 1, "what was drawn for the prediction is not drawn again"
    by_written = {**settings, "sft_set": str(tmp_path / "sampled.jsonl"), "sft_answers": "given"}
    del by_written["sampling"]
    (again,) = predict(lm, "sts_micro", by_written, limit=2).predictions
    assert {d: s.score for d, s in again.domains.items()} == {d: s.score for d, s in prediction.domains.items()}


def test_a_plan_for_prompts_says_what_is_not_counted(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "stone?", "answer": "river"}\n')
    settings = {"sft_answers": "verified", "sampling": {"verifier": "exact"}, "predictors": ["tfidf_cosine"]}
    plan = sts.plan("micro/model", str(tmp_path / "p.jsonl"), task="sts_micro", device="cpu", settings=settings)
    predicting, finetuning, _ = plan.stages
    assert any("its responses are sampled when the run begins" in note for note in predicting.notes)
    assert "responses are sampled first" in finetuning.counted
    assert "--sft_set sampled.jsonl" in " ".join(finetuning.command)
    assert any("lm-eval-sts sample makes of the prompts" in note for note in finetuning.notes)
