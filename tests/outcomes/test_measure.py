"""Real lm-eval runs: measured, paired, resumed and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from lm_eval_sts.errors import DatasetError, ModelError, RecordError, SettingsError
from lm_eval_sts.files import LOCK
from lm_eval_sts.outcomes.base_and_tuned import find_side
from lm_eval_sts.outcomes.lm_eval_results import read_run, read_samples
from lm_eval_sts.outcomes.lm_eval_run import Finished, write_files
from lm_eval_sts.outcomes.measure import Conditions, evaluate_model
from lm_eval_sts.outcomes.pairing import pair
from lm_eval_sts.outcomes.runs import Run
from lm_eval_sts.records import Outcome, load_record
from tests.messages import says
from tests.outcomes.made import choice_results
from tests.outcomes.measuring import (
    MICRO_TASKS,
    QUESTIONS,
    SUBJECTS,
    adapter,
    app,
    command,
    few_tasks,
    lm_eval_command,
    micro_model,
    mmlu_pro_tasks,
    perturbed,
)
from tests.tiny_models import ARCHITECTURES, save, tiny_tokenizer


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two whole models and an adapter, made from the shipped model."""
    folder = tmp_path_factory.mktemp("tuned")
    whole = [perturbed(micro_model(), folder / f"whole-{seed}", seed) for seed in (1, 2)]
    return [*whole, adapter(micro_model(), folder / "adapter", 3)]


# ---- the whole way, on the micro model


@pytest.fixture(scope="module")
def measured(tuned, tmp_path_factory) -> Path:
    """An outcome of two seeds on 12 questions of three domains."""
    output = tmp_path_factory.mktemp("measured") / "outcome.json"
    command(
        *("--base", "micro/model", "--tuned", tuned[0], "--tuned", tuned[2], "--tasks", ",".join(MICRO_TASKS)),
        *("--limit", 12, "--batch_size", 16, "--device", "cpu", "--output", output, "--name", "micro-made"),
    )
    return output


def samples(work: Path, model: str, task: str) -> pd.DataFrame:
    """One model's samples of one task, as lm-eval wrote them."""
    (file,) = [f for f in work.rglob(f"samples_{task}_*.jsonl") if model in f.parent.name]
    table = pd.read_json(file, lines=True).set_index("doc_hash").sort_index()
    likelihoods = table["filtered_resps"].map(lambda options: [float(option[0]) for option in options])
    target = table["target"].astype(int)
    gold = [values[right] for values, right in zip(likelihoods, target, strict=True)]
    total = likelihoods.map(lambda values: float(np.log(np.exp(values).sum())))
    return table.assign(gold=gold, chosen=np.array(gold) - total.to_numpy())


def test_deltas_are_those_of_the_raw_samples(measured):
    outcome = load_record(Outcome, measured)
    work = measured.with_suffix(".runs")
    assert set(outcome.domains) == {task.removeprefix("micro_") for task in MICRO_TASKS}
    for domain, found in outcome.domains.items():
        base, *tuned = (samples(work, m, f"micro_{domain}") for m in ("assets__model", "whole-1", "adapter"))
        assert list(base.index) == list(tuned[0].index) == list(tuned[1].index)
        for column, change, view in (
            ("acc", found.score, "score"),
            ("gold", found.log_likelihood, "log_likelihood"),
            ("chosen", found.choice_log_likelihood, "choice_log_likelihood"),
        ):
            differences = pd.DataFrame({seed: t[column] - base[column] for seed, t in enumerate(tuned)})
            assert change.n == len(base) == 12
            assert change.base == pytest.approx(base[column].mean())
            assert change.delta == pytest.approx(differences.to_numpy().mean())
            assert change.seed_deltas == pytest.approx(tuple(differences.mean()))
            question_part = differences.mean(axis=1).var() / 12
            assert change.se == pytest.approx((question_part + outcome.seed_variance[view] / 2) ** 0.5)
    assert any(change.delta != 0 for change in outcome.changes().values())
    assert outcome.model.name == "micro/model"
    assert len(outcome.model.weights_hash) == 64


def test_one_seed_has_mcnemars_test(measured, tmp_path):
    work = measured.with_suffix(".runs")
    files = {m: next(f for f in work.rglob("results_*.json") if m in f.parent.name) for m in ("assets", "whole-1")}
    output = tmp_path / "one.json"
    shown = command("--base", files["assets"], "--tuned", files["whole-1"], "--output", output)
    outcome = load_record(Outcome, output)
    for domain, found in outcome.domains.items():
        base, tuned = (samples(work, m, f"micro_{domain}")["acc"] for m in ("assets__model", "whole-1"))
        gained, lost = int((tuned > base).sum()), int((tuned < base).sum())
        assert (found.score.gained, found.score.lost) == (gained, lost)
        if gained + lost:
            assert found.score.p == pytest.approx(binomtest(gained, gained + lost).pvalue)
            assert found.score.se == pytest.approx((tuned - base).std() / 12**0.5)
        assert domain in shown
    assert "one fine-tuning seed" in " ".join(shown.split())


def test_the_same_command_again_runs_nothing(measured, tuned, monkeypatch):
    import lm_eval

    monkeypatch.setattr(lm_eval, "simple_evaluate", None)
    before = measured.read_bytes()
    command(
        *("--base", "micro/model", "--tuned", tuned[0], "--tuned", tuned[2], "--tasks", ",".join(MICRO_TASKS)),
        *("--limit", 12, "--batch_size", 16, "--device", "cpu", "--output", measured, "--name", "micro-made"),
    )
    assert measured.read_bytes() == before


def test_a_folder_with_the_runs_of_several_models_is_not_guessed_at(measured, tuned):
    work = measured.with_suffix(".runs")
    with says(RecordError, "3 runs", *(folder.name for folder in work.iterdir())), few_tasks():
        CliRunner().invoke(
            app, ["--base", str(work), "--tuned", tuned[0], "--output", str(work / "x.json")], catch_exceptions=False
        )


# ---- evaluate_model


def evaluate(model: str | dict[str, Any], folder: Path, **options: Any) -> Run:
    conditions = options.pop("conditions", Conditions(limit=5))
    args = {"pretrained": model} if isinstance(model, str) else model
    with few_tasks():
        return evaluate_model(
            args,
            MICRO_TASKS[:1],
            folder,
            conditions,
            **{"batch_size": 10, "device": "cpu", "use_cache": False} | options,
        )


def test_files_are_those_of_lm_eval(tmp_path):
    lm_eval_command(
        *("--model", "hf", "--model_args", f"pretrained={micro_model()}", "--tasks", MICRO_TASKS[0], "--limit", "5"),
        *("--batch_size", "10", "--device", "cpu", "--log_samples", "--output_path", str(tmp_path / "theirs")),
    )
    run = evaluate(micro_model(), tmp_path / "ours")
    theirs, ours = (
        json.loads(next((tmp_path / who).rglob("results_*.json")).read_text()) for who in ("theirs", "ours")
    )
    assert ours.keys() == theirs.keys()
    assert ours["config"].keys() == theirs["config"].keys()
    for same in (
        "results",
        "versions",
        "n-shot",
        "n-samples",
        "task_hashes",
        "model_source",
        "model_name",
        "group_subtasks",
    ):
        assert ours[same] == theirs[same], same
    for same in ("model", "model_args", "model_dtype", "limit", "device", "random_seed"):
        assert ours["config"][same] == theirs["config"][same], same
    for file in (tmp_path / "theirs").rglob("samples_*.jsonl"):
        name = file.name[: file.name.index("_2")]
        (own,) = (tmp_path / "ours").rglob(f"{name}_2*.jsonl")
        assert own.read_text() == file.read_text()
    plain = read_run(tmp_path / "theirs")
    assert plain.facts.domains == run.facts.domains
    with says(RecordError, "identical outputs", "was the adapter applied?"):
        pair(run, [plain], name="x")


def test_a_finished_run_is_reused_and_only_the_same_one(tmp_path, tuned, monkeypatch):
    import lm_eval

    asked: list[int] = []
    original = lm_eval.simple_evaluate
    monkeypatch.setattr(lm_eval, "simple_evaluate", lambda **options: asked.append(1) or original(**options))
    first = evaluate(tuned[0], tmp_path)
    again = evaluate(tuned[0], tmp_path, batch_size=2)
    assert len(asked) == 1
    assert again.facts == first.facts
    assert np.array_equal(again.questions["law_torts"].score, first.questions["law_torts"].score)
    evaluate(tuned[0], tmp_path, conditions=Conditions(limit=4))
    evaluate({"pretrained": tuned[0], "max_length": 512}, tmp_path)
    evaluate(tuned[1], tmp_path)
    assert len(asked) == 4


def test_without_samples_files_the_run_is_the_same(tmp_path):
    written = evaluate(micro_model(), tmp_path / "a", model_name="micro/model")
    kept = evaluate(micro_model(), tmp_path / "b", model_name="micro/model", write_samples=False)
    assert {f.name for f in (tmp_path / "b").rglob("*") if f.is_file()} == {"run.safetensors", LOCK}
    assert kept.facts.domains == written.facts.domains
    assert kept.facts.model == written.facts.model
    assert kept.facts.model.name == "micro/model"
    for run in (read_run(tmp_path / "b"), read_run(next((tmp_path / "a").rglob("results_*.json")))):
        for name, table in run.questions.items():
            for column, values in table.arrays().items():
                assert np.array_equal(values, getattr(written.questions[name], column))


def test_files_that_lm_eval_could_not_write(tmp_path):
    from lm_eval.loggers import EvaluationTracker

    (tmp_path / "taken").write_text("no folder")
    results = choice_results(0)
    with says(RecordError, tmp_path / "taken", "disk full"):
        write_files(Finished(results, EvaluationTracker(output_path=str(tmp_path / "taken"))), tmp_path / "taken")


def test_shared_prefixes_change_the_last_digits_only(tmp_path):
    plain = evaluate(micro_model(), tmp_path / "a", write_samples=False)
    shared = evaluate(micro_model(), tmp_path / "b", write_samples=False, share_prefix=True)
    for name, table in plain.questions.items():
        assert table.log_likelihood == pytest.approx(shared.questions[name].log_likelihood, abs=1e-4)


def test_an_adapter_of_another_base_is_refused(tmp_path, tuned):
    other = save(ARCHITECTURES["llama"](), tiny_tokenizer(), tmp_path / "other")
    with says(ModelError, tuned[2], other, "was trained on"):
        evaluate({"pretrained": str(other), "peft": tuned[2]}, tmp_path)


def test_models_and_tasks_that_are_not_there(tmp_path):
    with says(ModelError, "cannot load", tmp_path / "nothing"):
        evaluate(str(tmp_path / "nothing"), tmp_path)
    with says(SettingsError, "pretrained="):
        evaluate({"dtype": "float32"}, tmp_path)
    with says(SettingsError, "micro_law_tort", "did you mean 'micro_law_torts'"), few_tasks():
        evaluate_model({"pretrained": micro_model()}, ["micro_law_tort"], tmp_path, device="cpu")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "gone.yaml").write_text(
        f"task: gone\ndataset_path: {tmp_path}/nowhere\noutput_type: multiple_choice\ntest_split: test\n"
        "doc_to_text: q\ndoc_to_target: a\ndoc_to_choice: c\n"
    )
    with says(DatasetError, "gone", "cannot be loaded"), few_tasks():
        evaluate_model(
            {"pretrained": micro_model()}, ["gone"], tmp_path, Conditions(include_path=tmp_path / "tasks"), device="cpu"
        )


# ---- MMLU-Pro on its real questions, by plain lm_eval

needs_questions = pytest.mark.skipif(not QUESTIONS.is_dir(), reason="the MMLU-Pro questions are not here")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[str, str]:
    """A random model and one tuned from it, so to say; and where they lie."""
    folder = tmp_path_factory.mktemp("small")
    base = str(save(ARCHITECTURES["llama"](), tiny_tokenizer(chat_template=True), folder / "base"))
    return base, perturbed(base, folder / "tuned", 1, 0.3)


@pytest.fixture(scope="module")
def mmlu_pro(tmp_path_factory) -> Path:
    return mmlu_pro_tasks(tmp_path_factory.mktemp("mmlu_pro") / "tasks")


@pytest.fixture(scope="module")
def plain(small, mmlu_pro, tmp_path_factory) -> dict[str, Path]:
    """Result folders of plain ``lm_eval`` runs."""
    folder = tmp_path_factory.mktemp("plain")

    def run(name: str, model: str, *options: str) -> None:
        lm_eval_command(
            *("--model", "hf", "--model_args", f"pretrained={model},max_length=256", "--tasks", "mmlu_pro"),
            *("--include_path", str(mmlu_pro), "--limit", "2", "--gen_kwargs", "max_gen_toks=4", "--device", "cpu"),
            *("--log_samples", "--output_path", str(folder / name), *options),
        )

    run("base", small[0])
    run("tuned", small[1])
    run("not tuned", small[0])
    run("one shot", small[1], "--num_fewshot", "1")
    run("one question", small[1], "--limit", "1")
    return {path.name: path for path in folder.iterdir()}


@needs_questions
def test_plain_runs_of_mmlu_pro_are_paired(plain, tmp_path):
    shown = command("--base", plain["base"], "--tuned", plain["tuned"], "--output", tmp_path / "o.json")
    outcome = load_record(Outcome, tmp_path / "o.json")
    measured = outcome.measurement
    assert (measured.tasks, measured.version, measured.num_fewshot) == ("mmlu_pro", "3.1", 5)
    assert (measured.metric, measured.filter, measured.limit) == ("exact_match", "custom-extract", 2)
    assert set(outcome.domains) == set(SUBJECTS)
    for subject, domain in outcome.domains.items():
        base, tuned = (
            pd.read_json(next(plain[side].rglob(f"samples_mmlu_pro_{subject}_*.jsonl")), lines=True)
            .set_index("doc_hash")
            .sort_index()
            for side in ("base", "tuned")
        )
        assert domain.score.delta == tuned["exact_match"].mean() - base["exact_match"].mean()
        unparsed = [(t["filtered_resps"].str[0] == "[invalid]").mean() for t in (base, tuned)]
        assert domain.unparsed.delta == unparsed[1] - unparsed[0]
        assert domain.score.se > 0
        assert subject in shown


@needs_questions
@pytest.mark.parametrize(
    ("side", "parts"),
    [
        ("not tuned", ("identical outputs", "was the adapter applied?")),
        ("one shot", ("num_fewshot of", "is 5 in", "and 1 in")),
        ("one question", ("--limit is 2.0 in", "and 1.0 in")),
    ],
)
def test_plain_runs_of_mmlu_pro_that_cannot_be_compared(plain, side, parts, tmp_path):
    with says(RecordError, *parts, plain["base"], plain[side]):
        command("--base", plain["base"], "--tuned", plain[side], "--output", tmp_path / "o.json")
    assert not (tmp_path / "o.json").exists()


@needs_questions
def test_an_interrupted_generation_goes_on_at_the_question(small, mmlu_pro, tmp_path, monkeypatch):
    from lm_eval.models.huggingface import HFLM

    generated: list[int] = []
    original = HFLM._model_generate

    def generate(self, context, *args, **options):
        if len(generated) == 3 and not (tmp_path / "on").exists():
            raise KeyboardInterrupt
        generated.extend([1] * len(context))
        return original(self, context, *args, **options)

    monkeypatch.setattr(HFLM, "_model_generate", generate)

    def run(folder: Path) -> Run:
        conditions = Conditions(limit=2, gen_kwargs="max_gen_toks=4", include_path=mmlu_pro)
        with few_tasks():
            return evaluate_model(
                {"pretrained": small[0], "max_length": 256},
                ["mmlu_pro"],
                folder,
                conditions,
                batch_size=1,
                device="cpu",
            )

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a")
    assert not list((tmp_path / "a").rglob("run.safetensors"))
    (tmp_path / "on").touch()
    interrupted = run(tmp_path / "a")
    assert len(generated) == 2 * len(SUBJECTS)
    assert not list((tmp_path / "a").rglob("*.db"))
    whole = run(tmp_path / "b")
    for subject in SUBJECTS:
        assert np.array_equal(interrupted.questions[subject].responses, whole.questions[subject].responses)


# ---- what is what


def test_sides(tmp_path, tuned, measured):
    work = measured.with_suffix(".runs")
    result = next(work.rglob("results_*.json"))
    assert [find_side(path).kind for path in (tuned[0], tuned[2], str(result), str(work))] == [
        *("model", "adapter", "run", "run"),
    ]
    assert find_side("some/model").kind == "model"
    assert find_side(tuned[2]).model_args({"pretrained": "b", "revision": "r"}) == {
        **{"pretrained": "b", "revision": "r", "peft": tuned[2]},
    }
    assert find_side(tuned[0]).model_args({"pretrained": "b", "revision": "r", "dtype": "d"}) == {
        **{"pretrained": tuned[0], "dtype": "d"},
    }
    with says(ModelError, tmp_path, "config.json", "results_"):
        find_side(str(tmp_path))
    with says(ModelError, tmp_path / "nothing"):
        find_side(str(tmp_path / "nothing"))


def test_a_base_that_is_an_adapter(tuned, tmp_path):
    with says(SettingsError, tuned[2], "is an adapter"):
        command("--base", tuned[2], "--tuned", tuned[0], "--output", tmp_path / "o.json")


def test_samples_are_those_with_the_time_stamp_of_the_result_file(tmp_path):
    for date in ("2026-11-22T11-02-30.135397", "2026-11-22T11-02-30"):
        (tmp_path / f"samples_local_{date}.jsonl").write_text(json.dumps({"date": date}))
        for name in ("results", "mine"):
            assert list(read_samples(tmp_path / f"{name}_{date}.json", "local")) == [{"date": date}]
    assert read_samples(tmp_path / "results_2026-11-22T11-02-31.json", "local") is None
    assert read_samples(tmp_path / "results.json", "local") is None
