"""TF-IDF and n-gram overlap on texts of a few words, worked out by hand."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest

from lm_eval_sts.predictors.lexical import ngram_overlap, words
from lm_eval_sts.predictors.registry import get_predictor
from tests.predictors.made import ratio_standard_error, text_evidence


def test_words():
    assert words("Is 2+x > 3? Übung, f_1!") == ["is", "2", "x", "3", "übung", "f_1"]


def test_tfidf_cosine_by_hand():
    """Four texts of the words a, b, c: [a b], [a a], and the questions [a] and [b c]."""
    found = get_predictor("tfidf_cosine").score(
        text_evidence([("A", "b"), ("a", "a")], {"law": ["a!"], "math": ["b c"]})
    )
    # Document frequencies of a, b, c among four texts: 3, 2, 1
    a, b, c = (log(5 / (1 + df)) + 1 for df in (3, 2, 1))
    centroid = np.array([a / sqrt(a**2 + b**2) + 1, b / sqrt(a**2 + b**2), 0]) / 2
    centroid /= np.linalg.norm(centroid)
    assert found.domains["law"].score == pytest.approx(centroid[0])
    assert found.domains["math"].score == pytest.approx(centroid[1] * b / sqrt(b**2 + c**2))
    assert (found.domains["law"].n_questions, found.domains["law"].n_tokens, found.domains["law"].draws) == (
        1,
        None,
        (),
    )


def test_tfidf_is_the_mean_over_questions():
    texts = {"law": ["court of law", "river", "the court", "stone court proof", "???"]}
    found = get_predictor("tfidf_cosine").score(
        text_evidence([("court", "proof of law"), ("the stone", "river")], texts)
    )
    own = found.questions["law"]
    assert own[4] == 0.0 < own[:4].min() and own.max() < 1
    assert found.domains["law"].score == pytest.approx(own.mean())
    assert found.domains["law"].se == pytest.approx(ratio_standard_error(own, np.ones(5, int), 7))


@pytest.mark.parametrize("name", ["tfidf_cosine", "ngram_overlap"])
def test_texts_without_words_have_no_score(name):
    found = get_predictor(name).score(text_evidence([("!", "?")], {"law": ["..."], "math": ["?"]}))
    assert not found.domains and "no score for law, math" in found.notes[0]


def test_ngram_overlap_by_hand():
    sft = [("The sum of two", "is four. The end"), ("of two", "kinds")]
    texts = {
        "math": ["sum of two primes", "the SUM is"],  # sum·of, of·two | two·primes; the·sum | sum·is
        "law": ["end sum of", "court", "four the"],  # sum·of | end·sum; nothing; four·the
        "none": ["kinds end"],
    }
    found = get_predictor("ngram_overlap").score(text_evidence(sft, texts))
    assert {d: s.score for d, s in found.domains.items()} == {"math": 3 / 5, "law": 2 / 3, "none": 0.0}
    np.testing.assert_array_equal(found.questions["math"], [2 / 3, 1 / 2])
    np.testing.assert_array_equal(found.questions["law"], [1 / 2, np.nan, 1])
    assert found.domains["math"].se == pytest.approx(ratio_standard_error(np.array([2.0, 1]), np.array([3, 2]), 7))


def test_ngrams_do_not_cross_texts_and_n_counts():
    sft = [("one two", "three four"), ("five", "six")]
    texts = {"law": ["one two three four five six"]}
    for n, shared, total in ((1, 6, 6), (2, 4, 5), (3, 2, 4), (4, 1, 3)):
        score = ngram_overlap(text_evidence(sft, texts).texts, n)["law"].score(seed=0).score
        assert score == pytest.approx(shared / total)
