"""Say which cell each chapter is at while chapters are executed.

As a plugin of pytest (``-p tools.progress``) this writes the number of the cell that nbmake has
come to into the file that ``HANDBOOK_PROGRESS`` names. :class:`Display` shows these numbers: a
line when a chapter begins and when it ends, and one every 30 seconds for those at work.
"""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

VARIABLE = "HANDBOOK_PROGRESS"
EVERY = 30  # seconds between two lines about chapters at work


def pytest_configure() -> None:
    """Let nbmake's client note each cell that it begins."""
    from nbclient import NotebookClient
    from nbmake import nb_run

    def note(cell: object, cell_index: int) -> None:
        Path(os.environ[VARIABLE]).write_text(str(cell_index + 1))

    nb_run.NotebookClient = functools.partial(NotebookClient, on_cell_start=note)


class Display:
    """Where each chapter is."""

    def __init__(self) -> None:
        """Begin with no chapter at work."""
        self.said = time.monotonic()
        self.at_work: dict[str, tuple[Path, int]] = {}

    def begin(self, chapter: str, file: Path, cells: int) -> None:
        """Show that ``chapter`` begins, which has so many cells and notes them in ``file``."""
        self.at_work[chapter] = file, cells
        self._say(f"{chapter}: begins, {cells} cells")

    def update(self) -> None:
        """Show which cell each chapter is at, when it is time."""
        if time.monotonic() - self.said >= EVERY:
            self._say("; ".join(f"{chapter} {self._place(chapter)}" for chapter in self.at_work))

    def end(self, chapter: str, seconds: float, *, passed: bool) -> None:
        """Show that ``chapter`` ended."""
        how = "ends" if passed else f"failed {self._place(chapter)}"
        del self.at_work[chapter]
        self._say(f"{chapter}: {how} after {seconds:.0f} s")

    def _place(self, chapter: str) -> str:
        file, cells = self.at_work[chapter]
        cell = file.read_text() if file.exists() else ""  # it is empty while it is written
        return f"at cell {cell or 0} of {cells}"

    def _say(self, text: str) -> None:
        self.said = time.monotonic()
        print(text, flush=True)
