"""What a benchmark found: a file of results beside it, each with its date, machine and versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers import sealed


def about(libraries: Sequence[str]) -> dict[str, object]:
    """Return what stands with every result: the day, the processor, the versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": f"{platform.machine()}, {os.environ.get('OMP_NUM_THREADS', 'all')} thread(s)",
        "versions": {library: importlib.metadata.version(library) for library in libraries},
    }


@dataclass(frozen=True)
class Results:
    """A JSON file that holds, by name, a list of results."""

    path: Path
    libraries: tuple[str, ...]

    def all(self) -> dict[str, list[dict[str, object]]]:
        """Return what the file holds; nothing if there is none yet."""
        return json.loads(self.path.read_text("utf-8")) if self.path.is_file() else {}

    def record(self, name: str, found: dict[str, object]) -> None:
        """Add one result to the file."""
        results = self.all()
        results.setdefault(name, []).append({**found, **about(self.libraries)})
        sealed.write(self.path, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        print(name, found, flush=True)

    def is_there(self, name: str, **wanted: object) -> bool:
        """Return whether a result with these entries stands in the file."""
        return any(wanted.items() <= found.items() for found in self.all().get(name, []))
