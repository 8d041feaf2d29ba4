"""Files that are whole or not there: written in one step, sealed by the SHA-256 of each.

A finished folder gets a manifest of SHA-256 sums as its last file: a folder without one was left
half written, and a changed byte is found.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from pathlib import Path

MANIFEST = "manifest.json"

# The numbers by which systems say that a disk or a quota is full, or a file may not grow.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAYS_FULL = re.compile(
    r"ENOSPC|No space left|Disk quota exceeded|File too large"
    + "".join(rf"|(?:\[Errno|os error) {number}\b" for number in FULL)
)


def write(path: Path, text: str) -> None:
    """Write a text file in one step; if that fails, what was there before is untouched."""
    beside = path.with_name(f".{path.name}")  # one that a killed process left is overwritten
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def seal(folder: Path, **about: str) -> None:
    """Record the SHA-256 of every file of a finished ``folder`` in its ``manifest.json``.

    ``about`` is what else the manifest is to say, such as ``source``.
    """
    sums = {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in (folder / MANIFEST, folder / f".{MANIFEST}")
    }
    write(folder / MANIFEST, json.dumps(about | {"sha256": sums}, indent=2) + "\n")


def damage(folder: Path, pinned: dict[str, str] | None = None) -> list[str]:
    """Return a line for each file of a sealed ``folder`` that is missing, changed or unreadable.

    ``pinned`` are SHA-256 sums that stand whatever the manifest says.
    """
    try:
        recorded = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
        expected = {name: str(digits) for name, digits in (recorded | (pinned or {})).items()}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        recorded = None
    if not recorded:
        return [f"{folder / MANIFEST} is missing or unreadable."]
    found = []
    for relative, sum_of_file in expected.items():
        path = folder / relative
        try:
            if not path.is_file():
                found.append(f"{path} is missing.")
            elif sha256(path) != sum_of_file:
                found.append(f"{path} is damaged: its SHA-256 is not {sum_of_file[:12]}….")
        except OSError as problem:
            found.append(f"{path} cannot be read: {problem.strerror}.")
    return found


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def says_full(text: str) -> bool:
    """Say whether a program's message means that the disk, a quota or a file is full."""
    return _SAYS_FULL.search(text) is not None
