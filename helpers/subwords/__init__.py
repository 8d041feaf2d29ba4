"""Subword tokenizers from scratch: byte-pair encoding, WordPiece and Unigram.

Each learns a vocabulary from texts, as in ``BytePairEncoding.train(texts, vocab_size=8_000)``, and
has ``tokenize``, ``encode`` and ``decode``. They give the same numbers as the library
``tokenizers``: chapter 06 and the tests compare them.
"""

from helpers.subwords.bpe import BytePairEncoding, byte_words
from helpers.subwords.merging import learn_merges, merge_in_place
from helpers.subwords.unigram import (
    Unigram,
    best_cut,
    edges,
    expected_counts,
    log_shares,
    marked_words,
    prune,
    seed_counts,
)
from helpers.subwords.wordpiece import WordPiece, normalize, split_words

__all__ = [
    "BytePairEncoding",
    "Unigram",
    "WordPiece",
    "best_cut",
    "byte_words",
    "edges",
    "expected_counts",
    "learn_merges",
    "log_shares",
    "marked_words",
    "merge_in_place",
    "normalize",
    "prune",
    "seed_counts",
    "split_words",
]
