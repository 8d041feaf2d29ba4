"""The interfaces of four programs, translated: what chapter 13 and its benchmark train on.

A pair is a string of an interface, in English and in the other language. Pairs that hold
placeholders, markup or addresses are left out, and so is what was not translated. One program
is held out whole, because strings of one program resemble each other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from datasets import Dataset, load_dataset
from sklearn.feature_extraction.text import TfidfVectorizer

from helpers import assets

Language = Literal["fr", "zh-Hans"]
SOURCES = {
    "fr": ("home-assistant", "indico", "jupyterlab-french", "spyder"),
    "zh-Hans": ("home-assistant", "indico", "jupyterlab-chinese", "spyder"),
}
OTHER_PROGRAM = "spyder"
NEAR = 0.85  # cosine of two strings; from here on one gives the other away
WORDS, CHARACTERS = 4, 200  # judged are strings of so many words or more; none is longer
VALIDATION, TEST = 250, 500

# Placeholders, markup, addresses, and names in code
_LEFT_OUT = re.compile(r"[<>{}\[\]`|$#\\@*]|%[\w(]|://|www\.|\w[_.]\w+[_.(]|\w_\w|\(\)|&\w+;")
_ACCELERATOR = re.compile(r"\s*[(（]&\w[)）]|(?<![A-Z])&(?=\w)")
_HAN = re.compile(r"[\u4e00-\u9fff]")


def clean(text: str) -> str:
    """Return ``text`` on one line, without the marks of keys that open a menu (``&File``)."""
    return " ".join(_ACCELERATOR.sub("", text).split())


def parallel_corpus(language: Language) -> Dataset:
    """Return the pairs of all four programs, each English string once.

    The columns are ``program``, ``source`` (English) and ``target``. Where one string is translated
    in several ways, the one that is used most often is kept.
    """
    programs: dict[str, str] = {}
    targets: dict[str, Counter[str]] = {}
    sources: dict[str, str] = {}
    for program in SOURCES[language]:
        for source, target in _pairs(program, language):
            key = source.casefold().rstrip(" .!:…")
            programs.setdefault(key, program)
            sources.setdefault(key, source)
            targets.setdefault(key, Counter())[target] += 1
    return Dataset.from_dict(
        {
            "program": list(programs.values()),
            "source": list(sources.values()),
            "target": [found.most_common(1)[0][0] for found in targets.values()],
        }
    )


def _pairs(program: str, language: Language) -> Iterator[tuple[str, str]]:
    rows = load_dataset(**assets.dataset(program))["train"].flatten()
    both = (rows[f"translation.{code}"][:] for code in ("en", language))
    for source, target in zip(*both, strict=True):
        if not source or not target or _LEFT_OUT.search(source + "\n" + target):
            continue
        source, target = clean(source), clean(target)
        translated = _HAN.search(target) if language == "zh-Hans" else target and target != source
        if translated and re.search(r"[a-z]", source) and len(source) <= CHARACTERS:
            yield source, target


def split_corpus(language: Language) -> dict[str, Dataset]:
    """Return ``train``, ``validation``, ``test``, and ``other program``, none near the first.

    Validation and test are strings of the programs that are trained on, ``other program`` those of
    one that is nowhere trained on. No string of them is as near as ``NEAR`` to one of the rest.
    """
    pairs = parallel_corpus(language)
    sources, programs = np.array(pairs["source"][:]), np.array(pairs["program"][:])
    order = np.random.default_rng(0).permutation(len(pairs))
    long = np.array([len(source.split()) >= WORDS for source in sources])
    ours = programs != OTHER_PROGRAM
    other = order[(long & ~ours)[order]]
    other = other[nearest(sources[other], sources[ours])[1] < NEAR][:TEST]
    drawn = order[(long & ours)[order]][: 2 * (VALIDATION + TEST)]
    rows = np.flatnonzero(ours)
    alone = drawn[nearest(sources[drawn], sources[rows], np.searchsorted(rows, drawn))[1] < NEAR]
    parts = {
        "train": np.setdiff1d(rows, alone[: VALIDATION + TEST]),
        "validation": alone[:VALIDATION],
        "test": alone[VALIDATION : VALIDATION + TEST],
        "other program": other,
    }
    return {name: pairs.select(found) for name, found in parts.items()}


def nearest(
    queries: Sequence[str], texts: Sequence[str], themselves: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each query, the position of the nearest text, and their cosine.

    Strings are vectors of the TF-IDF weights of their sequences of two to four characters within
    words. Where queries are among the texts, ``themselves`` says where, so that none is found for
    itself.
    """
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), dtype=np.float32)
    # What only a query holds keeps it apart too.
    vectorizer.fit(texts if themselves is not None else [*texts, *queries])
    known = vectorizer.transform(texts).T.tocsr()
    positions, cosines = [], []
    for start in range(0, len(queries), 250):
        found = (vectorizer.transform(queries[start : start + 250]) @ known).toarray()
        if themselves is not None:
            found[range(len(found)), themselves[start : start + 250]] = -1.0
        positions.append(found.argmax(axis=1))
        cosines.append(found.max(axis=1))
    return np.concatenate(positions), np.concatenate(cosines)
