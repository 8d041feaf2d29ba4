"""Pairs of texts as the model reads them in training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

Pair = tuple[list[int], list[int]]


def encode(tokenizer: Tokenizer, texts: Iterable[str]) -> list[list[int]]:
    """Return the token ids of each text, its end included, without padding."""
    return [one.ids for one in tokenizer.encode_batch(list(texts))]


def in_batches(
    pairs: Sequence[Pair], size: int, steps: int, seed: int
) -> list[list[int]]:
    """Return ``steps`` lists of ``size`` row numbers, each of pairs of similar length.

    Every pass over the pairs takes them in another order, and leaves out a few.
    """
    random, found = np.random.default_rng(seed), []
    length = np.array(
        [len(source) + len(target) for source, target in pairs]
    )
    while len(found) < steps:
        # A random number below 3 mixes neighbours in length.
        order = np.argsort(length + 3 * random.random(len(pairs)))
        last = max(1, len(pairs) - size + 1)
        starts = random.permutation(np.arange(0, last, size))
        found += [order[s : s + size].tolist() for s in starts]
    return found[:steps]


def fill_up(rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Return the ids as one tensor, filled up with 0, and its mask: True is a real token."""
    padded = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(ids) for ids in rows], batch_first=True
    )
    lengths = torch.tensor([len(ids) for ids in rows])
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def collate(pairs: Sequence[Pair]) -> list[Tensor]:
    """Return sources and their mask, then targets and theirs, filled up with 0."""
    sources, targets = zip(*pairs, strict=True)
    return [*fill_up(sources), *fill_up(targets)]
