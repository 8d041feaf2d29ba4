"""What Lighthouse promises the reader: quick, accessible, sound and found, on any device.

``make reports`` writes the reports, ``make test`` too. These tests read them, and see to it
that they speak of the book that lies in ``_build/html``.
"""

from __future__ import annotations

import json
import re

import gates
import pytest

from tools import lighthouse, published
from tools.cache import ROOT

BROWSER = ROOT / "tests/browser"


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
    """At least 95 of 100 in performance, accessibility, best practices and SEO."""
    faults = []
    for result in (each for each in summary["results"] if each["form"] == form):
        name, scores = result["page"], result["scores"]
        assert set(scores) == {"performance", "accessibility", "best-practices", "seo"}
        faults += [
            f"{name} {form}: {category} {score}: {'; '.join(result['shortcomings'][category])}"
            for category, score in scores.items()
            if score < 95
        ]
        whole = lighthouse.FOLDER / f"{name.replace('/', '-')}-{form}.json"
        assert lighthouse.scores(json.loads(whole.read_text(encoding="utf-8"))) == scores
    gates.hold(faults)


def test_the_packages_of_npm_are_pinned_and_not_in_the_repository():
    """Exact versions, with hashes, and nothing says where they came from."""
    package, lock = (
        json.loads((BROWSER / name).read_text(encoding="utf-8"))
        for name in ("package.json", "package-lock.json")
    )
    assert set(package["dependencies"]) == {"axe-core", "lighthouse"}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", each) for each in package["dependencies"].values())
    assert lock["packages"][""]["dependencies"] == package["dependencies"]
    others = {name: entry for name, entry in lock["packages"].items() if name}
    assert len(others) > 100
    assert [name for name, entry in others.items() if "resolved" in entry] == []
    assert [name for name, entry in others.items() if "integrity" not in entry] == []


def test_pages_are_found_and_chosen_by_counting(tmp_path):
    """Three pages, of which one has the formulas; besides, a redirect and a template."""
    bodies = {
        "book/intro": "<main>Cover</main>",
        "notebooks/a": '<main><div class="math">x</div></main>',
        "book/ledger": " ".join(str(number**3) for number in range(3_000)),
        "_static/template": "{{ template }}",
        "index": '<meta http-equiv="Refresh" content="0; url=x" />',
    }
    for name, body in bodies.items():
        path = tmp_path / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
    names = published.pages(tmp_path)
    assert names == ["book/intro", "book/ledger", "notebooks/a"]
    assert published.heaviest(names, tmp_path) == "book/ledger"
    assert published.richest(published.FORMULA, names, tmp_path) == "notebooks/a"


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
