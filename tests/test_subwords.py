"""The tokenizers from scratch give what the library gives, on real and on hostile text."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import (
    BertWordPieceTokenizer,
    ByteLevelBPETokenizer,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
)

from helpers import assets, subwords
from helpers.subwords import BytePairEncoding, Unigram, WordPiece

HOSTILE = [
    "", " ", "\n", "\t \r\n", "a", "  two  spaces ", "don't we'll they've I'M",
    "👩\u200d👩\u200d👧 family 🏳\ufe0f\u200d🌈 flag 👍🏽", "e\u0301 é ﬁ ﬀ ǅ İ ı ß ẞ Σ ΟΔΟΣ",
    "a\u0300\u0316\u0301\u0327b", "東京は日本の首都です。", "한국어 텍스트 각", "ภาษาไทย ไม่มีช่องว่าง",
    "مرحبا بالعالم", "שָׁלוֹם עולם", "\u202eright to left\u202c \u200f\u200e",
    "\x00\x01\x07\x1b[0m\x7f\x85\xa0\xad", "\u2028\u2029\u3000\ufeff\ufffd\u200b",
    "[CLS] [SEP] [MASK] <s> <unk> </s>", "▁a ▁▁ b▁ Ġ ##ing ##", "x" * 100, "x" * 101, "é" * 100,
    "1,234.5e-6 ½ ² Ⅷ ٣", "$$$ ++ -- __ `` ~~ ^^ ||", "𝕳𝖊𝖑𝖑𝖔 🂡 𠀀𪜀",
]  # fmt: skip
property_test = settings(deadline=None, derandomize=True, max_examples=300)
LAST_OLD = "\u0600"  # no character up to here is newer than the library's Unicode tables


def rows(name: str, count: int | None = None) -> list[str]:
    lines = (assets.fetch(name) / "train.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line)["text"] for line in lines[:count] if line]


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return rows("rotten-tomatoes") + rows("imdb", 1_500)


def model_of(tokenizer) -> dict:
    return json.loads(tokenizer.to_str())["model"]


def trained_alike(texts: list[str], size: int, special: tuple[str, ...] = (), least: int = 2):
    """Ours and the library's, which must have learned the same."""
    ours = BytePairEncoding.train(texts, size, special_tokens=special, min_frequency=least)
    theirs = ByteLevelBPETokenizer()
    theirs.train_from_iterator(
        texts, vocab_size=size, min_frequency=least, special_tokens=list(special),
        show_progress=False,
    )  # fmt: skip
    theirs._tokenizer.encode_special_tokens = True  # those in a text are plain text
    model = model_of(theirs)
    assert ours.merges == [tuple(pair) for pair in model["merges"]]
    assert ours.vocab == model["vocab"]
    return ours, theirs


def test_merges_and_ids_are_those_of_the_library_on_real_text(sentences):
    ours, theirs = trained_alike(sentences[-300:], 3_000, ("<pad>", "</s>"))
    assert len(ours.vocab) == 3_000
    assert list(ours.vocab)[:2] == ["<pad>", "</s>"]
    texts = [*sentences[:1_500], *HOSTILE]
    assert [ours.encode(text) for text in texts] == [one.ids for one in theirs.encode_batch(texts)]


@given(
    st.lists(st.text("ab", max_size=12), max_size=12),
    st.integers(256, 300),
    st.integers(0, 3),
    st.sampled_from([(), ("ab",), ("<s>", "ba", "aa")]),
)
@property_test
def test_ties_runs_and_tokens_like_special_ones_are_merged_as_in_the_library(
    texts, size, least, special
):
    ours, theirs = trained_alike(texts, size + len(special), special, least)
    joined = "".join(texts)
    assert ours.encode(joined) == theirs.encode(joined).ids


@pytest.fixture(scope="module")
def byte_level(sentences) -> BytePairEncoding:
    return BytePairEncoding.train(sentences[:2_000], 1_000)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@example(text="thequickbrownfox" * 6_250)
@property_test
def test_any_text_comes_back(byte_level, text):
    assert byte_level.decode(byte_level.encode(text)) == text


@given(ids=st.lists(st.integers(0, 999), max_size=12))
@property_test
def test_bytes_that_form_no_character_are_marked_as_the_library_marks_them(byte_level, ids):
    theirs = ByteLevelBPETokenizer(byte_level.vocab, byte_level.merges)
    assert byte_level.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


def test_the_generators_vocabulary_gives_the_ids_of_its_tokenizer(sentences):
    theirs = Tokenizer.from_file(str(assets.fetch("generator") / "tokenizer.json"))
    model = model_of(theirs)
    ours = BytePairEncoding(model["vocab"], [tuple(pair) for pair in model["merges"]])
    texts = sentences[::8]
    expected = theirs.encode_batch(texts, add_special_tokens=False)
    assert [ours.encode(text) for text in texts] == [one.ids for one in expected]
    with pytest.raises(KeyError):  # it lacks a byte, which the library drops in silence
        ours.encode("a\x04b")


@pytest.fixture(scope="module")
def fast() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(assets.fetch("encoder") / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def wordpiece(fast) -> WordPiece:
    return WordPiece.from_vocab(fast.get_vocab())


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [one.ids for one in tokenizer.encode_batch(texts, add_special_tokens=False)]


@pytest.mark.parametrize("lowercase", [True, False])
def test_hostile_text_gives_the_ids_of_the_library(fast, lowercase):
    theirs = BertWordPieceTokenizer(fast.get_vocab(), lowercase=lowercase)
    theirs._tokenizer.encode_special_tokens = True
    ours = WordPiece.from_vocab(fast.get_vocab(), lowercase=lowercase)
    for text in [*HOSTILE, "Café NAÏVE the The", "x" * 100_000, "文" * 1_000]:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, text[:100]


def test_only_characters_that_are_new_to_unicode_are_seen_otherwise(wordpiece):
    """Python's Unicode tables are newer than those of the library."""
    normal = normalizers.BertNormalizer()
    split = pre_tokenizers.BertPreTokenizer()
    newer = set()
    # Planes 0 and 1, the borders of the Chinese blocks in plane 2, and the tags.
    ranges = [(0, 0xD800), (0xE000, 0x20000), (0x2A600, 0x2A800), (0x2B700, 0x2B900)]
    ranges += [(0x2F7F0, 0x2FA30), (0xE0000, 0xE0200)]
    for code in (code for first, last in ranges for code in range(first, last)):
        text = f"a{chr(code)}b"
        ours = subwords.normalize(text)
        if ours != normal.normalize_str(text) or subwords.split_words(ours) != [
            word for word, _ in split.pre_tokenize_str(ours)
        ]:
            newer.add(chr(code))
    assert len(newer) < 1_100
    assert min(newer) > LAST_OLD
    in_use = "áçñüßøłőşğıžćđёйїґғқөұңαβγςאבابتنमस्तेกขはひハヒ漢字한글—“”«»…€£¥©®™°±×÷😀😂👍🎉❤"
    assert not newer & set(in_use)
    assert all(letter not in newer for token in wordpiece.vocab for letter in token)


@given(st.text(st.characters(max_codepoint=ord(LAST_OLD)), max_size=60))
@property_test
def test_any_text_gives_the_ids_of_the_fast_tokenizer(fast, wordpiece, text):
    assert wordpiece.encode(text) == ids_of(fast, [text])[0]


@pytest.mark.parametrize("size", [300, 1_500])
def test_a_trained_vocabulary_has_the_tokens_of_the_library(sentences, size):
    """The library numbers the letters within words as they turn up, each time in another order,
    and ties go by these numbers: given its order, ours has all of its tokens and ids."""
    texts = sentences[:1_000]
    ours = WordPiece.train(texts, size)
    theirs = BertWordPieceTokenizer()
    theirs.train_from_iterator(texts, vocab_size=size, min_frequency=2, show_progress=False)
    tokens = sorted(theirs.get_vocab(), key=theirs.get_vocab().get)
    vocab = [token for token in tokens if token[0] == "[" or len(token.removeprefix("##")) == 1]
    assert tokens[: len(vocab)] == vocab
    assert set(vocab) == {token for token in ours.vocab if token in vocab}
    words = Counter(w for t in texts for w in subwords.split_words(subwords.normalize(t)))
    spelled = {(word[0], *(f"##{x}" for x in word[1:])): count for word, count in words.items()}
    subwords.learn_merges(spelled, vocab, size, prefix="##")
    assert vocab == tokens
    assert len(ours.vocab) == size
    assert list(ours.vocab)[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="module")
def unigram(sentences) -> Unigram:
    return Unigram.train(sentences[:800], 800, seeds=4_000)


def test_the_best_cut_is_that_of_the_library_on_the_same_pieces(unigram, sentences):
    assert len(unigram.pieces) == 800
    theirs = Tokenizer(models.Unigram(unigram.pieces, unk_id=0))
    theirs.normalizer = normalizers.NFKC()
    theirs.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    texts = [*sentences[::8], *HOSTILE, "z" * 100_000]
    expected = theirs.encode_batch(texts)
    for text, one in zip(texts, expected, strict=True):
        assert unigram.tokenize(text) == one.tokens
        assert unigram.encode(text) == one.ids


@given(st.text("ab", max_size=12))
@property_test
def test_of_equally_probable_cuts_the_library_and_we_take_the_same(text):
    pieces = [("<unk>", 0.0), ("a", -1.0), ("b", -1.0), ("ab", -2.0), ("ba", -2.0), ("aba", -3.0)]
    theirs = Tokenizer(models.Unigram(pieces, unk_id=0))
    ours = Unigram.from_vocab(pieces)
    assert ours.cut(text) == theirs.encode(text).tokens


def every_cut(word: str, scores: dict[str, float]) -> list[list[str]]:
    if not word:
        return [[]]
    return [
        [word[:end], *rest]
        for end in range(1, len(word) + 1)
        if word[:end] in scores
        for rest in every_cut(word[end:], scores)
    ]


PIECES = {"a": 0.2, "b": 0.1, "c": 0.05, "ab": 0.2, "bc": 0.2, "abc": 0.05, "ca": 0.2}
SCORES = {piece: math.log(share) for piece, share in PIECES.items()}


@given(st.dictionaries(st.text("abc", min_size=1, max_size=7), st.integers(1, 9), min_size=1))
@settings(property_test, max_examples=100)
def test_expected_counts_and_best_cut_are_those_of_listing_every_cut(words):
    expected: Counter[str] = Counter()
    likelihood = 0.0
    for word, times in words.items():
        cuts = every_cut(word, SCORES)
        shares = [math.exp(sum(SCORES[piece] for piece in cut)) for cut in cuts]
        likelihood += times * math.log(sum(shares))
        for cut, share in zip(cuts, shares, strict=True):
            for piece in cut:
                expected[piece] += times * share / sum(shares)
        ours = subwords.best_cut(word, SCORES, 3)
        probability = math.exp(sum(SCORES[piece] for piece in ours))
        assert probability == pytest.approx(max(shares))
    counts, found = subwords.expected_counts(words, SCORES)
    assert found == pytest.approx(likelihood)
    assert dict(counts) == pytest.approx({piece: expected[piece] for piece in counts})
    assert set(counts) == set(expected)


def test_what_pruning_takes_costs_less_than_as_many_pieces_at_random():
    words = Counter(
        word for text in rows("rotten-tomatoes", 500) for word in subwords.marked_words(text)
    )
    scores = subwords.log_shares(subwords.seed_counts(words, 2_000))
    for _ in range(2):
        scores = subwords.log_shares(subwords.expected_counts(words, scores)[0])
    smaller = subwords.prune(words, scores, 500)
    letters = [piece for piece in scores if len(piece) == 1]
    assert len(smaller) == 500
    assert set(letters) <= set(smaller)
    others = sorted(piece for piece in scores if len(piece) > 1)[:: len(scores) // 450]
    random = {piece: scores[piece] for piece in [*letters, *others[: 500 - len(letters)]]}
    pruned, at_random = (subwords.expected_counts(words, kept)[1] for kept in (smaller, random))
    assert pruned > at_random


@pytest.mark.parametrize("kind", [BytePairEncoding, WordPiece, Unigram])
def test_one_string_instead_of_texts_and_too_small_a_vocabulary_are_refused(kind):
    with pytest.raises(TypeError, match="a single string"):
        kind.train("one text", 500)
    with pytest.raises(ValueError, match="vocab_size is 7"):
        kind.train(["a few letters of the alphabet"], 7)


@pytest.mark.parametrize("ids", [[-1], [5, 10**9]])
def test_unknown_ids_are_refused(byte_level, wordpiece, unigram, ids):
    for tokenizer in (byte_level, wordpiece, unigram):
        with pytest.raises(KeyError, match=str(ids[-1])):
            tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: WordPiece.from_vocab({"[UNK]": 0, "a": 0}), "same id"),
        (lambda: BytePairEncoding({"a": 0, "b": 0}, []), "same id"),
        (lambda: Unigram.from_vocab([("a", -1.0)]), "first piece must be <unk>"),
        (lambda: Unigram.from_vocab([("<unk>", 0.0), ("<unk>", 0.0)]), "twice"),
        (lambda: Unigram.from_vocab([("<unk>", 0.0), ("a", math.nan)]), "finite"),
        (lambda: Unigram.train([], 10), "0 characters"),
        (lambda: BytePairEncoding.train(["a"], 257).encode("\ud83d"), "surrogates not allowed"),
    ],
)
def test_what_would_give_wrong_ids_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_special_tokens_decode_to_themselves():
    ours = BytePairEncoding.train(["aa aa"], 258, special_tokens=["<|end of text|>"])
    assert ours.decode([0, *ours.encode("aa é")]) == "<|end of text|>aa é"
