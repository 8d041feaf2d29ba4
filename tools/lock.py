"""Write the lock files: every version, every hash, for every platform at once.

``requirements-cuda.lock`` holds NVIDIA's libraries, gigabytes that only the CUDA build of torch on
Linux needs. ``environment.yml``, for conda and Binder, names the direct dependencies only.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.cache import ROOT

# torch is pinned by hand: its CPU build must exist in the same version.
TORCH = "2.13.0"
# SHA-256 of CPU-only wheels of that version, which carry the local version "+cpu".
TORCH_CPU_WHEELS = ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)
CUDA = re.compile(r"^(nvidia-|cuda-|triton==)")

HEAD = "# Made by `make lock` from pyproject.toml. Do not edit by hand.\n"
LOCK = ROOT / "requirements.lock"
LOCKS = (LOCK, ROOT / "requirements-cuda.lock")
ENVIRONMENT = ROOT / "environment.yml"
ENVIRONMENT_EXTRAS = ("book", "lab", "test")


def resolve(*, upgrade: bool) -> list[str]:
    """Return the resolved requirements, each with its hashes as one block of text."""
    with tempfile.TemporaryDirectory() as scratch:
        constraint, present = Path(scratch, "constraints.txt"), Path(scratch, "present.txt")
        constraint.write_text(f"torch=={TORCH}\n")
        if not upgrade:  # what is in the output file, and still fits, stays
            present.write_text("".join(path.read_text(encoding="utf-8") for path in LOCKS))
        command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--quiet"]
        command += ["--python-version", "3.11", "--all-extras", "--generate-hashes"]
        command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--output-file", present]
        command += ["--constraint", constraint, ROOT / "pyproject.toml"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        text = present.read_text(encoding="utf-8")
    return re.split(r"(?m)^(?=\S)", text)[1:]


def direct(extras: tuple[str, ...]) -> list[Requirement]:
    """Return the dependencies that pyproject.toml names, of the core and of ``extras``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    more = (project["optional-dependencies"][extra] for extra in extras)
    return [Requirement(line) for line in (*project["dependencies"], *chain.from_iterable(more))]


def locked(text: str) -> dict[str, list[Requirement]]:
    """Return what a lock file pins: for each package a requirement, or several with markers."""
    pins: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if line and not line.startswith(("#", " ")):
            pin = Requirement(line.rstrip("\\ "))
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def environment(lock: str) -> str:
    """Return the text of ``environment.yml`` that belongs to the text of a lock file."""
    pins = locked(lock)
    names = sorted({canonicalize_name(each.name) for each in direct(ENVIRONMENT_EXTRAS)})
    lines = ["name: handbook", "channels: [conda-forge]", "dependencies:"]
    lines += ['  - "python>=3.11,<3.14"', "  - pip", "  - pip:"]
    lines += [f"      - {pin}" for name in names for pin in pins[name]]
    return HEAD + "\n".join([*lines, "      - -e .\n"])


def main() -> None:
    """Resolve, write both lock files, and ``environment.yml`` after them."""
    parser = argparse.ArgumentParser(prog="python -m tools.lock", description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    common, cuda = [], []
    for block in resolve(upgrade=parser.parse_args().upgrade):
        if block.startswith(f"torch=={TORCH}"):
            extra = "".join(f" \\\n    --hash=sha256:{sha256}" for sha256 in TORCH_CPU_WHEELS)
            block = block.rstrip("\n") + extra + "\n"
        (cuda if CUDA.match(block) else common).append(block)
    LOCK.write_text(HEAD + "".join(common), encoding="utf-8")
    LOCKS[1].write_text(HEAD + "".join(cuda), encoding="utf-8")
    ENVIRONMENT.write_text(environment("".join(common)), encoding="utf-8")
    print(f"{len(common)} packages in requirements.lock, {len(cuda)} in requirements-cuda.lock")


if __name__ == "__main__":
    main()
