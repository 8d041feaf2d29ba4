"""Never silently wrong: what fine-tuning does with wrong types, shapes, sizes, NaN and huge input.

For each function hypothesis draws sensible arguments and spoils up to two with a value of
:data:`WRONG`. The call must then raise, whatever the error, or do what an independent check says.
(Attention, the Transformer and the losses are held by the shapes in their signatures.)

The cases are the same in every run of ``make test``. With ``BAD_INPUT=8`` there are eight times as
many, others each time; one that fails is printed, and belongs into the test of its function.
"""

import functools
import itertools
import math
import os
from collections import Counter

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from helpers import assets, finetuning

TIMES = int(os.environ.get("BAD_INPUT", "1"))
FILM = 30  # IMDB holds at most so many reviews of one film
WRONG = (
    None, True, -1, 0, 3, 10**30, -0.5, 1.5, math.nan, math.inf, "", "three", 2 + 1j, [], [1.0],
    [1, [2]], {}, ("a", None), object(), np.zeros((2, 3)), np.array(["a", None], dtype=object),
    np.full((4, 2), math.nan), np.full((4, 2), 3e38), np.full((4, 2), 1e-40), np.zeros((4, 2, 1)),
    torch.zeros(()), torch.zeros(0), torch.zeros(2, 3), torch.full((2, 3), -1),
    torch.tensor([True, False]), torch.zeros(4, 2, dtype=torch.complex64),
)  # fmt: skip


shapes = st.sampled_from([(4, 2)] * 6 + [(3, 2), (4, 3)])  # at times a dimension is off by one
logits = arrays.arrays(np.float32, shapes, elements=st.floats(-3, 3, width=32))
texts = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=9).map(" ".join), min_size=1)


def rows(labels):
    return Dataset.from_dict({"text": ["a"] * len(labels), "label": labels})


orders = st.sampled_from([[0] * 400 + [1] * 400] * 3 + [[1] * 4 + [0] * 4, [0, 0, 1, 1, 2, 2]])


@functools.cache
def tokenizer():
    return AutoTokenizer.from_pretrained(assets.model("encoder"))


def tokenized(texts, tokenizer, max_length, head_share):
    labels = [n % 2 for n in range(len(texts))]
    reviews = Dataset.from_dict({"text": texts, "label": labels})
    return finetuning.tokenize(reviews, tokenizer, max_length=max_length, head_share=head_share)


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


def right_tokens(result, texts, tokenizer, max_length, head_share):
    head, expected = round(head_share * (max_length - 2)), []
    for one in (tokenizer(text)["input_ids"] for text in texts):
        cut = [*one[: head + 1], *one[len(one) - max_length + head + 1 :]]
        expected.append(one if len(one) <= max_length else cut)
    assert result["input_ids"] == expected
    assert result["attention_mask"] == [[1] * len(one) for one in result["input_ids"]]
    assert result["length"] == list(map(len, result["input_ids"]))
    assert result["labels"] == [n % 2 for n in range(len(texts))]


def right_bias(result, logits, labels):
    """At the optimum the average probability of each label is its share."""
    probabilities = torch.as_tensor(np.asarray(logits, dtype=float) + result).softmax(-1)
    shares = np.bincount(np.asarray(labels, dtype=int)) / len(labels)
    np.testing.assert_allclose(probabilities.mean(0).numpy(), shares, atol=1e-3)


CASES = {
    "split_by_film": (
        finetuning.split_by_film,
        {"reviews": orders.map(lambda labels: DatasetDict(train=rows(labels))),
         "test": st.sampled_from([48, 100]), "validation": st.just(48), "stretches": st.just(2)},
        40, right_split),
    "tokenize": (
        tokenized, {"texts": texts, "tokenizer": st.builds(tokenizer),
                    "max_length": st.integers(1, 9), "head_share": st.sampled_from([0.25, 0.7])},
        30, right_tokens),
    "fit_bias": (
        finetuning.fit_bias,
        {"logits": logits,
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
            right(result, **given)
        except Exception as wrong:
            raise AssertionError(f"{name} answered {result!r} to {given}: {wrong}") from wrong

    every()
    assert seen["raised"], "nothing wrong was drawn"
    assert seen["answered"], errors
