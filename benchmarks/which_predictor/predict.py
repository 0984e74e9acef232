"""Runs the predictors on settings of the micro world: the study's evidence.

    python -m benchmarks.which_predictor.predict FOLDER CONDITION [CONDITION ...] [--sets development|test|NAME ...]

writes ``FOLDER/<condition>/<SFT set>.json``, one file of prediction records a setting; what is there is left as it is,
so a killed run goes on. Other base models and SAEs come from ``--bases`` (benchmarks/base_models.py), tuned models for
the oracles and outcomes of other base models from the folders of ``python -m microworld sweep``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch

from benchmarks.base_models import SAES, SHIPPED_MODEL, model_path
from lm_eval_sts.files import write_atomically
from lm_eval_sts.harness.discovery import our_tasks
from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, names
from microworld.split import read_split
from microworld.sweep import DOSES

PAPERS: Final = ("sts_act", "sts_icl")
RECIPE: Final = {key: value for key, value in DOSES["main"].model_dump().items() if value is not None and key != "name"}


ELSEWHERE: Final = (
    *DEFAULT_PREDICTORS,
    "sts_act_unaligned",
    "sts_icl_unaligned",
    "embedding_cosine",
    "embedding_pairwise",
    "embedding_mmd",
    "probing_20",
)
"""What is run on other base models: no oracles, no gradients, and of the trial runs the longest."""


@dataclass(frozen=True)
class Condition:
    """One way of predicting.

    Attributes:
        model: A base model of ``benchmarks.base_models``, or the shipped one.
        sae: An SAE of ``benchmarks.base_models``; None for the shipped one.
        predictors: Which; None for all.
        more_saes: Further SAEs, for predictors of several layers.
        settings: Further settings of the run.
    """

    model: str = SHIPPED_MODEL
    sae: str | None = None
    predictors: tuple[str, ...] | None = PAPERS
    more_saes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


CONDITIONS: Final = {
    "all": Condition(predictors=None),
    "all-model-seed1": Condition("model-seed1", "sae-model-seed1", ELSEWHERE, settings={"probing_steps": [20]}),
    "all-model-deep": Condition("model-deep", "sae-model-deep", ELSEWHERE, settings={"probing_steps": [20]}),
    **{name: Condition(sae=name) for name, sae in SAES.items() if sae.model == SHIPPED_MODEL},
    **{f"n{n}": Condition(settings={"n_features": n}) for n in (10, 30, 300, 1000)},
    **{f"sft-demos{t}": Condition(settings={"sft_demos": t}) for t in (1, 4, 8)},
    **{f"domain-demos{m}": Condition(settings={"domain_demos": m}) for m in (1, 3)},
    "draws1": Condition(settings={"demo_draws": 1}),
    **{f"tokens-{rule}": Condition(settings={"tokens": rule}) for rule in ("last", "special")},
    "sft-response": Condition(settings={"sft_scored": "response"}),
    "layers": Condition(
        predictors=("sts_act_layers", "sts_icl_layers"), more_saes=("sae-layer0", "sae-layer1", "sae-layer3")
    ),
}
"""By name; ``all`` is the main one, with every predictor but those of several layers."""


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        bases: Folder of other base models and SAEs.
        tuned: Folder of a sweep's tuned models by base model, for the oracles.
        profiles: Where profiles are kept.
    """

    bases: Path
    tuned: dict[str, Path]
    profiles: Path


def sts_settings(condition: Condition, sft_set: str, places: Places) -> dict[str, Any]:
    """What stands under ``sts`` for one setting."""
    found = {
        "sft_set": f"micro/sft/{sft_set}",
        "profiles_dir": str(places.profiles),
        "predictors": condition.predictors or names(),
        "probing_recipe": RECIPE,
        "sae": "micro/sae" if condition.sae is None else str(places.bases / condition.sae),
        **condition.settings,
    }
    if condition.more_saes:
        found["more_saes"] = [str(places.bases / name) for name in condition.more_saes]
    if condition.predictors is None:
        split = read_split()
        found["tuned"] = str(places.tuned[condition.model] / f"{sft_set}.seed0")
        found["development"] = [f"micro/{name}" for name in split.development]
        found["predictors"] = [name for name in names() if not name.endswith("_layers")]
    return found


def predict(lm: Any, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """One run of ``sts_micro``: its prediction records, as JSON."""
    from lm_eval import simple_evaluate

    results = simple_evaluate(
        model=lm, tasks=["sts_micro"], task_manager=our_tasks(settings), metadata={"sts": settings}, bootstrap_iters=0
    )
    configs = results["configs"].values()
    return next(r["predictions"] for c in configs if "predictions" in (r := c["metadata"]["sts_results"]))


def remember_embeddings() -> None:
    """Lets sentence-transformers embed each text once, since all settings ask the same questions."""
    from sentence_transformers import SentenceTransformer

    encode, known = SentenceTransformer.encode, {}

    def remembered(self: Any, texts: list[str], **options: Any) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, encode(self, new, **options), strict=True))
        return np.stack([known[text] for text in texts])

    SentenceTransformer.encode = remembered


def load_model(path: Path) -> Any:
    """The base model as lm-eval loads it; it tokenises each text once, since all settings ask the same questions."""
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=str(path), dtype="float32", device="cpu", batch_size=64)
    encode = lru_cache(maxsize=None)(lm.tok_encode)
    lm.tok_encode = lambda text, **options: list(encode(text, **options))
    return lm


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("conditions", nargs="+", choices=CONDITIONS)
    parser.add_argument("--sets", nargs="+", default=["development"])
    parser.add_argument("--bases", type=Path, default=Path("bases"))
    parser.add_argument("--tuned", nargs="*", default=[], help="MODEL=FOLDER of tuned models")
    parser.add_argument("--profiles", type=Path, default=Path("profiles"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    remember_embeddings()
    split = read_split()
    groups = {"development": split.development, "test": split.test}
    sets = [name for given in args.sets for name in groups.get(given, (given,))]
    tuned = {model: Path(folder) for model, _, folder in (pair.partition("=") for pair in args.tuned)}
    places = Places(args.bases, tuned, args.profiles)
    for name in args.conditions:
        condition = CONDITIONS[name]
        lm = None
        for sft_set in sets:
            file = args.folder / name / f"{sft_set}.json"
            if file.exists():
                continue
            lm = lm or load_model(model_path(args.bases, condition.model))
            started = perf_counter()
            records = predict(lm, sts_settings(condition, sft_set, places))
            write_atomically(file, (json.dumps(records) + "\n").encode())
            sys.stdout.write(f"{name} {sft_set}: {perf_counter() - started:.1f} s\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
