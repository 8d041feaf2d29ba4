"""What Lighthouse promises the reader: quick, accessible, sound and found, on any device.

``make reports`` writes the reports, ``make test`` too. These tests read them, and see to it
that they speak of the book that lies in ``_build/html``. The rest tests what writes them.
"""

from __future__ import annotations

import json
import re
import subprocess

import gates
import pytest
from PIL import Image

from tools import lighthouse, published, screenshots
from tools.cache import ROOT
from tools.serve import serve

BROWSER = ROOT / "tests/browser"


# --- the reports of the built book ------------------------------------------------------


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


# --- how they come about ----------------------------------------------------------------


def result_with(performance: float, seo: float | None = 1.0) -> dict:
    """A result of Lighthouse, cut down, with these scores and one audit each."""
    marks = {"performance": performance, "accessibility": 1.0, "best-practices": 1.0, "seo": seo}
    return {
        "categories": {
            name: {"score": score, "auditRefs": [{"id": f"{name}-audit", "weight": 1}]}
            for name, score in marks.items()
        },
        "audits": {
            "total-byte-weight": {"numericValue": 100},
            **{
                f"{name}-audit": {"id": f"{name}-audit", "title": "Too slow", "score": score}
                for name, score in marks.items()
            },
        },
    }


@pytest.mark.parametrize(
    ("answers", "seo", "runs", "best"),
    [
        ([0.97], 1.0, [97], 97),
        ([0.6, 0.96], 1.0, [60, 96], 96),
        ([0.6, 0.8, 0.7, 1.0], 1.0, [60, 80, 70], 80),
        ([0.99, 0.99, 0.99], 0.5, [99, 99, 99], 99),  # what is no timing is not mended
        ([0.99, 0.99, 0.99], None, [99, 99, 99], 99),  # nor what could not be judged
    ],
)
def test_a_page_that_falls_short_is_measured_thrice_and_its_best_run_counts(
    monkeypatch, tmp_path, answers, seo, runs, best
):
    results = iter([result_with(each, seo) for each in answers])
    monkeypatch.setattr(lighthouse, "FOLDER", tmp_path)
    monkeypatch.setattr(lighthouse, "measure", lambda address, form: next(results))
    judged = lighthouse.judge("http://127.0.0.1/", "book/intro", "phone")
    assert [run["performance"] for run in judged["runs"]] == runs
    assert judged["scores"]["performance"] == best
    assert judged["scores"]["seo"] == round(100 * (seo or 0))
    assert judged["shortcomings"]["seo"] == (["seo-audit: Too slow"] if seo == 0.5 else [])
    kept = json.loads((tmp_path / "book-intro-phone.json").read_text(encoding="utf-8"))
    assert lighthouse.scores(kept) == judged["scores"]


@pytest.mark.parametrize(
    ("book", "score", "current"), [("same", 95, True), ("same", 94, False), ("other", 100, False)]
)
def test_only_a_good_report_of_the_same_book_is_kept(monkeypatch, book, score, current):
    monkeypatch.setattr(published, "fingerprint", lambda: "same")
    kept = {"book": book, "results": [{"scores": {"performance": 100, "seo": score}}]}
    assert lighthouse.is_current(kept) is current
    assert not lighthouse.is_current({})


@pytest.mark.parametrize(("in_ci", "status"), [("true", 1), ("", 0)])
def test_missing_lighthouse_fails_in_ci_and_is_said_elsewhere(monkeypatch, capsys, in_ci, status):
    monkeypatch.setenv("CI", in_ci)
    monkeypatch.setattr(lighthouse.shutil, "which", lambda name: None)
    assert lighthouse.main([]) == status
    assert "apt install nodejs npm" in capsys.readouterr().err


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
    command = ["git", "ls-files", "*node_modules*"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == ""


# --- which pages, and their pictures ----------------------------------------------------

PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width"><style>@media (prefers-color-scheme: dark)
{ body { background: #111; color: #eee } }</style></head><body><main>BODY</main></body></html>"""
FORMULA = '<div class="math"><math><mi>x</mi></math></div>'
FIGURE = '<figure><svg width="40" height="40"><circle cx="9" cy="9" r="9"/></svg></figure>'


def test_pages_are_found_chosen_by_counting_and_photographed(browser, tmp_path):
    """Four pages, of which one has formulas and one figures; besides, a redirect, a template."""
    book, pictures = tmp_path / "book", tmp_path / "pictures"
    bodies = {
        "book/intro": "<h1>Cover</h1>",
        "notebooks/a": FORMULA * 3 + FIGURE,
        "notebooks/b": FORMULA + FIGURE * 2,
        "book/ledger": " ".join(str(number**3) for number in range(3_000)),
        "_static/template": "{{ template }}",
    }
    for name, body in bodies.items():
        path = book / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGE.replace("BODY", body), encoding="utf-8")
    (book / "index.html").write_text('<meta http-equiv="Refresh" content="0; url=x" />')
    names = published.pages(book)
    assert names == ["book/intro", "book/ledger", "notebooks/a", "notebooks/b"]
    assert published.heaviest(names, book) == "book/ledger"
    chosen = screenshots.chosen(names, folder=book)
    assert chosen == {
        "cover": "book/intro",
        "formulas": "notebooks/a",
        "figures": "notebooks/b",
        "ledger": "book/ledger",
    }
    with serve(book) as site:
        paths = screenshots.photograph(browser, site, chosen, pictures)
    seen = {path.stem: path.read_bytes() for path in paths}
    assert len(seen) == len(list(pictures.iterdir())) == 16
    for name, size in (("cover-light-desktop", (1280, 900)), ("ledger-dark-phone", (720, 1480))):
        with Image.open(pictures / f"{name}.png") as picture:
            assert picture.size == size
    assert seen["cover-light-phone"] != seen["cover-dark-phone"]


def test_the_fingerprint_changes_with_every_file(tmp_path):
    page, other = tmp_path / "page.html", tmp_path / "other.css"
    page.write_text("one")
    seen = [published.fingerprint(tmp_path)]
    page.write_text("two")
    seen.append(published.fingerprint(tmp_path))
    other.write_text("")
    seen.append(published.fingerprint(tmp_path))
    other.rename(tmp_path / "another.css")
    seen.append(published.fingerprint(tmp_path))
    assert len(set(seen)) == 4
    assert published.fingerprint(tmp_path) == seen[-1]
