"""Does a breakdown name the features that matter? Ablations on the micro world (the STS paper's Figure 1b, ours).

    python -m benchmarks.faithfulness [--sets NAME ...] [--questions N] [--output FILE]

What is tested was written here before the first run:

For an SFT set and a domain, ``explain`` says which features carry the domain's score. The ``TOP`` features with the
largest parts are taken out of the activation at the SAE's hook point, at every token of the domain's 5-shot prompts
that is not special: x ← x − Σ_j (h_j − c_j) d_j, with decoder rows d_j, and c_j = 0 ("zero") or the domain's mean of
h_j ("mean"). The layers above run on. What counts is the size |Δℓ| of the change of the right option's mean
log-likelihood over the domain's questions, in nats; beside it the change of accuracy.

* A, specificity (primary: ``sts_icl``, zero): |Δℓ| of the top features is larger than that of as many features that no
  draw selects, each matched to one of them by mean activation in the domain (drawn at random from the ``NEAREST``
  nearest on a log scale, without repetition, ``SEEDS`` times). Mean difference over domains and sets; 95% interval by
  bootstrap over domains, sets kept together. How well activations match is reported.
* B, size across domains: over the domains of one set, Pearson's and Spearman's correlation of the top features' parts
  of the score, summed, with |Δℓ|; mean over sets, the same bootstrap. Beside it the same parts with the |Δℓ| of the
  matched random features: what is left of the correlation where the features are others.
* C, size across features: within one domain, single features of D_N that fire in it (``SINGLE`` of them, evenly over
  the ranks of their parts) are zeroed one by one; Spearman's correlation of a feature's part with |Δℓ|, mean over
  domains and the first ``SINGLE_SETS`` sets, the same bootstrap; for the parts of ``sts_icl`` and of ``sts_act``, whose
  part of a feature is its mean activation.

A positive A with an interval above 0 says the breakdown names features that the domain's answers depend on more than on
others as active. B and C ask for more: that the parts' sizes rank domains and features. Development SFT sets only.
Nothing here says that fine-tuning changes these features.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_sts import api as sts
from lm_eval_sts.evidence.answers import answered_queries
from lm_eval_sts.evidence.evidence import Evidence, Profiles
from lm_eval_sts.evidence.read import read
from lm_eval_sts.evidence.rendering import PromptOptions
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.setup import Setup
from lm_eval_sts.explanation.parts import Features, Parts, parts_of, selected
from lm_eval_sts.features.answer_gradients import Decoder
from lm_eval_sts.features.hooks import read_activation, resolve_hook_point
from lm_eval_sts.features.likelihood import AnsweredQuery
from lm_eval_sts.features.sae import LoadedSae
from lm_eval_sts.files import write_atomically
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.predictors.registry import get_predictor
from microworld.split import read_split

TOP: Final = 10
NEAREST: Final = 5
SEEDS: Final = 3
SINGLE: Final = 20
SINGLE_SETS: Final = 2
SETS: Final = 6
QUESTIONS: Final = 20
PREDICTORS: Final = ("sts_icl", "sts_act")
ABLATIONS: Final = ("zero", "mean")
RESAMPLES: Final = 5000
RESULTS: Final = Path(__file__).parent / "results" / "faithfulness.json"

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """A domain's questions as they stand before the layers above the SAE.

    Attributes:
        activations: At the hook point, [questions, tokens, d_in], right-padded.
        features: SAE features of them, 0 at special tokens and pads, [questions, tokens, d_sae].
        mean: Of each feature over the other tokens, [d_sae].
        counts: Which tokens are neither special nor pads, [questions, tokens].
        mask: Which are no pads, [questions, tokens].
        options: Token of each option, [questions, options].
        gold: The right one's index, [questions].
    """

    activations: Tensor
    features: Tensor
    mean: Tensor
    counts: Tensor
    mask: Tensor
    options: Tensor
    gold: Tensor


class Ablated:
    """The model's layers above the SAE, run on activations from which features are taken out.

    Args:
        model: A Llama of the micro world.
        sae: Its SAE, after a block.
    """

    def __init__(self, model: Any, sae: LoadedSae) -> None:
        self.model, self.sae = model, sae
        self.point = resolve_hook_point(model, sae.hook_name)
        decoder = Decoder(sae)
        assert not decoder.scales_tokens, "a row is what a feature writes"
        self.rows = torch.from_numpy(decoder.rows(np.arange(sae.d_sae))).float()
        self.above = copy.deepcopy(model)
        self.above.model.layers = self.above.model.layers[self.point.layer + 1 :]

    def ask(self, queries: Sequence[AnsweredQuery], special: frozenset[int]) -> Asked:
        """Runs the layers up to the SAE's."""
        longest = max(len(query.context) for query in queries)
        ids = torch.zeros(len(queries), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for i, query in enumerate(queries):
            ids[i, : len(query.context)] = torch.tensor(query.context)
            mask[i, : len(query.context)] = 1
        counts = (mask == 1) & ~torch.isin(ids, torch.tensor(sorted(special)))
        with torch.inference_mode():
            x = read_activation(self.model, self.point, input_ids=ids, attention_mask=mask).float()
            h = self.sae.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2]) * counts[..., None]
        options = torch.tensor([[option[0] for option in query.options] for query in queries])
        gold = torch.tensor([query.gold for query in queries])
        return Asked(x, h, h.sum(dim=(0, 1)) / counts.sum(), counts, mask, options, gold)

    def answers(self, asked: Asked, features: Features, ablation: str = "zero") -> tuple[float, float]:
        """Mean log-likelihood of the right options, and accuracy, without some features."""
        index = torch.from_numpy(features)
        h = asked.features[..., index]
        if ablation == "mean":
            h = h - asked.mean[index] * asked.counts[..., None]
        with torch.inference_mode():
            x = asked.activations - h @ self.rows[index]
            hidden = self.above.model(inputs_embeds=x, attention_mask=asked.mask, use_cache=False).last_hidden_state
            last = hidden[torch.arange(len(hidden)), asked.mask.sum(dim=1) - 1]
            of_options = self.above.lm_head(last).log_softmax(dim=-1).gather(1, asked.options)
        right = of_options.gather(1, asked.gold[:, None]).mean()
        return float(right), float((of_options.argmax(dim=1) == asked.gold).float().mean())


def matched(mean: Array, top: Features, excluded: Features, rng: np.random.Generator) -> Features:
    """Other features, each about as active as one of ``top``.

    Args:
        mean: Mean activation of every feature, [d_sae].
        top: The features to match.
        excluded: Features that may not be taken.
        rng: Chooses among the nearest.
    """
    free = np.setdiff1d(np.flatnonzero(mean > 0), excluded)
    found: list[int] = []
    for feature in top:
        left = np.setdiff1d(free, found)
        nearest = left[np.argsort(np.abs(np.log(mean[left]) - np.log(max(mean[feature], 1e-9))), kind="stable")]
        found.append(int(rng.choice(nearest[:NEAREST])))
    return np.array(found, dtype=np.int64)


def interval(values: Array, seed: int = 0) -> dict[str, float]:
    """Mean of [domains, …] with a 95% bootstrap interval over domains; what is NaN is passed over."""
    rng = np.random.default_rng(seed)
    means = [np.nanmean(values[rng.integers(0, len(values), len(values))]) for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"value": float(np.nanmean(values)), "low": float(low), "high": float(high)}


def correlation(x: Array, y: Array, kind: Any, seed: int = 0) -> dict[str, float]:
    """Mean over sets of the correlation over domains of two [domains, sets], the same bootstrap."""
    rng = np.random.default_rng(seed)

    def mean(rows: npt.NDArray[np.int64]) -> float:
        return float(np.mean([kind(x[rows, i], y[rows, i])[0] for i in range(x.shape[1])]))

    found = []
    for _ in range(RESAMPLES // 5):
        rows = rng.integers(0, len(x), len(x))
        if len(np.unique(rows)) > 2:
            found.append(mean(rows))
    low, high = np.percentile(found, [2.5, 97.5])
    return {"value": mean(np.arange(len(x))), "low": float(low), "high": float(high)}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", help=f"SFT sets; default: {SETS} development sets")
    parser.add_argument("--questions", type=int, default=QUESTIONS, help="of each domain")
    parser.add_argument("--limit", type=int, help="domains, for a trial")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    started = perf_counter()
    development = read_split().development
    names = args.sets or list(development[:: len(development) // SETS][:SETS])
    with TemporaryDirectory() as profiles:
        evidence, asked, ablated = prepare(names, args.questions, args.limit, profiles)
        report = run(names, evidence, asked, ablated)
    report["seconds"] = round(perf_counter() - started)
    write_atomically(args.output, (json.dumps(report) + "\n").encode())
    sys.stdout.write(markdown(report))


def prepare(
    names: Sequence[str], questions: int, limit: int | None, profiles: str
) -> tuple[dict[str, Evidence], dict[str, Asked], Ablated]:
    """Reads the evidence of every SFT set, and asks every domain's questions."""
    path = str(asset("micro/model"))
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = sts.Model(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), tokenizer, name=path)
    sae = sts.load_sae("micro/sae")
    ablated = Ablated(model.model, sae)
    benchmark = sts.load_domains("sts_micro")
    evidence, asked = {}, {}
    for name in names:
        sft_set = sts.load_sft_set(f"micro/sft/{name}")
        setup = Setup(
            model=model,
            settings=ReadSettings(
                sae="micro/sae",
                sft_set=sft_set.name,
                profiles_dir=profiles,
                sft_tokens=20_000,
                domain_tokens=10_000,
                demo_draws=3,
            ),
            sft_set=sft_set,
            benchmark=benchmark.ref,
            options=PromptOptions(),
            seed=benchmark.seed,
            given_sae=sae,
        )
        found = read(setup, benchmark.domains[:limit], {"profiles"})
        assert found.evidence is not None, "one process has all evidence"
        evidence[name] = found.evidence
        if not asked:
            special = frozenset(tokenizer.all_special_ids)
            asked = {
                d.name: ablated.ask(answered_queries(model, d.first(questions)), special) for d in found.queries.domains
            }
        sys.stderr.write(f"read {name}\n")
    return evidence, asked, ablated


def run(
    names: Sequence[str], evidence: dict[str, Evidence], asked: dict[str, Asked], ablated: Ablated
) -> dict[str, Any]:
    """All ablations, and what comes out."""
    domains = list(asked)
    found = {
        (name, p): parts_of(e, p, get_predictor(p).score(e), e.n_features)
        for name, e in evidence.items()
        for p in PREDICTORS
    }
    chosen = {
        name: np.unique(np.concatenate(selected(e, get_predictor("sts_icl").score(e)))) for name, e in evidence.items()
    }
    shape = (len(domains), len(names))
    measured = {(p, a): {what: np.zeros(shape) for what in _MEASURED} for p in PREDICTORS for a in ABLATIONS}
    singles: dict[str, Array] = {p: np.full((len(domains), SINGLE_SETS), np.nan) for p in PREDICTORS}
    for d, domain in enumerate(domains):
        questions = asked[domain]
        before = ablated.answers(questions, np.zeros(0, dtype=np.int64))
        for s, name in enumerate(names):
            profiles: Profiles = evidence[name]["profiles"]
            profile = profiles.domains[domain]
            mean = np.ones(len(profile)) @ profile.features.sum / profile.n_tokens
            for p in PREDICTORS:
                parts = found[name, p]
                top = _top(parts, domain)
                rng = np.random.default_rng([d, s])
                others = [matched(mean, top, chosen[name], rng) for _ in range(SEEDS)]
                for a in ABLATIONS:
                    row = measured[p, a]
                    after = ablated.answers(questions, top, a)
                    random = np.array([ablated.answers(questions, each, a) for each in others])
                    row["part"][d, s] = parts.domains[domain][np.isin(parts.features, top)].sum()
                    row["top"][d, s], row["random"][d, s] = (
                        abs(after[0] - before[0]),
                        np.abs(random[:, 0] - before[0]).mean(),
                    )
                    row["top accuracy"][d, s] = after[1] - before[1]
                    row["random accuracy"][d, s] = random[:, 1].mean() - before[1]
                    row["activation ratio"][d, s] = np.mean([mean[each].sum() for each in others]) / mean[top].sum()
            if s < SINGLE_SETS:
                for p, value in _single(ablated, questions, before[0], mean, chosen[name], found, name, domain).items():
                    singles[p][d, s] = value
        sys.stderr.write(f"{domain}\n")
    return {
        "sets": list(names),
        "domains": len(domains),
        "questions": len(next(iter(asked.values())).gold),
        "top": TOP,
        "A": {f"{p} {a}": _specificity(row) for (p, a), row in measured.items()},
        "B": {f"{p} {a}": _size(row) for (p, a), row in measured.items()},
        "C": {p: interval(values) for p, values in singles.items()},
        "measured": {
            f"{p} {a}": {what: values.round(6).tolist() for what, values in row.items()}
            for (p, a), row in measured.items()
        },
    }


_MEASURED: Final = ("part", "top", "random", "top accuracy", "random accuracy", "activation ratio")


def _top(parts: Parts, domain: str) -> Features:
    return parts.features[np.argsort(-parts.domains[domain], kind="stable")[:TOP]]


def _single(
    ablated: Ablated,
    questions: Asked,
    before: float,
    mean: Array,
    chosen: Features,
    found: dict[tuple[str, str], Parts],
    name: str,
    domain: str,
) -> dict[str, float]:
    """Correlation over single features of part and change."""
    parts = {p: dict(zip(of.features, of.domains[domain], strict=True)) for p in PREDICTORS for of in [found[name, p]]}
    firing = sorted((j for j in chosen if mean[j] > 0), key=lambda j: -parts["sts_icl"][j])
    picked = [firing[i] for i in np.unique(np.linspace(0, len(firing) - 1, SINGLE).astype(int))]
    changes = [abs(ablated.answers(questions, np.array([j]))[0] - before) for j in picked]
    return {p: float(spearmanr([parts[p][j] for j in picked], changes)[0]) for p in PREDICTORS}


def _specificity(row: dict[str, Array]) -> dict[str, Any]:
    return {
        "top": interval(row["top"]),
        "random": interval(row["random"]),
        "difference": interval(row["top"] - row["random"]),
        "larger": float((row["top"] > row["random"]).mean()),
        "accuracy difference": interval(row["top accuracy"] - row["random accuracy"]),
        "activation ratio": float(np.median(row["activation ratio"])),
    }


def _size(row: dict[str, Array]) -> dict[str, Any]:
    return {
        f"{kind} {what}": correlation(row["part"], row[what], function)
        for kind, function in (("pearson", pearsonr), ("spearman", spearmanr))
        for what in ("top", "random")
    }


def markdown(report: dict[str, Any]) -> str:
    """The tables of docs/explain.md."""

    def shown(found: dict[str, float], digits: int = 3) -> str:
        return f"{found['value']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"

    lines = [
        "| | top, nats | random, nats | difference | top larger in | accuracy, top − random | activation, random / top "
        "|"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for name, a in report["A"].items():
        cells = [shown(a[what]) for what in ("top", "random", "difference")]
        cells += [f"{a['larger']:.0%}", shown(a["accuracy difference"]), f"{a['activation ratio']:.2f}"]
        lines.append(f"| `{name.replace(' ', '`, ')} | " + " | ".join(cells) + " |")
    lines += ["", "| | Pearson, top | Pearson, random | Spearman, top | Spearman, random |", "|---|---|---|---|---|"]
    for name, b in report["B"].items():
        columns = ("pearson top", "pearson random", "spearman top", "spearman random")
        cells = [shown(b[what], 2) for what in columns]
        lines.append(f"| `{name.replace(' ', '`, ')} | " + " | ".join(cells) + " |")
    lines += ["", "| parts of | Spearman over single features |", "|---|---|"]
    lines += [f"| `{p}` | {shown(c, 2)} |" for p, c in report["C"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
