"""Build the HTML strictly: every warning is an error, every reference must resolve."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from helpers import sealed
from tools.cache import ANSI, BUILD, CHECKS, ROOT, alone, digest
from tools.serve import HTML

LOG = BUILD / "book.log"
BUILT_FROM = BUILD / "book.sha256"  # of what the book was last built from
SOURCES = ("book", "helpers", "notebooks", "tools")
FILES = ("_config.yml", "_toc.yml", "pyproject.toml", "requirements.lock")


def state() -> str:
    """Return a hash of everything that the book is built from."""
    files = [ROOT / name for name in FILES] + list(CHECKS.glob("*.json"))
    for folder in SOURCES:
        files += (path for path in (ROOT / folder).rglob("*") if path.is_file())
    made = ROOT / "book" / "api"  # by the build itself
    kept = (each for each in files if "__pycache__" not in each.parts and made not in each.parents)
    return digest(kept, ROOT)


def build() -> int:
    """Run Jupyter Book and return 0 if it built every page without a warning.

    A book that was built from the very same files is kept. Otherwise every page is made anew:
    links in code are known only while the whole book is read.
    """
    now = state()
    if HTML.is_dir() and BUILT_FROM.is_file() and BUILT_FROM.read_text() == now:
        print(f"The book: {HTML / 'index.html'} (nothing changed since it was built)")
        return 0
    BUILT_FROM.unlink(missing_ok=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(ROOT)]
    command += ["-n", "-W", "--keep-going", "--path-output", str(ROOT)]
    begin = time.perf_counter()
    BUILD.mkdir(exist_ok=True)
    with LOG.open("w", encoding="utf-8") as log:
        run = subprocess.run(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    text = ANSI.sub("", LOG.read_text(encoding="utf-8", errors="replace"))
    if run.returncode:
        worth = [line for line in text.splitlines() if "WARNING" in line or "ERROR" in line]
        print("\n".join(worth or text.splitlines()[-40:]), file=sys.stderr)
        print(f"The book was not built; the whole log is {LOG}", file=sys.stderr)
        return 1
    sealed.write(BUILT_FROM, now)
    print(f"The book: {HTML / 'index.html'} (built in {time.perf_counter() - begin:.0f} s)")
    return 0


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m tools.book", description=__doc__).parse_args()
    with alone():
        sys.exit(build())
