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


def run(*command: str, text: str = "") -> str:
    """Run a module of Python and return what it printed.

    Raises:
        CalledProcessError: it failed; it has said why.
    """
    command = (sys.executable, "-m", *command)
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    done.check_returncode()
    return done.stdout


def oldest() -> dict[str, str]:
    """Return the oldest version of each direct dependency that fits the others, by name."""
    python = ".".join(platform.python_version_tuple()[:2])
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--resolution", "lowest-direct", *(f"--extra={extra}" for extra in EXTRAS)]
    pins = lock.locked(run(*command, "--python", python, str(ROOT / "pyproject.toml")))
    names = {canonicalize_name(each.name) for each in lock.direct(EXTRAS)}
    return {name: str(pins[name][0].specifier) for name in names}


def prepare(lane: str, folder: Path) -> None:
    """Make the environment of ``lane`` in ``folder``."""
    python = str(folder / "bin/python")
    run("uv", "venv", "--quiet", "--seed", "--python", sys.executable, str(folder))
    # The direct dependencies are resolved without torch's version being fixed: fixed, it would
    # decide first on what it shares with others, and lift these.
    pins = oldest() if lane == "oldest" else {}
    command = ["uv", "pip", "install", "--quiet", "--python", python, "--constraints", "-"]
    if os.environ.get("TORCH"):  # the only switch is TORCH=cpu
        command += ["--torch-backend=cpu"]
    else:
        pins["torch"] = f"=={lock.TORCH}"
        run("pip", "--python", python, "install", "--quiet", "--no-deps", f"torch=={lock.TORCH}")
    constraints = "".join(f"{name}{version}\n" for name, version in pins.items())
    run(*command, "--editable", f"{ROOT}[{','.join(EXTRAS)}]", text=constraints)


def main(arguments: list[str] | None = None) -> int:
    """Make the environment of one lane, and list its versions beside it."""
    parser = argparse.ArgumentParser(prog="python -m tools.lanes", description=__doc__)
    parser.add_argument("lane", choices=("newest", "oldest"))
    lane = parser.parse_args(arguments).lane
    folder = BUILD / "lanes" / lane
    shutil.rmtree(folder, ignore_errors=True)  # the cache knows the lock, not the lane
    try:
        prepare(lane, folder / ".venv")
        versions = run("uv", "pip", "freeze", "--python", str(folder / ".venv/bin/python"))
    except subprocess.CalledProcessError as problem:
        print(f"error: {' '.join(problem.cmd[:6])} … failed", file=sys.stderr)
        return 1
    (folder / "versions.txt").write_text(versions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
