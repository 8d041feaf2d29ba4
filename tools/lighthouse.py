"""Let Lighthouse judge the cover, the heaviest chapter and the ledger, on a phone and at a desk.

The phone is Lighthouse's own: a slow processor and a slow mobile network, simulated. What else the
machine does can only make a timing worse, so the best of up to three runs counts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any

from tools import book, browser, published
from tools.cache import ROOT
from tools.serve import HTML, serve

NODE = shutil.which("node") or shutil.which("nodejs")
PROGRAM = ROOT / "tests/browser/node_modules/lighthouse/cli/index.js"
FOLDER = published.REPORTS / "lighthouse"
PASSED = FOLDER / "passed"  # holds what the book that passed last was built from
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
FORMS = {"phone": [], "desktop": ["--preset=desktop"]}  # a phone is Lighthouse's default
LEAST = 95
# The heaviest chapter has 95 on a quiet machine; a busy one takes some points off.
LEAST_PERFORMANCE_ON_A_PHONE = 90
RUNS = 3


def missing() -> str | None:
    """Return what must be installed before Lighthouse can run here, or None."""
    if NODE is None:
        return "Node.js is needed (Debian, Ubuntu: apt install nodejs npm)"
    if not PROGRAM.is_file():
        return "Lighthouse is not installed; `make packages` fetches it with npm"
    try:
        browser.find()
    except browser.BrowserMissing as problem:
        return str(problem)
    return None


def measure(address: str, form: str) -> dict[str, Any]:
    """Run Lighthouse once on ``address`` and return its whole result."""
    flags = [re.sub(r"=(.* .*)", r'="\1"', flag) for flag in browser.ARGUMENTS]
    command = [NODE, str(PROGRAM), address, "--quiet", "--output=json", *FORMS[form]]
    command += [f"--only-categories={','.join(CATEGORIES)}", "--max-wait-for-load=90000"]
    command += [f"--chrome-flags=--headless=new {' '.join(flags)}", "--no-enable-error-reporting"]
    environment = os.environ | {"CHROME_PATH": browser.find()}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    if run.returncode:
        raise RuntimeError(f"Lighthouse failed on {address}:\n{run.stderr[-3000:]}")
    return json.loads(run.stdout)


def scores(result: dict[str, Any]) -> dict[str, int]:
    """Return the score, 0 to 100, of each category; one that could not be judged has 0."""
    return {name: round(100 * (result["categories"][name]["score"] or 0)) for name in CATEGORIES}


def short_of(result: dict[str, Any], form: str) -> dict[str, list[str]]:
    """Return the categories in which a page falls short, with the audits that count and failed."""
    least, short = dict.fromkeys(CATEGORIES, LEAST), {}
    if form == "phone":
        least["performance"] = LEAST_PERFORMANCE_ON_A_PHONE
    for name in (name for name, score in scores(result).items() if score < least[name]):
        parts = result["categories"][name]["auditRefs"]
        audits = [result["audits"][part["id"]] for part in parts if part["weight"]]
        short[name] = [
            f"{audit['id']}: {audit['title']} {audit.get('displayValue', '')}".strip()
            for audit in audits
            if audit["score"] is not None and audit["score"] < 0.9
        ]
    return short


def judge(site: str, name: str, form: str) -> dict[str, list[str]]:
    """Measure a page up to three times, keep and print the best run; return where it is short."""
    results: list[dict[str, Any]] = []
    while not results or (len(results) < RUNS and short_of(results[-1], form)):
        results.append(measure(f"{site}{name}.html", form))
    best = max(results, key=lambda one: (-len(short_of(one, form)), sum(scores(one).values())))
    published.write_report(FOLDER / f"{name.replace('/', '-')}-{form}.json", best)
    marks = ", ".join(f"{category} {score}" for category, score in scores(best).items())
    print(f"{name:<26} {form:<8} {marks} ({len(results)} runs)", flush=True)
    short = short_of(best, form)
    for category, audits in short.items():
        print(f"FAILED {name} {form} {category}", *audits, sep="\n  ", file=sys.stderr)
    return short


def main() -> int:
    """Judge the book; return 1 if it falls short, or if Lighthouse is missing where it must run."""
    if problem := missing():
        must = bool(os.environ.get("CI"))
        print(f"{'error' if must else 'note: without Lighthouse'}: {problem}", file=sys.stderr)
        return int(must)
    now = book.BUILT_FROM.read_text()
    if PASSED.is_file() and PASSED.read_text() == now:
        print(f"Lighthouse: this very book has passed; the reports are in {FOLDER}")
        return 0
    PASSED.unlink(missing_ok=True)
    heaviest = max(published.chapters(), key=lambda name: (HTML / f"{name}.html").stat().st_size)
    pages = [published.reading_order()[0], heaviest, published.LEDGER]
    with serve(prefix="/handbook/") as site:
        short = [judge(site, name, form) for name in pages for form in FORMS]
    print(f"Lighthouse: reports in {FOLDER}")
    if any(short):
        return 1
    PASSED.write_text(now)
    return 0


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m tools.lighthouse", description=__doc__).parse_args()
    sys.exit(main())
