"""From the text of a review to the tokens that the model reads."""

from __future__ import annotations

import re
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase


def clean(text: str) -> str:
    """Replace the line breaks that IMDB kept from its web pages (``<br />``) by a space."""
    # (?<!\s): a long run of white space is searched only once.
    return re.sub(r"(?<!\s)(?:\s*<br\s*/?>)+\s*", " ", text)


def head_and_tail(ids: list[int], length: int, head: int) -> list[int]:
    """Shorten ``ids`` to ``length``: the first ``head`` (0 to ``length``), the others the last."""
    if not 0 <= head <= length:
        raise ValueError(f"head must be 0 to length = {length}, got {head}")
    if len(ids) <= length:
        return list(ids)
    tail = length - head
    return [*ids[:head], *ids[len(ids) - tail :]]


def tokenize(
    reviews: Dataset, tokenizer: PreTrainedTokenizerBase, *, max_length: int, head_share: float
) -> Dataset:
    """Return ``input_ids``, ``attention_mask``, ``labels`` and ``length`` of each review.

    A review that is too long keeps its beginning and its end, ``head_share`` (0 to 1) of the tokens
    for the beginning; the markers around it ([CLS] and [SEP] for BERT) count in ``max_length``.
    """
    before, after = _markers(tokenizer)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise ValueError(
            f"max_length must exceed the {len(before) + len(after)} markers, got {max_length}"
        )
    head = round(head_share * room)

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = [clean(text) for text in batch["text"]]
        # verbose=False: a warning about reviews over 512 tokens, which are shortened below.
        whole = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        ids = [[*before, *head_and_tail(one, room, head), *after] for one in whole]
        return {
            "input_ids": ids,
            "attention_mask": [[1] * len(one) for one in ids],
            "labels": batch["label"],
            "length": [len(one) for one in ids],
        }

    return reviews.map(
        encode,
        batched=True,
        remove_columns=reviews.column_names,
        # The cache does not notice that a library, or what is called through a module, changed.
        load_from_cache_file=False,
        desc="tokenizing",
    )


def _markers(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return what the tokenizer puts before and after a text: [CLS] and [SEP] for BERT."""
    whole = tokenizer("a")["input_ids"]
    text = tokenizer("a", add_special_tokens=False)["input_ids"]
    places = (n for n in range(len(whole)) if whole[n : n + len(text)] == text != [])
    start = next(places)
    return whole[:start], whole[start + len(text) :]
