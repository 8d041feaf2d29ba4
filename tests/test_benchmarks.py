"""The figures that a chapter stores are those that its benchmark measured."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import nbformat
import pytest

from tools.cache import ROOT


def stored(chapter: str, benchmark: str, name: str = "stored") -> tuple[Any, str]:
    """What a chapter stores of a benchmark, and the day that it names."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", nbformat.NO_CONVERT)
    named = re.compile(rf"# benchmarks/{benchmark}\.py, (\d{{4}}-\d\d-\d\d)")
    (cell,) = [cell for cell in notebook.cells if named.match(cell.source)]
    (value,) = [
        statement.value
        for statement in ast.parse(cell.source).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name
    ]
    return ast.literal_eval(value), named.match(cell.source).group(1)


def measured(benchmark: str) -> Any:
    return json.loads((ROOT / f"benchmarks/{benchmark}.json").read_text(encoding="utf-8"))


def test_the_longer_pretraining_of_chapter_08():
    rows, day = stored("08-bert-pretraining", "pretraining")
    (both,), (words,) = (measured("pretraining")[name] for name in ("with-nsp", "without-nsp"))
    settings = "steps", "batch", "part", "rate", "seed"
    assert [both[name] for name in settings] == [words[name] for name in settings]
    for row, first, second in zip(rows, both["curve"], words["curve"], strict=True):
        gains = [x for each in (first, second) for x in each["hidden: below unigrams"]]
        assert row[0] == pytest.approx(first["tokens"] / 1e6, abs=0.005)
        assert row[1:] == pytest.approx([*gains, *first["NSP accuracy"]], abs=0.0006)
        assert first["tokens"] == second["tokens"]
    # One tokenizer and one seed: both begin from the same weights.
    assert [x for x in both["curve"][0].items() if x[0] != "seconds"] == [
        x for x in words["curve"][0].items() if x[0] != "seconds"
    ]
    assert {both["date"], words["date"]} == {day}


def holds_all(benchmark: str, runs: list[dict[str, Any]]) -> None:
    """Chapter 08 stores the accuracy of each run, in percent, by labels and seed."""
    values, day = stored("08-bert-pretraining", benchmark)
    assert {run["date"] for run in runs} == {day}
    for start, percent in values.items():
        mine = (run for run in runs if run["start"] == start)
        by_seed = sorted(mine, key=lambda run: (run["reviews"], run["seed"]))
        assert percent == pytest.approx([100 * run["accuracy"] for run in by_seed], abs=0.06)
    assert sum(map(len, values.values())) == len(runs)


def test_what_pretraining_pays_in_chapter_08():
    holds_all("pretraining_pays", measured("pretraining")["fine-tuning"])


def test_what_further_pretraining_gives_in_chapter_08():
    results = measured("continued_pretraining")
    holds_all("continued_pretraining", results["fine-tuning"])
    losses, day = stored("08-bert-pretraining", "continued_pretraining", "losses")
    assert losses == tuple(run["MLM loss"] for run in results["pretraining"])
    assert {run["date"] for run in results["pretraining"]} == {day}


def test_the_learning_curve_of_chapter_10():
    values, day = stored("10-imdb", "learning_curve")
    runs = measured("learning_curve")["IMDB"]
    assert max(run["date"] for run in runs) == day
    runs.sort(key=lambda run: (run["reviews"], run["seed"]))
    for reviews, found in values.items():
        mine = [run for run in runs if run["reviews"] == reviews]
        for name, percent in zip(("TF-IDF", "BERT", "both"), found, strict=True):
            assert percent == pytest.approx([100 * run[name] for run in mine], abs=0.006)
    assert sum(len(both) for *_, both in values.values()) == len(runs)


def test_the_few_labels_of_chapter_12():
    values, day = stored("12-classification", "few_labels")
    found: dict[int, list[float]] = {}
    for run in measured("few_labels"):
        found.setdefault(run["labels"], []).append(run["accuracy"])
        assert run["date"] <= day
    assert values.keys() == found.keys()
    for labels, accuracies in values.items():
        assert accuracies == pytest.approx(found[labels], abs=0.0006)


def test_the_longer_translator_of_chapter_13():
    values, day = stored("13-translation", "translation_from_scratch")
    memories, _ = stored("13-translation", "translation_from_scratch", "memories")
    results = measured("translation_from_scratch")
    parts = ("test", "other program")
    for name, rows in values.items():
        runs = results.pop(name)
        for row, run in zip(rows, runs, strict=True):
            judged = [run[part][key] for part in parts for key in ("bleu", "half")]
            assert row == pytest.approx([run["seconds"] / 60, run["step"], *judged], abs=0.06)
        assert {run["date"] for run in runs} == {day}
    for code, found in memories.items():
        (run,) = results.pop(f"{code} memory")
        assert found == pytest.approx([run[part]["bleu"] for part in parts], abs=0.06)
    assert not results
