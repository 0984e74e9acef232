r"""Similarity of the words of SFT set and domain: no model at all.

A text of the SFT set is a prompt and its response, because both are trained on; a text of the domain is a question as
it stands in its prompt. A word is a run of letters, digits and underscores, in lower case (single letters and digits
count: in options they are words; a script without spaces is not split).

* ``tfidf_cosine``: the mean over the domain's questions q of cos(v_q, c), where v is a text's TF-IDF vector of length 1
  (term count times ln((1 + n)/(1 + df)) + 1, scikit-learn's default; Salton & Buckley, Information Processing &
  Management 24, 1988) and c the mean of the vectors of the SFT set, its centroid. Document frequencies are those of all
  texts of the run, SFT set and all domains, so a score depends a little on which domains were run.
* ``ngram_overlap``: the share of the domain's word 2-grams, over all its questions, that occur in the SFT set (the
  measure of test-set contamination of Brown et al., arXiv 2005.14165, App. C, which takes 13-grams; in short questions
  even 3-grams hardly recur: of MMLU-Pro's subjects 1.5 to 12% of them in 500 competition problems, of 2-grams 14 to
  38%).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lm_eval_sts.predictors.base import Evidence, Need, Scores, Target, Texts
from lm_eval_sts.predictors.resampling import Array, ratio
from lm_eval_sts.predictors.scoring import Measured, make_scores

_COST = "none: no model"


def words(text: str) -> list[str]:
    """Words of a text, in lower case."""
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True)
class TfidfCosine:
    """TF-IDF cosine of questions to the SFT set's centroid."""

    name: str = "tfidf_cosine"
    version: str = "1"
    target: Target = "magnitude"
    needs: frozenset[Need] = frozenset({"texts"})
    cost: str = _COST
    source: str = "Salton & Buckley, 1988"

    def score(self, evidence: Evidence) -> Scores:
        """Compares every domain with the SFT set."""
        sft = [example.text for example in evidence.texts.sft]
        domains = {d: [q.text for q in questions] for d, questions in evidence.texts.domains.items()}
        measured = {
            domain: Measured(ratio(cosines, np.ones(len(cosines))), cosines)
            for domain, cosines in _cosines(sft, domains).items()
        }
        return make_scores(self.name, measured, evidence.seed, needed="words in the SFT set")


def _cosines(sft: Sequence[str], domains: Mapping[str, Sequence[str]]) -> dict[str, Array]:
    """Cosine of every question to the SFT set's centroid, [questions] a domain; NaN where the SFT set has no words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(map(words, sft)):
        return {domain: np.full(len(texts), np.nan) for domain, texts in domains.items()}
    vectorizer = TfidfVectorizer(analyzer=words).fit([*sft, *(text for texts in domains.values() for text in texts)])
    centroid = np.asarray(vectorizer.transform(sft).mean(axis=0)).ravel()
    centroid /= np.linalg.norm(centroid)
    return {domain: vectorizer.transform(texts) @ centroid for domain, texts in domains.items()}


@dataclass(frozen=True)
class NgramOverlap:
    """Share of a domain's word n-grams that the SFT set holds.

    Attributes:
        n: Words of an n-gram.
    """

    n: int = 2
    name: str = "ngram_overlap"
    version: str = "1"
    target: Target = "magnitude"
    needs: frozenset[Need] = frozenset({"texts"})
    cost: str = _COST
    source: str = "Brown et al., arXiv 2005.14165, App. C"

    def score(self, evidence: Evidence) -> Scores:
        """Looks every domain's n-grams up in the SFT set."""
        asked = {d: [list(self._ngrams(q.text)) for q in qs] for d, qs in evidence.texts.domains.items()}
        known = self._known(evidence.texts, {g for questions in asked.values() for grams in questions for g in grams})
        measured = {}
        for domain, questions in asked.items():
            shared = np.array([float(sum(gram in known for gram in grams)) for grams in questions])
            total = np.array([len(grams) for grams in questions])
            with np.errstate(invalid="ignore"):
                measured[domain] = Measured(ratio(shared, total), shared / total)
        return make_scores(self.name, measured, evidence.seed, f"a question of {self.n} words")

    def _known(self, texts: Texts, asked: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
        """Those asked for that the SFT set holds; its other n-grams, of which there may be millions, are not kept."""
        return {gram for example in texts.sft for gram in self._ngrams(example.text) if gram in asked}

    def _ngrams(self, text: str) -> Iterator[tuple[str, ...]]:
        found = words(text)
        return zip(*(found[i:] for i in range(self.n)), strict=False)


FAMILY: tuple[TfidfCosine | NgramOverlap, ...] = (TfidfCosine(), NgramOverlap())
"""Every predictor of the family."""
