"""Copies among texts, against the definition written out, and the split of the news."""

from __future__ import annotations

import random

import pytest

from helpers.classification import first_of_each, near_copies, split_news


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[start : start + 5]) for start in range(len(words) - 4)}


def by_definition(texts: list[str], share: float) -> list[list[int]]:
    """Every pair of texts, one by one."""
    sets = [shingles(text) for text in texts]
    return [
        [i, j]
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if sets[i] & sets[j] and len(sets[i] & sets[j]) >= share * min(map(len, (sets[i], sets[j])))
    ]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Texts of six to sixty words, most of them cut out of others and changed."""
    chance = random.Random(0)
    made = [" ".join(chance.choices(["oil", "tax", "win", "film", "code"], k=60))]
    for _ in range(79):
        words = chance.choice(made).split()
        start = chance.randrange(max(1, len(words) - 20))
        words = words[start : start + chance.randrange(6, 60)]
        words += chance.choices(["goal", "bank", "vote", "song", "chip"], k=max(0, 6 - len(words)))
        for _ in range(chance.randrange(8)):
            words[chance.randrange(len(words))] = f"new{chance.randrange(1_000)}"
        made.append(" ".join(words))
    return made


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_copies_are_those_of_the_definition(texts, share):
    expected = by_definition(texts, share)
    assert 0 < len(expected) < len(texts) * (len(texts) - 1) / 4
    assert near_copies(texts, share).tolist() == expected


def test_the_first_of_each_is_no_copy_of_an_earlier_text(texts):
    later = {second for _, second in by_definition(texts, 0.5)}
    kept = first_of_each(texts)
    assert kept.tolist() == [place for place in range(len(texts)) if place not in later]
    assert 0 < len(kept) < len(texts)


def test_the_news_have_no_copies_across_parts_and_are_split_the_same_way_twice():
    parts = split_news()
    texts = {name: part["text"][:] for name, part in parts.items()}
    assert {name: len(some) for name, some in texts.items()} == {
        "train": 944, "validation": 200, "test": 900,
    }  # fmt: skip
    assert near_copies([text for some in texts.values() for text in some]).tolist() == []
    assert {name: part["text"][:] for name, part in split_news().items()} == texts
