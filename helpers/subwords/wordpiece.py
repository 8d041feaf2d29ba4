"""WordPiece as in BERT: normalization, words, and the longest known piece first."""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from helpers.shapes import checked
from helpers.subwords.merging import learn_merges, texts_of, tokens_by_id

LONGEST_WORD = 100
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHINESE = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF),
    (0x2A700, 0x2B81F), (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def normalize(text: str, lowercase: bool = True) -> str:
    """Do what BERT does to a text before it is cut: clean it and, if asked, lower its case.

    Control characters go, every kind of blank becomes a space, and Chinese characters get a
    space on either side. With ``lowercase`` accents are removed too.
    """
    cleaned = "".join(_clean(character) for character in text)
    if not lowercase:
        return cleaned
    # é becomes e and an accent, which goes.
    apart = unicodedata.normalize("NFD", cleaned)
    bare = (c for c in apart if unicodedata.category(c) != "Mn")
    # One by one: str.lower would write a final sigma in another way.
    return "".join(c.lower() for c in bare)


def _clean(character: str) -> str:
    kind = unicodedata.category(character)
    if character in "\t\n\r" or kind in ("Zs", "Zl", "Zp"):
        return " "
    if kind in ("Cc", "Cf", "Co") or character == "\ufffd":
        return ""
    if any(first <= ord(character) <= last for first, last in CHINESE):
        return f" {character} "
    return character


def split_words(text: str) -> list[str]:
    """Cut a normalized text at blanks and around each punctuation mark."""
    words = []
    for run in text.split():
        for is_mark, letters in groupby(run, key=_is_punctuation):
            part = "".join(letters)
            words += part if is_mark else [part]
    return words


def _is_punctuation(character: str) -> bool:
    is_ascii_sign = character in string.punctuation
    return is_ascii_sign or unicodedata.category(character).startswith("P")


class WordPiece:
    """BERT's tokenizer. ``vocab`` maps tokens to ids; ``##`` begins those that continue a word.

    Special tokens are not added, and those in a text are plain text. A word of more than 100
    characters is unknown without a look at it.
    """

    @checked
    def __init__(
        self, vocab: Mapping[str, int], *, lowercase: bool = True
    ) -> None:
        """Refuse a vocabulary that has an id twice."""
        self.vocab = dict(vocab)
        self.lowercase = lowercase
        self.tokens = tokens_by_id(self.vocab)
        self._longest = max(map(len, self.vocab))

    @classmethod
    def from_vocab(
        cls, vocab: Mapping[str, int], *, lowercase: bool = True
    ) -> WordPiece:
        """Return the tokenizer of a vocabulary, such as ``get_vocab()`` of a fast tokenizer."""
        return cls(vocab, lowercase=lowercase)

    @classmethod
    @checked
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        lowercase: bool = True,
    ) -> WordPiece:
        """Learn a vocabulary as ``tokenizers`` does it: by merging pairs, ``##`` within a word.

        Raises:
            ValueError: ``vocab_size`` leaves no room for the special tokens and the alphabet.
        """
        normal = (normalize(text, lowercase) for text in texts_of(texts))
        words = Counter(
            word for text in normal for word in split_words(text)
        )
        spelled = {
            (word[0], *(f"##{letter}" for letter in word[1:])): count
            for word, count in sorted(words.items())
        }
        alphabet = sorted({letter for word in words for letter in word})
        inner = sorted({token for word in spelled for token in word[1:]})
        vocab = list(dict.fromkeys([*SPECIAL_TOKENS, *alphabet, *inner]))
        learn_merges(spelled, vocab, vocab_size, prefix="##")
        ids = {token: n for n, token in enumerate(vocab)}
        return cls(ids, lowercase=lowercase)

    @checked
    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text; a word that cannot be spelled is one ``[UNK]``."""
        words = split_words(normalize(text, self.lowercase))
        return [piece for word in words for piece in self.pieces(word)]

    def pieces(self, word: str) -> list[str]:
        """Cut one word: the longest piece that the vocabulary holds, then on from its end."""
        if len(word) > LONGEST_WORD:
            return ["[UNK]"]
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(
                min(len(word), start + self._longest), start, -1
            ):
                if prefix + word[start:end] in self.vocab:
                    break
            else:
                return ["[UNK]"]
            pieces.append(prefix + word[start:end])
            start = end
        return pieces

    @checked
    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens around it."""
        return [self.vocab[token] for token in self.tokenize(text)]

    @checked
    def decode(self, ids: Sequence[int]) -> str:
        """Return the tokens of ids as a text, with a space before all that begin a word.

        Raises:
            KeyError: an id is not in the vocabulary.
        """
        return " ".join(self.tokens[n] for n in ids).replace(" ##", "")
