"""The commands behind the Makefile: cache, failures, baselines, lock, chapters, addresses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from packaging.requirements import Requirement

from helpers import checks
from tools import baselines, chapter, execute, faults, lock, repository, twice
from tools import cache as notebook_cache

ROOT = notebook_cache.ROOT


# --- what makes a kept notebook worthless -------------------------------------------


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small checkout that the tools take for theirs."""
    (tmp_path / "helpers/metrics").mkdir(parents=True)
    (tmp_path / "helpers/plots.py").write_text("BLUE = 1\n")
    (tmp_path / "helpers/metrics/accuracy.py").write_text("")
    (tmp_path / "requirements.lock").write_text("torch==1\n")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(notebook_cache, "ROOT", tmp_path)
    monkeypatch.setattr(notebook_cache, "CACHES", tmp_path / "_build/cache")
    monkeypatch.delenv("HANDBOOK_PROFILE", raising=False)
    return tmp_path


def rename(root: Path) -> None:
    (root / "helpers/plots.py").rename(root / "helpers/figures.py")


CHANGES = {
    "a helper": lambda root: (root / "helpers/plots.py").write_text("BLUE = 2\n"),
    "a helper's helper": lambda root: (root / "helpers/metrics/accuracy.py").write_text("x = 1\n"),
    "a new helper": lambda root: (root / "helpers/new.py").write_text(""),
    "a helper's name": rename,
    "the lock": lambda root: (root / "requirements.lock").write_text("torch==2\n"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_cache_key_changes_with(checkout, change):
    before = notebook_cache.environment_key()
    assert notebook_cache.environment_key() == before
    CHANGES[change](checkout)
    assert notebook_cache.environment_key() != before


def test_the_cache_key_changes_with_the_profile(checkout, monkeypatch):
    before = notebook_cache.environment_key()
    monkeypatch.setenv("HANDBOOK_PROFILE", "small")  # the default
    assert notebook_cache.environment_key() == before
    monkeypatch.setenv("HANDBOOK_PROFILE", "full")
    assert notebook_cache.environment_key() != before


def test_the_cache_key_does_not_change_with_anything_else(checkout):
    before = notebook_cache.environment_key()
    (checkout / "README.md").write_text("other words")
    (checkout / "notebooks/01-new.ipynb").write_text("{}")
    (checkout / "helpers/__pycache__").mkdir()
    (checkout / "helpers/__pycache__/plots.pyc").write_bytes(b"\0")
    assert notebook_cache.environment_key() == before


def executed_notebook(path: Path, source: str = "1 + 1") -> Path:
    cell = new_code_cell(source, id="first", execution_count=1)
    nbformat.write(new_notebook(cells=[cell]), path)
    return path


def test_a_notebook_is_found_until_its_code_or_the_helpers_change(checkout):
    path = executed_notebook(checkout / "notebooks/01-new.ipynb")
    cache = notebook_cache.open_cache()
    assert notebook_cache.record_of(cache, path) is None
    cache.cache_notebook_file(path, uri="notebooks/01-new.ipynb", data={"execution_seconds": 1.5})
    assert notebook_cache.record_of(cache, path).data == {"execution_seconds": 1.5}
    executed_notebook(path, "1 + 2")
    assert notebook_cache.record_of(cache, path) is None
    executed_notebook(path)
    CHANGES["a helper"](checkout)
    assert notebook_cache.record_of(notebook_cache.open_cache(), path) is None


def test_old_caches_are_dropped(checkout):
    for number in range(6):
        (checkout / "helpers/plots.py").write_text(f"BLUE = {number}\n")
        notebook_cache.open_cache()
        assert notebook_cache.cache_path().is_dir()
    assert len(list((checkout / "_build/cache").iterdir())) == notebook_cache.KEEP


# --- what a failed chapter says -----------------------------------------------------


def test_a_failure_names_the_cell_and_the_error():
    error = new_output(
        "error",
        ename="CheckFailed",
        evalue="\x1b[31maccuracy: 0.5 came\x1b[0m",
        traceback=["\x1b[0;31mCheckFailed\x1b[0m", "line 1"],
    )
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("fine = 1", execution_count=1),
        new_code_cell("check_at_least()", execution_count=2, outputs=[error]),
        new_code_cell("never_run", execution_count=None),
    ]
    problem = execute.problem_of(new_notebook(cells=cells))
    assert problem.startswith("cell 3 raised CheckFailed: accuracy: 0.5 came")
    assert "check_at_least()" in problem
    assert "line 1" in problem
    assert "\x1b" not in problem


def test_a_cell_that_did_not_finish_is_a_failure():
    cells = [new_code_cell("a = 1", execution_count=1), new_code_cell("b = 2")]
    assert execute.problem_of(new_notebook(cells=cells)).startswith("cell 2 did not finish")


def test_a_notebook_that_ran_has_no_problem():
    cells = [
        new_markdown_cell("text"),
        new_code_cell("a = 1", execution_count=1, outputs=[new_output("stream", text="fine")]),
        new_code_cell(""),  # an empty cell is never executed
    ]
    assert execute.problem_of(new_notebook(cells=cells)) is None


def test_seconds_are_summed_over_the_cells():
    def timed(begin: str, end: str) -> nbformat.NotebookNode:
        timing = {"iopub.status.busy": begin, "shell.execute_reply": end}
        return new_code_cell("x", metadata={"execution": timing})

    cells = [
        timed("2026-01-01T10:00:00.000000Z", "2026-01-01T10:00:01.250000Z"),
        new_markdown_cell("text"),
        new_code_cell("not run"),
        timed("2026-01-01T23:59:59.000000Z", "2026-01-02T00:00:09.000000Z"),
    ]
    assert execute.seconds_of(new_notebook(cells=cells)) == pytest.approx(11.2, abs=0.051)
    assert execute.seconds_of(new_notebook()) == 0


@pytest.fixture
def runs(checkout, monkeypatch):
    """A checkout with one chapter; executing it is replaced by writing what nbmake leaves."""
    path = checkout / "notebooks/01-new.ipynb"
    metadata = {"cellView": "form", "tags": ["hide-cell"]}
    cells = [new_markdown_cell("# New"), new_code_cell("1 + 1", metadata=metadata)]
    nbformat.write(new_notebook(cells=cells), path)
    calls = []

    def run(stale: list[Path], scratch: Path, jobs: int) -> str:
        calls.append([path.stem for path in stale])
        (scratch / "checks").mkdir()
        for each in stale:
            made = nbformat.read(each, 4)
            timing = {
                "iopub.status.busy": "2026-01-01T10:00:00.000000Z",
                "shell.execute_reply": "2026-01-01T10:00:02.500000Z",
            }
            for cell in made.cells[1:]:
                cell.execution_count = 1 if "fail" not in cell.source else None
                cell.metadata["execution"] = timing
            nbformat.write(made, scratch / each.name)
            records = {"chapter": each.stem, "profile": "small", "checks": [check()]}
            (scratch / "checks" / f"{each.stem}.json").write_text(json.dumps(records))
        return "log"

    monkeypatch.setattr(execute, "ROOT", checkout)
    monkeypatch.setattr(execute, "CHECKS", checkout / "_build/checks")
    monkeypatch.setattr(execute, "run", run)
    monkeypatch.setattr(notebook_cache, "NOTEBOOKS", checkout / "notebooks")
    return path, calls


def test_a_chapter_is_executed_once_and_then_taken_from_the_cache(runs, capsys):
    path, calls = runs
    assert execute.execute([path], jobs=1) == 0
    said = capsys.readouterr().out
    assert "2.5 s  executed" in said
    records = execute.CHECKS / "01-new.json"
    first = json.loads(records.read_text(encoding="utf-8"))
    assert first["execution_seconds"] == 2.5
    assert [one["name"] for one in first["checks"]] == ["accuracy"]
    records.unlink()  # the cache brings the records back
    assert execute.execute([path], jobs=1) == 0
    assert "cached, not executed again" in capsys.readouterr().out
    assert json.loads(records.read_text(encoding="utf-8")) == first
    assert calls == [["01-new"]]
    assert execute.execute([path], jobs=1, force=True) == 0
    assert len(calls) == 2


def test_a_chapter_that_fails_makes_the_command_fail_and_leaves_no_records(runs, capsys):
    path, calls = runs
    good = path.read_text(encoding="utf-8")
    execute.execute([path], jobs=1)
    path.write_text(good.replace("1 + 1", "fail()"))
    assert execute.execute([path], jobs=1) == 1
    said = capsys.readouterr()
    assert "FAILED notebooks/01-new.ipynb: cell 2 did not finish" in said.err
    assert "01-new  failed" in said.out
    assert not (execute.CHECKS / "01-new.json").exists()
    path.write_text(good)
    assert execute.execute([path], jobs=1) == 0  # what passed before is still kept
    assert len(calls) == 2


def test_an_unknown_chapter_is_refused(capsys):
    with pytest.raises(SystemExit) as raised:
        execute.main(["99-no-such-chapter"])
    assert raised.value.code == 2
    assert "99-no-such-chapter" in capsys.readouterr().err


# --- baselines ----------------------------------------------------------------------


def check(name: str = "accuracy", **changes: object) -> dict:
    record = {"name": name, "kind": "at least", "value": 0.9, "bound": 0.88, "drift": 0.02}
    return record | changes | {"shown": str(changes.get("value", 0.9)), "seconds": 1.0}


@pytest.mark.parametrize(
    ("value", "baseline", "drift", "expected"),
    [
        (0.9, 0.9, 0.0, False),
        (0.92, 0.9, 0.02001, False),
        (0.93, 0.9, 0.02, True),
        (0.87, 0.9, 0.02, True),
        (5.0, 0.9, None, False),
        (float("nan"), 0.9, 0.02, True),
        (float("nan"), 0.9, None, False),
        (3, 3, 0.0, False),
        (4, 3, 0.0, True),
        ("negative", "negative", 0.0, False),
        ("positive", "negative", 0.0, True),
        ("3", 3, 0.0, True),
    ],
)
def test_moved(value, baseline, drift, expected):
    assert baselines.moved(value, baseline, drift) is expected


@pytest.mark.parametrize(
    ("now", "baseline", "said"),
    [
        ([check()], [check()], None),
        ([check(value=0.91)], [check()], None),
        ([check(value=0.95)], [check()], "accuracy: was 0.9, is 0.95, may move by 0.02"),
        ([check(value=0.95, drift=None)], [check()], None),
        ([check(), check("loss")], [check()], "loss: new, no baseline yet"),
        ([check()], [check(), check("loss")], "loss: no longer checked"),
        ([check(bound=0.8)], [check()], "accuracy: the claim changed"),
        ([check(kind="at most")], [check()], "accuracy: the claim changed"),
    ],
)
def test_differences(now, baseline, said):
    found = baselines.differences(now, baseline)
    assert len(found) == (said is not None)
    assert not found or said in found[0]


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Write records of a last run; return a function that does."""
    monkeypatch.setattr(baselines, "CHECKS", tmp_path / "checks")
    monkeypatch.setattr(baselines, "BASELINES", tmp_path / "baselines")
    (tmp_path / "checks").mkdir()

    def write(*found: dict, chapter: str = "01-hub", profile: str = "small") -> None:
        content = {"chapter": chapter, "profile": profile, "versions": {}, "checks": list(found)}
        (tmp_path / "checks" / f"{chapter}.json").write_text(json.dumps(content))

    return write


def test_refresh_then_compare_passes_and_drift_fails(records, capsys):
    records(check(), check("loss", value=0.3))
    assert baselines.compare(["01-hub"]) == 1  # all are new
    assert baselines.refresh(["01-hub"]) == 0
    kept = json.loads((baselines.BASELINES / "01-hub.json").read_text(encoding="utf-8"))
    assert set(kept["checks"][0]) == set(baselines.KEPT)  # no seconds: they always differ
    capsys.readouterr()
    assert baselines.compare(["01-hub"]) == 0
    said = capsys.readouterr()
    assert "2 checks, no drift" in said.out
    assert "✓ loss: 0.3" in said.out
    assert said.err == ""
    records(check(value=0.97), check("loss", value=0.3))
    assert baselines.compare(["01-hub"]) == 1
    said = capsys.readouterr()
    assert "DRIFT 01-hub: accuracy: was 0.9, is 0.97" in said.err
    assert "make baselines" in said.err


def test_compare_fails_when_a_chapter_left_no_records(records, capsys):
    records(check())
    baselines.refresh(["01-hub"])
    (baselines.CHECKS / "01-hub.json").unlink()
    assert baselines.compare(["01-hub"]) == 1
    assert "no longer checked" in capsys.readouterr().err


def test_a_baseline_without_a_chapter_fails_and_is_removed_by_refresh(records, capsys):
    records(check())
    records(check(), chapter="02-gone")
    baselines.refresh(["01-hub", "02-gone"])
    assert baselines.compare(["01-hub"]) == 1
    assert "a baseline without a chapter" in capsys.readouterr().err
    baselines.refresh(["01-hub"])
    assert baselines.compare(["01-hub"]) == 0


def test_the_full_profile_is_neither_compared_nor_kept(records, capsys):
    records(check())
    baselines.refresh(["01-hub"])
    before = (baselines.BASELINES / "01-hub.json").read_text()
    records(check(value=0.99), profile="full")
    assert baselines.compare(["01-hub"]) == 0
    assert "not compared" in capsys.readouterr().out
    baselines.refresh(["01-hub"])
    assert (baselines.BASELINES / "01-hub.json").read_text() == before


# --- the lock -----------------------------------------------------------------------

LOCK = """# made by hand
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:00
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:01
Torch_Geometric==2.13.0 \\
    --hash=sha256:02
"""


def test_the_lock_is_read_with_its_markers():
    pins = lock.locked(LOCK)
    assert list(pins) == ["numpy", "torch-geometric"]
    assert [str(pin.specifier) for pin in pins["numpy"]] == ["==2.4.6", "==2.5.5"]
    assert pins["numpy"][0].marker.evaluate({"python_full_version": "3.11.9"})
    assert not pins["numpy"][1].marker.evaluate({"python_full_version": "3.11.9"})


def test_the_environment_pins_what_the_lock_pins(monkeypatch):
    monkeypatch.setattr(lock, "direct", lambda _: [Requirement("numpy>=1"), Requirement("numpy")])
    made = yaml.safe_load(lock.environment(LOCK))
    pip = made["dependencies"][-1]["pip"]
    assert [line.split(";")[0] for line in pip] == ["numpy==2.4.6", "numpy==2.5.5", "-e ."]
    monkeypatch.setattr(lock, "direct", lambda _: [Requirement("scipy")])
    with pytest.raises(KeyError, match="scipy"):
        lock.environment(LOCK)


# --- a new chapter ------------------------------------------------------------------

TOC = """root: book/intro
parts:
  - caption: One
    chapters:
      - file: notebooks/02-attention
  - caption: Two
    chapters:
      - file: notebooks/08-imdb
      - file: book/ledger
"""


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("01-hub", "    chapters:", "      - file: notebooks/02-attention"),
        ("03-transformer", "      - file: notebooks/02-attention", "  - caption: Two"),
        ("17-my-idea", "      - file: notebooks/08-imdb", "      - file: book/ledger"),
    ],
)
def test_a_chapter_is_listed_in_its_place(name, before, after):
    lines = chapter.with_entry(TOC, name).splitlines()
    place = lines.index(f"      - file: notebooks/{name}")
    assert (lines[place - 1], lines[place + 1]) == (before, after)
    del lines[place]
    assert lines == TOC.splitlines()


@pytest.fixture
def empty(tmp_path):
    """A checkout to make chapters in."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_toc.yml").write_text(TOC)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["", "idea", "1-idea", "17_idea", "17-Idea", "17-", "17-idea.ipynb", "../17-idea", "17"]
)
def test_a_bad_name_is_refused(empty, name):
    with pytest.raises(ValueError, match="17-my-idea"):
        chapter.create(name, empty)
    assert list((empty / "notebooks").iterdir()) == []
    assert (empty / "_toc.yml").read_text() == TOC


def test_a_bad_name_is_an_error_of_the_command(capsys):
    assert chapter.main(["Bad Name"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Bad Name" in said


def test_nothing_is_overwritten(empty):
    path = chapter.create("17-my-idea", empty)
    before = path.read_bytes(), (empty / "_toc.yml").read_text()
    with pytest.raises(ValueError, match="not overwritten"):
        chapter.create("17-my-idea", empty)
    path.unlink()  # listed, yet not there: a half-finished removal
    with pytest.raises(ValueError, match="lists 17-my-idea already"):
        chapter.create("17-my-idea", empty)
    assert not path.exists()
    assert (empty / "_toc.yml").read_text() == before[1]


def test_a_new_chapter_is_a_valid_stripped_notebook_in_the_project_style(empty):
    path = chapter.create("17-my-idea", empty)
    made = nbformat.read(path, nbformat.NO_CONVERT)
    nbformat.validate(made)
    assert (made.nbformat, made.nbformat_minor) == (4, 5)
    assert len({cell.id for cell in made.cells}) == len(made.cells)
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache"]
        ruff += ["--config", str(ROOT / "pyproject.toml"), str(path)]
        ran = subprocess.run(ruff, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    strip = [sys.executable, "-m", "nbstripout", "--keep-id", "--verify", str(path)]
    ran = subprocess.run(strip, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_a_new_chapter_runs_as_it_is_made(empty, monkeypatch, capsys):
    monkeypatch.setenv(checks.VARIABLE, str(empty / "checks"))
    monkeypatch.setenv("HANDBOOK_PROFILE", "small")
    made = nbformat.read(chapter.create("17-my-idea", empty), nbformat.NO_CONVERT)
    sources = [cell.source for cell in made.cells if cell.cell_type == "code"]
    names: dict[str, object] = {}
    try:
        for source in sources[1:]:  # the first is Colab's
            exec(compile(source, "17-my-idea", "exec"), names)
    finally:
        checks._chapter.__init__()
    records = json.loads((empty / "checks/17-my-idea.json").read_text(encoding="utf-8"))
    assert len(records["checks"]) == 4


# --- the addresses ------------------------------------------------------------------


@pytest.fixture
def addresses(empty):
    """A checkout with every file that shows an address."""
    for name in ("_config.yml", "CITATION.cff", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, empty)
    chapter.create("17-my-idea", empty)
    (empty / ".github/workflows").mkdir(parents=True)
    mine = repository.shown(empty)
    (empty / ".github/workflows/links.yml").write_text(
        f"a: {mine.repository}\nb: colab.org/github/{mine.slug}/blob\n"
        f"c: my-{mine.slug}\nd: {mine.slug}s\n"
    )
    return empty


def test_one_command_moves_the_repository_everywhere(addresses):
    assert repository.disagreements(addresses) == []
    assert repository.rewrite(addresses) == []
    before = repository.wanted(addresses)
    project = addresses / "pyproject.toml"
    text = project.read_text().replace(before.repository, "https://github.com/new-home/book")
    project.write_text(text.replace(before.book, "https://example.org/read/"))
    assert len(repository.disagreements(addresses)) == 5
    changed = repository.rewrite(addresses)
    assert changed == [
        ".github/workflows/links.yml",
        "CITATION.cff",
        "README.md",
        "_config.yml",
        "notebooks/17-my-idea.ipynb",
    ]
    assert repository.disagreements(addresses) == []
    for name in changed[1:]:
        text = (addresses / name).read_text(encoding="utf-8")
        assert before.slug not in text
        assert before.book not in text
        assert "new-home/book" in text
    links = (addresses / ".github/workflows/links.yml").read_text()
    assert links == (
        "a: https://github.com/new-home/book\nb: colab.org/github/new-home/book/blob\n"
        f"c: my-{before.slug}\nd: {before.slug}s\n"
    )
    nbformat.validate(nbformat.read(addresses / "notebooks/17-my-idea.ipynb", 4))
    assert yaml.safe_load((addresses / "_config.yml").read_text())["repository"] == {
        "url": "https://github.com/new-home/book",
        "branch": "main",
    }
    assert repository.rewrite(addresses) == []


def test_a_notebook_that_names_another_repository_is_found_and_mended(addresses):
    path = addresses / "notebooks/17-my-idea.ipynb"
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace('\\"https://github.com/', '\\"https://github.com/someone-'))
    (line,) = repository.disagreements(addresses)
    assert line == "notebooks/17-my-idea.ipynb has another set-up cell for Colab"
    assert repository.rewrite(addresses) == ["notebooks/17-my-idea.ipynb"]
    assert path.read_text(encoding="utf-8") == right


@pytest.mark.parametrize("bad", ["http://github.com/a/b", "https://github.com/a", "a/b"])
def test_an_address_that_is_none_is_refused(addresses, bad):
    project = addresses / "pyproject.toml"
    project.write_text(project.read_text().replace(repository.wanted(ROOT).repository, bad))
    with pytest.raises(ValueError, match="Repository must be"):
        repository.rewrite(addresses)


# --- the same figures twice ---------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ([check()], None),
        ([check(value=0.9000000000000001)], "accuracy: 0.9, then 0.9000000000000001"),
        ([check(value="0.9")], 'accuracy: 0.9, then "0.9"'),
        ([], "accuracy: recorded in one run only"),
        ([check(), check("loss")], "loss: recorded in one run only"),
    ],
)
def test_a_second_run_must_give_the_same_figures_to_the_last_digit(second, said):
    found = twice.differences([check()], second)
    assert len(found) == (said is not None)
    assert not found or said in found[0]


def test_a_figure_that_says_why_it_varies_may_vary():
    first = check(varies="timing")
    assert twice.differences([first], [check(value=7.5, varies="timing")]) == []


def test_a_second_run_is_executed_outside_the_cache_and_compared(runs, monkeypatch, capsys):
    path, calls = runs
    monkeypatch.setattr(twice, "CHECKS", execute.CHECKS)
    assert execute.execute([path], jobs=1) == 0
    assert twice.twice([path]) == 0
    assert "01-new: 1 figures, 0 differ" in capsys.readouterr().out
    assert len(calls) == 2
    records = execute.CHECKS / "01-new.json"
    records.write_text(records.read_text().replace("0.9,", "0.91,"))
    assert twice.twice([path]) == 1
    assert "DIFFERS 01-new: accuracy: 0.91, then 0.9" in capsys.readouterr().err


# --- faults -------------------------------------------------------------------------


@pytest.fixture
def no_faults(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(faults, "BASELINE", tmp_path / "faults.json")


def test_faults_are_recorded_kept_and_compared(no_faults, capsys):
    faults.record("Killed", "kill it", "It lives.", cases=3)
    faults.skip("Two at once", "both", "there is one only")
    assert faults.compare() == 1
    assert "DRIFT faults: kill it: new or changed" in capsys.readouterr().err
    assert faults.refresh() == 0
    capsys.readouterr()
    assert faults.compare() == 0
    assert "both: not tried here, there is one only" in capsys.readouterr().out
    assert [one["fault"] for one in faults.load()] == ["kill it"]
    faults.record("Killed", "kill it", "It lives.", cases=2)
    assert faults.compare() == 1
    assert "kill it: tried 2 times, was 3" in capsys.readouterr().err
    faults.record("Killed", "kill it", "It died.", cases=3)
    assert faults.compare() == 1
    faults.main(["clear"])
    assert faults.compare() == 1
    assert "kill it: no longer tried" in capsys.readouterr().err
    assert faults.load()[0]["happened"] == "It lives."  # the book is built all the same
    with pytest.raises(ValueError, match="area is 'Elsewhere'"):
        faults.record("Elsewhere", "x", "y")
