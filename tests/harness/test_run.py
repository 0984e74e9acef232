"""The main job through lm-eval itself, on a tiny model and a benchmark of MMLU-Pro's shape."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lm_eval_sts.harness.benchmark import BenchmarkTask
from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, SHOWN
from lm_eval_sts.records import Prediction
from lm_eval_sts.records.score_errors import score_errors
from lm_eval_sts.verdict.results import read_predictions
from tests.harness.world import SUBJECTS, World, evaluate, make_world

SOME = ["sts_mmlu_pro_law", "sts_mmlu_pro_math", "sts_mmlu_pro_computer_science"]
NAMES = ("sts_act", "sts_icl", "sts_act_sq", "sts_act_unaligned", "sts_icl_unaligned")


def scores(results, name: str = "sts_icl") -> dict[str, float]:
    return {
        t.removeprefix("sts_mmlu_pro_"): m[f"{name},none"] for t, m in results["results"].items() if f"{name},none" in m
    }


def samples_read(results, subject: str) -> list[dict]:
    """The samples that were read: those beyond the token budget hold their plain prompt only."""
    return [s for s in results["samples"][f"sts_mmlu_pro_{subject}"] if len(s["arguments"][0]) == 2]


def sft_prompts(results) -> Path:
    """The file of the SFT queries' prompts, which the result names."""
    found = [c["metadata"]["sts_results"].get("sft_prompts") for c in results["configs"].values()]
    (name,) = [name for name in found if name]
    return Path(name)


def predictions_of(results, tmp_path) -> dict[str, Prediction]:
    file = tmp_path / "results_x.json"
    file.write_text(json.dumps(results, default=str))
    return {p.predictor: p for p in read_predictions(file)}


@pytest.fixture(scope="module")
def results(world):
    return evaluate(world, sts={"predictors": list(NAMES)})


def test_one_row_a_subject_and_finite_scores_with_errors(results):
    table = results["results"]
    assert sorted(scores(results)) == sorted(SUBJECTS)
    for name in NAMES:
        for subject in SUBJECTS:
            row = table[f"sts_mmlu_pro_{subject}"]
            assert np.isfinite(row[f"{name},none"]) and row[f"{name}_stderr,none"] >= 0
            shown = {key.partition(",")[0] for key in row if key.endswith(",none")}
            assert shown == {f"{each}{end}" for each in NAMES for end in ("", "_stderr")}
            assert not any(key.endswith("_stderr") for s in samples_read(results, subject) for key in s)
    assert "sts_mmlu_pro" in results["group_subtasks"]


def test_errors_in_the_table_contain_the_draws(results, tmp_path):
    for name, prediction in predictions_of(results, tmp_path).items():
        for subject, error in score_errors(prediction.domains).items():
            assert results["results"][f"sts_mmlu_pro_{subject}"][f"{name}_stderr,none"] == pytest.approx(error.se)
            if name == "sts_icl":
                assert error.se > prediction.domains[subject].se * 1.001


def test_the_result_file_holds_one_valid_record_a_predictor(results, world, tmp_path):
    records = predictions_of(results, tmp_path)
    assert list(records) == list(NAMES)
    record = records["sts_icl"]
    assert set(record.domains) == set(SUBJECTS)
    assert record.setting.benchmark.measured_by == "mmlu_pro" and record.setting.benchmark.measured_version == "3.1"
    assert record.setting.model.name == world.model and record.setting.sft_set.n_examples == 40
    assert record.provenance.seed == 1234 and record.provenance.package_versions["lm-eval"] != "unknown"
    for subject, score in scores(results).items():
        domain = record.domains[subject]
        assert domain.score == score == pytest.approx(np.mean(domain.draws))
        assert len(domain.draws) == 2 and domain.n_tokens >= domain.n_questions > 0
    assert record.selection is not None and len(record.selection.draws[0].features) == 10
    assert records["sts_icl_unaligned"].selection.rule == "unaligned"


def test_by_default_the_table_shows_a_few_and_the_file_holds_all(world, tmp_path):
    default = evaluate(world, SOME)
    records = predictions_of(default, tmp_path)
    assert tuple(records) == DEFAULT_PREDICTORS
    for task in SOME:
        subject = task.removeprefix("sts_mmlu_pro_")
        row = default["results"][task]
        assert {key for key in row if key.endswith(",none") and "_stderr" not in key} == {f"{n},none" for n in SHOWN}
        for name in SHOWN:
            assert row[f"{name},none"] == records[name].domains[subject].score
            assert all(np.isfinite(sample[name]) for sample in samples_read(default, subject))
        assert not any("sts_act_sq" in sample for sample in samples_read(default, subject))
    for record in records.values():
        assert set(record.domains) == {"law", "math", "computer_science"}
        assert (record.sae is None) == record.predictor.startswith(("null", "tfidf", "ngram", "loss"))


def test_a_predictor_without_a_score_says_so(world, tmp_path, caplog):
    """One question has no covariance; a note of one predictor stands in its record only, unless it has none."""
    names = ["sts_act", "representation_raw_covariance", "sts_icl_raw"]
    one = evaluate(world, ["sts_mmlu_pro_law"], sts={"predictors": names, "domain_tokens": 1, "n_features": 60})
    records = predictions_of(one, tmp_path)
    assert list(records) == ["sts_act", "sts_icl_raw"]
    written = one["configs"]["sts_mmlu_pro_law"]["metadata"]["sts_results"]
    assert list(written["left_out"]) == ["representation_raw_covariance"]
    assert [r.levelname for r in caplog.records if "covariance has no score for law" in r.message] == ["WARNING"]
    row = one["results"]["sts_mmlu_pro_law"]
    assert "sts_act,none" in row and "representation_raw_covariance,none" not in row
    for name, record in records.items():
        notes = "\n".join(record.provenance.notes)
        assert "representation_raw_covariance has no score for law" in notes
        assert ("sts_icl_raw selected 48 features of 60" in notes) == (name == "sts_icl_raw")


def test_samples_hold_each_questions_prompts_span_and_value(results):
    for subject in SUBJECTS:
        assert samples_read(results, subject)
        for sample in samples_read(results, subject):
            plain, facts = sample["arguments"][0]
            assert sample["doc"]["question"] in plain and plain.endswith("Answer: Let's think step by step.")
            assert len(facts["contexts"]) == 2 and all(sample["doc"]["question"] in c for c in facts["contexts"])
            assert facts["scored"][0][0] < facts["scored"][-1][1] == facts["plain_tokens"]
            assert np.isfinite(sample["sts_icl"])


def test_prompts_of_questions_that_are_not_read_are_made_for_the_log_alone(world, monkeypatch):
    built = []
    original = BenchmarkTask.build_prompt
    monkeypatch.setattr(
        BenchmarkTask, "build_prompt", lambda self, doc, *a: built.append(doc["question"]) or original(self, doc, *a)
    )
    few = {"predictors": ["sts_act"], "domain_tokens": 1}
    logged = evaluate(world, ["sts_mmlu_pro_law"], sts=few)["samples"]["sts_mmlu_pro_law"]
    unread = [s for s in logged if len(s["arguments"][0]) == 1]
    assert len(unread) == len(logged) - 1 > 1
    for sample in unread:
        assert built.count(sample["doc"]["question"]) == 1 and sample["doc"]["question"] in sample["arguments"][0][0]
    built.clear()
    evaluate(world, ["sts_mmlu_pro_law"], sts=few, log_samples=False)
    assert built and not {sample["doc"]["question"] for sample in unread} & set(built)


def test_the_first_draw_is_the_prompt_that_mmlu_pro_itself_shows(results, world):
    import lm_eval.tasks
    from lm_eval.tasks._factory import TaskFactory
    from lm_eval.tasks._index import TaskIndex

    entry = TaskIndex.entry_from_path(Path(lm_eval.tasks.__file__).parent / "mmlu_pro" / "mmlu_pro_law.yaml")
    task = TaskFactory().build(entry, overrides={"dataset_path": world.settings["benchmark_path"]}, registry={})
    task.set_fewshot_seed(1234)
    sample = samples_read(results, "law")[0]
    assert sample["arguments"][0][1]["contexts"][0] == task.fewshot_context(sample["doc"], num_fewshot=5)


def test_scores_do_not_depend_on_batch_size(results, world, tmp_path):
    for size in (3, "auto"):
        again = evaluate(world, SOME, sts={"profiles_dir": str(tmp_path / str(size))}, batch_size=size)
        for name in ("sts_act", "sts_icl"):
            for subject, score in scores(again, name).items():
                assert score == pytest.approx(scores(results, name)[subject], rel=1e-4)


def test_a_second_run_reads_nothing_and_gives_the_same(results, world, monkeypatch):
    from lm_eval_sts.features.reader import Reader

    monkeypatch.setattr(Reader, "read", lambda *a: pytest.fail("read again"))
    again = scores(evaluate(world, SOME))
    assert again == {subject: scores(results)[subject] for subject in again}


def test_seed_limit_and_token_budget(results, world):
    law = ["sts_mmlu_pro_law"]
    assert scores(evaluate(world, law, fewshot_random_seed=7))["law"] != scores(results)["law"]
    assert scores(evaluate(world, law, sts={"seed": 1234}, fewshot_random_seed=7))["law"] == scores(results)["law"]
    limited = evaluate(world, law, limit=2, sts={"domain_tokens": 10_000})
    assert limited["n-samples"]["sts_mmlu_pro_law"]["effective"] == 2
    small = evaluate(world, law, sts={"domain_tokens": 1})
    assert {n["effective"] for t, n in small["n-samples"].items()} == {1}
    assert small["results"]["sts_mmlu_pro_law"]["sts_icl_stderr,none"] == "N/A"
    assert len(small["samples"]["sts_mmlu_pro_law"]) == 6, "questions beyond the budget are listed, without a value"


@pytest.mark.parametrize("multiturn", [True, False])
def test_chat_template_and_system_instruction(world, multiturn):
    chat = evaluate(
        world,
        tasks=["sts_mmlu_pro_law", "sts_mmlu_pro_math"],
        apply_chat_template=True,
        fewshot_as_multiturn=multiturn,
        system_instruction="Be brief.",
    )
    plain, facts = samples_read(chat, "law")[0]["arguments"][0]
    assert plain.startswith("<bos>[SYS]Be brief.") and plain.endswith("<assistant>\n")
    assert facts["contexts"][0].count("<assistant>") == (6 if multiturn else 1)
    line = json.loads(sft_prompts(chat).read_text().splitlines()[0])
    assert "Be brief" in line["plain"] and line["contexts"][0].count("Solve:") == 3


@pytest.mark.parametrize("rule", ["content", "last"])
def test_token_rules(world, rule):
    results = evaluate(world, tasks=["sts_mmlu_pro_law"], sts={"tokens": rule}, apply_chat_template=True)
    for sample in samples_read(results, "law"):
        plain, facts = sample["arguments"][0]
        ((start, stop),) = facts["scored"]
        if rule == "last":
            assert stop - start == 1
        else:  # the tiny tokenizer has one token a byte, and BOS is written in the prompt
            text = plain.removeprefix("<bos>")[start - 1 : stop - 1]
            assert text.startswith("Question:") and text.endswith("step by step.")


def test_special_tokens_are_scored_where_asked_for(world, tmp_path):
    """The tiny tokenizer puts one BOS before every prompt: one token a question, whose features do not move."""
    found = {}
    for rule in ("suffix", "special"):
        (tmp_path / rule).mkdir()
        run = evaluate(world, ["sts_mmlu_pro_law"], sts={"tokens": rule})
        found[rule] = predictions_of(run, tmp_path / rule)
    plain, special = (found[rule]["sts_icl"].domains["law"] for rule in ("suffix", "special"))
    assert special.n_tokens == plain.n_tokens + plain.n_questions
    assert special.score == pytest.approx(plain.score * plain.n_tokens / special.n_tokens, rel=1e-4)
    assert found["special"]["sts_act"].domains["law"].score != found["suffix"]["sts_act"].domains["law"].score


@pytest.mark.parametrize("templated", [False, True])
def test_responses_of_the_sft_set_are_scored_where_asked_for(world, templated):
    chosen = {"sft_scored": "response"}
    results = evaluate(world, ["sts_mmlu_pro_law"], sts=chosen, apply_chat_template=templated)
    rows = [json.loads(line) for line in Path(world.settings["sft_set"]).read_text().splitlines()]
    for line in map(json.loads, sft_prompts(results).read_text().splitlines()):
        ((start, stop),) = line["scored"]
        response = rows[int(line["name"].removeprefix("sft/"))]["response"]
        expected = response if templated else f"\n{response}"
        assert stop == line["plain_tokens"] and stop - start == len(expected.encode())  # one token a byte
        assert all(text.endswith(expected) for text in (line["plain"], *line["contexts"]))


def test_settings_from_a_file_and_unknown_keys(world, results, tmp_path):
    import yaml

    from lm_eval_sts.errors import SettingsError

    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(world.settings))
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from lm_eval_sts.harness.discovery import tasks_path

    def run(sts):
        manager = TaskManager(include_path=str(tasks_path()), include_defaults=False, metadata={"sts": sts})
        return simple_evaluate(
            model="hf",
            model_args={"pretrained": world.model},
            tasks=["sts_mmlu_pro_law"],
            task_manager=manager,
            device="cpu",
        )

    assert scores(run(str(file)))["law"] == scores(results)["law"]
    with pytest.raises(SettingsError, match="'sea'.*did you mean 'sae'"):
        run({"sea": "x"})


def test_models_without_hidden_states_are_refused_before_anything_is_read(world):
    from lm_eval.api.registry import get_model

    from lm_eval_sts.errors import ModelError

    dummy = get_model("dummy")()
    with pytest.raises(ModelError, match="--model hf"):
        evaluate(world, model=dummy, tasks=["sts_mmlu_pro_law"])


def test_through_lm_evals_response_cache(world, results, tmp_path):
    cached = evaluate(world, tasks=["sts_mmlu_pro_law"], use_cache=str(tmp_path / "cache"))
    assert scores(cached)["law"] == scores(results)["law"]


def test_wrong_sae_width_and_missing_split(world, tmp_path):
    from lm_eval_sts.errors import DatasetError, SaeError
    from tests.tiny_saes import save_tiny_sae

    wide = save_tiny_sae(tmp_path / "wide", d_in=64)
    with pytest.raises(SaeError, match="64.*48"):
        evaluate(world, tasks=["sts_mmlu_pro_law"], sts={"sae": str(wide)})
    shutil.copytree(world.root / "benchmark", tmp_path / "benchmark")
    (tmp_path / "benchmark" / "validation.parquet").unlink()
    with pytest.raises(DatasetError, match="no split 'validation'"):
        evaluate(world, tasks=["sts_mmlu_pro_law"], sts={"benchmark_path": str(tmp_path / "benchmark")})


def test_a_subject_without_questions_and_too_few_demonstrations(world):
    from lm_eval_sts.errors import DatasetError

    with pytest.raises(DatasetError, match=r"9 demonstrations.*has 5.*domain_demos"):
        evaluate(world, tasks=["sts_mmlu_pro_law"], sts={"domain_demos": 9})
    with pytest.raises(DatasetError, match="no questions for law"):
        import datasets

        folder = world.root / "only_math"
        for split in ("test", "validation"):
            rows = datasets.load_dataset(world.settings["benchmark_path"])[split]
            folder.mkdir(exist_ok=True)
            rows.filter(lambda r: r["category"] == "math").to_parquet(str(folder / f"{split}.parquet"))
        evaluate(world, tasks=["sts_mmlu_pro_law"], sts={"benchmark_path": str(folder)})


def test_demonstrations_that_do_not_fit_are_left_out_and_said(world, tmp_path):
    from lm_eval_sts.errors import PromptError

    arguments = {"pretrained": world.model, "max_length": 1400}
    results = evaluate(world, tasks=["sts_mmlu_pro_law"], model_args=arguments)
    notes = predictions_of(results, tmp_path)["sts_icl"].provenance.notes
    assert any("demonstrations fit" in note for note in notes)
    with pytest.raises(PromptError, match="not one demonstration fits"):
        evaluate(
            world,
            tasks=["sts_mmlu_pro_law"],
            sts={"sft_demos": 1},
            model_args={**arguments, "max_length": 200},
        )


def test_recomputed_from_the_written_files_with_transformers_and_saelens_alone(world, results):
    """An outsider's computation: nothing of this package, one prompt at a time."""
    from sae_lens import SAE
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(world.model)
    tokenizer = AutoTokenizer.from_pretrained(world.model)
    sae = SAE.load_from_disk(world.settings["sae"])

    def features(prompt: str, spans: list[list[int]], shift: int) -> torch.Tensor:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            stream = model(ids, output_hidden_states=True).hidden_states[3][0]
            positions = [p + shift for start, stop in spans for p in range(start, stop)]
            return sae.encode(stream[positions]).double()

    def pairs(prompts):
        for plain, facts in prompts:
            own = features(plain, facts["scored"], 0)
            shown = [
                features(c, facts["scored"], n - facts["plain_tokens"])
                for c, n in zip(facts["contexts"], facts["context_tokens"], strict=True)
            ]
            yield own, shown

    lines = [json.loads(line) for line in sft_prompts(results).read_text().splitlines()]
    read = list(pairs((line["plain"], line) for line in lines))
    tokens = sum(len(own) for own, _ in read)
    chosen = [
        torch.topk(sum(((shown[k] - own) ** 2).sum(0) for own, shown in read) / tokens, 10).indices for k in range(2)
    ]
    for subject in ("law", "computer_science", "math"):
        samples = samples_read(results, subject)
        read = list(pairs(sample["arguments"][0] for sample in samples))
        tokens = sum(len(own) for own, _ in read)
        act = np.mean([sum(float(own[:, d].sum()) for own, _ in read) / tokens for d in chosen])
        icl = np.mean(
            [
                sum(float(((shown[k] - own)[:, d] ** 2).sum()) for own, shown in read) / tokens
                for k, d in enumerate(chosen)
            ]
        )
        row = results["results"][f"sts_mmlu_pro_{subject}"]
        assert row["sts_act,none"] == pytest.approx(act, rel=1e-4)
        assert row["sts_icl,none"] == pytest.approx(icl, rel=1e-4)


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_padding_side_changes_nothing(padding_side, tmp_path):
    world: World = make_world(tmp_path, "mistral", padding_side=padding_side)
    alone = scores(evaluate(world, tasks=["sts_mmlu_pro_law"], batch_size=1))["law"]
    together = evaluate(world, tasks=["sts_mmlu_pro_law"], batch_size=8, sts={"profiles_dir": str(tmp_path / "other")})
    assert scores(together)["law"] == pytest.approx(alone, rel=1e-4)
