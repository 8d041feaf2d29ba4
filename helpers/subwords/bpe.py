"""Byte-pair encoding on bytes, as in GPT-2: any text, no unknown token."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import regex

from helpers.shapes import checked
from helpers.subwords.merging import learn_merges, texts_of, tokens_by_id

# GPT-2's: English endings, letters, digits, other signs, each with one space in front; spaces.
PATTERN = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
# GPT-2's printable letter for each of the 256 bytes.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
LETTERS = {byte: chr(byte) for byte in _PRINTABLE}
LETTERS |= {byte: chr(256 + n) for n, byte in enumerate(_OTHERS)}
BYTES = {letter: byte for byte, letter in LETTERS.items()}


def byte_words(text: str) -> list[str]:
    """Cut a text into words, each with the space before it, and spell them in 256 letters.

    Raises:
        UnicodeEncodeError: half of a surrogate pair is no character and has no bytes.
    """
    words = PATTERN.findall(text)
    return [
        "".join(LETTERS[byte] for byte in word.encode()) for word in words
    ]


class BytePairEncoding:
    """A byte-level tokenizer: the bytes of a word, joined by the merges that were learned.

    ``vocab`` maps tokens to ids and ``merges`` holds pairs of tokens, the first learned first.
    Both are written in GPT-2's letters, in which a space is ``Ġ``.
    """

    @checked
    def __init__(
        self, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]
    ) -> None:
        """Refuse a vocabulary that has an id twice."""
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self.tokens = tokens_by_id(self.vocab)
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._pieces = lru_cache(maxsize=100_000)(self.split)

    @classmethod
    @checked
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = (),
        min_frequency: int = 2,
        progress: bool = False,
    ) -> BytePairEncoding:
        """Learn merges until there are ``vocab_size`` tokens or no pair is frequent enough.

        Ids go to the special tokens, then to the 256 bytes, then to the merges in their order.

        Raises:
            ValueError: ``vocab_size`` leaves no room for the special tokens and the bytes.
        """
        words = Counter(
            word for text in texts_of(texts) for word in byte_words(text)
        )
        vocab = list(dict.fromkeys([*special_tokens, *sorted(BYTES)]))
        merges = learn_merges(
            {tuple(word): count for word, count in words.items()}, vocab, vocab_size,
            min_frequency=min_frequency, progress=progress,
        )  # fmt: skip
        return cls({token: n for n, token in enumerate(vocab)}, merges)

    @checked
    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, in GPT-2's letters."""
        return [
            token
            for word in byte_words(text)
            for token in self._pieces(word)
        ]

    @checked
    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; special tokens in it are plain text.

        Raises:
            KeyError: a byte is not in the vocabulary, which one that was trained here has all of.
        """
        return [self.vocab[token] for token in self.tokenize(text)]

    @checked
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; bytes that form no character become ``\\ufffd``.

        Raises:
            KeyError: an id is not in the vocabulary.
        """
        spelled = b""
        for token in (self.tokens[n] for n in ids):
            if BYTES.keys() >= set(token):
                spelled += bytes(BYTES[letter] for letter in token)
            else:  # a special token
                spelled += token.encode()
        return spelled.decode("utf-8", errors="replace")

    def split(self, word: str) -> list[str]:
        """Merge within one word: always the pair that was learned first, the leftmost of equals.

        A heap holds the pairs, so that a word of 100,000 letters takes seconds, not hours.
        """
        pieces: list[str | None] = list(word)
        after = list(range(1, len(word) + 1))
        before = list(range(-1, len(word) - 1))

        def candidate(i: int) -> Iterable[tuple[int, int, str, str]]:
            if i >= 0 and after[i] < len(pieces):
                pair = (pieces[i], pieces[after[i]])
                if pair in self._ranks:
                    yield self._ranks[pair], i, *pair

        heap = [entry for i in range(len(word)) for entry in candidate(i)]
        heapq.heapify(heap)
        while heap:
            _, i, left, right = heapq.heappop(heap)
            j = after[i]
            if pieces[i] != left or j >= len(pieces) or pieces[j] != right:
                continue  # one of the two was merged with another neighbour
            pieces[i], pieces[j] = left + right, None
            after[i] = after[j]
            if after[i] < len(pieces):
                before[after[i]] = i
            for entry in (*candidate(before[i]), *candidate(i)):
                heapq.heappush(heap, entry)
        return [piece for piece in pieces if piece is not None]
