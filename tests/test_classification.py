"""Copies among texts, against the definition written out, and the split of the news."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from itertools import combinations

import pytest
from datasets import load_dataset

from helpers import assets
from helpers.classification import SHARE, first_of_each, near_copies, split_news

# Of the texts of all three parts, in their order.
SPLIT = "78d9e3080a78fde689c63708084ec5388ffd303429aff8d3f0a50457beedd438"


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w\w+", text.lower())  # what scikit-learn takes for words
    return {tuple(words[start : start + 5]) for start in range(len(words) - 4)}


def by_definition(texts: list[str], share: float = SHARE) -> list[list[int]]:
    """Every pair of texts that have a shingle in common, one by one."""
    sets, holders = [shingles(text) for text in texts], defaultdict(list)
    for place, found in enumerate(sets):
        for shingle in found:
            holders[shingle].append(place)
    pairs = {pair for places in holders.values() for pair in combinations(places, 2)}
    return sorted(
        [i, j]
        for i, j in pairs
        if len(sets[i] & sets[j]) >= share * min(len(sets[i]), len(sets[j]))
    )


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """The beginnings of a thousand articles, some of which occur twice."""
    return [text[:300] for text in load_dataset(**assets.dataset("news"))["train"]["text"][:1_000]]


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_copies_are_those_of_the_definition(texts, share):
    expected = by_definition(texts, share)
    assert 0 < len(expected) < len(texts) * (len(texts) - 1) / 4
    assert near_copies(texts, share).tolist() == expected


def test_the_first_of_each_is_no_copy_of_an_earlier_text(texts):
    later = {second for _, second in by_definition(texts)}
    kept = first_of_each(texts)
    assert kept.tolist() == [place for place in range(len(texts)) if place not in later]
    assert len(kept) < len(texts)


def test_the_news_have_no_copies_across_parts_and_are_split_the_same_way_every_time():
    parts = split_news()
    texts = {name: part["text"][:] for name, part in parts.items()}
    assert {name: len(some) for name, some in texts.items()} == {
        "train": 944, "validation": 200, "test": 900,
    }  # fmt: skip
    assert by_definition([text for some in texts.values() for text in some]) == []
    written = json.dumps([texts["train"], texts["validation"], texts["test"]])
    assert hashlib.sha256(written.encode()).hexdigest() == SPLIT
