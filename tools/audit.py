"""Ask whether any version of the lock files has a known vulnerability.

The answer changes without the lock changing, so this is no test: a workflow asks each week, and
when a pull request changes a lock. pip-audit runs in an environment of its own, made by uv.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys

from tools.cache import ROOT

AUDITOR = "pip-audit==2.10.1"
LOCKS = ("requirements.lock", "requirements-cuda.lock")
UNREACHABLE = ("ConnectionError", "ConnectTimeout", "ServiceError", "error sending request",
               "Failed to fetch", "dns error", "Max retries exceeded")  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Print each vulnerable version; return 0 for none, 1 for some, 2 if nobody could be asked."""
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description=__doc__)
    parser.parse_args(arguments)
    status = 0
    for name in LOCKS:
        run = _ask(name)
        said = (run.stdout + run.stderr).strip()
        # A mirror without advisories answers "not found", which pip-audit takes for "no harm".
        unknown = len(re.findall(r"(?m)could not be audited", said))
        if unknown or (run.returncode and any(word in said for word in UNREACHABLE)):
            print(
                f"error: {name} was not audited{f' ({unknown} packages unknown)' * bool(unknown)}: "
                "the advisory service of PyPI cannot be reached. This command needs the network "
                "and PyPI itself, not a mirror; nothing is known either way.",
                file=sys.stderr,
            )
            return 2
        print(f"{name}: {said}")
        status |= bool(run.returncode)
    return status


def _ask(name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uv", "tool", "run", AUDITOR, "--progress-spinner", "off"]
    # Every pin has its hashes, so pip-audit needs to resolve and install nothing.
    command += ["--require-hashes", "--disable-pip", "--requirement", str(ROOT / name)]
    return subprocess.run(command, text=True, capture_output=True, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
