"""Demonstrations for sets that have prompts only: which of them predict the shifts of rejection-sampling fine-tuning?

    python -m studies.rejection make [SET …]      # two rounds of sampling and fine-tuning, and predictions; resumes
    python -m studies.rejection report [--check]  # studies/rejection/report.md, of what make left in studies/rejection

The micro world. What is compared is declared in docs/sampling.md. About 6 minutes a set on one core; several processes
may each make some of the sets.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

import lm_eval_sts as sts
from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import RecordError, StsError
from lm_eval_sts.files import write_atomically
from lm_eval_sts.records import Against, Document, Finite, Outcome, Target, View, load_record, save_record
from lm_eval_sts.sampling.sample import Sampled
from lm_eval_sts.shipped import resolve
from studies import written_or_checked
from studies.mixture import SETS

FOLDER: Final = Path(__file__).parent / "rejection"
WORK: Final = Path(__file__).parent / "rejection.study"

SEEDS: Final = (0, 1, 2)
"""Of answers and of fine-tuning, together."""
ROUNDS: Final = (1, 2)
SAMPLING: Final[dict[str, Any]] = {
    "verifier": "exact",
    "pattern": r"^\s*([^\s.]+)",  # the answer is the first word of a response
    "answer": "answer",
    "samples": 8,
    "max_tokens": 48,
    "stop": ["\n"],
}
KEEP: Final = 4
"""Verified answers of a prompt that are trained on."""
RECIPE: Final[dict[str, Any]] = {
    "method": "full",
    "learning_rate": 5e-4,
    "max_steps": 150,
    "batch_size": 8,
    "warmup_ratio": 0.1,
    "weight_decay": 0.01,
    "dtype": "float32",
}
"""The main dose of studies/micro.yaml."""
PREDICTORS: Final = ("sts_icl", "sts_act", "loss_rehearsal_alone")
ORACLES: Final = ("oracle_sts_icl", "oracle_sts_act", "oracle_sts_shift")
KINDS: Final[dict[str, dict[str, Any]]] = {
    "reference": {},
    "verified": {"sft_answers": "verified", "sampling": {**SAMPLING, "max_prompts": None}},
    "sampled": {"sft_answers": "sampled", "sampling": {**SAMPLING, "max_prompts": None}},
}
"""Demonstrations: the set's own responses; the base model's verified answers; any answers of the base model."""
COLUMNS: Final[tuple[tuple[str, Against], ...]] = tuple(
    (f"{what}, {'accuracy' if view == 'score' else 'log-likelihood'}{', double-centred' if centred else ''}",
     Against(view=view, target=target, double_centred=centred))
    for view in ("score", "choice_log_likelihood")
    for what, target in (("size", "magnitude"), ("signed", "delta"))
    for centred in (True, False)
)  # fmt: skip
PRIMARY: Final = COLUMNS[0][1]


class Made(Document):
    """What was made of one set, beside its outcome."""

    kind: Literal["rejection study"] = "rejection study"
    sft_set: str
    verified: dict[str, Finite]
    """Share of the model's answers that were verified, by seed and round: ``0/1``; ``0/3``: of the model after both."""
    targets: dict[str, Target]
    scores: dict[str, dict[str, dict[str, Finite]]]
    """By kind of demonstrations (``oracle`` for none), predictor and domain."""


def prompts_of(name: str) -> list[dict[str, str]]:
    """A shipped set's prompts, each with its right answer: the first word of the response."""
    return [
        {"prompt": example.prompt, "answer": example.response.split()[0].rstrip(".")}
        for example in sts.load_sft_set(f"micro/sft/{name}").examples
    ]


def prompt_file(name: str) -> Path:
    """The prompts as a file, for lm-eval's door."""
    import json

    path = WORK / "prompts" / f"{name}.jsonl"
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in prompts_of(name)).encode())
    return path


class Maker:
    """Makes all of one set.

    Args:
        name: The set's, below ``micro/sft``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.prompts = prompt_file(name)
        self.verified: dict[str, float] = {}

    def make(self) -> None:
        """Writes the outcome and the scores; what is there is kept."""
        outcome, made = FOLDER / "outcomes" / f"{self.name}.json", FOLDER / "made" / f"{self.name}.json"
        if outcome.is_file() and made.is_file():
            return
        runs = [self._rounds(seed) for seed in SEEDS]
        save_record(self._paired(runs), outcome)
        scores: dict[str, dict[str, dict[str, float]]] = {}
        targets: dict[str, Target] = {}
        for kind, settings in {**KINDS, "oracle": self._seen()}.items():
            for prediction in self._predicted(kind, settings):
                targets[prediction.predictor] = prediction.target
                scores.setdefault(kind, {})[prediction.predictor] = {d: s.score for d, s in prediction.domains.items()}
        save_record(Made(sft_set=self.name, verified=self.verified, targets=targets, scores=scores), made)
        shutil.rmtree(WORK / "tuned" / self.name)

    def _tuned(self, seed: int, number: int) -> Path:
        return WORK / "tuned" / self.name / f"seed{seed}-round{number}"

    def _rounds(self, seed: int) -> Any:
        """The measured run of the model after both rounds: each trains the base model on answers of the last one."""
        from lm_eval_sts.finetuning.finetune import finetune
        from lm_eval_sts.finetuning.recipes import make_recipe

        model = "micro/model"
        for number in ROUNDS:
            sampled = self._sampled(model, seed, number)
            folder = self._tuned(seed, number)
            if not (folder / "sts_finetune.json").is_file():
                finetune(
                    resolve("micro/model"),
                    sampled,
                    folder,
                    make_recipe("default", **RECIPE),
                    seed,
                    model_name="micro/model",
                    response_delimiter=" ",
                    save_steps=0,
                )
            model = str(folder)
        self._sampled(model, seed, ROUNDS[-1] + 1)
        return self._measured(model)

    def _seen(self) -> dict[str, str]:
        """What oracles see: the first seed's model, and the answers of the last round that it was trained on."""
        from lm_eval_sts.sampling.writing import write_sampled

        seed, last = SEEDS[0], ROUNDS[-1]
        file = WORK / "sets" / f"{self.name}.jsonl"
        write_sampled(self._answers(str(self._tuned(seed, ROUNDS[0])), seed), file, overwrite=True)
        return {"sft_set": str(file), "tuned": str(self._tuned(seed, last))}

    def _sampled(self, model: str, seed: int, number: int) -> SftSet:
        """What a round trains on, or what the model answers after both."""
        found = self._answers(model, seed)
        assert found.record.verified is not None, "a verifier is named"
        self.verified[f"{seed}/{number}"] = found.record.verified / (found.record.asked * found.record.by.samples)
        return replace(found.sft_set, name=f"{self.name}, round {number}")

    def _answers(self, model: str, seed: int) -> Sampled:
        return sts.sample(
            loaded(model),
            sts.load_prompts(self.prompts, answer="answer"),
            **{key: value for key, value in SAMPLING.items() if key != "answer"},
            keep=KEEP,
            sft_response_delimiter=" ",
            seed=seed,
            profiles_dir=str(WORK / "profiles"),
        )

    def _measured(self, model: str) -> Any:
        from lm_eval_sts.harness.discovery import our_tasks
        from lm_eval_sts.outcomes.lm_eval_options import Conditions
        from lm_eval_sts.outcomes.measure import evaluate_model

        return evaluate_model(
            {"pretrained": resolve(model), "dtype": "float32"},
            ["micro"],
            WORK / "runs" / (Path(model).name if model == "micro/model" else f"{self.name}-{Path(model).name}"),
            Conditions(),
            batch_size=64,
            device="cpu",
            use_cache=False,
            share_prefix=True,
            write_samples=False,
            task_manager=our_tasks(),
            model_name="micro/model",
        )

    def _paired(self, runs: Sequence[Any]) -> Outcome:
        """The outcome, of the shipped set: its prompts were trained on, with the model's own answers."""
        from lm_eval_sts.finetuning.recipes import make_recipe
        from lm_eval_sts.outcomes.pairing import pair

        return pair(
            self._measured("micro/model"),
            runs,
            name=self.name,
            sft_set=sts.load_sft_set(f"micro/sft/{self.name}").reference,
            recipe=make_recipe("default", **RECIPE),
            seeds=SEEDS,
            source="python -m studies.rejection make",
            settings={"base": "micro/model", "tuned": [f"{self.name}.seed{seed}" for seed in SEEDS]},
        )

    def _predicted(self, kind: str, settings: dict[str, Any]) -> Sequence[sts.Prediction]:
        from lm_eval_sts.harness.predicting import load_model, predict

        given = {} if kind in ("verified", "sampled") else {"sft_set": f"micro/sft/{self.name}"}
        found = predict(
            load_model({"pretrained": resolve("micro/model"), "dtype": "float32"}, "cpu", 64),
            "sts_micro",
            {
                "sft_set": str(self.prompts),
                "predictors": list(ORACLES if kind == "oracle" else PREDICTORS),
                "profiles_dir": str(WORK / "profiles"),
                "demo_draws": 3,
                **given,
                **settings,
            },
        )
        if found.left_out:
            raise RecordError(f"{self.name}, {kind}: {found.left_out}")
        return found.predictions


def loaded(model: str) -> sts.Model:
    """A model with its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = resolve(model)
    return sts.Model(
        AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
        AutoTokenizer.from_pretrained(folder),
        name=model if model == "micro/model" else None,
        max_rows=256,
    )


def report() -> str:
    """What came out, of the sets that are there."""
    from lm_eval_sts.agreement.reliability import reliability_of
    from lm_eval_sts.study.analysis import contrast, panel_against, rows
    from lm_eval_sts.study.evidence import Entry, measured

    sets = [name for name in SETS if (FOLDER / "made" / f"{name}.json").is_file()]
    made = {name: load_record(Made, FOLDER / "made" / f"{name}.json") for name in sets}
    outcomes = {name: load_record(Outcome, FOLDER / "outcomes" / f"{name}.json") for name in sets}
    entries = [
        Entry(
            f"{predictor}, {kind}",
            made[sets[0]].targets[predictor],
            "oracle" if kind == "oracle" else "predictor",
            {name: made[name].scores[kind][predictor] for name in sets},
        )
        for kind in (*KINDS, "oracle")
        for predictor in (ORACLES if kind == "oracle" else PREDICTORS)
    ]
    lines = [
        f"{len(sets)} of {len(SETS)} sets, {len(SEEDS)} seeds each.",
        "",
        "| set | verified, base | after round 1 | after round 2 | mean change, points | largest fall | rise | "
        "reliability, accuracy | log-likelihood |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sets:
        shares = [np.mean([made[name].verified[f"{seed}/{n}"] for seed in SEEDS]) for n in (1, 2, 3)]
        changes = np.array([100 * c.delta for c in outcomes[name].changes("score").values()])
        views: tuple[View, ...] = ("score", "choice_log_likelihood")
        reliable = [reliability_of(*(x[0] for x in measured(outcomes, [name], view))).value for view in views]
        cells = [f"{share:.0%}" for share in shares]
        cells += [f"{changes.mean():+.1f}", f"{changes.min():+.1f}", f"{changes.max():+.1f}"]
        cells += ["–" if value is None else f"{value:.2f}" for value in reliable]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for title, against in COLUMNS:
        panel = panel_against(entries, outcomes, sets, against)
        lines += ["", f"**{title}**{' (declared primary)' if against == PRIMARY else ''}", ""]
        lines += ["| predictor, demonstrations | r [95%] |", "|---|---|"]
        for row in rows(panel):
            lines.append(f"| {row.predictor} | {_r(row.r, row.low, row.high)} |")
        lines += ["", "| difference | z [95%] | p |", "|---|---|---|"]
        for predictor, oracle in zip(PREDICTORS, (*ORACLES[:2], None), strict=True):
            others = [f"{predictor}, {kind}" for kind in ("verified", "sampled")]
            for other in [*others, *([f"{oracle}, oracle"] if oracle else [])]:
                found = contrast(panel, other, f"{predictor}, reference")
                p = "–" if found.p is None else f"{found.p:.3f}"
                lines.append(f"| {other} − reference | {_r(found.z, found.low, found.high)} | {p} |")
    return "\n".join([*lines, ""])


def _r(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:+.2f}" + ("" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m studies.rejection", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["make", "report"])
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], help="sets to make; all of them by default")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the report is another")
    given = parser.parse_args()
    if given.what == "make":
        for name in given.sets or SETS:
            Maker(name).make()
        return
    written_or_checked(report(), FOLDER / "report.md", "python -m studies.rejection report", check=given.check)


if __name__ == "__main__":
    try:
        main()
    except StsError as error:
        sys.exit(f"error: {error}")
