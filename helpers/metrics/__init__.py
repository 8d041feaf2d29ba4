"""Metric modules for :func:`evaluate.load` that lie on the disk.

``evaluate.load("accuracy")`` downloads a script from the Hub and runs it. Given a path, the
same call loads the script that stands there, so nothing is fetched and the code that runs
is the code in front of you::

    accuracy = evaluate.load(metrics.path("accuracy"))
"""

from __future__ import annotations

from pathlib import Path


def path(name: str) -> str:
    """Return the file that holds the metric ``name``.

    Raises:
        KeyError: there is no metric of that name.
    """
    folder = Path(__file__).resolve().parent
    known = sorted(file.stem for file in folder.glob("*.py") if file.stem != "__init__")
    if name not in known:
        raise KeyError(f"no metric is called {name!r}; there are {', '.join(known)}")
    return str(folder / f"{name}.py")
