"""What Lighthouse promises the reader: quick, accessible, sound and found, on any device.

``make test`` lets it judge the book that was built. Here its judgement is replaced: does a page
that falls short make the command fail?
"""

from __future__ import annotations

import json

import pytest

from tools import book, lighthouse, published
from tools.cache import ROOT
from tools.serve import serve


def result(**short: float) -> dict:
    """What Lighthouse says of a page that is perfect but for some categories."""
    audit = {"id": "slow", "title": "It is slow", "score": 0.5}
    categories = {
        name: {"score": short.get(name, 1.0), "auditRefs": [{"id": "slow", "weight": 1}]}
        for name in ("performance", "accessibility", "best-practices", "seo")
    }
    return {"categories": categories, "audits": {"slow": audit}}


GOOD, SLOW, UNJUDGED = result(), result(performance=0.94), result(seo=None)


@pytest.mark.parametrize(
    ("given", "status", "measured"),
    [
        ([GOOD], 0, 6),  # three pages, each on a phone and at a desk
        ([SLOW, GOOD], 0, 9),  # measured again at the desk, where 95 is asked
        ([SLOW], 1, 12),
        ([result(accessibility=0.94)], 1, 18),
        ([UNJUDGED], 1, 18),
    ],
)
def test_a_page_that_falls_short_three_times_makes_the_command_fail(
    given, status, measured, tmp_path, monkeypatch, capsys
):
    runs: dict[tuple[str, str], list[dict]] = {}

    def measure(address: str, form: str) -> dict:
        again = runs.setdefault((address, form), [])
        again.append(given[min(len(again), len(given) - 1)])
        return again[-1]

    for number, name in enumerate(published.chapters()):
        (tmp_path / f"html/{name}.html").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"html/{name}.html").write_bytes(bytes(99 - abs(number - 2)))
    (tmp_path / "book.sha256").write_text("this book")
    monkeypatch.setattr(lighthouse, "missing", lambda: None)
    monkeypatch.setattr(book, "BUILT_FROM", tmp_path / "book.sha256")
    monkeypatch.setattr(lighthouse, "measure", measure)
    monkeypatch.setattr(lighthouse, "FOLDER", tmp_path)
    monkeypatch.setattr(lighthouse, "PASSED", tmp_path / "passed")
    monkeypatch.setattr(lighthouse, "serve", lambda prefix: serve(tmp_path / "html"))
    monkeypatch.setattr(lighthouse, "HTML", tmp_path / "html")
    assert lighthouse.main() == status
    assert sum(map(len, runs.values())) == measured
    judged = ["book/intro", published.chapters()[2], "book/ledger"]  # the third is the heaviest
    assert {address.split("/", 3)[3] for address, _ in runs} == {f"{name}.html" for name in judged}
    assert ("FAILED" in capsys.readouterr().err) == status
    assert lighthouse.main() == status  # a book that passed is not measured again
    assert (sum(map(len, runs.values())) == measured) == (status == 0)


@pytest.mark.parametrize("ci", ["", "true"])
def test_without_lighthouse_only_continuous_integration_fails(ci, monkeypatch, capsys):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(lighthouse, "NODE", None)
    assert lighthouse.main() == bool(ci)
    assert "Node.js is needed" in capsys.readouterr().err


def test_the_packages_of_npm_are_pinned_and_nothing_says_where_they_came_from():
    lock = json.loads((ROOT / "tests/browser/package-lock.json").read_text(encoding="utf-8"))
    packages = [entry for name, entry in lock["packages"].items() if name]
    assert len(packages) > 100
    assert all("integrity" in each and "resolved" not in each for each in packages)
