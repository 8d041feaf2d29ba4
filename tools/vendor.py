"""Fetch the typesetter and the icons of the book's pages anew (``make vendor``, which needs npm).

``package.json`` in ``book/_vendor`` pins both, ``fontawesome/icons.json`` lists the icons in use.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.cache import ROOT

VENDOR = ROOT / "book" / "_vendor"
ICONS = "fontawesome/icons.json"


def copy_katex(package: Path, target: Path) -> None:
    """Copy the typesetter, its style sheet, and the fonts in the one format all browsers read."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(
        package / "dist/fonts", target / "fonts", ignore=shutil.ignore_patterns("*.ttf", "*.woff")
    )
    for name in ("LICENSE", "dist/katex.min.js", "dist/katex-swap.min.css"):
        shutil.copy(package / name, target)


def copy_icons(package: Path, target: Path) -> None:
    """Copy the drawings that the list names, and note there what else they go by."""
    table = json.loads((VENDOR / ICONS).read_text("utf-8"))
    described = json.loads((package / "metadata/icon-families.json").read_text("utf-8"))
    for drawing in target.glob("*/*.svg"):
        drawing.unlink()
    for icon in table:
        style, name = icon.split("/")
        (target / style).mkdir(parents=True, exist_ok=True)
        shutil.copy(package / f"svgs/{icon}.svg", target / style)
        aliases = described[name].get("aliases", {}).get("names", [])
        table[icon] = {"code_point": described[name]["unicode"], "aliases": sorted(aliases)}
    shutil.copy(package / "LICENSE.txt", target)
    (target / "icons.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Fetch both packages and replace the files of the book."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(VENDOR / name, scratch)
        try:
            subprocess.run(["npm", "ci", "--loglevel=error"], cwd=scratch, check=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            sys.exit(f"error: npm could not fetch the packages: {problem}")
        packages = Path(scratch, "node_modules")
        copy_katex(packages / "katex", VENDOR / "katex")
        copy_icons(packages / "@fortawesome/fontawesome-free", VENDOR / "fontawesome")
    print("book/_vendor is written anew; look at the difference before you commit it.")


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m tools.vendor", description=__doc__).parse_args()
    main()
