"""Runs: lm-eval's own files and in-memory results say the same, and what is wrong with them is said."""

from __future__ import annotations

import cProfile
import json
import pstats
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.outcomes.lm_eval_results import read_run, run_from_results
from lm_eval_sts.outcomes.metrics import MetricChoice
from lm_eval_sts.outcomes.runs import Run, load_run, save_run
from tests.messages import says
from tests.outcomes.made import (
    answer_results,
    answer_samples,
    as_run,
    choice_results,
    choice_samples,
    make_results,
    write,
)


def same_questions(a: Run, b: Run) -> bool:
    return all(
        set(a.questions[d].arrays()) == set(b.questions[d].arrays())
        and all(
            np.array_equal(column, getattr(b.questions[d], name)) for name, column in a.questions[d].arrays().items()
        )
        for d in {**a.questions, **b.questions}
    )


@pytest.mark.parametrize("made", [choice_results, answer_results])
def test_files_and_memory_say_the_same(made, tmp_path):
    results = made(0)
    file = write(results, tmp_path)
    run, memory = read_run(tmp_path), as_run(results, str(file))
    assert run.facts == memory.facts
    assert len(run.questions) == 4
    assert same_questions(run, memory)
    assert same_questions(read_run(file), memory)


def test_a_row_of_multiple_choice_by_hand():
    values = np.array([[-1.0, -2.0, -3.0, -4.0], [-1.0, -2.0, -3.0, -4.0]])
    run = as_run(make_results({"made_x": choice_samples("made_x", values, [0, 2])}))
    table = run.questions["x"]
    by_gold = {round(float(ll)): i for i, ll in enumerate(table.log_likelihood)}
    total = np.log(np.exp([-1.0, -2, -3, -4]).sum())
    assert table.score[by_gold[-1]] == 1
    assert table.score[by_gold[-3]] == 0
    assert table.choice_log_likelihood[by_gold[-1]] == pytest.approx(-1 - total)
    assert table.choice_log_likelihood[by_gold[-3]] == pytest.approx(-3 - total)
    assert table.answered is None


def test_a_row_of_generation_by_hand():
    run = as_run(make_results({"made_x": answer_samples("made_x", ["A", "[invalid]", "B"], ["A", "A", "A"])}))
    table = run.questions["x"]
    assert sorted(zip(table.score.tolist(), table.answered.tolist(), strict=True)) == [(0, False), (0, True), (1, True)]
    assert table.log_likelihood is None


def test_the_tasks_own_fallback_counts():
    results = make_results({"made_x": answer_samples("made_x", ["A", "none", "[invalid]"], ["A", "A", "A"])})
    results["configs"]["made_x"]["filter_list"][0]["filter"][0]["fallback"] = "none"
    assert as_run(results).questions["x"].answered.sum() == 2


def test_a_task_that_extracts_nothing_has_no_unparsed_answers():
    results = answer_results(0)
    for config in results["configs"].values():
        config["filter_list"] = [{"name": "extract", "filter": [{"function": "take_first"}]}]
    assert as_run(results).questions["0"].answered is None


@pytest.mark.parametrize(
    ("column", "target", "index"),
    [("answer_index", 2, 2), (None, 2, 2), (None, "2", 2), (None, "blue", 2), ("name", "blue", 2)],
)
def test_the_right_option_is_found(column, target, index):
    values = np.array([[-1.0, -2, -3, -4], [-5, -4, -3, -2]])
    results = make_results({"made_x": choice_samples("made_x", values, [index, index])})
    for sample in results["samples"]["made_x"]:
        sample["target"] = target
        sample["doc"] = {"question": sample["doc"]["question"]} | ({column: target} if column else {})
    results["configs"]["made_x"]["doc_to_target"] = column or "{{something}}"
    assert as_run(results).questions["x"].log_likelihood.tolist() == [-3, -3]


def test_a_right_option_that_contradicts_the_score_is_not_believed():
    # The text of an option may be a digit: "2" is the third option's index and the first one's text.
    values = np.array([[-1.0, -2, -3], [-1.0, -2, -3]])
    results = make_results({"made_x": choice_samples("made_x", values, [0, 0])})
    for sample in results["samples"]["made_x"]:
        sample["target"], sample["doc"] = "2", {"question": sample["doc"]["question"]}
    run = as_run(results)
    assert run.questions["x"].log_likelihood is None
    assert any("which option is right cannot be told" in note for note in run.facts.notes)
    assert run.questions["x"].score.tolist() == [1, 1]


def test_infinite_likelihoods_leave_the_score():
    values = np.array([[-1.0, -np.inf], [-1.0, -2.0]])
    run = as_run(make_results({"made_x": choice_samples("made_x", values, [1, 0])}))
    assert run.questions["x"].log_likelihood is None
    assert sorted(run.questions["x"].score.tolist()) == [0, 1]
    assert any("infinite" in note for note in run.facts.notes)


def test_a_likelihood_that_is_no_number():
    values = np.array([[-1.0, np.nan], [-1.0, -2.0]])
    with says(RecordError, "made_x", "document 0", "not finite"):
        as_run(make_results({"made_x": choice_samples("made_x", values, [0, 0])}))


def test_conditions_are_kept(tmp_path):
    results = choice_results(
        0, chat_template_sha="ab" * 32, system_instruction_sha="cd" * 32, fewshot_as_multiturn=False
    )
    results["config"] |= {
        "limit": 30,
        "model_args": "pretrained=a/b,peft=my/adapter,dtype=bfloat16",
        "model_sha": "f00",
    }
    write(results, tmp_path)
    facts = read_run(tmp_path).facts
    assert (facts.chat_template_hash, facts.system_instruction_hash) == ("ab" * 32, "cd" * 32)
    assert (facts.fewshot_as_multiturn, facts.limit, facts.lm_eval_version) == (False, 30, "0.4.13")
    assert (facts.model.name, facts.adapter, facts.model.revision) == ("a/b", "my/adapter", "f00")
    assert facts.model.dtype == "float32"
    assert facts.tasks == "made"
    domain = facts.domains["0"]
    assert (domain.task, domain.version, domain.metric, domain.filter, domain.num_fewshot, domain.n) == (
        *("made_0", "1.0", "acc", "none"),
        *(5, 30),
    )
    assert domain.error == pytest.approx((domain.value * (1 - domain.value) / 29) ** 0.5)


def test_two_tasks_with_one_alias_keep_their_names():
    results = choice_results(0, tasks=3)
    for task in ("made_0", "made_2"):
        results["results"][task]["alias"] = " - law"
    assert set(as_run(results).facts.domains) == {"made_0", "1", "made_2"}


def test_a_result_without_samples(tmp_path):
    file = write(choice_results(0), tmp_path, samples=False)
    run = read_run(file)
    assert run.questions == {}
    assert run.facts.domains["0"].n == 30


def test_an_error_that_lm_eval_left_out():
    results = choice_results(0)
    results["results"]["made_0"]["acc_stderr,none"] = "N/A"
    given, made = as_run(choice_results(0)).facts.domains["0"], as_run(results).facts.domains["0"]
    assert made.error == pytest.approx(given.error)


def test_all_right_or_all_wrong_is_not_without_error():
    # 4 wrong answers and 2 + 2 more: 2 of 8.
    results = make_results({"made_x": answer_samples("made_x", ["B"] * 4, ["A"] * 4)})
    assert results["results"]["made_x"]["exact_match_stderr,extract"] == 0
    assert as_run(results).facts.domains["x"].error == pytest.approx((0.25 * 0.75 / 8) ** 0.5)


# ---- which metric, which filter


def with_two_metrics() -> dict:
    results = choice_results(0)
    for task, rows in results["samples"].items():
        results["results"][task]["acc_norm,none"] = 0.5
        for i, row in enumerate(rows):
            row["acc_norm"] = float(i % 2)
    return results


def test_of_several_metrics_one_is_taken_and_said():
    run = as_run(with_two_metrics())
    assert {d.metric for d in run.facts.domains.values()} == {"acc"}
    assert run.facts.notes == ("of the metrics acc, acc_norm acc was taken: choose another with --metric",)


def test_the_metric_asked_for():
    run = run_from_results(with_two_metrics(), source="x", choice=MetricChoice("acc_norm"))
    assert run.facts.domains["0"].value == 0.5
    assert run.facts.notes == ()
    with says(SettingsError, "--metric f1", "made_0", "acc, acc_norm"):
        run_from_results(with_two_metrics(), source="x", choice=MetricChoice("f1"))


def with_two_filters() -> dict:
    results = answer_results(0, tasks=2)
    for task, rows in results["samples"].items():
        entry = results["results"][task]
        entry |= {"exact_match,loose": 1.0, "exact_match_stderr,loose": 0.0}
        rows += [row | {"filter": "loose", "exact_match": 1.0, "filtered_resps": ["A"]} for row in rows]
    return results


def test_samples_of_several_filters(tmp_path):
    write(with_two_filters(), tmp_path)
    first, loose = read_run(tmp_path), read_run(tmp_path, MetricChoice(filter="loose"))
    assert first.facts.domains["0"].filter == "extract"
    assert any("filters extract, loose" in note for note in first.facts.notes)
    assert first.questions["0"].score.mean() < 1
    assert loose.questions["0"].score.mean() == 1
    with says(SettingsError, "--filter strict", "extract, loose"):
        read_run(tmp_path, MetricChoice(filter="strict"))


def test_a_metric_that_is_no_number_a_question():
    results = choice_results(0, tasks=1)
    for row in results["samples"]["made_0"]:
        row["acc"] = (1, 0)
    with says(RecordError, "made_0", "acc", "--metric"):
        as_run(results)


def test_a_metric_that_is_no_mean_is_said():
    results = choice_results(0, tasks=1)
    results["results"]["made_0"]["acc,none"] = 0.123
    with says(RecordError, "made_0", "0.123", "another run"):
        as_run(results)
    results["configs"]["made_0"]["metric_list"] = [{"metric": "acc", "aggregation": "def own(items): ..."}]
    assert any("not a mean" in note for note in as_run(results).facts.notes)


# ---- files that are not as they should be


def test_no_folder_no_results_no_lm_eval(tmp_path):
    with says(RecordError, tmp_path / "nowhere"):
        read_run(tmp_path / "nowhere")
    with says(RecordError, tmp_path, "--output_path"):
        read_run(tmp_path)
    (tmp_path / "results_1.json").write_text('{"results": {}}')
    with says(RecordError, "results_1.json", "no lm-eval results"):
        read_run(tmp_path)
    (tmp_path / "results_1.json").write_text("[]")
    with says(RecordError, "results_1.json"):
        read_run(tmp_path)


def test_several_runs_in_a_folder_are_listed(tmp_path):
    files = [write(choice_results(seed), tmp_path, model=f"m{seed}") for seed in (0, 1)]
    with says(RecordError, "2 runs", *(f.name for f in files)):
        read_run(tmp_path)
    assert read_run(files[1]).facts.source == str(files[1])


def test_samples_of_another_time_are_not_taken(tmp_path):
    file = write(choice_results(0), tmp_path)
    for samples in file.parent.glob("samples_made_0_*"):
        samples.rename(file.parent / "samples_made_0_2020-01-01T00-00-00.000000.jsonl")
    assert set(read_run(tmp_path).questions) == {"1", "2", "3"}


def edit(folder: Path, change) -> None:
    """Replaces the lines of one samples file."""
    (file,) = folder.rglob("samples_made_1_*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in change(lines)))


def test_a_samples_file_that_was_cut_short(tmp_path):
    write(choice_results(0), tmp_path)
    (file,) = tmp_path.rglob("samples_made_1_*.jsonl")
    whole = file.read_text()
    file.write_text(whole[:-40])
    with says(RecordError, file, "line 30", "cut short"):
        read_run(tmp_path)
    file.write_text(whole[: whole.rindex("\n", 0, -1) + 1])
    with says(RecordError, "made_1", "29 of 30"):
        read_run(tmp_path)


def test_a_document_twice(tmp_path):
    write(choice_results(0), tmp_path)
    edit(tmp_path, lambda lines: [*lines[:-1], lines[0]])
    with says(RecordError, "document 0", "made_1", "twice"):
        read_run(tmp_path)


def test_samples_without_a_hash_are_known_by_their_document(tmp_path):
    results = choice_results(0)
    write(results, tmp_path)
    edit(
        tmp_path,
        lambda lines: [{k: v for k, v in line.items() if k not in ("doc_hash", "prompt_hash")} for line in lines],
    )
    assert same_questions(read_run(tmp_path), as_run(results))


def test_samples_without_any_identity(tmp_path):
    write(choice_results(0), tmp_path)
    edit(tmp_path, lambda lines: [{k: v for k, v in line.items() if k not in ("doc_hash", "doc")} for line in lines])
    with says(RecordError, "made_1", "neither doc_hash nor doc", "--log_samples"):
        read_run(tmp_path)


def test_the_order_of_the_samples_does_not_matter(tmp_path):
    results = choice_results(0)
    write(results, tmp_path)
    edit(tmp_path, lambda lines: lines[::-1])
    assert same_questions(read_run(tmp_path), as_run(results))


# ---- stored runs


@pytest.mark.parametrize("made", [choice_results, answer_results])
def test_a_stored_run_is_the_run(made, tmp_path):
    run = as_run(made(0))
    save_run(run, tmp_path / "a" / "run.safetensors")
    for path in (tmp_path / "a" / "run.safetensors", tmp_path):
        loaded = read_run(path)
        assert loaded.facts == run.facts
        assert same_questions(loaded, run)


def test_a_stored_run_with_another_metric(tmp_path):
    file = write(with_two_metrics(), tmp_path)
    save_run(read_run(file), tmp_path / "run.safetensors")
    assert read_run(tmp_path, MetricChoice("acc_norm")).facts.domains["0"].value == 0.5
    for samples in file.parent.iterdir():
        samples.unlink()
    with says(SettingsError, "acc under filter none", "measure again"):
        read_run(tmp_path, MetricChoice("acc_norm"))


def test_a_stored_run_that_was_altered(tmp_path, caplog):
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "run.safetensors"
    run = as_run(choice_results(0))
    save_run(run, path)
    with safe_open(path, "np") as file:
        header = file.metadata()
    arrays = load_file(path)
    flipped = arrays | {"0/score": 1 - arrays["0/score"]}
    save_file(flipped, path, metadata=header)
    with says(RecordError, path, "altered", "measure again"):
        load_run(path)
    save_file(arrays, path, metadata=header | {"run": header["run"].replace("a/model", "b/model")})
    with says(RecordError, path, "altered"):
        load_run(path)
    save_file(arrays, path, metadata={"run": header["run"]})
    assert load_run(path).facts == run.facts
    assert "no content hash" in caplog.text
    save_file(flipped, path, metadata={"run": header["run"]})
    with says(RecordError, path, "another mean"):
        load_run(path)
    save_file(arrays, path, metadata={"run": header["run"][:-9]})
    with says(RecordError, path, "not JSON"):
        load_run(path)


def test_any_flipped_bit_of_a_stored_run_is_seen(tmp_path):
    path, run = tmp_path / "run.safetensors", as_run(choice_results(0, n=5, tasks=1))
    save_run(run, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(whole), 200, replace=False):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        try:
            again = load_run(path)
        except RecordError:
            continue
        assert again.facts == run.facts  # what pads the header says nothing
        assert same_questions(again, run)


def test_stored_runs_are_checked(tmp_path):
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "run.safetensors"
    run = as_run(choice_results(0))
    save_run(run, path)
    arrays, header = load_file(path), {"run": run.facts.model_dump_json()}
    path.write_bytes(path.read_bytes()[:-100])
    with says(RecordError, path, "cannot read"):
        load_run(path)
    save_file(arrays, path)
    with says(RecordError, path, "not a stored run"):
        load_run(path)
    for change in (
        {"0/score": arrays["0/score"][:-1]},
        {"0/score": arrays["0/score"].astype(np.float32)},
        {"0/score": np.full(30, np.nan)},
        {"0/other": arrays["0/score"]},
        {"9/score": arrays["0/score"]},
    ):
        save_file(arrays | change, path, metadata=header)
        with says(RecordError, path, "not a valid stored run"):
            load_run(path)
    fewer = {name: array[:-1].copy() if name.startswith("0/") else array for name, array in arrays.items()}
    save_file(fewer, path, metadata=header)
    with says(RecordError, path, "number of questions"):
        load_run(path)


def test_reading_grows_with_the_questions_and_no_faster(tmp_path):
    """Calls of functions, not seconds: MMLU-Pro has 12,000 questions."""
    calls = []
    for n in (50, 200):
        write(choice_results(0, n=n, tasks=4), tmp_path / str(n))
        with cProfile.Profile() as profile:
            assert sum(len(table) for table in read_run(tmp_path / str(n)).questions.values()) == 4 * n
        calls.append(pstats.Stats(profile).total_calls)
    assert calls[1] < 4.5 * calls[0] and calls[1] / 800 < 1000
