"""News and its copies: what chapter 12 and ``benchmarks/few_labels.py`` share.

The news are those of Greene and Cunningham 2006, https://doi.org/10.1145/1143844.1143892.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset, load_dataset
from sklearn.feature_extraction.text import CountVectorizer

from helpers import assets

WORDS = 5  # so many in a row are one shingle
SHARE = 0.5  # of the shorter text's shingles; from here on two texts are copies
TEST, VALIDATION = 900, 200


def near_copies(texts: Sequence[str], share: float = SHARE) -> np.ndarray:
    """Return the pairs of copies, a row of two positions each, the first the smaller one.

    Two texts are copies when at least ``share`` of the five-word sequences of the shorter one,
    its shingles, stand in the other one too: the containment of Broder 1997,
    https://doi.org/10.1109/SEQUEN.1997.666900.
    """
    size = (WORDS, WORDS)
    counter = CountVectorizer(ngram_range=size, binary=True, dtype=np.int32)
    has = counter.fit_transform(texts)
    both = (has @ has.T).tocoo()
    sizes = np.asarray(has.sum(axis=1)).ravel()
    shorter = np.minimum(sizes[both.row], sizes[both.col])
    copies = (both.row < both.col) & (both.data >= share * shorter)
    pairs = np.stack([both.row[copies], both.col[copies]], axis=1)
    return pairs[np.lexsort(pairs.T[::-1])]


def first_of_each(texts: Sequence[str]) -> np.ndarray:
    """Return the positions of texts that are no copy of an earlier one."""
    copies = near_copies(texts)[:, 1]
    return np.setdiff1d(np.arange(len(texts)), copies)


def split_news() -> dict[str, Dataset]:
    """Load the news, leave copies out, and split the rest into train, validation and test."""
    news = load_dataset(**assets.dataset("news"))["train"]
    order = np.random.default_rng(0).permutation(first_of_each(news["text"][:]))
    test, validation = order[:TEST], order[TEST : TEST + VALIDATION]
    parts = {"train": order[TEST + VALIDATION :], "validation": validation, "test": test}
    return {name: news.select(rows) for name, rows in parts.items()}
