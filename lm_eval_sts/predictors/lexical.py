r"""Similarity of the words of SFT set and domain: no model at all.

TF-IDF is scikit-learn's default: term count times ln((1 + n)/(1 + df)) + 1, vectors of length 1. The share of
n-grams is the measure of test-set contamination of Brown et al., who take 13-grams; in short questions even 3-grams
hardly recur (of MMLU-Pro's subjects 1.5 to 12% of them in 500 competition problems, of 2-grams 14 to 38%).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lm_eval_sts.evidence.evidence import Array, Evidence, Texts
from lm_eval_sts.predictors.base import Measured, Predictor, mean_of, ratio_of


def words(text: str) -> list[str]:
    """Words of a text, in lower case."""
    return re.findall(r"\w+", text.lower())


def tfidf_cosine(evidence: Evidence) -> dict[str, Measured]:
    """Mean TF-IDF cosine of the questions to the SFT set's centroid."""
    sft = [example.text for example in evidence.texts.sft]
    domains = {d: [q.text for q in questions] for d, questions in evidence.texts.domains.items()}
    return {domain: mean_of(cosines) for domain, cosines in _cosines(sft, domains).items()}


def _cosines(sft: Sequence[str], domains: Mapping[str, Sequence[str]]) -> dict[str, Array]:
    """Cosine of every question to the SFT set's centroid, [questions] a domain; NaN where the SFT set has no words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(map(words, sft)):
        return {domain: np.full(len(texts), np.nan) for domain, texts in domains.items()}
    vectorizer = TfidfVectorizer(analyzer=words).fit([*sft, *(text for texts in domains.values() for text in texts)])
    centroid = np.asarray(vectorizer.transform(sft).mean(axis=0)).ravel()
    centroid /= np.linalg.norm(centroid)
    return {domain: vectorizer.transform(texts) @ centroid for domain, texts in domains.items()}


def ngram_overlap(texts: Texts, n: int = 2) -> dict[str, Measured]:
    """Share of a domain's word n-grams that the SFT set holds."""
    asked = {d: [list(_ngrams(q.text, n)) for q in qs] for d, qs in texts.domains.items()}
    wanted = {gram for questions in asked.values() for grams in questions for gram in grams}
    # Other n-grams of the SFT set, of which there may be millions, are not kept.
    known = {gram for example in texts.sft for gram in _ngrams(example.text, n) if gram in wanted}
    measured = {}
    for domain, questions in asked.items():
        shared = [sum(gram in known for gram in grams) for grams in questions]
        measured[domain] = ratio_of(np.array(shared, dtype=np.float64), np.array([float(len(g)) for g in questions]))
    return measured


def _ngrams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    found = words(text)
    return zip(*(found[i:] for i in range(n)), strict=False)


ABOUT = """\
A text of the SFT set is a prompt with its response, because both are trained on; a text of the domain is a question as
it stands in its prompt. Words are runs of letters, digits and underscores in lower case; a script without spaces is not
split. Document frequencies are those of all texts of the run, so a score depends a little on which domains were run.

Assumes that shared words mean shared skill: blind to the same skill in other words, misled by a shared prompt
format."""

FAMILY = (
    Predictor(
        name="tfidf_cosine",
        measure=tfidf_cosine,
        needs=frozenset({"texts"}),
        source="Salton & Buckley, 1988",
        cost="none: no model",
        needed="words in the SFT set",
        summary="does a domain use the SFT set's words?",
        formula="mean over questions q of cos(v_q, c), v TF-IDF vectors and c their mean over the SFT set",
    ),
    Predictor(
        name="ngram_overlap",
        measure=lambda evidence: ngram_overlap(evidence.texts),
        needs=frozenset({"texts"}),
        source="Brown et al., arXiv 2005.14165, App. C",
        cost="none: no model",
        needed="a question of 2 words",
        summary="word pairs that are in the SFT set, too",
        formula="share of the word 2-grams of all the domain's questions that occur in the SFT set",
    ),
)
"""Every predictor of the family."""
