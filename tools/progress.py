"""A plugin of pytest for nbmake: it notes each cell that begins, and gives the kernel its sockets.

The number of the cell goes into the file ``HANDBOOK_PROGRESS``, the sockets into the folder
``HANDBOOK_SOCKETS``.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

VARIABLE = "HANDBOOK_PROGRESS"
SOCKETS = "HANDBOOK_SOCKETS"
EVERY = 30  # seconds between two lines that say where all chapters are


def pytest_configure() -> None:
    """Let nbmake's client note each cell that it begins, and reach its kernel by files.

    By default a client looks for free ports, and its kernel binds them a second later. Whatever
    takes one of them in between, such as another chapter's kernel, keeps this one from starting.
    """
    from nbclient import NotebookClient
    from nbmake import nb_run
    from traitlets.config import Config

    def note(cell: object, cell_index: int) -> None:
        Path(os.environ[VARIABLE]).write_text(str(cell_index + 1))

    # A short name: a system allows about a hundred characters for the whole path of a socket.
    file = Path(os.environ[SOCKETS], f"{os.getpid()}.json")
    config = Config(KernelManager={"transport": "ipc", "connection_file": str(file)})
    nb_run.NotebookClient = functools.partial(NotebookClient, on_cell_start=note, config=config)


def place(chapter: Path, cells: int) -> str:
    """Return the name of a chapter, of which this is the copy, and at which of its cells it is."""
    file = chapter.with_suffix(".cell")
    cell = file.read_text() if file.exists() else ""  # it is empty while it is written
    return f"{chapter.stem} at cell {cell or 0} of {cells}"
