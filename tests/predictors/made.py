"""Evidence for the predictors' tests: texts, and profiles of token-level arrays that formulas can be held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from lm_eval_sts.evidence.evidence import Evidence, Profiles, Question, Texts
from lm_eval_sts.examples import Example
from lm_eval_sts.features.profiles import DenseSums, Profile, SparseSums
from lm_eval_sts.predictors.statistics import RESAMPLES, ratio, standard_error

D_SAE, D_IN, DRAWS, N = 40, 12, 3, 6


@dataclass(frozen=True)
class Tokens:
    """What was read of the scored tokens of each query, alone and after each draw of demonstrations.

    h [queries][tokens, d_sae] and shown [draws][queries][tokens, d_sae] are SAE features; x [queries][tokens, d_in] and
    x_shown [draws][queries][tokens, d_in] the raw activation, zero where it does not matter.
    """

    h: list[np.ndarray]
    shown: list[list[np.ndarray]]
    x: list[np.ndarray] | None = None
    x_shown: list[list[np.ndarray]] | None = None

    def profile(self, name: str) -> Profile:
        still = [np.zeros((len(a), 1)) for a in self.h]
        x, x_shown = (self.x or still), (self.x_shown or [still] * len(self.shown))
        return Profile(
            tuple(f"{name}{i}" for i in range(len(self.h))),
            np.array([len(a) for a in self.h]),
            sparse_sums(self.h),
            tuple(sparse_sums(differences(shown, self.h)) for shown in self.shown),
            dense_sums(x),
            tuple(dense_sums(differences(shown, x)) for shown in x_shown),
        )


def differences(shown: Sequence[np.ndarray], alone: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [s - a for s, a in zip(shown, alone, strict=True)]


def sparse_sums(arrays: Sequence[np.ndarray]) -> SparseSums:
    rows = []
    for a in arrays:
        squares = (a**2).sum(axis=0)
        index = np.flatnonzero(squares)
        rows.append((index, a.sum(axis=0)[index].astype(np.float32), squares[index].astype(np.float32)))
    return SparseSums.from_rows(rows, arrays[0].shape[1])


def dense_sums(arrays: Sequence[np.ndarray]) -> DenseSums:
    return DenseSums(
        np.stack([a.sum(axis=0) for a in arrays]).astype(np.float32),
        np.stack([(a**2).sum(axis=0) for a in arrays]).astype(np.float32),
    )


def make_tokens(queries: int, seed: int) -> Tokens:
    rng = np.random.default_rng(seed)
    scale = rng.gamma(1.0, size=D_SAE)
    lengths = [1 + int(n) for n in rng.integers(0, 9, queries)]

    def features(n: int) -> np.ndarray:
        return np.maximum(rng.normal(-0.5, 1, (n, D_SAE)), 0) * scale

    def raw(n: int) -> np.ndarray:
        return rng.normal(1, 1, (n, D_IN))

    def all_draws(read) -> list[list[np.ndarray]]:
        return [[read(n) for n in lengths] for _ in range(DRAWS)]

    h, shown = [features(n) for n in lengths], all_draws(features)
    return Tokens(h, shown, [raw(n) for n in lengths], all_draws(raw))


def plain_tokens(values: Sequence[np.ndarray]) -> Tokens:
    """Queries that were read alone only, with the same values, [tokens, d] each, in both spaces."""
    return Tokens(list(values), [], list(values), [])


SFT = make_tokens(12, 0)
DOMAINS = {"law": make_tokens(9, 1), "physics": make_tokens(5, 2), "one": make_tokens(1, 3)}
UNALIGNED = np.random.default_rng(4).gamma(1.0, size=(DRAWS, D_SAE))


def make_evidence(sft: Tokens = SFT, domains: Mapping[str, Tokens] = DOMAINS, **changes) -> Evidence:
    """Evidence of profiles and unaligned rows, with changes by field of ``Evidence`` or by kind of what was read."""
    profiles = Profiles(
        sft.profile("sft"),
        tuple((2 * k, 2 * k + 1) for k in range(len(sft.shown))),
        {name: tokens.profile(name) for name, tokens in domains.items()},
    )
    asked = {name: (Question("", ""),) * len(tokens.h) for name, tokens in domains.items()}
    made = Evidence(Texts((), asked, {}), N, 7, {"profiles": profiles, "unaligned": UNALIGNED})
    return changed(made, **changes)


def changed(evidence: Evidence, **changes) -> Evidence:
    """The same but for some of its fields, or of the kinds of what was read."""
    own = {field.name for field in fields(Evidence)}
    read = {kind: value for kind, value in changes.items() if kind not in own}
    return replace(evidence, read={**evidence.read, **read}, **{k: v for k, v in changes.items() if k in own})


def text_evidence(sft: Sequence[tuple[str, str]], domains: Mapping[str, Sequence[str]], seed: int = 7) -> Evidence:
    """Evidence of texts only: (prompt, response) pairs, and questions by domain, whose answers are not known."""
    questions = {name: tuple(Question(text, "") for text in texts) for name, texts in domains.items()}
    counts = {domain: len(asked) for domain, asked in questions.items()}
    return Evidence(Texts(tuple(Example(*pair) for pair in sft), questions, counts), N, seed)


def ratio_standard_error(sums: np.ndarray, below: np.ndarray, seed: int, resamples: int = RESAMPLES) -> float | None:
    """Bootstrap standard error of Σ sums / Σ below over questions."""
    return standard_error(ratio(sums, below), len(sums), seed, resamples)
