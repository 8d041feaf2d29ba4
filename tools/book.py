"""Build the HTML strictly: every warning is an error, every reference must resolve."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from tools.cache import ANSI, BUILD, ROOT, alone

HTML = BUILD / "html"
LOG = BUILD / "book.log"


def build() -> int:
    """Run Jupyter Book and return 0 if it built every page without a warning."""
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
    pages = len(list(HTML.rglob("*.html")))
    seconds = time.perf_counter() - begin
    print(f"The book: {HTML / 'index.html'} ({pages} pages, built in {seconds:.0f} s)")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Build the book."""
    argparse.ArgumentParser(prog="python -m tools.book", description=__doc__).parse_args(arguments)
    with alone():
        return build()


if __name__ == "__main__":
    sys.exit(main())
