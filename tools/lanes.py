"""Run the tests and the chapters on other versions than those of the lock.

``newest`` takes the newest version of everything that ``pyproject.toml`` admits, ``oldest`` the
oldest of each direct dependency. Each has an environment of its own below ``_build/lanes``, runs
the unit tests and the chapters in it, and writes ``report.md``: the versions, what failed, and
which checks moved away from their baselines.

torch is the exception. Its CPU build is not on the Python package index, so a lane takes the
version of the lock as pip finds it, and says so. With ``TORCH=cpu`` in the environment uv looks
for the CPU build itself, and the lane moves torch too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from tools import baselines, lock
from tools.cache import BUILD, ROOT, notebooks

LANES = ("newest", "oldest")
# What the unit tests and the chapters need. The versions of "lab" and of the theme change no test.
EXTRAS = ("book", "test", "author")
UNIT = "not built and not rehearsal and not colab"
TORCH_MOVES = bool(os.environ.get("TORCH"))  # the only switch is TORCH=cpu
CPU_BUILD = "--torch-backend=cpu"


# --- environments -------------------------------------------------------------------


def uv(*arguments: str, text: str = "") -> str:
    """Run uv and return what it printed.

    Raises:
        RuntimeError: uv failed; the message is its own.
    """
    return _checked([sys.executable, "-m", "uv", *arguments], text)


def new_environment(folder: Path) -> Path:
    """Make an empty virtual environment with pip in ``folder``; return its interpreter."""
    uv("venv", "--quiet", "--clear", "--seed", "--python", sys.executable, str(folder))
    return folder / "bin" / "python"


def install_torch(python: Path, version: str) -> None:
    """Install torch alone, as ``torch==version``, into the environment of ``python``.

    With ``TORCH=cpu`` in the process environment uv finds the CPU build, else pip is asked: pip
    may be configured to know where a CPU build lies, uv does not read that configuration.
    """
    if TORCH_MOVES:
        command = ["pip", "install", "--quiet", "--no-deps", CPU_BUILD]
        uv(*command, "--python", str(python), f"torch=={version}")
    else:
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        _checked([*command, "--no-deps", f"torch=={version}"])


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


def unreached(versions: dict[str, str]) -> list[str]:
    """Return a line for each bound of ``pyproject.toml`` below anything that fits the others."""
    found = []
    for wanted in lock.direct(EXTRAS):
        version = versions[canonicalize_name(wanted.name)]
        for each in wanted.specifier:
            if each.operator == ">=" and Version(each.version) < Version(version):
                found.append(f"{wanted.name}{each} is admitted, {version} is the oldest that fits")
    return found


def prepare(lane: str, folder: Path) -> Path:
    """Make the environment of ``lane`` in ``folder``; return its interpreter.

    Raises:
        RuntimeError: no versions fit together, or an installation failed.
    """
    python = new_environment(folder)
    # The direct dependencies are resolved without torch's version being fixed: fixed, it would
    # decide first on what it shares with others, and lift these.
    pins = oldest() if lane == "oldest" else {}
    command = ["pip", "install", "--quiet", "--python", str(python), "--constraints", "-"]
    command += ["--editable", f"{ROOT}[{','.join(EXTRAS)}]"]
    if TORCH_MOVES:
        command += [CPU_BUILD]
    else:
        install_torch(python, lock.TORCH)
        pins["torch"] = installed(python)["torch"]
    uv(*command, text="".join(f"{name}=={version}\n" for name, version in pins.items()))
    return python


def _checked(command: list[str], text: str = "") -> str:
    ran = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command[:6])} … failed:\n{ran.stderr or ran.stdout}")
    return ran.stdout


# --- what a lane found ----------------------------------------------------------------


@dataclass(frozen=True)
class Move:
    """A check whose figure is not that of the baseline."""

    chapter: str
    check: str
    then: Any
    now: Any
    bound: Any
    drift: float | None
    verdict: str

    @property
    def serious(self) -> bool:
        """Whether the lane fails because of it."""
        return self.verdict != "within its drift"


@dataclass
class Found:
    """What a lane found; ``None`` stands for what was not run."""

    lane: str
    versions: dict[str, str]
    unit: dict[str, int] | None = None
    failed_tests: list[str] = field(default_factory=list)
    chapters: dict[str, float | None] | None = None
    errors: list[str] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything ran and no check moved further than it may."""
        chapters = (self.chapters or {}).values()
        return not (
            self.failed_tests
            or self.errors
            or None in chapters
            or any(move.serious for move in self.moves)
        )


def moves(
    chapter: str, now: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]]
) -> list[Move]:
    """Return the checks of ``chapter`` that are not as in the baseline, the serious ones first.

    A check without a drift may move freely within its bound, such as a duration: it is left out.
    """
    before = {check["name"]: check for check in baseline}
    after = {check["name"]: check for check in now}
    found = []
    for name in dict.fromkeys([*after, *before]):
        new, old = after.get(name), before.get(name)
        if old is None or new is None:
            verdict = "new" if old is None else "no longer checked"
        elif (new["kind"], new["bound"]) != (old["kind"], old["bound"]):
            verdict = "another claim"
        elif new["drift"] is None or new["value"] == old["value"]:
            continue
        elif baselines.moved(new["value"], old["value"], new["drift"]):
            verdict = "beyond its drift"
        else:
            verdict = "within its drift"
        values = [check["value"] if check else None for check in (old, new)]
        known = new or old or {}
        found.append(Move(chapter, name, *values, known["bound"], known["drift"], verdict))
    return sorted(found, key=lambda move: not move.serious)


def totals_of(report: Path) -> tuple[dict[str, int], list[str]]:
    """Return the totals of a JUnit report of pytest, and the names of the tests that failed."""
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    failed = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        outcome = "passed"
        for child in case:
            if child.tag in ("failure", "error"):
                outcome = "failed"
            elif child.tag == "skipped":
                outcome = "skipped"
        totals[outcome] += 1
        if outcome == "failed":
            failed.append(f"{case.get('classname')}::{case.get('name')}")
    return totals, failed


def report(found: Found) -> str:
    """Return what a lane found as Markdown."""
    versions = {canonicalize_name(each.name) for each in lock.direct(EXTRAS)}
    pins = lock.locked(lock.LOCK.read_text(encoding="utf-8"))
    lines = [f"# Lane {found.lane}: {'passed' if found.passed else 'FAILED'}", ""]
    lines += [f"{datetime.date.today()}, Python {platform.python_version()}.", ""]
    if not TORCH_MOVES:
        lines += [
            f"torch stays at the {lock.TORCH} of the lock: with `TORCH=cpu` the lane moves it too.",
            "",
        ]
    lines += ["## Checks that moved", ""]
    rows = [
        [m.chapter, m.check, m.then, m.now, m.bound, m.drift, m.verdict]
        for m in sorted(found.moves, key=lambda move: not move.serious)
    ]
    head = ["chapter", "check", "then", "now", "bound", "may move by", "verdict"]
    ran = "None." if found.chapters else "No chapter was run."
    lines += [*table(head, rows)] if rows else [ran]
    lines += ["", "## Chapters", ""]
    if found.chapters:
        times = [
            [name, "failed" if seconds is None else f"{seconds:.1f} s"]
            for name, seconds in found.chapters.items()
        ]
        lines += table(["chapter", "result"], times)
    lines += [f"- {error}" for error in found.errors]
    lines += ["", "## Unit tests", ""]
    if found.unit is None:
        lines.append("Not run.")
    else:
        lines.append(", ".join(f"{count} {what}" for what, count in found.unit.items()) + ".")
    lines += [f"- {name}" for name in found.failed_tests]
    lines += ["", "## Versions", ""]
    rows = []
    for name in sorted(versions):
        locked = " or ".join(str(pin.specifier).lstrip("=") for pin in pins.get(name, []))
        rows.append([name, locked, found.versions.get(name, "not installed")])
    rows.sort(key=lambda row: row[2].split("+")[0] in row[1].split(" or "))  # what differs first
    return "\n".join([*lines, *table(["package", "lock", "here"], rows)]) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in rows:
        cells = ("" if cell is None else str(cell).replace("|", "\\|") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


# --- the command ----------------------------------------------------------------------


def run_unit_tests(python: Path, folder: Path, expression: str, found: Found) -> None:
    """Run the unit tests in the environment of ``python`` and note what failed."""
    results = folder / "unit.xml"
    results.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "-q", "-m", expression, f"--junitxml={results}"]
    ran = subprocess.run([*command, "-p", "no:cacheprovider"], cwd=ROOT)
    if not results.exists():
        found.errors.append(f"pytest ended with {ran.returncode} before any test")
        return
    found.unit, found.failed_tests = totals_of(results)
    if ran.returncode and not found.failed_tests:
        found.errors.append(f"pytest ended with {ran.returncode}")


def run_chapters(python: Path, folder: Path, names: Sequence[str], found: Found) -> None:
    """Execute the chapters in the environment of ``python`` and compare their figures."""
    environment = os.environ | {"HANDBOOK_BUILD": str(folder), "HANDBOOK_PROFILE": "small"}
    shutil.rmtree(folder / "cache", ignore_errors=True)  # its key knows the lock, not the lane
    shutil.rmtree(folder / "checks", ignore_errors=True)
    command = [str(python), "-m", "tools.execute", *names]
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE, errors="replace"
    )
    print(ran.stderr, file=sys.stderr)
    found.errors += re.findall(r"(?m)^FAILED (.+)$", ran.stderr)
    found.chapters = {}
    for name in names:
        records = baselines.load(folder / "checks", name)
        found.chapters[name] = records.get("execution_seconds")
        if found.chapters[name] is not None:
            before = baselines.load(baselines.BASELINES, name)["checks"]
            found.moves += moves(name, records["checks"], before)
    if ran.returncode and not found.errors:
        found.errors.append(f"the chapters ended with {ran.returncode}")


def run(lane: str, names: Sequence[str], expression: str | None) -> Found:
    """Make the environment of ``lane``, run what is asked for in it, and write its report."""
    folder = BUILD / "lanes" / lane
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    print(f"Installing the {lane} versions into {folder / '.venv'}", flush=True)
    python = prepare(lane, folder / ".venv")
    print(f"Installed in {time.perf_counter() - begin:.0f} s", flush=True)
    found = Found(lane, installed(python))
    if lane == "oldest":
        found.errors += unreached(found.versions | ({} if TORCH_MOVES else {"torch": "0"}))
    if expression is not None:
        run_unit_tests(python, folder, expression, found)
    if names:
        run_chapters(python, folder, names, found)
    beside = folder / "report.part"
    beside.write_text(report(found), encoding="utf-8")
    beside.replace(folder / "report.md")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run one lane and print its report; return 0 if all passed and no check moved too far."""
    known = [path.stem for path in notebooks()]
    parser = argparse.ArgumentParser(prog="python -m tools.lanes", description=__doc__)
    parser.add_argument("lane", choices=LANES)
    parser.add_argument("--chapters", nargs="*", metavar="NAME", help="default: all", default=known)
    parser.add_argument("--unit", metavar="EXPRESSION", default=UNIT, help="pytest's -m")
    parser.add_argument("--no-unit", action="store_true", help="leave the unit tests out")
    options = parser.parse_args(arguments)
    for name in options.chapters:
        if name not in known:
            parser.error(f"no chapter is called {name!r}; there are {', '.join(known)}")
    try:
        found = run(options.lane, options.chapters, None if options.no_unit else options.unit)
    except RuntimeError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(report(found))
    print(f"The report: {BUILD / 'lanes' / options.lane / 'report.md'}")
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
