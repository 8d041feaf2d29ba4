"""Create a chapter from ``tools/chapter-template.ipynb``, which runs as it is, and list it."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nbformat

from tools.cache import ROOT

NAME = re.compile(r"(?=.{1,40}\Z)[0-9]{2}(-[a-z0-9]+)+")


def notebook(name: str) -> nbformat.NotebookNode:
    """Return the empty chapter ``name``, such as ``17-my-idea``."""
    text = Path(__file__).with_name("chapter-template.ipynb").read_text(encoding="utf-8")
    title = name[3:].replace("-", " ").capitalize()
    text = text.replace("17-my-idea", name).replace("17 My idea", f"{name[:2]} {title}")
    return nbformat.reads(text, 4)


def create(name: str, root: Path = ROOT) -> Path:
    """Write the empty chapter ``name`` and its entry in ``_toc.yml``; return its path.

    Raises:
        ValueError: the name is not of the form ``17-my-idea``, or is taken.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            "a chapter's name is two digits and words of lower-case letters (a to z) or digits, "
            f"joined by single hyphens, at most 40 characters: 17-my-idea; got {name[:60]!r}"
        )
    path, toc = root / "notebooks" / f"{name}.ipynb", root / "_toc.yml"
    entry, lines = f"      - file: notebooks/{name}\n", toc.read_text().splitlines(keepends=True)
    if path.exists() or entry in lines:
        raise ValueError(f"{name} is in notebooks/ or _toc.yml already, and is not overwritten")
    listed = [number for number, line in enumerate(lines) if "- file: notebooks/" in line]
    earlier = [number for number in listed if lines[number] < entry]
    lines.insert(max(earlier) + 1 if earlier else listed[0], entry)
    nbformat.write(notebook(name), path)
    toc.write_text("".join(lines), encoding="utf-8")
    return path


def main(arguments: list[str] | None = None) -> None:
    """Create the chapter and say what to do next."""
    parser = argparse.ArgumentParser(prog="python -m tools.chapter", description=__doc__)
    parser.add_argument("name", help="such as 17-my-idea")
    try:
        path = create(parser.parse_args(arguments).name)
    except ValueError as problem:
        sys.exit(f"error: {problem}")
    print(f"{path.relative_to(ROOT)} is ready and stands in _toc.yml.")
    print("Write it in JupyterLab (make lab). Then: make baselines, make test.")


if __name__ == "__main__":
    main()
