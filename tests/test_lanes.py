"""The lanes of other versions: what they resolve, what they compare, what they report."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import baselines, lanes, lock
from tools.cache import NOTEBOOKS, ROOT

# --- bounds ---------------------------------------------------------------------------


def test_every_direct_dependency_has_a_lower_bound():
    for wanted in lock.direct(lanes.EXTRAS):
        assert {each.operator for each in wanted.specifier} & {">=", "=="}, wanted


def imported(source: str) -> set[str]:
    """The top-level modules that a piece of Python imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names) - {"helpers"}


def test_whatever_helpers_and_chapters_import_is_a_direct_dependency():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "helpers").rglob("*.py")]
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = nbformat.read(path, nbformat.NO_CONVERT).cells
        code = (cell.source for cell in cells if cell.cell_type == "code")
        sources += [TransformerManager().transform_cell(source) for source in code]
    owners = importlib.metadata.packages_distributions()
    direct = {canonicalize_name(wanted.name) for wanted in lock.direct(())}
    for module in set().union(*map(imported, sources)):
        names = {canonicalize_name(name) for name in owners[module]}
        assert names & direct, f"{module} comes with {names}, which pyproject.toml does not name"


def test_a_bound_below_anything_that_fits_is_found(monkeypatch):
    wanted = [Requirement("alpha>=1.0"), Requirement("beta[x]>=2.1"), Requirement("gamma==3.0")]
    monkeypatch.setattr(lock, "direct", lambda _: wanted)
    assert lanes.unreached({"alpha": "1.0.0", "beta": "2.1", "gamma": "3.0"}) == []
    assert lanes.unreached({"alpha": "1.3", "beta": "2.1", "gamma": "3.0"}) == [
        "alpha>=1.0 is admitted, 1.3 is the oldest that fits"
    ]


@pytest.fixture
def commands(monkeypatch):
    """What `prepare` runs, nothing of it being run."""
    ran: list[tuple[list[str], str]] = []
    monkeypatch.setattr(lanes, "_checked", lambda command, text="": ran.append((command, text)))
    monkeypatch.setattr(lanes, "installed", lambda python: {"torch": "2.13.0+cpu"})
    monkeypatch.setattr(lanes, "oldest", lambda: {"numpy": "1.26.0", "torch": "2.6.0"})
    monkeypatch.setattr(lanes, "TORCH_MOVES", False)
    return ran


@pytest.mark.parametrize(
    ("lane", "constraints"),
    [("newest", ["torch==2.13.0+cpu"]), ("oldest", ["numpy==1.26.0", "torch==2.13.0+cpu"])],
)
def test_torch_comes_from_pip_and_stays(commands, tmp_path, lane, constraints):
    assert lanes.prepare(lane, tmp_path) == tmp_path / "bin/python"
    (made, _), (torch, _), (rest, text) = commands
    assert made[2:4] == ["uv", "venv"]
    assert torch[1:3] == ["-m", "pip"]
    assert torch[-2:] == ["--no-deps", f"torch=={lock.TORCH}"]
    assert "--torch-backend=cpu" not in rest
    assert rest[-1] == f"{ROOT}[{','.join(lanes.EXTRAS)}]"
    assert text.split() == constraints


@pytest.mark.parametrize(
    ("lane", "constraints"), [("newest", []), ("oldest", ["numpy==1.26.0", "torch==2.6.0"])]
)
def test_with_the_cpu_switch_torch_moves_too(commands, tmp_path, monkeypatch, lane, constraints):
    monkeypatch.setattr(lanes, "TORCH_MOVES", True)
    lanes.prepare(lane, tmp_path)
    (_, _), (rest, text) = commands
    assert "--torch-backend=cpu" in rest
    assert text.split() == constraints


def test_a_failing_installation_is_one_error_of_the_command(monkeypatch, capsys, tmp_path):
    def fail(lane, folder):
        raise RuntimeError("no versions fit together")

    monkeypatch.setattr(lanes, "prepare", fail)
    monkeypatch.setattr(lanes, "BUILD", tmp_path)
    assert lanes.main(["newest"]) == 1
    assert capsys.readouterr().err == "error: no versions fit together\n"


def test_a_failing_command_is_named_with_what_it_said():
    with pytest.raises(RuntimeError, match=r"(?s)python\S* -c import sys.* failed:\nwrong"):
        lanes._checked([sys.executable, "-c", "import sys; sys.exit('wrong')"])


# --- what moved -----------------------------------------------------------------------


def check(name: str, value: object, **others: object) -> dict[str, object]:
    return {"name": name, "kind": "at least", "value": value, "bound": 0.5, "drift": 0.1} | others


def verdicts(now: list, before: list) -> dict[str, str]:
    return {move.check: move.verdict for move in lanes.moves("01-hub", now, before)}


def test_every_way_to_move_has_its_verdict():
    before = [
        check("same", 0.9),
        check("near", 0.9),
        check("far", 0.9),
        check("not a number", 0.9),
        check("free", 3.0, drift=None),
        check("stricter", 0.9),
        check("gone", 0.9),
    ]
    now = [
        check("same", 0.9),
        check("near", 0.85),
        check("far", 0.75),
        check("not a number", float("nan")),
        check("free", 30.0, drift=None),
        check("stricter", 0.9, bound=0.6),
        check("added", 0.9),
    ]
    assert verdicts(now, before) == {
        "near": "within its drift",
        "far": "beyond its drift",
        "not a number": "beyond its drift",
        "stricter": "another claim",
        "added": "new",
        "gone": "no longer checked",
    }
    assert verdicts(before, before) == {}


def test_the_serious_ones_come_first_with_then_now_and_bound():
    found = lanes.moves(
        "01-hub", [check("a", 0.85), check("b", 0.7)], [check("a", 0.9), check("b", 0.9)]
    )
    assert found == [
        lanes.Move("01-hub", "b", 0.9, 0.7, 0.5, 0.1, "beyond its drift"),
        lanes.Move("01-hub", "a", 0.9, 0.85, 0.5, 0.1, "within its drift"),
    ]
    assert [move.serious for move in found] == [True, False]


def test_a_committed_baseline_does_not_move_against_itself():
    for path in sorted(baselines.BASELINES.glob("[0-9]*.json")):
        checks = baselines.load(baselines.BASELINES, path.stem)["checks"]
        assert lanes.moves(path.stem, checks, checks) == []


# --- the report -----------------------------------------------------------------------


def found(**others: object) -> lanes.Found:
    return lanes.Found("newest", {"numpy": "2.9.9"}, **others)


@pytest.mark.parametrize(
    ("others", "passes"),
    [
        ({}, True),
        ({"chapters": {"01-hub": 1.5}}, True),
        ({"chapters": {"01-hub": None}}, False),
        ({"failed_tests": ["tests.test_a::test_b"]}, False),
        ({"errors": ["pytest ended with 4"]}, False),
        ({"moves": lanes.moves("01-hub", [check("a", 0.85)], [check("a", 0.9)])}, True),
        ({"moves": lanes.moves("01-hub", [check("a", 0.6)], [check("a", 0.9)])}, False),
    ],
)
def test_a_lane_passes_when_nothing_failed_and_nothing_moved_too_far(others, passes):
    assert found(**others).passed == passes
    assert lanes.report(found(**others)).splitlines()[0] == (
        "# Lane newest: passed" if passes else "# Lane newest: FAILED"
    )


def test_the_report_names_what_moved_what_failed_and_every_version(monkeypatch):
    monkeypatch.setattr(lanes, "TORCH_MOVES", False)
    text = lanes.report(
        found(
            unit={"passed": 5, "failed": 1, "skipped": 0},
            failed_tests=["tests.test_a::test_b"],
            chapters={"01-hub": 1.5, "02-attention": None},
            errors=["notebooks/02-attention.ipynb: cell 3 raised ValueError: no"],
            moves=lanes.moves("01-hub", [check("P(a|b)", 0.7)], [check("P(a|b)", 0.9)]),
        )
    )
    assert "| 01-hub | P(a\\|b) | 0.9 | 0.7 | 0.5 | 0.1 | beyond its drift |" in text
    assert "| 01-hub | 1.5 s |" in text
    assert "| 02-attention | failed |" in text
    assert "- notebooks/02-attention.ipynb: cell 3 raised ValueError: no" in text
    assert "5 passed, 1 failed, 0 skipped." in text
    assert "- tests.test_a::test_b" in text
    assert re.search(r"\| numpy \| \S+.* \| 2\.9\.9 \|", text)
    assert f"torch stays at the {lock.TORCH} of the lock" in text
    monkeypatch.setattr(lanes, "TORCH_MOVES", True)
    assert "torch stays" not in lanes.report(found())


def test_versions_that_differ_from_the_lock_stand_first():
    (numpy, *_) = lock.locked(lock.LOCK.read_text(encoding="utf-8"))["numpy"]
    locked = {
        name: str(pins[0].specifier)[2:]
        for name, pins in lock.locked(lock.LOCK.read_text(encoding="utf-8")).items()
    }
    versions = locked | {"torch": f"{locked['torch']}+cpu", "tqdm": "4.99"}
    text = lanes.report(lanes.Found("newest", versions))
    rows = text.split("| package | lock | here |\n| --- | --- | --- |\n")[1].splitlines()
    assert rows[0] == f"| tqdm | {locked['tqdm']} | 4.99 |"
    assert rows[1:] == sorted(rows[1:])
    assert f"| numpy | {' or '.join(str(one.specifier)[2:] for one in [numpy, *_])} |" in text


def test_the_totals_are_those_of_pytest(tmp_path):
    (tmp_path / "test_four.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False\n"
        "def test_broken(no_such_fixture): pass\n"
        "@pytest.mark.skip\n"
        "def test_left_out(): pass\n"
    )
    results = tmp_path / "unit.xml"
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={results}", "-c", "/dev/null"]
    subprocess.run([*command, f"--rootdir={tmp_path}", tmp_path], capture_output=True)
    totals, failed = lanes.totals_of(results)
    assert totals == {"passed": 1, "failed": 2, "skipped": 1}
    assert [name.split("::")[-1] for name in failed] == ["test_bad", "test_broken"]


# --- the command ----------------------------------------------------------------------


@pytest.fixture
def lane(monkeypatch, tmp_path):
    """A lane whose environment is this one and whose chapters and tests are pretended."""
    ran: list[list[str]] = []

    def run(command, env=None, **options):
        ran.append(command[1:])
        folder = Path((env or {}).get("HANDBOOK_BUILD", tmp_path / "lanes/newest"))
        if "pytest" in command:
            (folder / "unit.xml").write_text("<r><testcase classname='t' name='x'/></r>")
            return subprocess.CompletedProcess(command, 0)
        (folder / "checks").mkdir()
        for name in command[3:]:
            records = baselines.load(baselines.BASELINES, name) | {"execution_seconds": 2.0}
            (folder / "checks" / f"{name}.json").write_text(json.dumps(records))
        return subprocess.CompletedProcess(command, lane.status, "", lane.said)

    lane.ran, lane.status, lane.said = ran, 0, ""
    monkeypatch.setattr(lanes, "BUILD", tmp_path)
    monkeypatch.setattr(lanes, "prepare", lambda name, folder: Path(sys.executable))
    monkeypatch.setattr(lanes, "installed", lambda python: {"numpy": "2.9.9"})
    monkeypatch.setattr(lanes.subprocess, "run", run)
    return lane


def test_a_lane_runs_the_tests_and_every_chapter_and_writes_its_report(lane, tmp_path, capsys):
    old = tmp_path / "lanes/newest/checks"
    old.mkdir(parents=True)  # what an earlier run left is not taken for this one's
    (old / "99-gone.json").write_text("{}")
    assert lanes.main(["newest", "--unit", "not built"]) == 0
    tests, chapters = lane.ran
    assert tests[:5] == ["-m", "pytest", "-q", "-m", "not built"]
    assert chapters == ["-m", "tools.execute", *sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb"))]
    assert not (old / "99-gone.json").exists()
    text = (tmp_path / "lanes/newest/report.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert text.startswith("# Lane newest: passed")
    assert [path.name for path in (tmp_path / "lanes/newest").glob("report*")] == ["report.md"]


def test_a_chapter_that_fails_fails_the_lane_and_is_named(lane, tmp_path):
    lane.status, lane.said = 1, "\nFAILED notebooks/x.ipynb: cell 3 raised ValueError: no\n\n"
    assert lanes.main(["newest", "--no-unit", "--chapters", "02-attention"]) == 1
    text = (tmp_path / "lanes/newest/report.md").read_text(encoding="utf-8")
    assert "- notebooks/x.ipynb: cell 3 raised ValueError: no" in text
    assert "Not run." in text


def test_an_unknown_chapter_is_refused(lane, capsys):
    with pytest.raises(SystemExit):
        lanes.main(["newest", "--chapters", "99-gone"])
    assert "99-gone" in capsys.readouterr().err
    assert lane.ran == []


def test_a_lane_builds_beside_the_book_and_not_over_it():
    command = "from tools import cache; print(cache.CACHES, cache.CHECKS)"
    ran = subprocess.run(
        [sys.executable, "-c", command],
        cwd=ROOT, env={"HANDBOOK_BUILD": "/elsewhere"}, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.stdout.split() == ["/elsewhere/cache", "/elsewhere/checks"]


def test_each_lane_is_one_command_and_the_nightly_workflow_uses_it():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (unit,) = re.findall(r"(?m)^UNIT\s*:=\s*(.+)$", makefile)
    assert unit == lanes.UNIT
    for name in lanes.LANES:
        (recipe,) = re.findall(rf"(?m)^{name}:.*\n((?:\t.+\n)+)", makefile)
        assert f"tools.lanes {name}" in recipe
    text = (ROOT / ".github/workflows/nightly.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    lane_names = {entry["lane"] for entry in jobs["lane"]["strategy"]["matrix"]["include"]}
    assert lane_names == {*lanes.LANES, "colab-all", "twice", "bad-input"}
    assert lane_names <= set(re.findall(r"(?m)^([a-z][a-z-]*):", makefile))
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    documented = re.findall(r"(?m)^\| `make ([a-z-]+)` .*\| each night \|$", text)
    assert sorted(documented) == sorted(lane_names)
    commands = [step["run"] for step in jobs["lane"]["steps"] if "run" in step]
    assert commands[0] == 'make "$LANE"'
    assert not any("pip install" in command for command in commands)
