"""What Lighthouse promises the reader: quick, accessible, sound and found, on any device.

``make reports`` writes the reports, ``make test`` too. These tests read them, and see to it
that they speak of the book that lies in ``_build/html``.
"""

from __future__ import annotations

import json

import gates
import pytest

from tools import lighthouse, published
from tools.cache import ROOT


@pytest.fixture
def summary() -> dict:
    if not lighthouse.SUMMARY.is_file():
        gates.missing(f"{lighthouse.SUMMARY} is missing; `make reports` writes it (needs Node.js)")
    return lighthouse.summary()


@pytest.mark.built
def test_the_reports_speak_of_this_book(summary):
    """A score of an older book proves nothing."""
    assert summary["book"] == published.fingerprint(), "out of date; `make reports` renews it"
    assert {(each["page"], each["form"]) for each in summary["results"]} == {
        (name, form) for name in lighthouse.chosen() for form in lighthouse.FORMS
    }


@pytest.mark.built
@pytest.mark.parametrize("form", lighthouse.FORMS)
def test_lighthouse_is_content(summary, form):
    """At least 95 of 100, but for performance on a phone: see tools/lighthouse.py."""
    faults = []
    for result in (each for each in summary["results"] if each["form"] == form):
        name, scores = result["page"], result["scores"]
        assert set(scores) == {"performance", "accessibility", "best-practices", "seo"}
        faults += [
            f"{name} {form}: {category} {score}: {'; '.join(result['shortcomings'][category])}"
            for category, score in scores.items()
            if score < 95 and category in lighthouse.short_of(scores, form)
        ]
        whole = lighthouse.FOLDER / f"{name.replace('/', '-')}-{form}.json"
        assert lighthouse.scores(json.loads(whole.read_text(encoding="utf-8"))) == scores
    gates.hold(faults)


def test_the_packages_of_npm_are_pinned_and_nothing_says_where_they_came_from():
    lock = json.loads((ROOT / "tests/browser/package-lock.json").read_text(encoding="utf-8"))
    packages = [entry for name, entry in lock["packages"].items() if name]
    assert len(packages) > 100
    assert all("integrity" in each and "resolved" not in each for each in packages)


def test_the_fingerprint_changes_with_every_file(tmp_path):
    page = tmp_path / "page.html"
    seen = []
    for text in ("one", "two"):
        page.write_text(text)
        seen.append(published.fingerprint(tmp_path))
    page.rename(tmp_path / "other.html")
    seen.append(published.fingerprint(tmp_path))
    assert len(set(seen)) == 3
    assert published.fingerprint(tmp_path) == seen[-1]
