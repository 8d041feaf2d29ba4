"""Refresh the files of others that the book's pages are made with.

``make vendor`` fetches two pinned npm packages by name (npm checks them against the digest it
has published) and copies the few files the book needs into ``book/_vendor``, each package with
its licence. ``book/_vendor/manifest.json`` records versions and SHA-256 digests;
``tests/test_vendor.py`` compares the files with it. Only this command needs npm: building the
book does not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from helpers.sealed import sha256
from tools.cache import ROOT

VENDOR = ROOT / "book" / "_vendor"
MANIFEST = VENDOR / "manifest.json"

# The licences: MIT, its fonts too; CC BY 4.0 for the drawings.
PACKAGES = {"katex": "0.19.1", "@fortawesome/fontawesome-free": "7.3.1"}

# The drawings that the theme's templates, scripts and style sheets name. The build fails when
# a page uses one that is not here: add its name, then `make vendor`.
ICONS = (
    "brands/github",
    "solid/angle-left", "solid/angle-right", "solid/angle-down", "solid/arrow-up",
    "solid/arrow-up-right-from-square", "solid/bars", "solid/bell", "solid/check",
    "solid/chevron-down", "solid/chevron-up", "solid/circle-check", "solid/circle-exclamation",
    "solid/circle-half-stroke", "solid/circle-info", "solid/circle-xmark", "solid/copy",
    "solid/download", "solid/expand", "solid/file", "solid/file-pdf", "solid/lightbulb",
    "solid/list", "solid/magnifying-glass", "solid/magnifying-glass-minus", "solid/moon",
    "solid/outdent", "solid/pencil", "solid/rocket", "solid/share", "solid/sun",
    "solid/triangle-exclamation", "solid/up-right-from-square", "solid/xmark",
)  # fmt: skip


def fetch(scratch: Path) -> dict[str, dict[str, str]]:
    """Install the packages in ``scratch``; return the version and npm's digest of each.

    Raises:
        RuntimeError: npm is missing or could not fetch a package.
    """
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--prefix", str(scratch)]
    command += [f"{name}@{version}" for name, version in PACKAGES.items()]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError("npm is not installed; on Debian and Ubuntu: apt install npm") from None
    except subprocess.CalledProcessError as problem:
        raise RuntimeError(f"npm could not fetch the packages: {problem.stderr[-400:]}") from None
    lock = json.loads((scratch / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    return {
        name: {key: lock[f"node_modules/{name}"][key] for key in ("version", "integrity")}
        for name in PACKAGES
    }


def copy_katex(package: Path, target: Path) -> None:
    """Copy the typesetter, its style sheet, and the fonts in the one format all browsers read."""
    target.mkdir(parents=True)
    for name in ("LICENSE", "dist/katex.min.js", "dist/katex-swap.min.css"):
        shutil.copy(package / name, target)
    (target / "fonts").mkdir()
    for font in sorted((package / "dist" / "fonts").glob("*.woff2")):
        shutil.copy(font, target / "fonts")


def copy_icons(package: Path, target: Path) -> None:
    """Copy the drawings, and a table of the names and code points they also go by."""
    target.mkdir(parents=True)
    shutil.copy(package / "LICENSE.txt", target)
    described = json.loads((package / "metadata" / "icon-families.json").read_text("utf-8"))
    table = {}
    for icon in ICONS:
        style, name = icon.split("/")
        (target / style).mkdir(exist_ok=True)
        shutil.copy(package / "svgs" / style / f"{name}.svg", target / style)
        about = described[name]
        table[icon] = {
            "code_point": about["unicode"],
            "aliases": sorted(about.get("aliases", {}).get("names", [])),
        }
    _write(target / "icons.json", table)


def manifest(packages: dict[str, dict[str, str]]) -> dict:
    """Return what the manifest says: the packages, and the digest of each file."""
    files = sorted(path for path in VENDOR.rglob("*") if path.is_file() and path != MANIFEST)
    digests = {path.relative_to(VENDOR).as_posix(): sha256(path) for path in files}
    return {"packages": packages, "sha256": digests}


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8", newline="\n")


def main(arguments: list[str] | None = None) -> int:
    """Fetch both packages, replace ``book/_vendor``, and say what stands there."""
    argparse.ArgumentParser(prog="python -m tools.vendor", description=__doc__).parse_args(
        arguments
    )
    try:
        with tempfile.TemporaryDirectory() as scratch:
            packages = fetch(Path(scratch))
            shutil.rmtree(VENDOR, ignore_errors=True)
            katex, icons = (Path(scratch) / "node_modules" / name for name in PACKAGES)
            copy_katex(katex, VENDOR / "katex")
            copy_icons(icons, VENDOR / "fontawesome")
    except RuntimeError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    said = manifest(packages)
    _write(MANIFEST, said)
    print(f"{len(said['sha256'])} files in {VENDOR.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
