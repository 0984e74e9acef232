"""A data folder as studies/smollm.yaml wants one: questions of three domains, tasks for them, SFT sets, a corpus."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

LEGS = {"spider": 8, "ant": 6, "dog": 4, "hen": 2, "bee": 6, "cat": 4, "crab": 10, "man": 2, "horse": 4, "snake": 0}
DOMAINS = ("biology", "history", "math")
ROWS = {"validation": 2, "test": 4, "measure": 6}
"""Questions of a domain, by split."""

_UTILS = """\
import json
import os
from functools import partial
from pathlib import Path

import datasets


def load(**_):
    def rows(split):
        return [json.loads(line) for line in (Path(os.environ["BENCH"]) / f"{split}.jsonl").open()]

    return datasets.DatasetDict({split: datasets.Dataset.from_list(rows(split)) for split in ("validation", "measure")})


def text(doc):
    options = "".join(f"{letter}. {option}\\n" for letter, option in zip("ABCD", doc["options"]))
    return f"{doc['question']}\\n{options}Answer:"


def only(docs, domain):
    return docs.filter(lambda doc: doc["category"] == domain)


biology, history, math = (partial(only, domain=domain) for domain in ("biology", "history", "math"))
"""
_MEASURE = """\
output_type: multiple_choice
custom_dataset: !function utils.load
test_split: measure
fewshot_split: validation
fewshot_config: {sampler: first_n}
doc_to_text: !function utils.text
doc_to_choice: [A, B, C, D]
doc_to_target: answer_index
num_fewshot: 1
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""
_PREDICT = """\
class: !function lm_eval_sts.harness.task.TransferTask
metadata:
  version: 1.0
  benchmark: sts_real
  measured_by: mcf
  measured_version: 1.0
  shares_questions: false
  answers: {form: " The answer is ({letter}).", options: options, gold: answer_index}
"""


def write_kit(folder: Path) -> None:
    """Writes it."""
    rng = random.Random(0)
    for split, n in ROWS.items():
        _lines(folder / "bench" / f"{split}.jsonl", (_question(d, i, split, rng) for d in DOMAINS for i in range(n)))
    _tasks(folder / "tasks")
    sums = [(rng.randint(2, 40), rng.randint(2, 40)) for _ in range(40)]
    said = [
        (f"Ann has {a} coins and finds {b}. How many has she?", f"{a} + {b} = {a + b}. #### {a + b}") for a, b in sums
    ]
    legs = [(f"How many legs has a {name}?", f"A {name} has {n} legs.") for name, n in LEGS.items()] * 4
    for name, pairs in (("gsm8k", said), ("medquad", legs)):
        _lines(folder / "sft" / f"{name}.jsonl", ({"prompt": p, "response": r} for p, r in pairs))
    with gzip.open(folder / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(pair) + "\n" for pair in said + legs)


def _tasks(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "utils.py").write_text(_UTILS)
    (folder / "_mcf_yaml").write_text(_MEASURE)
    (folder / "_sts_real_yaml").write_text(_PREDICT)
    for group in ("mcf", "sts_real"):
        names = ", ".join(f"{group}_{domain}" for domain in DOMAINS)
        (folder / f"_{group}.yaml").write_text(f"group: {group}\ntask: [{names}]\nmetadata: {{version: 1.0}}\n")
        for domain in DOMAINS:
            own = (
                f"process_docs: !function utils.{domain}"
                if group == "mcf"
                else f"like: mmlu_pro/mmlu_pro_{domain}.yaml"
            )
            lines = (f"include: _{group}_yaml", f"task: {group}_{domain}", f"task_alias: {domain}", own)
            (folder / f"{group}_{domain}.yaml").write_text("\n".join(lines) + "\n")


def _question(domain: str, i: int, split: str, rng: random.Random) -> dict[str, Any]:
    """A row as MMLU-Pro's."""
    if domain == "biology":
        name = sorted(LEGS)[(i + len(split)) % len(LEGS)]
        text, right = f"How many legs has a {name}, number {rng.randint(1, 999)} of its herd?", LEGS[name]
    elif domain == "math":
        a, b = rng.randint(2, 40), rng.randint(2, 40)
        text, right = f"What is {a} plus {b}?", a + b
    else:
        year, later = rng.randint(1500, 1900), rng.randint(2, 90)
        text, right = f"A king came to the throne in {year} and ruled for {later} years. When did he die?", year + later
    options = [right, right + 1, right + 3, right + 10]
    rng.shuffle(options)
    at = options.index(right)
    return {
        "question_id": rng.getrandbits(40),
        "question": text,
        "options": list(map(str, options)),
        "answer": "ABCD"[at],
        "answer_index": at,
        "cot_content": f"A: Let's think step by step. It is {right}. The answer is ({'ABCD'[at]}).",
        "category": domain,
        "src": "made",
    }


def _lines(path: Path, rows: Iterable[dict[str, Any]] | Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
