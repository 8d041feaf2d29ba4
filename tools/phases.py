"""Run commands one after the other, and end with a table of what took how long.

Each phase is ``--``, its name, and its command. The first that fails ends the run with its exit
status; with ``--keep-going`` the others run all the same. The table comes in any case, also after
an interruption, and names what failed. A command may :func:`note` its own parts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

VARIABLE = "HANDBOOK_PHASES"
ENDED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # the status of what a signal has ended
Phase = tuple[str, float, int]  # its name, its seconds, its exit status


def note(name: str, seconds: float, status: int) -> None:
    """Add a line about a part of the phase that is running, where there is one."""
    if path := os.environ.get(VARIABLE):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps([f"  {name}", seconds, status]) + "\n")


def commands(arguments: list[str]) -> list[tuple[str, list[str]]]:
    """Return the name and the command of each phase."""
    found: list[list[str]] = []
    for argument in arguments:
        if argument == "--":
            found.append([])
        else:
            found[-1].append(argument)
    return [(name, command) for name, *command in found]


def run(name: str, command: list[str]) -> list[Phase]:
    """Run one phase; return it and the parts that it noted, which are indented."""
    with tempfile.NamedTemporaryFile(prefix="handbook-phases-") as noted:
        begin = time.perf_counter()
        try:
            status = _status(subprocess.Popen(command, env=os.environ | {VARIABLE: noted.name}))
        except OSError as problem:
            print(f"error: {name}: {problem}", file=sys.stderr)
            status = 127
        parts = Path(noted.name).read_text(encoding="utf-8").splitlines()
        seconds = time.perf_counter() - begin
    return [(name, seconds, status), *(tuple(json.loads(part)) for part in parts)]


def _status(process: subprocess.Popen) -> int:
    """Wait for a command, also after an interruption, and return its exit status."""
    try:
        status = process.wait()
    except KeyboardInterrupt:  # the terminal has interrupted the command too
        status = process.wait()
    return 128 - status if status < 0 else status  # killed by a signal


def terminate(*_: object) -> None:
    """Pass on to the phase that is running that it shall end."""
    for child in psutil.Process().children():
        child.terminate()


def table(phases: list[Phase]) -> str:
    """Return the phases with their seconds, those that failed named as such, and the sum."""
    total = sum(seconds for name, seconds, _ in phases if name[0] != " ")
    width = max(len(name) for name, *_ in phases)
    return "\n".join(
        f"{name:<{width}} {seconds:7.0f} s{'  FAILED' * bool(status)}"
        for name, seconds, status in [*phases, ("all", total, 0)]
    )


def main(arguments: list[str]) -> int:
    """Run the phases and print the table; return the status of the first that failed, or 0."""
    keep_going = arguments[:1] == ["--keep-going"]
    ran: list[Phase] = []
    status = 0
    for name, command in commands(arguments[keep_going:]):
        print(f"\n=== {name}", flush=True)
        phase, *parts = run(name, command)
        ran += [phase, *parts]
        status = status or phase[2]
        if phase[2] in ENDED or (status and not keep_going):
            break
    print(f"\n{table(ran)}", flush=True)
    return status


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminate)
    sys.exit(main(sys.argv[1:]))
