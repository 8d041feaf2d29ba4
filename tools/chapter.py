"""Create an empty chapter that already has every part a chapter needs, and list it in the book.

``make chapter NAME=17-my-idea`` writes ``notebooks/17-my-idea.ipynb`` and adds it to
``_toc.yml``. The new chapter runs as it is, and the tests of the repository accept it.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import repository
from tools.cache import ROOT

NAME = re.compile(r"\d\d-[a-z0-9-]+")
ENTRY = re.compile(r"^(\s*- file: notebooks/)(\S+)\s*$")

# In the order of the notebook: the kind of cell and its text. «…» is filled in below.
TEMPLATE: tuple[tuple[str, str], ...] = (
    (
        "text",
        """# «title»

**After this chapter you can** say here what the reader can do afterwards.

You need Python; name the chapters this one builds on. How long the chapter ran for this page
is listed under [execution times](../book/times.md).""",
    ),
    (
        "colab",
        "«set-up»",
    ),
    (
        "code",
        """import numpy as np

from helpers import checks, plots
from helpers.checks import check_at_most, check_close, check_equal

checks.begin("«name»")""",
    ),
    (
        "text",
        """## The question

Begin with a concrete question. Then the idea, the formula, three lines of code, a look at the
result, and what it means.

$$\\sigma(x) = \\frac{1}{1 + e^{-x}} \\tag{1}$$

Before you run the cell: what does equation (1) give at zero?""",
    ),
    (
        "code",
        """x = np.linspace(-6, 6, 121)
sigma = 1 / (1 + np.exp(-x))
check_close("the logistic function is one half at zero", sigma[60], 0.5, atol=1e-12)""",
    ),
    (
        "figure",
        """figure, axes = plots.new(height=2.8)
axes.plot(x, sigma, color=plots.BLUE)
axes.set(xlabel="x (no unit)", ylabel="σ(x) (no unit)")
plots.show(figure, alt="An S-shaped curve rises from zero to one and is one half at zero.")""",
    ),
    ("text", "## Exercises\n\n### 1. Symmetry\n\nShow that σ(-x) and 1 - σ(x) are the same."),
    (
        "solution",
        """# @title Solution to exercise 1
check_close("σ(-x) equals 1 - σ(x)", 1 / (1 + np.exp(x)), 1 - sigma, atol=1e-12)""",
    ),
    ("text", "### 2. Slope\n\nWhere is the curve steepest?"),
    (
        "solution",
        """# @title Solution to exercise 2
check_equal("the curve is steepest at zero", int(np.gradient(sigma).argmax()), 60)""",
    ),
    ("text", "### 3. Bounds\n\nHow near to one does σ come at x = 6?"),
    (
        "solution",
        """# @title Solution to exercise 3
check_at_most("distance from one at x = 6", 1 - sigma[-1], 0.003, drift=1e-9)""",
    ),
    (
        "text",
        """## Check yourself

Choose one answer. The reasons say of every answer why it is right or wrong.

**Question 1.** What is σ(0)?

- **A.** 0, since there is nothing to add up.
- **B.** One half.
- **C.** It has no value: one would divide by zero.

<details><summary>Answer to question 1</summary>

- **A. Wrong.** The function of zero is not zero: $e^{-0}$ is 1, so the divisor is 2.
- **B. Right.** One divided by $1 + e^{-0} = 2$; the first check of this chapter says so.
- **C. Wrong.** $1 + e^{-x}$ is larger than 1 for every $x$, so it is never zero.
</details>

<details><summary>What is the first open question?</summary>

The answer, and why.
</details>

<details><summary>What is the second open question?</summary>

The answer, and why.
</details>

<details><summary>What is the third open question?</summary>

The answer, and why.
</details>""",
    ),
    ("text", "## Recap\n\n- What the reader should keep, in one line."),
    (
        "text",
        """## Where this stands in the article

Name the section, say what is proven here, and what has changed since it was written.

## Read on

- A paper or an official page.""",
    ),
)

METADATA: dict[str, dict[str, object]] = {
    "colab": {"cellView": "form", "tags": ["remove-cell"]},
    "code": {},
    "figure": {"tags": ["hide-input"]},
    "solution": {"cellView": "form", "tags": ["hide-cell"]},
}


def notebook(name: str, set_up: str) -> nbformat.NotebookNode:
    """Return the empty chapter ``name``; ``set_up`` is the source of its cell for Colab."""
    title = name[3:].replace("-", " ").strip().capitalize()
    cells = []
    for kind, text in TEMPLATE:
        text = text.replace("«title»", title).replace("«name»", name)
        text = text.replace("«set-up»", set_up)
        identity = hashlib.sha256(text.encode()).hexdigest()[:8]
        if kind == "text":
            cells.append(new_markdown_cell(text, id=identity))
        else:
            cells.append(new_code_cell(text, id=identity, metadata=METADATA[kind]))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made = new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )
    made.nbformat_minor = 5
    nbformat.validate(made)
    return made


def with_entry(toc: str, name: str) -> str:
    """Return the text of ``_toc.yml`` with the chapter ``name`` in its place.

    Raises:
        ValueError: it is listed already, or no chapter is listed that shows where they belong.
    """
    lines = toc.splitlines()
    entries = {number: match for number, line in enumerate(lines) if (match := ENTRY.match(line))}
    if any(match[2] == name for match in entries.values()):
        raise ValueError(f"_toc.yml lists {name} already")
    if not entries:
        raise ValueError("_toc.yml lists no chapter; add the new one by hand")
    earlier = [number for number, match in entries.items() if match[2] < name]
    neighbour = max(earlier) if earlier else min(entries)
    lines.insert(neighbour + bool(earlier), f"{entries[neighbour][1]}{name}")
    return "\n".join(lines) + "\n"


def create(name: str, root: Path = ROOT) -> Path:
    """Write the empty chapter ``name`` and its entry in ``_toc.yml``; return its path.

    Raises:
        ValueError: the name is not of the form ``17-my-idea``, or is taken.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"a chapter's name is two digits, a hyphen, and lower-case letters, digits or "
            f"hyphens, such as 17-my-idea; got {name!r}"
        )
    path, toc = root / "notebooks" / f"{name}.ipynb", root / "_toc.yml"
    if path.exists():
        raise ValueError(f"{path.relative_to(root)} exists and is not overwritten")
    listed = with_entry(toc.read_text(encoding="utf-8"), name)
    nbformat.write(notebook(name, repository.set_up_cell(root)), path)
    toc.write_text(listed, encoding="utf-8", newline="\n")
    return path


def main(arguments: list[str] | None = None) -> int:
    """Create the chapter and say what to do next."""
    parser = argparse.ArgumentParser(prog="python -m tools.chapter", description=__doc__)
    parser.add_argument("name", help="such as 17-my-idea")
    try:
        path = create(parser.parse_args(arguments).name)
    except ValueError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"{path.relative_to(ROOT)} is ready and stands in _toc.yml.")
    print("Write it in JupyterLab (make lab). Then: make baselines, make test.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
