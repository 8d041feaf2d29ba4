"""Learning which pairs to merge: what byte-pair encoding and WordPiece have in common."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from tqdm import tqdm

Pair = tuple[int, int]


def texts_of(texts: Iterable[str]) -> Iterable[str]:
    """Return ``texts``, refusing a single string, which would be read letter by letter."""
    if isinstance(texts, str):
        raise TypeError(
            "texts must be several strings, such as a list, got a single string"
        )
    return texts


def tokens_by_id(vocab: Mapping[str, int]) -> dict[int, str]:
    """Turn a vocabulary around, refusing one in which two tokens have the same id."""
    tokens = {n: token for token, n in vocab.items()}
    if len(tokens) < len(vocab):
        raise ValueError("two tokens of the vocabulary have the same id")
    return tokens


def learn_merges(
    words: Mapping[tuple[str, ...], int],
    vocab: list[str],
    vocab_size: int,
    *,
    min_frequency: int = 2,
    prefix: str = "",
    progress: bool = False,
) -> list[tuple[str, str]]:
    """Merge the most frequent pair of neighbours, again and again; return the merges in order.

    ``words`` counts words, each a tuple of tokens of ``vocab``, which grows to ``vocab_size``
    tokens or until no pair occurs ``min_frequency`` times. Of pairs that are equally frequent the
    one with the smaller ids comes first. ``prefix`` marks tokens that continue a word.

    This is the algorithm of Sennrich and others (2016) as the trainer of ``tokenizers`` runs it,
    ties included: each merge visits the words that hold the pair, and changes the counts of its
    neighbours.

    Raises:
        ValueError: ``vocab_size`` is smaller than the vocabulary that is there already.
    """
    if vocab_size < len(vocab):
        raise ValueError(
            f"vocab_size is {vocab_size}, but the special tokens and the "
            f"alphabet are already {len(vocab)} tokens"
        )
    ids = {token: n for n, token in enumerate(vocab)}
    spelled = [[ids[token] for token in word] for word in words]
    times = list(words.values())
    counts: Counter[Pair] = Counter()
    places: dict[Pair, set[int]] = defaultdict(set)
    for n, word in enumerate(spelled):
        for pair in pairwise(word):
            counts[pair] += times[n]
            places[pair].add(n)
    heap = [(-counts[pair], pair, where) for pair, where in places.items()]
    heapq.heapify(heap)
    merges = []
    bar = tqdm(
        total=vocab_size - len(vocab), desc="merges", disable=not progress
    )
    while len(vocab) < vocab_size and heap:
        count, pair, where = heapq.heappop(heap)
        if -count != counts[pair]:  # other merges took some away
            heapq.heappush(heap, (-counts[pair], pair, where))
            continue
        if -count < max(min_frequency, 1):
            break
        left, right = vocab[pair[0]], vocab[pair[1]]
        token = left + right.removeprefix(prefix)
        if token not in ids:  # a special token may spell the same
            ids[token] = len(vocab)
            vocab.append(token)
            bar.update()
        merges.append((left, right))
        found: dict[Pair, set[int]] = defaultdict(set)
        for n in where:
            changes = merge_in_place(spelled[n], pair, ids[token])
            for changed, change in changes:
                counts[changed] += change * times[n]
                if change > 0:
                    found[changed].add(n)
        for new, where in found.items():
            heapq.heappush(heap, (-counts[new], new, where))
    bar.close()
    return merges


def merge_in_place(
    word: list[int], pair: Pair, token: int
) -> list[tuple[Pair, int]]:
    """Replace ``pair`` by ``token`` from left to right; return the pairs gained and lost."""
    changes = []
    i = 0
    while i < len(word) - 1:
        if (word[i], word[i + 1]) == pair:
            if i > 0:
                left = word[i - 1]
                changes += [((left, pair[0]), -1), ((left, token), 1)]
            word[i : i + 2] = [token]
            if i < len(word) - 1:
                right = word[i + 1]
                changes += [((pair[1], right), -1), ((token, right), 1)]
        i += 1
    return changes
