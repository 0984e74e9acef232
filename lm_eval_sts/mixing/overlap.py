"""Examples that are, or nearly are, questions of a benchmark, and examples that repeat each other."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lm_eval_sts.examples import Example
from lm_eval_sts.records import LeftOut

NGRAM: Final = 8
OVERLAP: Final = 0.7
"""A question is in an example that holds 70% of its 8-grams: the rule of PaLM (Chowdhery et al. 2022, §8)."""

_WORD: Final = re.compile(r"\w+")
_CHUNK: Final = 512
"""Examples that are compared at once."""


def normalised(text: str) -> str:
    """A text's words and numbers alone, in one form of Unicode, without case."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def key_of(example: Example) -> tuple[str, str]:
    """What is the same in two examples that repeat each other: all that is said, and the answer."""
    return normalised(example.text), normalised(example.response)


class Questions:
    """The questions of a benchmark, to find them in examples.

    An example is a question where a prompt of it is the same text after normalisation, or where it holds so many of
    the question's n-grams. A question of fewer words than an n-gram has counts by its whole text alone.
    """

    def __init__(self, texts: Mapping[str, Sequence[str]], ngram: int = NGRAM, overlap: float = OVERLAP) -> None:
        """Takes the questions apart.

        Args:
            texts: By question the texts that are it: as in its prompt, and without options, for instance.
            ngram: Words of an n-gram.
            overlap: Share of a question's n-grams from which on an example counts as the question.
        """
        self._ngram, self._overlap = ngram, overlap
        pairs = [(name, text) for name, forms in texts.items() for form in forms if (text := normalised(form))]
        self.n = len(pairs)
        self._same = {text: name for name, text in reversed(pairs)}
        self._long = [(name, text) for name, text in pairs if text.count(" ") >= ngram - 1]
        self._vectorizer: Any = None
        if self._long:
            from sklearn.feature_extraction.text import CountVectorizer

            self._vectorizer = CountVectorizer(analyzer=self._grams, binary=True)
            self._counts = self._vectorizer.fit_transform([text for _, text in self._long]).T.tocsc()
            self._sizes = np.asarray(self._counts.sum(axis=0), dtype=np.float64).ravel()

    def _grams(self, text: str) -> list[str]:
        words = text.split()
        return [" ".join(words[i : i + self._ngram]) for i in range(len(words) - self._ngram + 1)]

    def found_in(self, examples: Sequence[Example]) -> list[LeftOut]:
        """The examples that are questions, each with the one that it is most like; in the order of the examples."""
        found: dict[int, LeftOut] = {}
        for row, example in enumerate(examples):
            prompts = [m.content for m in example.messages if m.role == "user"]
            name = next((self._same[p] for p in map(normalised, prompts) if p in self._same), None)
            if name is not None:
                found[row] = LeftOut(row=row, question=name, overlap=1.0)
        if self._vectorizer is not None:
            for start in range(0, len(examples), _CHUNK):
                self._search(examples[start : start + _CHUNK], start, found)
        return [found[row] for row in sorted(found)]

    def _search(self, examples: Sequence[Example], start: int, found: dict[int, LeftOut]) -> None:
        counts = self._vectorizer.transform([normalised(example.text) for example in examples])
        shared = (counts @ self._counts).tocsr()  # [examples, questions], n-grams in common
        for i in range(shared.shape[0]):
            cells = slice(shared.indptr[i], shared.indptr[i + 1])
            columns = shared.indices[cells]
            if start + i in found or not len(columns):
                continue
            overlaps = shared.data[cells] / self._sizes[columns]
            # The first of equals, whatever the order of the columns.
            best = min(range(len(columns)), key=lambda k: (-overlaps[k], columns[k]))
            if overlaps[best] >= self._overlap:
                name = self._long[columns[best]][0]
                found[start + i] = LeftOut(row=start + i, question=name, overlap=float(overlaps[best]))
