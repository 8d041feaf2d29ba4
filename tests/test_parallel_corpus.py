"""Pairs are clean, and no part gives another away."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from sklearn.metrics.pairwise import cosine_similarity

from helpers import assets, parallel_corpus

KEPT = ("Open file", "Ouvrir le fichier")


@pytest.fixture
def programs(monkeypatch):
    """Four programs of our own; return what fills them."""

    def fill(**rows: list[tuple[str, str | None]]) -> None:
        found = {}
        for program in parallel_corpus.SOURCES["fr"]:
            pairs = [{"en": one, "fr": other} for one, other in rows.get(program, [("", "")])]
            found[program] = {"train": Dataset.from_dict({"translation": pairs})}
        monkeypatch.setattr(assets, "dataset", lambda name: {"path": name})
        monkeypatch.setattr(parallel_corpus, "load_dataset", lambda path: found[path])

    return fill


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("&File", "File"),
        ("Sa&ve as", "Save as"),
        ("R&D and heating & cooling", "R&D and heating & cooling"),
        ("打开(&O)", "打开"),
        ("one\n two\u00a0 :", "one two :"),
    ],
)
def test_marks_of_keys_and_line_ends_go(text, cleaned):
    assert parallel_corpus.clean(text) == cleaned


@pytest.mark.parametrize(
    ("english", "french"),
    [
        ("Hello {name}", "Bonjour {name}"),
        ("Hello %(name)s", "Bonjour %(name)s"),
        ("<b>Hello</b> you", "<b>Bonjour</b>"),
        ("See https://example.org", "Voir https://example.org"),
        ("Set max_size", "Choisir max_size"),
        ("Call run()", "Appeler run()"),
        ("Home Assistant", "Home Assistant"),
        ("ABC 12", "abc 12"),
        ("Not translated", None),
        ("a " * 101, "long"),
    ],
)
def test_what_is_no_sentence_or_no_translation_is_left_out(programs, english, french):
    programs(indico=[(english, french), KEPT])
    pairs = parallel_corpus.parallel_corpus("fr")
    assert pairs.to_list() == [{"program": "indico", "source": KEPT[0], "target": KEPT[1]}]


def test_a_string_counts_once_with_its_most_frequent_translation(programs):
    programs(
        indico=[("Close.", "Clore."), ("100% of close", "100% de clore")],
        spyder=[("close", "Fermer"), ("CLOSe:", "Fermer")],
    )
    assert parallel_corpus.parallel_corpus("fr").to_list() == [
        {"program": "indico", "source": "Close.", "target": "Fermer"},
        {"program": "indico", "source": "100% of close", "target": "100% de clore"},
    ]


def test_the_nearest_text_is_that_of_the_largest_cosine_and_no_text_itself():
    texts = ["Open the file", "Open the files", "Close all windows", "A lamp is on"]
    assert parallel_corpus.nearest(["Close all the windows"], texts)[0].tolist() == [2]
    positions, cosines = parallel_corpus.nearest(texts, texts, np.arange(4))
    assert positions[:2].tolist() == [1, 0]
    vectorizer = parallel_corpus.TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    both = cosine_similarity(vectorizer.fit_transform(texts))
    np.fill_diagonal(both, -1)
    np.testing.assert_allclose(cosines, both.max(axis=1), atol=1e-6)


def test_no_part_holds_what_is_near_to_training_and_one_program_is_held_out(programs, monkeypatch):
    monkeypatch.setattr(parallel_corpus, "VALIDATION", 3)
    monkeypatch.setattr(parallel_corpus, "TEST", 4)
    things = ["lamp", "door", "fan", "heater", "garden", "kitchen", "window", "sensor", "battery"]
    verbs = ["open", "close", "repair", "paint", "sell", "measure"]
    ours = [(f"{verb} the {thing} with {n}", f"{verb} {thing} {n}")
            for thing in things for n, verb in enumerate(verbs)]  # fmt: skip
    ours += [(f"{english} now", f"{french} !") for english, french in ours[:8]]
    near = f"{ours[0][0]} now now"
    others = [(near, "près"), ("quite another long text", "loin"), ("too short", "court")]
    programs(indico=ours, spyder=others)
    parts = parallel_corpus.split_corpus("fr")
    assert {name: len(rows) for name, rows in parts.items()} == {
        "train": len(ours) - 7, "validation": 3, "test": 4, "other program": 1,
    }  # fmt: skip
    assert parts["other program"]["target"][:] == ["loin"]
    held = [*parts["validation"]["source"], *parts["test"]["source"]]
    rest = [*parts["train"]["source"], *held]
    _, cosines = parallel_corpus.nearest(rest, rest, np.arange(len(rest)))
    assert cosines[-7:].max() < parallel_corpus.NEAR <= cosines.max()
