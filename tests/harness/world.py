"""A tiny model, SAE, SFT set and MMLU-Pro-shaped benchmark on disk, for runs of the real harness."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tiny_models import ARCHITECTURES, save, tiny_tokenizer
from tests.tiny_saes import save_tiny_sae

SUBJECTS = [
    *("biology", "business", "chemistry", "computer_science", "economics", "engineering", "health", "history"),
    *("law", "math", "other", "philosophy", "physics", "psychology"),
]
WORDS = [
    *("stone", "river", "number", "proof", "market", "engine", "heart", "treaty", "court"),
    *("angle", "table", "reason", "force", "mind", "cell", "profit", "acid", "code"),
]


@dataclass(frozen=True)
class World:
    """Paths of everything a run needs, and settings that make it quick."""

    root: Path

    @property
    def model(self) -> str:
        return str(self.root / "model")

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "sae": str(self.root / "sae"),
            "sft_set": str(self.root / "sft.jsonl"),
            "benchmark_path": str(self.root / "benchmark"),
            "profiles_dir": str(self.root / "profiles"),
            "sft_tokens": 300,
            "domain_tokens": 250,
            "n_features": 10,
            "demo_draws": 2,
        }


def make_world(
    root: Path, architecture: str = "llama", *, chat_template: bool = True, padding_side: str = "left"
) -> World:
    """Writes the world below ``root``."""
    rng = random.Random(0)

    def text(words: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(words))

    save(
        ARCHITECTURES[architecture](),
        tiny_tokenizer(chat_template=chat_template, padding_side=padding_side),
        root / "model",
    )
    save_tiny_sae(root / "sae", d_in=48)
    rows = [{"prompt": f"Solve: {text(4 + i % 5)}", "response": f"First {text(6)}. So {text(2)}."} for i in range(40)]
    (root / "sft.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for split, n in (("test", 6), ("validation", 5)):
        questions = [_question(s.replace("_", " "), i, text, rng) for s in SUBJECTS for i in range(n)]
        _write(questions, root / "benchmark" / f"{split}.parquet")
    return World(root)


def _question(subject: str, i: int, text: Any, rng: random.Random) -> dict[str, Any]:
    answer = rng.randrange(4)
    return {
        "question_id": i,
        "question": f"Which {subject} {text(3 + i)}?",
        "options": [text(2) for _ in range(4)],
        "answer": "ABCD"[answer],
        "answer_index": answer,
        "cot_content": f"A: Let's think step by step. {text(8)}. The answer is ({'ABCD'[answer]}).",
        "category": subject,
        "src": "made",
    }


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    import datasets

    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows).to_parquet(str(path))


def evaluate(
    world: World, tasks: Sequence[str] = ("sts_mmlu_pro",), sts: dict[str, Any] | None = None, **options: Any
) -> Any:
    """One run of lm-eval, in this process, with only our tasks in its index."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from lm_eval_sts.harness.discovery import tasks_path

    settings = {**world.settings, **(sts or {})}
    model = options.pop("model", "hf")
    if model == "hf":
        options.setdefault("model_args", {"pretrained": world.model})
    metadata = {"pretrained": world.model, "sts": settings}
    manager = TaskManager(include_path=str(tasks_path()), include_defaults=False, metadata=metadata)
    return simple_evaluate(
        model=model,
        tasks=list(tasks),
        task_manager=manager,
        metadata=metadata,
        device="cpu",
        bootstrap_iters=1,
        **options,
    )
