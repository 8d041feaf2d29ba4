"""Write the lock files: every version, every hash, for every platform at once.

``requirements.lock`` is installed everywhere. ``requirements-cuda.lock`` holds NVIDIA's
libraries, gigabytes that only the CUDA build of torch on Linux needs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.cache import ROOT

# torch is pinned by hand: its CPU build must exist in the same version.
TORCH = "2.13.0"
# SHA-256 of CPU-only wheels of that version, which carry the local version "+cpu".
TORCH_CPU_WHEELS = ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)
CUDA = re.compile(r"^(nvidia-|cuda-|triton==)")

HEAD = "# Made by `make lock` from pyproject.toml. Do not edit by hand.\n"


def resolve() -> list[str]:
    """Return the resolved requirements, each with its hashes as one block of text."""
    with tempfile.TemporaryDirectory() as scratch:
        constraint = Path(scratch) / "constraints.txt"
        constraint.write_text(f"torch=={TORCH}\n")
        command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--quiet"]
        command += ["--python-version", "3.11", "--all-extras", "--generate-hashes"]
        command += ["--no-header", "--no-annotate", "--upgrade", "--no-emit-index-url"]
        command += ["--constraint", str(constraint), str(ROOT / "pyproject.toml")]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.split(r"(?m)^(?=\S)", text)[1:]


def main(arguments: list[str] | None = None) -> int:
    """Resolve and write both lock files."""
    argparse.ArgumentParser(prog="python -m tools.lock", description=__doc__).parse_args(arguments)
    common, cuda = [], []
    for block in resolve():
        if block.startswith(f"torch=={TORCH}"):
            extra = "".join(f" \\\n    --hash=sha256:{sha256}" for sha256 in TORCH_CPU_WHEELS)
            block = block.rstrip("\n") + extra + "\n"
        (cuda if CUDA.match(block) else common).append(block)
    (ROOT / "requirements.lock").write_text(HEAD + "".join(common), encoding="utf-8")
    (ROOT / "requirements-cuda.lock").write_text(HEAD + "".join(cuda), encoding="utf-8")
    print(f"{len(common)} packages in requirements.lock, {len(cuda)} in requirements-cuda.lock")
    return 0


if __name__ == "__main__":
    sys.exit(main())
