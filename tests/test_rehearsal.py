"""The ``full`` profile, rehearsed: every chapter against a Hub on loopback, with tiny weights.

``make rehearsal`` runs this file alone. Chapters are found here by themselves. What a rehearsal
proves and what it cannot is said in book/how-to-use.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import nbformat
import pytest
from hub import Hub

from helpers import assets
from tools import execute
from tools.cache import BUILD, ROOT, notebooks

pytestmark = pytest.mark.rehearsal

STEPS = 4
CHAPTERS = [path.stem for path in notebooks()]
RECORDS = BUILD / "rehearsal"


@dataclass
class Run:
    """A rehearsal: what became of each notebook, its check records, and what the Hub saw."""

    problems: dict[str, str | None]
    records: dict[str, dict[str, Any]]
    requests: list[str]
    unknown: list[str]


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory) -> Run:
    """Copies of all chapters, executed in full against a Hub; records stay in _build/rehearsal."""
    folder = tmp_path_factory.mktemp("handbook")
    scratch = folder / "run"
    scratch.mkdir()
    with Hub() as hub:
        environment = hub.environment(folder / "hub") | {
            "HANDBOOK_REHEARSAL": str(STEPS),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        longest_first = sorted(notebooks(), key=execute.seconds_before, reverse=True)
        log = execute.run(longest_first, scratch, jobs=2, variables=environment)
    print(log[-2000:])
    shutil.rmtree(RECORDS, ignore_errors=True)
    RECORDS.mkdir(parents=True)
    problems, records = {}, {}
    for name in CHAPTERS:
        executed = nbformat.read(scratch / f"{name}.ipynb", nbformat.NO_CONVERT)
        problems[name] = execute.problem_of(executed)
        written = scratch / "checks" / f"{name}.json"
        records[name] = json.loads(written.read_text("utf-8")) if written.exists() else {}
        text = json.dumps(records[name], indent=1, ensure_ascii=False) + "\n"
        (RECORDS / f"{name}.json").write_text(text, encoding="utf-8")
    return Run(problems, records, hub.requests, hub.unknown)


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_chapter_runs_in_full_with_assets_of_the_hub(rehearsal, name):
    assert rehearsal.problems[name] is None
    records = rehearsal.records[name]
    assert (records["profile"], records["rehearsal"]) == ("full", STEPS)
    for asset, source in records["assets"].items():
        known = assets.ASSETS[asset]
        if known.hub_id:
            expected = f"{known.hub_id}@{known.hub_revision}"
        else:  # packaged in both profiles
            expected = known.container.requirement
        assert source == expected
    relaxed = [check for check in records["checks"] if not check["held"]]
    for check in relaxed:
        print(f"{name}: not held, needs {check['needs']}: {check['name']}")
    assert all(check["needs"] for check in relaxed)
    # A chapter whose every claim needs the real thing would not be rehearsed at all. Of one that
    # trains from nothing, more than half do.
    assert len(relaxed) <= 2 / 3 * len(records["checks"])


def test_the_hub_was_asked_for_no_pickle_and_nothing_it_does_not_document(rehearsal):
    assert rehearsal.unknown == []
    assert [line for line in rehearsal.requests if re.search(r"\.(bin|pt|pth|pkl)\b", line)] == []
    assert any("model.safetensors" in line for line in rehearsal.requests)


# On CPUs, `accelerate launch` starts several processes only through MPI; torch starts them itself.
LAUNCHERS = {
    1: ["accelerate.commands.launch", "--cpu", "--num_processes=1", "--num_machines=1",
        "--num_cpu_threads_per_process=1", "--mixed_precision=no", "--dynamo_backend=no"],
    2: ["torch.distributed.run", "--nproc_per_node=2"],
}  # fmt: skip


@pytest.mark.parametrize("processes", LAUNCHERS)
def test_the_recipe_runs_in_full_on_one_process_and_on_two(tmp_path, processes):
    output = tmp_path / "model"
    launcher = LAUNCHERS[processes]
    command = [sys.executable, "-m", *launcher]
    command += ["-m", "helpers.finetuning", f"--max-steps={STEPS}", f"--output={output}"]
    command += ["--max-length=32", "--read-length=32", "--evaluations=1", "--train-reviews=64"]
    with Hub() as hub:
        environment = os.environ | hub.environment(tmp_path / "hub")
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment |= {"ACCELERATE_USE_CPU": "true"}  # two processes on one GPU would not do
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
    assert done.returncode == 0, done.stderr[-3000:]
    measured = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    assert (measured["profile"], measured["processes"]) == ("full", processes)
    assert measured["test_reviews"] == 600
    assert 0 <= measured["test_accuracy"] <= 1
    encoder = assets.ASSETS["encoder"]
    assert measured["assets"]["encoder"] == f"{encoder.hub_id}@{encoder.hub_revision}"
    assert sorted(path.suffix for path in output.glob("model*")) == [".safetensors"]
    assert not list(output.glob("*.bin"))
    assert hub.unknown == []
