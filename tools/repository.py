"""Write the addresses that ``pyproject.toml`` sets to every place that shows them.

Every notebook gets the same set-up cell for Colab, which is defined here.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import nbformat
import yaml

from tools.cache import ROOT

GITHUB = "https://github.com/"
# The files that may show an address.
FILES = (
    "_config.yml", "CITATION.cff", "README.md", "CONTRIBUTING.md", "book/*.md",
    "notebooks/*.ipynb", "tools/*.ipynb", ".github/**/*.yml",
)  # fmt: skip

# The first code cell of every notebook. A pip that fails raises no error, so the package is
# imported right after it.
TITLE = "# @title Set-up for Colab (does nothing elsewhere)"
SET_UP = f"""{TITLE}
if "google.colab" in str(get_ipython()):
    %pip install --quiet git+«repository»
    import helpers  # an error here? pip says above why it installed nothing

    print("The handbook is installed, version", helpers.__version__)"""


class Addresses(NamedTuple):
    """Where the repository and the book are."""

    repository: str
    book: str

    @property
    def slug(self) -> str:
        """The repository as GitHub writes it in addresses: ``owner/name``."""
        return self.repository.removeprefix(GITHUB)


def wanted(root: Path = ROOT) -> Addresses:
    """Return the addresses that ``pyproject.toml`` sets; ValueError if one has another form."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = Addresses(project["urls"]["Repository"], project["urls"]["Book"])
    if not re.fullmatch(rf"{GITHUB}[\w.-]+/[\w.-]+ https://\S+/", " ".join(found)):
        raise ValueError(f"Repository must be {GITHUB}owner/name, Book end in a slash; got {found}")
    return found


def shown(root: Path = ROOT) -> Addresses:
    """Return the addresses that ``_config.yml`` shows now."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return Addresses(config["repository"]["url"], config["html"]["baseurl"])


def set_up_cell(root: Path = ROOT) -> str:
    """Return the source of the set-up cell, with the address filled in."""
    return SET_UP.replace("«repository»", wanted(root).repository)


def rewrite(root: Path = ROOT) -> list[str]:
    """Write addresses and set-up cells where they belong; return the files that changed."""
    before, after, changed = shown(root), wanted(root), []
    # The slug alone stands in links of Colab and Binder too. It must not be part of a longer name.
    slug = re.compile(rf"(?<![\w.-]){re.escape(before.slug)}(?![\w-])")
    for path in sorted({path for pattern in FILES for path in root.glob(pattern)}):
        text = path.read_text(encoding="utf-8")
        mended = slug.sub(after.slug, text.replace(before.book, after.book))
        if path.suffix == ".ipynb":
            mended = _with_set_up(mended, set_up_cell(root))
        if mended != text:
            path.write_text(mended, encoding="utf-8", newline="\n")
            changed.append(path.relative_to(root).as_posix())
    return changed


def _with_set_up(text: str, source: str) -> str:
    notebook = nbformat.reads(text, nbformat.NO_CONVERT)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith(TITLE) and cell.source != source:
            cell.source = source
            return nbformat.writes(notebook) + "\n"
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m tools.repository", description=__doc__).parse_args()
    try:
        print("\n".join(rewrite()) or "Every file shows these addresses already.")
    except ValueError as problem:
        sys.exit(f"error: {problem}")
