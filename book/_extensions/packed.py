"""Data that a script asks for once a reader wants it, and that outweighs the rest of its page."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

PACKED = re.compile(r'(?<=<script type="text/plain")>([\w+/=]+)(?=</script>)')


def version(text: str) -> str:
    """Return a short hash, which an address names so that no reader gets an older content."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def apart(html: str, path: Path, static: Path) -> str:
    """Move packed data into a file: a script, since a page on a disk may load no other kind."""

    def move(match: re.Match[str]) -> str:
        file = static / "packed" / f"{version(match[1])}.js"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'globalThis.packed = "{match[1]}";\n', encoding="utf-8")
        return f' data-source="{Path(os.path.relpath(file, path.parent)).as_posix()}">'

    return PACKED.sub(move, html)
