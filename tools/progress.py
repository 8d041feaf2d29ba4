"""A plugin of pytest that writes to which cell nbmake has come, into ``HANDBOOK_PROGRESS``."""

from __future__ import annotations

import functools
import os
from pathlib import Path

VARIABLE = "HANDBOOK_PROGRESS"
EVERY = 30  # seconds between two lines that say where all chapters are


def pytest_configure() -> None:
    """Let nbmake's client note each cell that it begins."""
    from nbclient import NotebookClient
    from nbmake import nb_run

    def note(cell: object, cell_index: int) -> None:
        Path(os.environ[VARIABLE]).write_text(str(cell_index + 1))

    nb_run.NotebookClient = functools.partial(NotebookClient, on_cell_start=note)


def place(chapter: Path, cells: int) -> str:
    """Return the name of a chapter, of which this is the copy, and at which of its cells it is."""
    file = chapter.with_suffix(".cell")
    cell = file.read_text() if file.exists() else ""  # it is empty while it is written
    return f"{chapter.stem} at cell {cell or 0} of {cells}"
