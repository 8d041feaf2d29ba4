"""Never silently wrong: what a reader calls, under wrong types, shapes, sizes, NaN and huge input.

For each function hypothesis draws sensible arguments and spoils up to two with a value of
:data:`WRONG`. The call must then raise, whatever the error, or return what an independent
reference says: PyTorch in double precision, NumPy, or a few lines of Python.

The cases are the same in every run of ``make test``. With ``BAD_INPUT=8`` there are eight times as
many, others each time; one that fails is printed, and belongs into the test of its function.
"""

import functools
import inspect
import itertools
import math
import os
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from helpers import attention, finetuning, transformer

TIMES = int(os.environ.get("BAD_INPUT", "1"))
FILM = 30  # IMDB holds at most so many reviews of one film
PAD, END = 0, 2
WRONG = (
    None, True, -1, 0, 3, 10**30, -0.5, 1.5, math.nan, math.inf, "", "three", 2 + 1j, [], [1.0],
    [1, [2]], {}, ("a", None), object(), np.zeros((2, 3)), np.array(["a", None], dtype=object),
    torch.zeros(()), torch.zeros(0), torch.zeros(2, 3), torch.zeros(2, 3, 4), torch.zeros(2, 0, 4),
    torch.full((2, 3), -1), torch.full((2, 3), 10**9), torch.tensor([True, False]),
    torch.full((2, 3, 4), math.nan), torch.full((2, 3, 4), 1e38),
    torch.zeros(2, 3, 4, dtype=torch.float16), torch.zeros(2, 3, 4, dtype=torch.complex64),
)  # fmt: skip

# --- sensible arguments, and some that are nearly so ----------------------------------------------


@st.composite
def vectors(draw, *shape):
    """Random numbers of that shape; at times a dimension is off by one, or a number is NaN."""
    sizes = list(shape)
    if draw(st.integers(0, 3)) == 0:
        sizes[draw(st.integers(0, len(sizes) - 1))] += draw(st.sampled_from([-1, 1]))
    made = torch.randn(*sizes, generator=torch.Generator().manual_seed(draw(st.integers(0, 50))))
    if made.numel() and draw(st.integers(0, 5)) == 0:
        worst = draw(st.sampled_from([math.nan, math.inf, -math.inf, 3e38, 1e-40]))
        made.view(-1)[draw(st.integers(0, made.numel() - 1))] = worst
    return made


@st.composite
def ids(draw, length, size=11):
    """Two rows of ids, at times one that is out of range, at times with padding at the end."""
    row = st.lists(st.integers(1, size - 1), min_size=length, max_size=length)
    made = torch.tensor([draw(row), draw(row)])
    made[0, -1] = draw(st.sampled_from([END, PAD, PAD, PAD, -1, size]))
    return made


whole = st.integers(1, 6)
some, lower = torch.tensor([[[True, True, False]], [[True] * 3]]), torch.ones(3, 3).bool().tril()
none, wide = torch.zeros(3, 3).bool(), torch.ones(3, 2).bool()
masks = st.sampled_from([None, lower, some, none, wide, torch.ones(3, 3)])
qkv = {name: vectors(2, 3, 4) for name in ("query", "key", "value")}
texts = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=9).map(" ".join), min_size=1)


def rows(labels):
    return Dataset.from_dict({"text": ["a"] * len(labels), "label": labels})


orders = st.sampled_from([[0] * 400 + [1] * 400] * 3 + [[1] * 4 + [0] * 4, [0, 0, 1, 1, 2, 2]])

# --- things to call -------------------------------------------------------------------------------


@functools.cache
def tokenizer():
    words = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


def tokenized(texts, tokenizer, max_length, head_share):
    labels = [n % 2 for n in range(len(texts))]
    reviews = Dataset.from_dict({"text": texts, "label": labels})
    return finetuning.tokenize(reviews, tokenizer, max_length=max_length, head_share=head_share)


# --- what is right --------------------------------------------------------------------------------


def array(value):
    return value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)


def same(result, expected, given):
    """Assert that they agree; where a number that went in is huge or infinite, in shape only."""
    if isinstance(expected, tuple):
        return [same(one, other, given) for one, other in zip(result, expected, strict=True)]
    ours, theirs = array(result), array(expected)
    went_in = [array(one) for one in given.values() if isinstance(one, (Tensor, np.ndarray))]
    assert ours.shape == theirs.shape
    if theirs.dtype.kind != "f":
        assert np.array_equal(ours, theirs)
    elif not any((np.abs(one) > 1e6).any() for one in went_in if one.dtype.kind == "f"):
        np.testing.assert_allclose(ours.astype(float), theirs, atol=1e-4, rtol=1e-3)


def attend(query, key, value, mask, dropout=0.0):
    query, key, value = query.double(), key.double(), value.double()
    scores = torch.einsum("...qd,...kd->...qk", query, key) / query.shape[-1] ** 0.5
    if mask is not None:
        assert torch.broadcast_shapes(scores.shape, mask.shape) == scores.shape
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(-1)
    if mask is not None:
        weights = weights.where(mask.any(-1, keepdim=True), 0.0)
    return torch.einsum("...qk,...kd->...qd", weights, value) * (1 - dropout), weights


def loss(logits, target, smoothing, ignore_id):
    assert logits.shape[:-1] == target.shape
    counts = torch.ones_like(target).bool() if ignore_id is None else target != ignore_id
    rows, answers = logits[counts].double(), target[counts].long()
    return F.cross_entropy(rows, answers, label_smoothing=smoothing)


def right_split(result, reviews, test, validation, stretches):
    labels = np.array(reviews["train"]["label"])
    rows = {name: np.array(part["position"]) for name, part in result.items()}
    for name, wanted in (("test", test), ("validation", validation)):
        assert wanted - 2 * stretches < len(rows.get(name, ())) <= wanted
    for name, part in result.items():
        assert part["label"] == labels[rows[name]].tolist()
    for one, other in itertools.combinations(rows.values(), 2):
        for label in (0, 1):  # in order of film within a label: so far apart, never the same
            here, there = (side[labels[side] == label] for side in (one, other))
            assert np.abs(here[:, None] - there).min() >= FILM


def shortened(ids, length, head):
    assert 0 <= head <= length or len(ids) <= length
    return list(ids) if len(ids) <= length else [*ids[:head], *ids[len(ids) - length + head :]]


def right_tokens(result, texts, tokenizer, max_length, head_share):
    head = round(head_share * (max_length - 2))
    whole = [tokenizer(text)["input_ids"] for text in texts]
    assert result["input_ids"] == [
        [one[0], *shortened(one[1:-1], max_length - 2, head), one[-1]] for one in whole
    ]
    assert result["attention_mask"] == [[1] * len(one) for one in result["input_ids"]]
    assert result["length"] == list(map(len, result["input_ids"]))
    assert result["labels"] == [n % 2 for n in range(len(texts))]


def right_bias(result, logits, labels):
    """At the optimum the average probability of each label is its share."""
    probabilities = torch.as_tensor(np.asarray(logits, dtype=float) + result).softmax(-1)
    shares = np.bincount(np.asarray(labels, dtype=int)) / len(labels)
    np.testing.assert_allclose(probabilities.mean(0).numpy(), shares, atol=1e-3)


# --- the cases: what is called, with which arguments, how often, and what is right ----------------

quiet = st.sampled_from([0.1, 0.0])
CASES = {
    "scaled_dot_product_attention": (
        attention.scaled_dot_product_attention,
        {**qkv, "mask": masks, "dropout": st.just(0.0)}, 120, attend),
    "LayerNorm": (
        lambda d_model, eps, x: transformer.LayerNorm(d_model, eps)(x),
        {"d_model": st.just(4), "eps": st.sampled_from([1e-5, 0.5]), "x": vectors(2, 3, 4)}, 80,
        lambda d_model, eps, x: F.layer_norm(x.double(), (d_model,), eps=eps)),
    "label_smoothed_loss": (
        transformer.label_smoothed_loss,
        {"logits": vectors(2, 4, 5), "target": ids(4, 5), "smoothing": quiet,
         "ignore_id": st.sampled_from([PAD, PAD, None])}, 120, loss),
    "split_by_film": (
        finetuning.split_by_film,
        {"reviews": orders.map(lambda labels: DatasetDict(train=rows(labels))),
         "test": st.sampled_from([48, 100]), "validation": st.just(48), "stretches": st.just(2)},
        40, right_split),
    "head_and_tail": (
        finetuning.head_and_tail,
        {"ids": st.lists(whole, max_size=9), "length": whole, "head": st.integers(-1, 7)},
        120, shortened),
    "tokenize": (
        tokenized, {"texts": texts, "tokenizer": st.builds(tokenizer),
                    "max_length": st.integers(1, 9), "head_share": st.sampled_from([0.25, 0.7])},
        30, right_tokens),
    "fit_bias": (
        finetuning.fit_bias,
        {"logits": vectors(4, 2).map(array),
         "labels": st.sampled_from([[0, 1, 1, 0], [0] * 4]).map(np.array)},
        60, right_bias),
}  # fmt: skip


@st.composite
def calls(draw, arguments):
    given = {name: draw(strategy) for name, strategy in arguments.items()}
    spoilt = draw(st.lists(st.sampled_from(sorted(given)), max_size=2, unique=True))
    return given | {name: draw(st.sampled_from(WRONG)) for name in spoilt}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_wrong_input_raises_or_is_answered_rightly(name, tmp_path, monkeypatch):
    call, arguments, examples, right = CASES[name]
    monkeypatch.chdir(tmp_path)
    seen, errors = Counter(), set()

    @settings(max_examples=TIMES * examples, derandomize=TIMES == 1, deadline=None, database=None)
    @given(calls(arguments))
    def every(given):
        try:
            result = call(**given)
        except Exception as error:
            seen["raised"] += 1
            errors.add(repr(error)[:200])
            return
        seen["answered"] += 1
        try:
            if "result" in inspect.signature(right).parameters:
                right(result, **given)
            else:
                same(result, right(**given), given)
        except Exception as wrong:
            raise AssertionError(f"{name} answered {result!r} to {given}: {wrong}") from wrong

    every()
    assert seen["raised"], "nothing wrong was drawn"
    assert seen["answered"], errors
