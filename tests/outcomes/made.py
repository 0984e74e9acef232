"""lm-eval results made of chosen answers, in memory as ``simple_evaluate`` returns them and in lm-eval's own files."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lm_eval_sts.outcomes.lm_eval_results import run_from_results
from lm_eval_sts.outcomes.runs import Run

Results = dict[str, Any]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sample(task: str, i: int, doc: dict[str, Any], target: Any, **more: Any) -> dict[str, Any]:
    prompt = f"Shots.\n\n{doc['question']}"
    return {
        "doc_id": i,
        "doc": doc,
        "target": target,
        "doc_hash": sha(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": sha(prompt),
        "target_hash": sha(str(target)),
        **more,
    }


def choice_samples(task: str, likelihoods: np.ndarray, golds: Sequence[int]) -> list[dict[str, Any]]:
    """Samples of a multiple-choice task: log-likelihoods [n, options], index of the right option."""
    samples = []
    for i, (row, gold) in enumerate(zip(likelihoods, golds, strict=True)):
        options = ["red", "green", "blue", "grey"][: len(row)]
        doc = {"question": f"{task} {i}?", "options": options, "answer_index": int(gold)}
        responses = [(float(value), bool(value == row.max())) for value in row]
        samples.append(
            _sample(
                task,
                i,
                doc,
                int(gold),
                arguments=[(f"Shots.\n\n{doc['question']}", f" {option}") for option in options],
                resps=[[response] for response in responses],
                filtered_resps=responses,
                filter="none",
                metrics=["acc"],
                acc=float(int(np.argmax(row)) == gold),
            )
        )
    return samples


def answer_samples(task: str, answers: Sequence[str], golds: Sequence[str], name: str = "extract") -> list[dict]:
    """Samples of a generation task; ``[invalid]`` for no answer."""
    return [
        _sample(
            task,
            i,
            {"question": f"{task} {i}?", "answer": gold},
            gold,
            arguments=[(f"Shots.\n\n{task} {i}?", {"until": ["Question:"]})],
            resps=[[f"So {answer}, I think."]],
            filtered_resps=[answer],
            filter=name,
            metrics=["exact_match"],
            exact_match=float(answer == gold),
        )
        for i, (answer, gold) in enumerate(zip(answers, golds, strict=True))
    ]


_CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_target": "answer_index",
    "target_delimiter": " ",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
_ANSWER = {
    "output_type": "generate_until",
    "doc_to_target": "answer",
    "generation_kwargs": {"until": ["Question:"], "max_gen_toks": 2048},
    "filter_list": [
        {
            "name": "extract",
            "filter": [{"function": "regex", "regex_pattern": "So (.)"}, {"function": "take_first"}],
        }
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def make_results(samples: dict[str, list[dict[str, Any]]], **changes: Any) -> Results:
    """Results of tasks with these samples, in one group ``made``; ``changes`` replace top-level entries."""
    results: Results = {
        "results": {},
        "group_subtasks": {"made": list(samples)},
        "configs": {},
        "versions": {"made": 1.0},
        "n-shot": {},
        "n-samples": {},
        "config": {
            "model": "hf",
            "model_args": {"pretrained": "a/model"},
            "model_dtype": "torch.float32",
            "limit": None,
        },
        "lm_eval_version": "0.4.13",
        "chat_template_sha": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": True,
        "samples": samples,
    }
    for task, rows in samples.items():
        choice = rows[0]["metrics"] == ["acc"]
        metric, name = rows[0]["metrics"][0], rows[0]["filter"]
        values = np.array([row[metric] for row in rows if row["filter"] == name])
        results["results"][task] = {
            "name": task,
            "alias": task.removeprefix("made_"),
            "sample_len": len(values),
            f"{metric},{name}": float(values.mean()),
            f"{metric}_stderr,{name}": float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else "N/A",
        }
        results["configs"][task] = copy.deepcopy(_CHOICE if choice else _ANSWER) | {"task": task, "num_fewshot": 5}
        results["versions"][task] = 1.0
        results["n-shot"][task] = 5
        results["n-samples"][task] = {"original": len(values), "effective": len(values)}
    return results | changes


def choice_results(seed: int, *, n: int = 30, tasks: int = 4, shift: float = 0.0, **changes: Any) -> Results:
    """A run of multiple-choice tasks whose answers depend on the seed, and whose questions do not."""
    rng, samples = np.random.default_rng(seed), {}
    for k in range(tasks):
        golds = np.random.default_rng(k).integers(0, 4, n)
        values = -3 + np.random.default_rng([k, 1]).normal(size=(n, 4)) + 0.5 * rng.normal(size=(n, 4))
        values[np.arange(n), golds] += 1 + shift
        samples[f"made_{k}"] = choice_samples(f"made_{k}", values, golds)
    return make_results(samples, **changes)


def answer_results(seed: int, *, n: int = 30, tasks: int = 4, **changes: Any) -> Results:
    """The same for tasks that generate."""
    rng = np.random.default_rng(seed)
    golds = ["ABCD"[i % 4] for i in range(n)]
    drawn = {f"made_{k}": rng.choice(["A", "B", "C", "D", "[invalid]"], n).tolist() for k in range(tasks)}
    return make_results({task: answer_samples(task, answers, golds) for task, answers in drawn.items()}, **changes)


def as_run(results: Results, source: str = "a run") -> Run:
    return run_from_results(results, source=source)


def write(results: Results, folder: Path, *, samples: bool = True, model: str = "model") -> Path:
    """Writes lm-eval's files with lm-eval's own tracker.

    Returns:
        The result file.
    """
    from lm_eval.loggers import EvaluationTracker

    results = copy.deepcopy(results)
    rows = results.pop("samples")
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.model_name_sanitized = model
    for name in ("chat_template_sha", "system_instruction_sha", "fewshot_as_multiturn"):
        setattr(tracker.general_config_tracker, name, results[name])
    tracker.save_results_aggregated(results=results, samples=rows if samples else None)
    if samples:
        for task in rows:
            tracker.save_results_samples(task_name=task, samples=rows[task])
    return folder / model / f"results_{tracker.date_id}.json"
