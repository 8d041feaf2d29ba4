"""The unigram language model of Kudo (2018): probable pieces, and the most probable cut."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from helpers.shapes import checked
from helpers.subwords.merging import texts_of, tokens_by_id

UNKNOWN = "<unk>"
SPACE = "▁"
LONGEST = 16  # characters of a piece
PENALTY = 10.0  # an unknown character is so much worse than the worst piece, as in tokenizers


def marked_words(text: str) -> list[str]:
    """Normalize a text (NFKC) and cut it into words that each begin with ``▁`` for a space."""
    text = unicodedata.normalize("NFKC", text).replace(" ", SPACE)
    if not text:
        return []
    if not text.startswith(SPACE):
        text = SPACE + text
    return [SPACE + word for word in text.split(SPACE)[1:]]


def edges(
    word: str, scores: Mapping[str, float], longest: int
) -> Iterable[tuple[int, int, float]]:
    """Yield start, end and score of each known piece of ``word``, by start, then by end."""
    for start in range(len(word)):
        for end in range(start + 1, min(len(word), start + longest) + 1):
            score = scores.get(word[start:end])
            if score is not None:
                yield start, end, score


def _add(a: float, b: float) -> float:
    """Return log(exp(a) + exp(b))."""
    low, high = (a, b) if a < b else (b, a)
    if low == -math.inf:
        return high
    return high + math.log1p(math.exp(low - high))


def expected_counts(
    words: Mapping[str, int], scores: Mapping[str, float]
) -> tuple[Counter[str], float]:
    """The E step: how often each piece is used on average over all cuts; the log-likelihood.

    Each cut of a word counts in proportion to its probability, the product of its pieces'.
    ``scores`` are natural logarithms of the pieces' probabilities; every character must be one.
    """
    longest = max(map(len, scores))
    counts: Counter[str] = Counter()
    likelihood = 0.0
    for word, times in words.items():
        ways = list(edges(word, scores, longest))
        before = [0.0, *[-math.inf] * len(word)]
        for start, end, score in ways:
            before[end] = _add(before[end], before[start] + score)
        after = [*[-math.inf] * len(word), 0.0]
        for start, end, score in reversed(ways):
            after[start] = _add(after[start], after[end] + score)
        total = before[-1]
        likelihood += times * total
        for start, end, score in ways:
            counts[word[start:end]] += times * math.exp(
                before[start] + score + after[end] - total
            )
    return counts, likelihood


def log_shares(counts: Mapping[str, float]) -> dict[str, float]:
    """The M step: the log of each piece's share of all counts.

    A piece whose count is zero goes. A character stays with a count of a billionth, so that any
    text of these characters can still be cut.
    """
    least = {piece: 1e-9 if len(piece) == 1 else 0.0 for piece in counts}
    kept = {
        piece: max(count, least[piece]) for piece, count in counts.items()
    }
    total = math.log(math.fsum(kept.values()))
    return {
        piece: math.log(count) - total
        for piece, count in kept.items()
        if count > 0
    }


def best_cut(
    word: str, scores: Mapping[str, float], longest: int, without: str = ""
) -> list[str]:
    """The most probable cut of a word (Viterbi) into pieces other than ``without``."""
    best = [0.0, *[-math.inf] * len(word)]
    came_from = [0] * (len(word) + 1)
    for start, end, score in edges(word, scores, longest):
        if best[start] + score > best[end] and word[start:end] != without:
            best[end], came_from[end] = best[start] + score, start
    cut, end = [], len(word)
    while end:
        cut.append(word[came_from[end] : end])
        end = came_from[end]
    return cut[::-1]


def prune(
    words: Mapping[str, int], scores: Mapping[str, float], keep: int
) -> dict[str, float]:
    """Drop pieces that cost the least likelihood until ``keep`` are left; characters stay.

    The loss is estimated as in SentencePiece: every use of a piece is replaced by its own best
    cut into others.
    """
    longest = max(map(len, scores))
    used: Counter[str] = Counter()
    for word, times in words.items():
        for piece in best_cut(word, scores, longest):
            used[piece] += times
    total = sum(used.values())
    losses = {}
    for piece in scores:
        if len(piece) == 1:
            continue
        count, losses[piece] = used[piece], 0.0
        if count:
            others = best_cut(piece, scores, longest, without=piece)
            grown = math.log(total + count * (len(others) - 1))
            replaced = sum(
                math.log(used[other] + count) - grown for other in others
            )
            losses[piece] = count * (math.log(count / total) - replaced)
    worst_first = sorted(losses, key=lambda piece: (losses[piece], piece))
    dropped = set(worst_first[: max(0, len(scores) - keep)])
    return {
        piece: score
        for piece, score in scores.items()
        if piece not in dropped
    }


def seed_counts(words: Mapping[str, int], most: int) -> dict[str, float]:
    """Count every string within the words: all characters, and the ``most`` heaviest others.

    The weight of a string is its count times its length, as in SentencePiece.
    """
    letters: Counter[str] = Counter()
    strings: Counter[str] = Counter()
    for word, times in words.items():
        for start in range(len(word)):
            letters[word[start]] += times
            for end in range(
                start + 2, min(len(word), start + LONGEST) + 1
            ):
                strings[word[start:end]] += times
    weights = {
        s: count * len(s) for s, count in strings.items() if count > 1
    }
    heaviest = sorted(weights, key=lambda s: (-weights[s], s))[:most]
    return dict(sorted(letters.items())) | {s: strings[s] for s in heaviest}


class Unigram:
    """The most probable cut. ``pieces`` are pairs of a piece and its log-probability.

    The first piece is the unknown one, ``<unk>``. Neighbouring unknown characters are one token.
    """

    @checked
    def __init__(self, pieces: Sequence[tuple[str, float]]) -> None:
        """Refuse pieces without ``<unk>`` in front, one that occurs twice, a score that is none."""
        self.pieces = list(pieces)
        if not pieces or pieces[0][0] != UNKNOWN:
            raise ValueError(f"the first piece must be {UNKNOWN}")
        self.vocab = {piece: n for n, (piece, _) in enumerate(self.pieces)}
        if len(self.vocab) < len(self.pieces):
            raise ValueError("the same piece is there twice")
        if not all(math.isfinite(score) for _, score in self.pieces):
            raise ValueError("every score must be a finite number")
        self.tokens = tokens_by_id(self.vocab)
        self._scores = dict(self.pieces)
        self._longest = max(map(len, self.vocab))
        self._worst = min(self._scores.values()) - PENALTY

    @classmethod
    def from_vocab(cls, pieces: Sequence[tuple[str, float]]) -> Unigram:
        """Return the tokenizer of pieces and scores, ``<unk>`` first."""
        return cls(pieces)

    @classmethod
    @checked
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        seeds: int = 20_000,
    ) -> Unigram:
        """Begin with many pieces; in turn fit their probabilities (EM) and drop the least useful.

        Each time two rounds of EM are followed by a pruning to three quarters of the pieces, until
        ``vocab_size`` are left, ``<unk>`` among them.

        Raises:
            ValueError: there is no text, or ``vocab_size`` leaves no room for its characters.
        """
        words = Counter(
            word for text in texts_of(texts) for word in marked_words(text)
        )
        counts = seed_counts(words, seeds)
        letters = sum(len(piece) == 1 for piece in counts)
        if not letters or vocab_size < letters + 1:
            raise ValueError(
                f"vocab_size is {vocab_size}, but the texts have {letters} characters"
            )
        scores = log_shares(counts)
        while True:
            for _ in range(2):
                counts, _ = expected_counts(words, scores)
                scores = log_shares(counts)
            if len(scores) <= vocab_size - 1:
                break
            keep = max(vocab_size - 1, int(0.75 * len(scores)))
            scores = prune(words, scores, keep)
        ordered = sorted(scores.items(), key=lambda one: (-one[1], one[0]))
        return cls([(UNKNOWN, 0.0), *ordered])

    @checked
    def tokenize(self, text: str) -> list[str]:
        """Return the pieces of a text; unknown characters stand there as they are."""
        return [
            piece for word in marked_words(text) for piece in self.cut(word)
        ]

    def cut(self, word: str) -> list[str]:
        """The most probable cut of one word, found from left to right (Viterbi)."""
        unknown = dict.fromkeys(set(word) - self.vocab.keys(), self._worst)
        scores = self._scores | unknown if unknown else self._scores
        cut: list[str] = []
        pieces = best_cut(word, scores, self._longest)
        for is_unknown, run in groupby(pieces, self._is_unknown):
            parts = list(run)
            cut += ["".join(parts)] if is_unknown else parts
        return cut

    def _is_unknown(self, piece: str) -> bool:
        return self.vocab.get(piece, 0) == 0

    @checked
    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; 0 is unknown."""
        return [self.vocab.get(piece, 0) for piece in self.tokenize(text)]

    @checked
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without the space that was put before its first word.

        Raises:
            KeyError: an id is not in the vocabulary.
        """
        text = "".join(self.tokens[n] for n in ids).replace(SPACE, " ")
        return text.removeprefix(" ")
