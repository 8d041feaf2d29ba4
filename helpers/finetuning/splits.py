"""Splits of IMDB that share no films."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset, DatasetDict, load_dataset
from jaxtyping import Int
from scipy.sparse import csr_array, csr_matrix, triu
from sklearn.feature_extraction.text import CountVectorizer

from helpers import assets
from helpers.shapes import checked

FILM_GAP = 30  # IMDB holds at most 30 reviews of one film in all


def prepare() -> DatasetDict:
    """Load IMDB and split it without shared films, in one call."""
    reviews = load_dataset(**assets.dataset("imdb"))
    links = linked_reviews(rare_names(review_texts(reviews)))
    return drop_linked(split_by_film(reviews), links)


def review_texts(reviews: DatasetDict) -> list[str]:
    """Return the text of each review, in the order of the positions of :func:`split_by_film`.

    These are all reviews of ``train`` and then, where there is an official one, of ``test``.
    """
    return [text for name in ("train", "test") if name in reviews for text in reviews[name]["text"]]


def rare_names(texts: Sequence[str], *, least: int = 2, most: int = 40) -> csr_matrix:
    """Return which review holds which rare capitalized word, as a sparse 0/1 matrix.

    Names of people and characters are the fingerprint of a film. A word counts as rare if it
    occurs in ``least`` to ``most`` of the reviews. Shape: (reviews, names).
    """
    words = CountVectorizer(
        binary=True, lowercase=False, token_pattern=r"\b[A-Z][a-z]{2,}\b", min_df=least, max_df=most
    )
    return words.fit_transform(texts)


@checked
def linked_reviews(names: csr_matrix | csr_array, *, shared: int = 2) -> Int[np.ndarray, "pairs 2"]:
    """Return the pairs of rows of ``names``, smaller first, that share ``shared`` names or more."""
    held = names.astype(bool).astype(np.int32)  # 0 or 1; a product of booleans would not count
    together = triu(held @ held.T, k=1).tocoo()
    enough = together.data >= shared
    return np.stack([together.row[enough], together.col[enough]], axis=1)


def split_by_film(
    reviews: DatasetDict, *, test: int = 3_000, validation: int = 1_200, stretches: int = 6
) -> DatasetDict:
    """Split IMDB into train, validation and test so that films stay on one side.

    IMDB's reviews lie in order of their label and, within a label, of their film, with at most
    30 of one film. Each label's half is cut into ``stretches``; the end of each stretch goes to
    validation and test, with 30 reviews left out at every border. Where the data set has an
    official test split, that one is used and only validation is cut from ``train``. Films that
    occur under both labels are not separated by this; see :func:`drop_linked`.

    Args:
        reviews: a data set with a ``train`` split sorted by label, as on the Hub.
        test: number of test reviews, both labels together; ignored if there is a test split.
        validation: number of validation reviews, both labels together. Both numbers are rounded
            down to a multiple of twice the ``stretches``.
        stretches: how many separate places of each half the held-out reviews come from.

    Each split has a column ``position``, the row in the original ``train``. An official test
    split is counted on from there.

    Raises:
        ValueError: the reviews are not sorted by label, or too few for the split asked for.
    """
    source = reviews["train"]
    labels = np.asarray(source["label"])
    if np.unique(labels).tolist() != [0, 1] or (np.diff(labels) < 0).any():
        raise ValueError(
            "split_by_film needs IMDB's own order, all reviews of label 0 before those of "
            "label 1; the data set was shuffled or is another one"
        )
    wanted = {"validation": validation, "test": 0 if "test" in reviews else test}
    sizes = {name: n // (2 * stretches) for name, n in wanted.items() if n >= 2 * stretches}
    halves = [np.flatnonzero(labels == label) for label in (0, 1)]
    shortest = min(map(len, halves)) // stretches
    if shortest <= sum(sizes.values()) + FILM_GAP * (len(sizes) + 1):
        raise ValueError(
            f"a stretch of {shortest} reviews cannot give up {sum(sizes.values())} and keep "
            f"gaps of {FILM_GAP}; ask for fewer held-out reviews or fewer stretches"
        )
    cuts = [_cut(piece, sizes) for half in halves for piece in np.array_split(half, stretches)]
    rows = {name: np.concatenate([cut[name] for cut in cuts]) for name in ("train", *sizes)}
    numbered = source.add_column("position", range(len(source)))
    splits = {name: numbered.select(chosen) for name, chosen in rows.items()}
    if "test" in reviews:
        more = range(len(source), len(source) + len(reviews["test"]))
        splits["test"] = reviews["test"].add_column("position", more)
    return DatasetDict(splits)


def _cut(stretch: np.ndarray, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Cut held-out pieces off the end of a stretch, a gap before and after each."""
    parts, end = {}, len(stretch)
    for name, size in sizes.items():
        end -= FILM_GAP
        parts[name] = stretch[end - size : end]
        end -= size
    return parts | {"train": stretch[: end - FILM_GAP]}


@checked
def drop_linked(splits: DatasetDict, links: Int[np.ndarray, "pairs 2"]) -> DatasetDict:
    """Take out reviews linked to a held-out one: from train and validation, never from test.

    ``links`` are pairs of positions, as :func:`linked_reviews` returns them.
    """
    near_test = _partners(links, splits["test"]["position"])
    validation = _without(splits["validation"], near_test)
    near_held_out = np.union1d(near_test, _partners(links, validation["position"]))
    train = _without(splits["train"], near_held_out)
    return DatasetDict(train=train, validation=validation, test=splits["test"])


def _partners(links: np.ndarray, positions: Sequence[int]) -> np.ndarray:
    """Return the positions linked to one of ``positions``."""
    return links[np.isin(links, positions)[:, ::-1]]


def _without(part: Dataset, positions: np.ndarray) -> Dataset:
    return part.select(np.flatnonzero(~np.isin(part["position"], positions)))
