"""What an SAE's encoder in less than float32 would change: ``python benchmarks/sae_precision.py``.

The small world that ships is scored three times: with the encoder's product in float32; with both of its factors
rounded to bfloat16; and to the ten bits of mantissa that TF32 takes. Sums are float32, as they are on an accelerator;
both are emulated on a CPU. Told are the relative error of features, how many fire in one and not in the other as a
share of those that fire, which features are selected, and how far ``sts_act`` and ``sts_icl`` move over the domains
(median and most), as a share of their range.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import lm_eval_sts as sts
from lm_eval_sts.features.sae import LoadedSae
from lm_eval_sts.shipped import resolve

PREDICTORS = ("sts_act", "sts_icl")

Round = Callable[[Tensor], Tensor]


def tf32(x: Tensor) -> Tensor:
    """To ten bits of mantissa, to nearest."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


ROUNDED: dict[str, Round] = {"float32": lambda x: x, "bf16": lambda x: x.bfloat16().float(), "TF32, emulated": tf32}


def scores(rounded: Round, seen: list[Tensor]) -> tuple[dict[str, np.ndarray], dict[str, set[int]]]:
    """Scores by domain and selected features with rounded factors; adds what is encoded to ``seen``."""
    own = LoadedSae.encode

    def encode(self: LoadedSae, x: Tensor) -> Tensor:
        weights = self.sae.W_enc.data
        self.sae.W_enc.data = rounded(weights)
        try:
            found = own(self, rounded(x.float()))
        finally:
            self.sae.W_enc.data = weights
        if sum(map(len, seen)) < 2000:
            seen.append(found.clone())
        return found

    with TemporaryDirectory() as folder, patch.object(LoadedSae, "encode", encode):
        path = resolve("micro/model")
        model = sts.Model(AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path))
        sft, domains = sts.load_sft_set("micro/sft/laws-home-long"), sts.load_domains("sts_micro", limit=8)
        budgets = {"sft_tokens": 20_000, "domain_tokens": 10_000, "demo_draws": 3}
        evidence = sts.read(
            model, "micro/sae", sft, domains, predictors=list(PREDICTORS), profiles_dir=folder, **budgets
        )
        found = {name: sts.predict(evidence, name) for name in PREDICTORS}
    by_domain = {n: np.array([domain.score for domain in p.domains.values()]) for n, p in found.items()}
    return by_domain, {n: selected(p) for n, p in found.items()}


def selected(prediction: sts.Prediction) -> set[int]:
    """The features that a prediction rests on, of all draws."""
    chosen = prediction.selection
    return {int(i) for draw in chosen.draws for i in draw.features} if chosen else set()


def main() -> None:
    """The command."""
    found = {}
    for name, rounded in ROUNDED.items():
        seen: list[Tensor] = []
        by_domain, chosen = scores(rounded, seen)
        found[name] = torch.cat(seen), by_domain, chosen
        features, exact, rests_on = found["float32"]
        error = float((found[name][0] - features).norm() / features.norm())
        differ = float(((found[name][0] > 0) != (features > 0)).sum() / (features > 0).sum())
        parts = [f"features {error:.1e}", f"fire otherwise {differ:.1e}"]
        for key in PREDICTORS:
            moved = np.abs(by_domain[key] - exact[key]) / np.ptp(exact[key])
            same = f"{len(chosen[key] & rests_on[key])} of {len(rests_on[key])} selected"
            parts.append(f"{key} moves {np.median(moved):.1e}, at most {moved.max():.1e}, {same}")
        sys.stdout.write(f"{name}: {'; '.join(parts)}\n")


if __name__ == "__main__":
    main()
