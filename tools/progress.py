"""Say which cell each chapter is at while chapters are executed.

As a plugin of pytest (``-p tools.progress``) this writes the number of the cell that nbmake has
come to into the file that ``HANDBOOK_PROGRESS`` names. :class:`Display` shows these numbers: a
bar for each chapter in a terminal, elsewhere a line when a chapter begins and when it ends, and
one line every 30 seconds for those at work.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

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
    """Where each chapter is: bars in a terminal, plain lines elsewhere."""

    def __init__(self, *, bars: bool | None = None) -> None:
        """Begin with no chapter at work; ``bars`` is asked of the terminal if it is None."""
        self.bars = sys.stdout.isatty() if bars is None else bars
        self.said = time.monotonic()
        self.at_work: dict[str, tqdm] = {}

    def begin(self, chapter: str, cells: int) -> None:
        """Show that ``chapter`` begins, which has so many cells."""
        self.at_work[chapter] = tqdm(
            total=cells, desc=chapter, unit="cell", file=sys.stdout, disable=not self.bars,
            bar_format="{desc}: cell {n_fmt} of {total_fmt} |{bar}| {elapsed}",
        )  # fmt: skip
        self._line(f"{chapter}: begins, {cells} cells")

    def update(self, files: dict[str, Path]) -> None:
        """Read from ``files`` which cell each chapter is at, and show it when it is time."""
        for chapter, file in files.items():
            text = file.read_text() if file.exists() else ""
            if text:  # empty for the moment in which it is written
                self.at_work[chapter].n = int(text)
            self.at_work[chapter].refresh()
        if time.monotonic() - self.said >= EVERY:
            bars = self.at_work.items()
            self._line("; ".join(f"{name} at cell {bar.n} of {bar.total}" for name, bar in bars))

    def end(self, chapter: str, seconds: float, *, passed: bool) -> None:
        """Show that ``chapter`` ended."""
        bar = self.at_work.pop(chapter)
        how = "ends" if passed else f"failed at cell {bar.n} of {bar.total}"
        bar.close()
        self._line(f"{chapter}: {how} after {seconds:.0f} s")

    def _line(self, text: str) -> None:
        self.said = time.monotonic()
        if not self.bars:
            print(text, flush=True)
