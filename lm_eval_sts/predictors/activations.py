r"""A domain's activations: their size (the paper's baselines, Tables 5 and 13), and whether a probe tells them apart.

The paper does not say which norm its "feature activations" are. The mean of ‖x_t‖ itself would need every token; what
is kept of a question are sums over its tokens of x and of x², from which the root mean square is exact.

A classifier between two domains whose error is turned into a distance is the proxy A-distance of Ben-David et al. (NIPS
2006; Machine Learning 79, 2010). Where it is near its maximum, as between an SFT set and almost any domain, it ranks
nothing; so here one probe is fitted for all domains, and the log-odds say how far to the SFT set's side each lies. The
probe is a logistic regression (scikit-learn's, its own L2 penalty, C = 1) on standardised dimensions, in which SFT set
and domains weigh the same. Every question is scored by a probe that was not fitted on it: five folds, drawn by the seed
of the run, in each set of its own so that every fold has a fifth of each. The standard error holds the probes fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lm_eval_sts.evidence.evidence import Array, Evidence, Profiles
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.predictors.base import Measured, Predictor, alone, by_domain, mean_of
from lm_eval_sts.predictors.statistics import ratio


def size(sums: Callable[[Profile], Any], profile: Profile, *, root: bool) -> Measured:
    """Size of a domain's activations.

    Args:
        sums: Profile to each question's sums over its tokens: [questions, dimensions], CSR or dense.
        profile: Profile of the domain's questions.
        root: Whether these are squares, whose mean's root is the size.
    """
    mean = ratio(np.asarray(sums(profile).sum(axis=1, dtype=np.float64)), profile.tokens)

    def statistic(weights: Array) -> Array:
        return np.sqrt(mean(weights)) if root else mean(weights)

    return Measured(statistic, alone(statistic, len(profile)), n_tokens=profile.n_tokens)


def _activation(name: str, sums: Callable[[Profile], Any], *, root: bool, **told: Any) -> Predictor:
    return Predictor(
        name=name,
        measure=by_domain("profiles", lambda profiles, domain: size(sums, profiles.domains[domain], root=root)),
        needs=frozenset({"profiles"}),
        source="Zhang et al., arXiv 2603.02908, Tables 5 and 13",
        cost="forward to the SAE's layer: questions",
        needed="a scored token",
        **told,
    )


def probe(evidence: Evidence) -> dict[str, Measured]:
    """Mean log-odds that a domain's questions are of the SFT set."""
    return {domain: mean_of(odds) for domain, odds in log_odds(evidence["profiles"], evidence.seed).items()}


def log_odds(profiles: Profiles, seed: int) -> dict[str, Array]:
    """Each question's log-odds of being of the SFT set, by a probe not fitted on it: [questions] a domain.

    All NaN where there are fewer than two questions or SFT queries: a fold's probe would have none to be fitted on.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sets = {"": profiles.sft, **profiles.domains}
    vectors = np.concatenate([p.stream.sum / p.tokens[:, None] for p in sets.values()]).astype(np.float64)
    is_sft = np.repeat([True, False], [len(profiles.sft), len(vectors) - len(profiles.sft)])
    generator = np.random.default_rng(seed)
    stops = np.cumsum([len(p) for p in sets.values()])
    # Dealt on from set to set, so that two questions are never in one fold while another is empty.
    dealt = [stop - len(p) + generator.permutation(len(p)) for p, stop in zip(sets.values(), stops, strict=True)]
    folds = np.concatenate(dealt) % _FOLDS
    odds = np.full(len(vectors), np.nan)
    for fold in np.unique(folds) if 2 <= is_sft.sum() <= len(vectors) - 2 else ():
        here, rest = folds == fold, folds != fold
        classifier = LogisticRegression(class_weight="balanced", max_iter=1000, random_state=seed)
        probe = make_pipeline(StandardScaler(), classifier).fit(vectors[rest], is_sft[rest])
        odds[here] = probe.decision_function(vectors[here])
    _, *of_domains = np.split(odds, stops[:-1])
    return dict(zip(profiles.domains, of_domains, strict=True))


_FOLDS = 5
"""Folds of the probe: each is fitted on four fifths."""

ABOUT = """\
x is the activation of a token before the SAE, h its SAE features, E the mean over all scored tokens of the domain's
questions, read without demonstrations. The probe p is one logistic regression that tells the SFT set's queries from the
questions of all domains; no question is scored by a probe that was fitted on it.

The three sizes do not depend on the SFT set: every SFT set gets the same scores, and nothing is left of them once the
domains' means over SFT sets are taken out. The probe assumes that a domain on the SFT set's side of the boundary is the
one affected."""

FAMILY = (
    _activation(
        "activation_raw_norm",
        lambda profile: profile.stream.squares,
        root=True,
        summary="size of the domain's activations",
        formula="√(E ‖x‖²)",
    ),
    _activation(
        "activation_sae_norm",
        lambda profile: profile.features.squares,
        root=True,
        summary="size of the domain's SAE features",
        formula="√(E ‖h‖²)",
    ),
    _activation(
        "activation_sae_total",
        lambda profile: profile.features.sum,
        root=False,
        summary="sts_act with every feature selected",
        formula="E Σ_j h_j",
    ),
    Predictor(
        name="activation_probe",
        measure=probe,
        needs=frozenset({"profiles"}),
        source="Ben-David et al., Machine Learning 79, 2010 (idea)",
        cost="forward to the SAE's layer: SFT queries and questions; a logistic regression",
        needed="two questions in all and two SFT queries",
        summary="do questions look like SFT prompts?",
        formula="mean over questions of ln p(SFT | z) / p(domain | z), z the question's mean activation",
    ),
)
"""Every predictor of the family."""
