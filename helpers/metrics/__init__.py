"""Metric modules for :func:`evaluate.load` that lie on the disk.

``evaluate.load("accuracy")`` downloads a script from the Hub and runs it. Given a path, the
same call loads the script that stands there::

    accuracy = evaluate.load(metrics.path("accuracy"))
"""

from __future__ import annotations

from pathlib import Path


def path(name: str) -> str:
    """Return the file of the metric ``name``; :func:`evaluate.load` says so if there is none."""
    return str(Path(__file__).resolve().with_name(f"{name}.py"))
