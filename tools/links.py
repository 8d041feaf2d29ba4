"""Ask every address outside the book whether it still answers.

Internal links are tested on every build; these are not, because the network is no part of a
build. A workflow runs this once a week, ``make links`` runs it by hand. Nothing is executed:
Sphinx reads the sources, and its own ``linkcheck`` asks the addresses.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tools.cache import ROOT

# What a resolver or a socket says when there is no network at all.
UNREACHABLE = ("name resolution", "Name or service not known", "Network is unreachable")
OVERRIDES = {
    "latex_individualpages": False,  # jupyter-book wants to be told
    "nb_execution_mode": "off",
    "linkcheck_timeout": 20,
    "linkcheck_retries": 3,
    "linkcheck_workers": 5,
    # Many sites add the anchor by a script, which a checker does not run.
    "linkcheck_anchors": False,
    "linkcheck_report_timeouts_as_broken": False,  # as the next Sphinx does
}


def check(folder: Path) -> list[dict[str, str]]:
    """Ask all addresses; return ``filename``, ``uri``, ``status`` and ``info`` of each."""
    from jupyter_book.sphinx import build_sphinx

    built = build_sphinx(
        str(ROOT),
        str(folder / "out"),
        path_config=str(ROOT / "_config.yml"),
        noconfig=True,
        confoverrides=dict(OVERRIDES),
        doctreedir=str(folder / "doctrees"),
        builder="linkcheck",
        really_quiet=True,
        freshenv=True,
    )
    lines = folder / "out" / "output.json"
    if not lines.is_file():
        raise RuntimeError(f"the sources could not be read: {built}")
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


def problems(answers: list[dict[str, str]]) -> list[str]:
    """Return a line for each address that does not answer.

    Raises:
        ConnectionError: none answered because this machine has no network.
    """
    asked = [one for one in answers if one["uri"].startswith("http")]
    broken = [one for one in asked if one["status"] in ("broken", "timeout")]
    if asked and all(any(word in one["info"] for word in UNREACHABLE) for one in asked):
        raise ConnectionError(
            f"none of {len(asked)} addresses could be asked, because this machine has no network; "
            "run this command where the web can be reached"
        )
    return [f"{one['filename']}: {one['uri']}: {one['info']}" for one in broken]


def main(arguments: list[str] | None = None) -> int:
    """Print the addresses that do not answer; fail if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tools.links", description=__doc__)
    parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        answers = check(Path(folder))
    try:
        found = problems(answers)
    except ConnectionError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    asked = sum(one["uri"].startswith("http") for one in answers)
    print("\n".join(found) or f"{asked} addresses outside the book answer.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
