"""The tokenizers from scratch give what the library gives, on real and on hostile text."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
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
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def rows(name: str, count: int | None = None) -> list[str]:
    lines = (assets.fetch(name) / "train.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line)["text"] for line in lines[:count] if line]


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    """All sentences of Rotten Tomatoes and 1,500 whole reviews: 10,030 texts."""
    return rows("rotten-tomatoes") + rows("imdb", 1_500)


def model_of(tokenizer) -> dict:
    return json.loads(tokenizer.to_str())["model"]


# --- byte-pair encoding --------------------------------------------------------------------


def both_trained(texts: list[str], size: int, special: tuple[str, ...] = (), least: int = 2):
    ours = BytePairEncoding.train(texts, size, special_tokens=special, min_frequency=least)
    theirs = ByteLevelBPETokenizer()
    theirs.train_from_iterator(
        texts, vocab_size=size, min_frequency=least, special_tokens=list(special),
        show_progress=False,
    )  # fmt: skip
    theirs._tokenizer.encode_special_tokens = True  # those in a text are plain text
    return ours, theirs


def assert_same_training(ours: BytePairEncoding, theirs: ByteLevelBPETokenizer) -> None:
    model = model_of(theirs)
    assert ours.merges == [tuple(pair) for pair in model["merges"]]
    assert ours.vocab == model["vocab"]


def test_merges_and_ids_are_those_of_the_library_on_real_text(sentences):
    ours, theirs = both_trained(sentences[-300:], 3_000, ("<pad>", "</s>"))
    assert len(ours.vocab) == 3_000
    assert_same_training(ours, theirs)
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
    ours, theirs = both_trained(texts, size + len(special), special, least)
    assert_same_training(ours, theirs)
    joined = "".join(texts)
    assert ours.encode(joined) == theirs.encode(joined).ids


@pytest.fixture(scope="module")
def byte_level(sentences) -> BytePairEncoding:
    return BytePairEncoding.train(sentences[:2_000], 1_000)


@given(text=ANY_TEXT)
@property_test
def test_any_text_comes_back(byte_level, text):
    assert byte_level.decode(byte_level.encode(text)) == text


@given(ids=st.lists(st.integers(0, 999), max_size=12))
@property_test
def test_bytes_that_form_no_character_are_marked_as_the_library_marks_them(byte_level, ids):
    theirs = ByteLevelBPETokenizer(byte_level.vocab, byte_level.merges)
    assert byte_level.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


def test_a_word_of_100_000_letters_is_encoded_and_comes_back(byte_level):
    word = "thequickbrownfox" * 6_250
    ids = byte_level.encode(word)
    assert len(word) == 100_000 > len(ids)
    assert byte_level.decode(ids) == word


def test_the_generators_vocabulary_gives_the_ids_of_its_tokenizer(sentences):
    theirs = Tokenizer.from_file(str(assets.fetch("generator") / "tokenizer.json"))
    model = model_of(theirs)
    ours = BytePairEncoding(model["vocab"], [tuple(pair) for pair in model["merges"]])
    texts = sentences[::8]
    expected = theirs.encode_batch(texts, add_special_tokens=False)
    assert [ours.encode(text) for text in texts] == [one.ids for one in expected]
    # It lacks a byte. The library drops it without a word; we do not.
    assert theirs.encode("a\x04b").ids == ours.encode("ab")[:0] + theirs.encode("a").ids + (
        theirs.encode("b").ids
    )
    with pytest.raises(KeyError):
        ours.encode("a\x04b")


# --- WordPiece -----------------------------------------------------------------------------


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


def test_the_encoders_vocabulary_gives_the_ids_of_its_tokenizer(fast, wordpiece, sentences):
    """Every different word of all texts, in lines of fifty, and each tenth text as it is."""
    assert len(sentences) >= 10_000
    words = list(dict.fromkeys(word for text in sentences for word in text.split()))
    assert len(words) > 50_000
    texts = [" ".join(words[first : first + 50]) for first in range(0, len(words), 50)]
    texts += sentences[::10]
    assert [wordpiece.encode(text) for text in texts] == ids_of(fast, texts)


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 100_000, "文" * 1_000], ids=ascii)
def test_hostile_text_gives_the_ids_of_the_fast_tokenizer(fast, wordpiece, text):
    assert wordpiece.encode(text) == ids_of(fast, [text])[0]
    if len(text) > 10_000:
        assert wordpiece.tokenize(text) == ["[UNK]"]


def test_cased_text_keeps_case_and_accents(fast):
    vocab = fast.get_vocab()
    cased = [*HOSTILE, "Café NAÏVE the The"]
    theirs = BertWordPieceTokenizer(vocab, lowercase=False)
    theirs._tokenizer.encode_special_tokens = True
    ours = WordPiece.from_vocab(vocab, lowercase=False)
    expected = [one.ids for one in theirs.encode_batch(cased, add_special_tokens=False)]
    assert [ours.encode(text) for text in cased] == expected


@pytest.fixture(scope="module")
def newer() -> set[str]:
    """Characters that Python's Unicode tables and those of the library do not see alike."""
    normal = normalizers.BertNormalizer()
    split = pre_tokenizers.BertPreTokenizer()
    found = set()
    # Planes 0 and 1, the borders of the Chinese blocks in plane 2, and the tags.
    ranges = [(0, 0xD800), (0xE000, 0x20000), (0x2A600, 0x2A800), (0x2B700, 0x2B900)]
    ranges += [(0x2F7F0, 0x2FA30), (0xE0000, 0xE0200)]
    for code in (code for first, last in ranges for code in range(first, last)):
        text = f"a{chr(code)}b"
        ours = subwords.normalize(text)
        if ours != normal.normalize_str(text) or subwords.split_words(ours) != [
            word for word, _ in split.pre_tokenize_str(ours)
        ]:
            found.add(chr(code))
    return found


def test_only_characters_that_are_new_to_unicode_are_seen_otherwise(newer, wordpiece):
    assert len(newer) < 1_100
    assert min(newer) > "\u0600"
    in_use = "áçñüßøłőşğıžćđёйїґғқөұңαβγςאבابتनमस्तेกขはひハヒ漢字한글—“”«»…€£¥©®™°±×÷😀😂👍🎉❤"
    assert not newer & set(in_use)
    assert all(letter not in newer for token in wordpiece.vocab for letter in token)


@given(text=ANY_TEXT)
@property_test
def test_any_text_gives_the_ids_of_the_fast_tokenizer(fast, wordpiece, newer, text):
    text = "".join(character for character in text if character not in newer)
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


# --- Unigram -------------------------------------------------------------------------------


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


def test_each_round_of_em_raises_the_likelihood():
    words = Counter(
        word for text in rows("rotten-tomatoes", 500) for word in subwords.marked_words(text)
    )
    scores = subwords.log_shares(subwords.seed_counts(words, 2_000))
    likelihoods = []
    for _ in range(8):
        counts, likelihood = subwords.expected_counts(words, scores)
        scores = subwords.log_shares(counts)
        likelihoods.append(likelihood)
        assert math.fsum(map(math.exp, scores.values())) == pytest.approx(1)
    assert all(later > earlier for earlier, later in pairwise(likelihoods))
    smaller = subwords.prune(words, scores, 500)
    assert len(smaller) == 500
    assert {piece for piece in scores if len(piece) == 1} <= set(smaller)
    # What goes costs less than as many pieces taken at random would.
    pruned = subwords.expected_counts(words, smaller)[1]
    letters = [piece for piece in scores if len(piece) == 1]
    others = sorted(piece for piece in scores if len(piece) > 1)[:: len(scores) // 450]
    random = {piece: scores[piece] for piece in [*letters, *others[: 500 - len(letters)]]}
    assert pruned > subwords.expected_counts(words, random)[1]


# --- what is refused -----------------------------------------------------------------------


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
    ],
)
def test_a_vocabulary_that_would_give_wrong_ids_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_half_a_surrogate_pair_is_refused(byte_level):
    with pytest.raises(UnicodeEncodeError):
        byte_level.encode("\ud83d")


def test_special_tokens_decode_to_themselves():
    ours = BytePairEncoding.train(["aa aa"], 258, special_tokens=["<|end of text|>"])
    assert ours.decode([0, *ours.encode("aa é")]) == "<|end of text|>aa é"
