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
from typing import NamedTuple

VARIABLE = "HANDBOOK_PHASES"


class Phase(NamedTuple):
    """What ran, for how long, and how it ended; a part of a phase is indented."""

    name: str
    seconds: float
    status: int


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
    """Run one phase; return it and the parts that it noted."""
    with tempfile.NamedTemporaryFile(prefix="handbook-phases-") as noted:
        begin = time.perf_counter()
        try:
            status = subprocess.run(command, env=os.environ | {VARIABLE: noted.name}).returncode
        except KeyboardInterrupt:
            status = 128 + signal.SIGINT
        except OSError as problem:
            print(f"error: {name}: {problem}", file=sys.stderr)
            status = 127
        parts = Path(noted.name).read_text(encoding="utf-8").splitlines()
        seconds = time.perf_counter() - begin
    status = 128 - status if status < 0 else status  # killed by a signal
    return [Phase(name, seconds, status), *(Phase(*json.loads(part)) for part in parts)]


def table(phases: list[Phase]) -> str:
    """Return the phases with their seconds, those that failed named as such, and the sum."""
    total = Phase("all", sum(one.seconds for one in phases if one.name[0] != " "), 0)
    width = max(len(one.name) for one in phases)
    return "\n".join(
        f"{one.name:<{width}} {one.seconds:7.0f} s{'  FAILED' * bool(one.status)}"
        for one in [*phases, total]
    )


def main(arguments: list[str]) -> int:
    """Run the phases and print the table; return the status of the first that failed, or 0."""
    keep_going = arguments[:1] == ["--keep-going"]
    ran: list[Phase] = []
    status = 0
    for name, command in commands(arguments[keep_going:]):
        print(f"\n=== {name}", flush=True)
        ran += (now := run(name, command))
        status = status or now[0].status
        if now[0].status == 128 + signal.SIGINT or (status and not keep_going):
            break
    print(f"\n{table(ran)}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
