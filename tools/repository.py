"""Write the addresses of the repository and of the book to every place that shows them.

``pyproject.toml`` is the one place where they are set, under ``[project.urls]``. This copies
them into ``_config.yml``, ``CITATION.cff``, the Markdown files and the workflows, and mends a
file that names another address. Every notebook gets the same set-up cell for Colab, which is
defined here.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import nbformat
from packaging.specifiers import SpecifierSet

from tools.cache import ROOT

GITHUB = "https://github.com/"

# Where an address must stand, whatever it was before: the pattern's group is the address.
REPOSITORY_PLACES = {
    "_config.yml": r"(?m)^repository:\n(?:  .*\n)*?  url: (\S+)$",
    "CITATION.cff": r"(?m)^repository-code: (\S+)$",
}
BOOK_PLACES = {
    "_config.yml": r"(?m)^  baseurl: (\S+)$",
    "CITATION.cff": r"(?m)^url: (\S+)$",
}
# Files that may name the addresses in running text.
TEXTS = (
    "_config.yml", "CITATION.cff", "README.md", "CONTRIBUTING.md", "book/*.md",
    "notebooks/*.ipynb", ".github/**/*.yml", ".github/**/*.md",
)  # fmt: skip

# The first code cell of every notebook. Colab's own packages become pip's constraints: pip may
# add to them and change none, so torch stays, and nothing that is imported needs a restart.
TITLE = "# @title Set-up for Colab (does nothing elsewhere)"
SET_UP = (
    TITLE
    + """
import sys

if "google.colab" in sys.modules:
    import os
    import subprocess

    advice = "If this is an older runtime: Runtime > Change runtime type > Runtime version: Latest."
    source = os.environ.get("HANDBOOK_REPOSITORY", "«repository»")
    assert sys.version_info >= («python»), f"The handbook needs Python «oldest» or newer. {advice}"

    def pip(*arguments, text=""):
        \"\"\"Run pip and return what it printed.\"\"\"
        command = [sys.executable, "-m", "pip", *arguments]
        ran = subprocess.run(command, input=text, capture_output=True, text=True)
        said = ran.stdout + ran.stderr  # pip explains a conflict on stdout
        assert not ran.returncode, f"{said}\\nThe handbook was not installed. {advice}"
        return ran.stdout

    listing = ("list", "--format=freeze", "--exclude=huggingface-handbook")
    kept = pip(*listing)  # what Colab brings, torch above all, stays as it is
    print(f"Installing the handbook from {source}", flush=True)
    pip("install", "--constraint=/dev/stdin", f"huggingface-handbook @ git+{source}", text=kept)
    added = sorted(set(pip(*listing).split()) - set(kept.split()))
    print(f"Added to what Colab has: {', '.join(['the handbook', *added])}")"""
)


@dataclass(frozen=True)
class Addresses:
    """Where the repository and the book are."""

    repository: str
    book: str

    @property
    def slug(self) -> str:
        """The repository as GitHub writes it in addresses: ``owner/name``."""
        return self.repository.removeprefix(GITHUB).removesuffix(".git").strip("/")


def wanted(root: Path = ROOT) -> Addresses:
    """Return the addresses that ``pyproject.toml`` sets.

    Raises:
        ValueError: the repository is not ``https://github.com/owner/name``, or the book's
            address does not end in a slash.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = Addresses(project["urls"]["Repository"], project["urls"]["Book"])
    if not re.fullmatch(re.escape(GITHUB) + r"[\w.-]+/[\w.-]+", found.repository):
        raise ValueError(f"Repository must be {GITHUB}owner/name, got {found.repository!r}")
    if not re.fullmatch(r"https://\S+/", found.book):
        raise ValueError(f"Book must be an https address that ends in a slash, got {found.book!r}")
    return found


def shown(root: Path = ROOT) -> Addresses:
    """Return the addresses that ``_config.yml`` shows now."""
    text = (root / "_config.yml").read_text(encoding="utf-8")
    found = []
    for places in (REPOSITORY_PLACES, BOOK_PLACES):
        match = re.search(places["_config.yml"], text)
        if match is None:
            raise ValueError("_config.yml names no repository url or no baseurl")
        found.append(match[1])
    return Addresses(*found)


def set_up_cell(root: Path = ROOT) -> str:
    """Return the source of the set-up cell, with the address and the oldest Python filled in.

    Raises:
        ValueError: ``pyproject.toml`` does not say ``requires-python = ">=…"``, or see
            :func:`wanted`.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = [each for each in SpecifierSet(project["requires-python"]) if each.operator == ">="]
    if len(bounds) != 1:
        raise ValueError(f"requires-python must be >=3.x, got {project['requires-python']!r}")
    oldest = bounds[0].version
    python = ", ".join(oldest.split("."))
    cell = SET_UP.replace("«python»", python).replace("«oldest»", oldest)
    return cell.replace("«repository»", wanted(root).repository)


def set_up_of(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Return the set-up cell of a notebook, or None if it has none."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return next((cell for cell in cells if cell.source.startswith(TITLE)), None)


def disagreements(root: Path = ROOT) -> list[str]:
    """Return a line for each place that does not show the address of ``pyproject.toml``.

    A notebook whose set-up cell is missing or another one is such a place too.
    """
    addresses, found = wanted(root), []
    for places, right in (
        (REPOSITORY_PLACES, addresses.repository),
        (BOOK_PLACES, addresses.book),
    ):
        for where, pattern in places.items():
            for path in sorted(root.glob(where)):
                name = path.relative_to(root).as_posix()
                matches = re.findall(pattern, path.read_text(encoding="utf-8"))
                found += [f"{name} shows {one}, not {right}" for one in matches if one != right]
                if not matches:
                    found.append(f"{name} does not show {right}")
    right = set_up_cell(root)
    for path in sorted(root.glob("notebooks/*.ipynb")):
        cell = set_up_of(nbformat.read(path, nbformat.NO_CONVERT))
        if cell is None or cell.source != right:
            what = "has no" if cell is None else "has another"
            found.append(f"{path.relative_to(root).as_posix()} {what} set-up cell for Colab")
    return found


def rewrite(root: Path = ROOT) -> list[str]:
    """Write the addresses wherever they belong; return the names of the files that changed."""
    before, after, changed = shown(root), wanted(root), []
    for path in sorted({path for where in TEXTS for path in root.glob(where)}):
        text = path.read_text(encoding="utf-8")
        mended = _replaced(text, before, after)
        for places, right in ((REPOSITORY_PLACES, after.repository), (BOOK_PLACES, after.book)):
            for where, pattern in places.items():
                if path in root.glob(where):
                    mended = re.sub(
                        pattern, lambda match, right=right: _with_group(match, right), mended
                    )
        if path.suffix == ".ipynb":
            mended = _with_set_up(mended, set_up_cell(root))
        if mended != text:
            path.write_text(mended, encoding="utf-8", newline="\n")
            changed.append(path.relative_to(root).as_posix())
    return changed


def _replaced(text: str, before: Addresses, after: Addresses) -> str:
    text = text.replace(before.book, after.book)
    # The slug alone stands in links of Colab and Binder too. It must not be part of a longer name.
    return re.sub(rf"(?<![\w.-]){re.escape(before.slug)}(?![\w-])", lambda _: after.slug, text)


def _with_set_up(text: str, source: str) -> str:
    notebook = nbformat.reads(text, nbformat.NO_CONVERT)
    cell = set_up_of(notebook)
    if cell is None or cell.source == source:
        return text
    cell.source = source
    return nbformat.writes(notebook) + "\n"


def _with_group(match: re.Match[str], replacement: str) -> str:
    begin, end = (position - match.start() for position in match.span(1))
    return match[0][:begin] + replacement + match[0][end:]


def main(arguments: list[str] | None = None) -> int:
    """Write the addresses and say which files changed."""
    parser = argparse.ArgumentParser(prog="python -m tools.repository", description=__doc__)
    parser.parse_args(arguments)
    try:
        changed = rewrite()
    except ValueError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print("\n".join(changed) or "Every file shows these addresses already.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
