"""Run commands one after the other, and end with a table of what took how long.

Each phase is ``--``, its name, and its command. The first that fails ends the run with its exit
status, unless ``--keep-going`` is given. The table comes in any case, also after an interruption,
and names what failed.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from itertools import groupby

import psutil

ENDED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # the status of what a signal has ended


def run(command: list[str]) -> int:
    """Run a command to its end, also after an interruption, and return its exit status."""
    try:
        process = subprocess.Popen(command)
    except OSError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 127
    try:
        status = process.wait()
    except KeyboardInterrupt:  # the terminal has interrupted the command too
        status = process.wait()
    return 128 - status if status < 0 else status  # killed by a signal


def terminate(*_: object) -> None:
    """Tell the phase that is running to end."""
    for child in psutil.Process().children():
        child.terminate()


def main(arguments: list[str]) -> int:
    """Run the phases and print the table; return the status of the first that failed, or 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.phases", description=__doc__)
    parser.add_argument("--keep-going", action="store_true", help="after a failure too")
    at = arguments.index("--") if "--" in arguments else len(arguments)
    keep_going = parser.parse_args(arguments[:at]).keep_going
    phases = [list(each) for dashes, each in groupby(arguments[at:], "--".__eq__) if not dashes]
    if not phases:
        parser.error("there is no phase: -- NAME COMMAND")
    width = max(len(name) for name, *_ in phases)
    table, begin, status = [], time.perf_counter(), 0
    for name, *command in phases:
        print(f"\n=== {name}", flush=True)
        began = time.perf_counter()
        ended = run(command)
        failed = "  FAILED" if ended else ""
        table.append(f"{name:<{width}} {time.perf_counter() - began:7.0f} s{failed}")
        status = status or ended
        if ended in ENDED or (status and not keep_going):
            break
    table.append(f"{'all':<{width}} {time.perf_counter() - begin:7.0f} s")
    print("", *table, sep="\n", flush=True)
    return status


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminate)
    sys.exit(main(sys.argv[1:]))
