"""Make an environment with other versions than those of the lock: ``newest`` or ``oldest``.

``newest`` takes the newest version of everything that ``pyproject.toml`` admits, ``oldest`` the
oldest of each direct dependency. ``make newest`` and ``make oldest`` then run the unit tests and
the chapters in it and compare the figures with the baselines.

torch is the exception. Its CPU build is not on the Python package index, so a lane takes the
version of the lock as pip finds it. With ``TORCH=cpu`` in the environment uv looks for the CPU
build itself, and the lane moves torch too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.utils import canonicalize_name

from tools import lock
from tools.cache import BUILD, ROOT

# What the unit tests and the chapters need. The versions of "lab" and of the theme change no test.
EXTRAS = ("book", "test", "author")
CPU_BUILD = "--torch-backend=cpu"


def torch_moves() -> bool:
    """Say whether the CPU build of torch may be looked for, so that its version may change."""
    return os.environ.get("TORCH") == "cpu"


def uv(*arguments: str, text: str = "") -> str:
    """Run uv and return what it printed.

    Raises:
        CalledProcessError: uv failed; it has said why.
    """
    command = [sys.executable, "-m", "uv", *arguments]
    ran = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    ran.check_returncode()
    return ran.stdout


def new_environment(folder: Path) -> Path:
    """Make an empty virtual environment with pip in ``folder``; return its interpreter."""
    uv("venv", "--quiet", "--clear", "--seed", "--python", sys.executable, str(folder))
    return folder / "bin" / "python"


def install_torch(python: Path, version: str) -> None:
    """Install torch alone: by uv, which knows where the CPU build lies, or as pip finds it."""
    if torch_moves():
        command = ["pip", "install", "--quiet", "--no-deps", CPU_BUILD]
        uv(*command, "--python", str(python), f"torch=={version}")
    else:
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*command, "--no-deps", f"torch=={version}"], check=True)


def installed(python: Path) -> dict[str, str]:
    """Return the version of every distribution in the environment of ``python``, by name."""
    listed = json.loads(uv("pip", "list", "--format", "json", "--python", str(python)))
    return {canonicalize_name(each["name"]): each["version"] for each in listed}


def oldest() -> dict[str, str]:
    """Return the oldest version of each direct dependency that fits the others, by name."""
    python = ".".join(platform.python_version_tuple()[:2])
    command = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", python]
    command += ["--resolution", "lowest-direct", *(f"--extra={extra}" for extra in EXTRAS)]
    pins = lock.locked(uv(*command, str(ROOT / "pyproject.toml")))
    names = {canonicalize_name(each.name) for each in lock.direct(EXTRAS)}
    return {name: str(pins[name][0].specifier).lstrip("=") for name in names}


def prepare(lane: str, folder: Path) -> Path:
    """Make the environment of ``lane`` in ``folder``; return its interpreter."""
    python = new_environment(folder)
    # The direct dependencies are resolved without torch's version being fixed: fixed, it would
    # decide first on what it shares with others, and lift these.
    pins = oldest() if lane == "oldest" else {}
    command = ["pip", "install", "--quiet", "--python", str(python), "--constraints", "-"]
    command += ["--editable", f"{ROOT}[{','.join(EXTRAS)}]"]
    if torch_moves():
        command += [CPU_BUILD]
    else:
        install_torch(python, lock.TORCH)
        pins["torch"] = installed(python)["torch"]
    uv(*command, text="".join(f"{name}=={version}\n" for name, version in pins.items()))
    return python


def main(arguments: list[str] | None = None) -> int:
    """Make the environment of one lane, and list its versions beside it."""
    parser = argparse.ArgumentParser(prog="python -m tools.lanes", description=__doc__)
    parser.add_argument("lane", choices=("newest", "oldest"))
    lane = parser.parse_args(arguments).lane
    folder = BUILD / "lanes" / lane
    shutil.rmtree(folder, ignore_errors=True)  # the cache knows the lock, not the lane
    try:
        versions = installed(prepare(lane, folder / ".venv"))
    except subprocess.CalledProcessError as problem:
        print(f"error: {' '.join(problem.cmd[:6])} … failed", file=sys.stderr)
        return 1
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    (folder / "versions.txt").write_text("".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
