"""What comes from outside: pinned, hashed, unable to run code, and asked for by nobody in secret.

Hashes in the locks and the rules for Python sources are tested in test_repository.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools import audit, faults
from tools.cache import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
PROGRAMS = Path(sys.executable).parent
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def triggers(path: Path) -> set[str]:
    # YAML 1.1 reads the key "on" as true.
    found = yaml.safe_load(path.read_text(encoding="utf-8"))[True]
    return {found} if isinstance(found, str) else set(found)


def lint(*folders: Path) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAMS / "zizmor"), "--offline", "--no-progress", "--persona=regular"]
    return subprocess.run([*command, *map(str, folders)], capture_output=True, text=True)


# --- workflows ----------------------------------------------------------------------


def test_the_linter_finds_nothing_to_say_about_the_workflows():
    run = lint(GITHUB)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ("      - uses: actions/checkout@v4\n", "unpinned-uses"),
        ("      - run: echo ${{ github.event.pull_request.title }}\n", "template-injection"),
    ],
)
def test_the_linter_would_find_something(tmp_path, bad, named):
    folder = tmp_path / ".github/workflows"
    folder.mkdir(parents=True)
    text = (GITHUB / "workflows/ci.yml").read_text(encoding="utf-8")
    (folder / "ci.yml").write_text(text.replace("    steps:\n", f"    steps:\n{bad}", 1))
    run = lint(tmp_path)
    assert run.returncode != 0
    assert named in run.stdout


def valid(schema: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAMS / "check-jsonschema"), "--builtin-schema", f"vendor.{schema}"]
    return subprocess.run([*command, *map(str, paths)], capture_output=True, text=True)


def test_workflows_and_the_bot_are_spelled_as_github_reads_them(tmp_path):
    assert valid("github-workflows", *WORKFLOWS).returncode == 0
    assert valid("dependabot", GITHUB / "dependabot.yml").returncode == 0
    wrong = tmp_path / "wrong.yml"
    text = (GITHUB / "workflows/ci.yml").read_text(encoding="utf-8")
    wrong.write_text(text.replace("runs-on:", "run-on:"), encoding="utf-8")
    assert valid("github-workflows", wrong).returncode != 0


@every_workflow
def test_no_job_on_a_pull_request_needs_a_secret_or_may_write(path):
    text = path.read_text(encoding="utf-8")
    assert "pull_request_target" not in triggers(path), "it runs foreign code with our rights"
    assert "workflow_run" not in triggers(path)
    workflow = yaml.safe_load(text)
    rights = [
        workflow["permissions"],
        *(job.get("permissions", {}) for job in workflow["jobs"].values()),
    ]
    if "pull_request" in triggers(path):
        assert not re.search(r"\$\{\{[^}]*\bsecrets\b", text)
        assert all(set(given.values()) <= {"read", "none"} for given in rights)
    for match in re.finditer(r"uses: actions/checkout@\S+.*\n(.*\n){0,2}", text):
        assert "persist-credentials: false" in match[0]


@every_workflow
def test_every_action_is_pinned_by_commit_with_its_version_beside_it(path):
    for line in re.findall(r"uses: .+", path.read_text(encoding="utf-8")):
        assert re.fullmatch(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", line), line


def test_one_action_has_one_version():
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action, pin in re.findall(r"uses: (\S+)@(.+)", path.read_text(encoding="utf-8")):
            pins.setdefault(action, set()).add(pin)
    assert [action for action, found in pins.items() if len(found) > 1] == []


def test_the_bot_watches_whatever_is_locked():
    watched = yaml.safe_load((GITHUB / "dependabot.yml").read_text(encoding="utf-8"))["updates"]
    names = {entry["package-ecosystem"] for entry in watched}
    expected = {"pip", "github-actions"}
    if list(ROOT.glob("package*.json")) + list(ROOT.glob("tests/**/package.json")):
        expected.add("npm")
    assert names >= expected


# --- the audit ----------------------------------------------------------------------


def answer(status: int, out: str, err: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], status, out, err)


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        (answer(0, "No known vulnerabilities found"), 0, "No known"),
        (answer(1, "Found 1 known vulnerability in 1 package"), 1, "Found 1 known"),
        (answer(1, "", "ConnectionError: Max retries exceeded"), 2, "cannot be reached"),
        (answer(2, "", "error: Failed to fetch: `pip-audit`"), 2, "cannot be reached"),
        (answer(0, "torch  Dependency not found and could not be audited: torch"), 2, "1 packages"),
    ],
)
@pytest.mark.faults
def test_the_audit_never_takes_silence_for_good_news(monkeypatch, capsys, given, status, said):
    monkeypatch.setattr(audit, "_ask", lambda _name: given)
    assert audit.main([]) == status
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    faults.record(
        "No network",
        "An audit of the locked versions, with nobody to ask",
        "It says that nothing is known, and fails; silence is never taken for good news.",
        cases=3,
    )


# --- no network ---------------------------------------------------------------------

REACH = """
import socket
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as problem:
    print("outside:", type(problem).__name__, problem.errno)
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
    print("loopback answers")
"""


def offline(*command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [str(ROOT / ".ci/offline"), *command], env=environment, cwd=ROOT, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.faults
def test_the_assets_are_all_there_without_a_network():
    fault = "No network but loopback, once the assets are fetched"
    run = offline(sys.executable, "-c", REACH)
    if run.returncode == 69:
        faults.skip("No network", fault, "no network namespace can be made here")
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stderr
    assert re.search(r"outside: OSError (101|113)", run.stdout), run.stdout
    assert "loopback answers" in run.stdout
    code = "from helpers import assets; print(assets.model('encoder'), assets.dataset('imdb'))"
    run = offline(sys.executable, "-c", code)
    assert run.returncode == 0, run.stderr
    assert offline("false").returncode == 1, "the status of the command is lost"
    faults.record(
        "No network", fault, "Models and data sets load; all tests run so (make offline).", cases=3
    )
