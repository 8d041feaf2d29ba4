"""The commands behind the Makefile: cache, execution, progress, phases, baselines, second runs."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers.checks import NOT_RECORDED
from tools import baselines, execute, phases, progress
from tools import cache as notebook_cache

ROOT = notebook_cache.ROOT
INSTALLED = "torch.dist-info/METADATA"


# --- what makes a kept notebook worthless -------------------------------------------


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small checkout that the tools take for theirs."""
    (tmp_path / "helpers/metrics").mkdir(parents=True)
    (tmp_path / "helpers/plots.py").write_text("BLUE = 1\n")
    (tmp_path / "helpers/metrics/accuracy.py").write_text("")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(notebook_cache, "ROOT", tmp_path)
    monkeypatch.setattr(notebook_cache, "CACHES", tmp_path / "_build/cache")
    (tmp_path / "torch.dist-info").mkdir()
    (tmp_path / INSTALLED).write_text("Name: torch\nVersion: 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("HANDBOOK_PROFILE", raising=False)
    return tmp_path


CHANGES = {
    "a helper": lambda root: (root / "helpers/plots.py").write_text("BLUE = 2\n"),
    "a helper's helper": lambda root: (root / "helpers/metrics/accuracy.py").write_text("x = 1\n"),
    "a new helper": lambda root: (root / "helpers/new.py").write_text(""),
    "a helper's name": lambda root: (root / "helpers/plots.py").rename(root / "helpers/other.py"),
    "an installed version": lambda root: (root / INSTALLED).write_text("Name: torch\nVersion: 2\n"),
    "the profile": lambda root: os.environ.update(HANDBOOK_PROFILE="full"),
    "the number of threads": lambda root: setattr(notebook_cache, "THREADS", 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_cache_key_changes_with(checkout, change, monkeypatch):
    before = notebook_cache.environment_key()
    monkeypatch.setenv("HANDBOOK_PROFILE", "small")  # the default
    monkeypatch.setattr(notebook_cache, "THREADS", 1)  # it too
    (checkout / "README.md").write_text("other words")
    (checkout / "helpers/plots.pyc").write_bytes(b"\0")
    assert notebook_cache.environment_key() == before
    CHANGES[change](checkout)
    assert notebook_cache.environment_key() != before


def test_old_caches_are_dropped_but_never_the_one_in_use(checkout):
    """Not even where a clock that was set back makes all others look younger."""
    folder = checkout / "_build/cache"
    for number in range(6):
        (checkout / "helpers/plots.py").write_text(f"BLUE = {number}\n")
        notebook_cache.open_cache()
        assert notebook_cache.cache_path().is_dir()
    assert len(list(folder.iterdir())) == notebook_cache.KEEP
    for other in folder.iterdir():
        os.utime(other, (4e9, 4e9))
    (checkout / "helpers/plots.py").write_text("BLUE = 6\n")
    kept = notebook_cache.cache_path() / "kept"
    kept.parent.mkdir()
    kept.touch()
    assert notebook_cache.open_cache().list_cache_records() == []
    assert kept.is_file()


# --- what a failed chapter says -----------------------------------------------------


@pytest.mark.parametrize(
    ("output", "count", "said"),
    [
        (
            new_output("error", ename="CheckFailed", evalue="\x1b[31maccuracy: 0.5 came\x1b[0m",
                       traceback=["\x1b[31mline 1\x1b[0m", "line 2"]),
            1, "cell 2 raised CheckFailed: accuracy: 0.5 came\n\ncheck()\n\nline 1\nline 2",
        ),
        (new_output("stream", text=f"{NOT_RECORDED} /full"), 1, "cell 2 lost a record"),
        (new_output("stream", text="fine"), None, "cell 2 did not finish"),
        (new_output("stream", text="fine"), 1, None),
    ],
)  # fmt: skip
def test_a_failed_chapter_is_noticed_and_its_cell_named(output, count, said):
    cell = new_code_cell("check()", execution_count=count, outputs=[output])
    cells = [new_markdown_cell("# Title"), cell, new_code_cell("")]
    problem = execute.problem_of(new_notebook(cells=cells))
    assert problem is None if said is None else problem.startswith(said)


@pytest.fixture
def runs(checkout, monkeypatch):
    """A checkout with one chapter; executing it is replaced by writing what nbmake leaves."""
    path = checkout / "notebooks/01-new.ipynb"
    metadata = {"cellView": "form", "tags": ["hide-cell"]}
    cells = [new_code_cell("1 + 1", metadata=metadata), new_code_cell("2")]
    nbformat.write(new_notebook(cells=[new_markdown_cell("# New"), *cells]), path)
    calls = []

    def run(stale: list[Path], scratch: Path, jobs: int, ended=print) -> str:
        calls.extend([[path.stem for path in stale]] if stale else [])
        (scratch / "checks").mkdir()
        for each in stale:
            made = nbformat.read(each, 4)
            timing = {"iopub.status.busy": "2026-01-01T10:00:00.000000Z"}
            for number, cell in enumerate(made.cells[1:], start=1):
                cell.execution_count = number if "fail" not in cell.source else None
                cell.metadata["execution"] = timing
            nbformat.write(made, scratch / each.name)
            records = {"chapter": each.stem, "profile": "small", "checks": [check()]}
            (scratch / "checks" / f"{each.stem}.json").write_text(json.dumps(records))
            ended(each, 5.04)
        return "Kernel died\nFAILED 01-new.ipynb - NBMAKE INTERNAL ERROR\n1 failed"

    monkeypatch.setattr(execute, "ROOT", checkout)
    monkeypatch.setattr(execute, "BUILD", checkout / "_build")
    monkeypatch.setattr(execute, "CHECKS", checkout / "_build/checks")
    monkeypatch.setattr(execute, "BASELINES", checkout / "baselines")
    monkeypatch.setattr(execute, "run", run)
    monkeypatch.setattr(notebook_cache, "NOTEBOOKS", checkout / "notebooks")
    return path, calls


def test_a_chapter_is_executed_once_and_then_taken_from_the_cache(runs, capsys):
    path, calls = runs
    assert execute.execute([path], jobs=1) == 0
    said = capsys.readouterr().out
    assert "5.0 s  executed" in said
    records = execute.CHECKS / "01-new.json"
    first = json.loads(records.read_text(encoding="utf-8"))
    assert first["execution_seconds"] == 5.0
    assert [one["name"] for one in first["checks"]] == ["accuracy"]
    records.unlink()  # the cache brings the records back
    assert execute.execute([path], jobs=1) == 0
    assert "cached, not executed again" in capsys.readouterr().out
    assert json.loads(records.read_text(encoding="utf-8")) == first
    assert calls == [["01-new"]]
    # Jupyter Book by itself keeps what it executed without the records of the checks.
    cache = notebook_cache.open_cache()
    executed = cache.get_cache_bundle(notebook_cache.record_of(cache, path).pk).nb
    nbformat.write(executed, path.with_name("copy.ipynb"))
    uri = "notebooks/01-new.ipynb"
    cache.cache_notebook_file(path.with_name("copy.ipynb"), uri=uri, data={}, overwrite=True)
    assert execute.execute([path], jobs=1) == 0
    assert calls == [["01-new"], ["01-new"]]


def test_a_chapter_that_fails_makes_the_command_fail_and_leaves_no_records(runs, capsys):
    path, calls = runs
    good = path.read_text(encoding="utf-8")
    execute.execute([path], jobs=1)
    path.write_text(good.replace("1 + 1", "fail()"))
    assert execute.execute([path], jobs=1) == 1
    said = capsys.readouterr()
    assert "FAILED notebooks/01-new.ipynb: cell 2 did not finish" in said.err
    assert "Kernel died" in said.err
    assert "01-new  failed" in said.out
    assert not (execute.CHECKS / "01-new.json").exists()
    assert (path.parent.parent / "_build/failed/01-new.ipynb").is_file()
    path.write_text(good)
    assert execute.execute([path], jobs=1) == 0  # what passed before is still kept
    assert len(calls) == 2


def test_a_chapter_that_was_edited_while_it_ran_has_not_failed(runs, monkeypatch, capsys):
    path, _ = runs
    run = execute.run

    def edited(*arguments: object) -> str:
        said = run(*arguments)
        path.write_text(path.read_text().replace("1 + 1", "1 + 2"))
        return said

    monkeypatch.setattr(execute, "run", edited)
    assert execute.execute([path], jobs=1) == 1
    said = capsys.readouterr()
    assert "01-new  changed while it ran: run again" in said.out
    assert "failed" not in (said.out + said.err).lower()


def test_an_unknown_chapter_is_refused(capsys):
    with pytest.raises(SystemExit) as raised:
        execute.main(["99-no-such-chapter"])
    assert raised.value.code == 2
    assert "99-no-such-chapter" in capsys.readouterr().err


# --- how far a run is ---------------------------------------------------------------


def test_chapters_really_run_side_by_side_and_say_where_they_are(tmp_path, monkeypatch, capfd):
    good = [new_markdown_cell("# Good"), new_code_cell("import os, time; time.sleep(3)")]
    good += [new_code_cell("print(*map(os.getenv, ['OMP_NUM_THREADS', 'HF_DATASETS_CACHE']))")]
    transport = "get_connection_info(unpack=True)['transport']"
    good += [new_code_cell(f"from ipykernel import get_connection_info\nprint({transport})")]
    stale = [new_code_cell("1 / 0", execution_count=1), new_code_cell("never", execution_count=2)]
    paths = []
    for name, cells in (("01-good", good), ("02-bad", stale)):
        paths.append(tmp_path / f"{name}.ipynb")
        nbformat.write(new_notebook(cells=cells), paths[-1])
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(progress, "EVERY", 0.5)
    before = [path.read_bytes() for path in paths]
    log = execute.run(paths, tmp_path / "scratch", jobs=2)
    said = capfd.readouterr().out
    assert re.match(r"01-good: begins, 4 cells\n02-bad: begins, 2 cells\n", said)
    assert re.search(r"(?m)^01-good at cell \d of 4", said)
    assert re.search(r"(?m)^01-good: ends after \d+ s$", said)
    assert re.search(r"(?m)^02-bad at cell 1 of 2: failed after \d+ s$", said)
    assert "ZeroDivisionError" in log
    copies = [nbformat.read(tmp_path / "scratch" / path.name, 4) for path in paths]
    assert execute.problem_of(copies[0]) is None
    # One thread for each chapter, and no rows that an earlier run has made.
    assert copies[0].cells[2].outputs[0].text == f"1 {tmp_path / 'scratch/datasets'}\n"
    assert copies[0].cells[3].outputs[0].text == "ipc\n"  # no port that others could take
    assert execute.problem_of(copies[1]).startswith("cell 1 raised ZeroDivisionError")
    assert copies[1].cells[1].execution_count is None  # what stood there before is not taken for it
    assert [path.read_bytes() for path in paths] == before


SLEEPS = """
import os, subprocess, time
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
open("started.tmp", "w").write(f"{os.getpid()} {child.pid}")
os.rename("started.tmp", os.environ["STARTED"])
time.sleep(600)
"""


def test_whoever_ends_the_command_ends_the_chapters_and_what_they_started(tmp_path):
    """As `make book` runs it: the phases are told, not the command."""
    (tmp_path / "notebooks").mkdir()
    notebook = new_notebook(cells=[new_code_cell(SLEEPS)])
    nbformat.write(notebook, tmp_path / "notebooks/01-long.ipynb")
    program = (
        "import sys; from pathlib import Path; from tools import cache, execute\n"
        f"cache.NOTEBOOKS = Path({str(tmp_path / 'notebooks')!r})\n"
        f"cache.CACHES = Path({str(tmp_path / 'cache')!r})\n"
        "sys.exit(execute.main(['--jobs=1']))"
    )
    command = [sys.executable, "-m", "tools.phases", "--", "chapters"]
    command += [sys.executable, "-c", program]
    started = tmp_path / "started"
    environment = os.environ | {"STARTED": str(started)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as running:
        end = time.monotonic() + 100
        while not started.exists() and time.monotonic() < end:
            time.sleep(0.1)
        left = [psutil.Process(int(number)) for number in started.read_text().split()]
        left += psutil.Process(running.pid).children(recursive=True)
        running.terminate()
        gone, alive = psutil.wait_procs(left, timeout=30)
        for one in alive:
            one.kill()
        said = running.communicate()[0].decode()
    assert len(gone) >= 4, "the command, pytest, the kernel and its child"
    assert alive == []
    assert running.returncode == 128 + signal.SIGTERM
    assert re.search(r"\nchapters +\d+ s  FAILED\n", said)


def test_the_longest_chapters_begin_first_and_new_ones_before_them(runs):
    path, calls = runs
    others = [path.with_name(f"{name}.ipynb") for name in ("02-short", "03-long")]
    execute.BASELINES.mkdir()
    for other, seconds in zip(others, (10, 160), strict=True):
        other.write_text(path.read_text().replace("1 + 1", f"{seconds}"))
        (execute.BASELINES / f"{other.stem}.json").write_text(json.dumps({"seconds": seconds}))
    assert execute.execute([*others, path], jobs=1) == 0
    assert calls == [["01-new", "03-long", "02-short"]]
    assert execute.seconds_before(others[1]) == 5.0  # the last run says more than the baseline


@pytest.mark.parametrize(
    ("flags", "command", "status", "ran"),
    [
        ([], ["true"], 0, True),
        ([], ["sh", "-c", "exit 3"], 3, False),
        (["--keep-going"], ["sh", "-c", "exit 3"], 3, True),
        ([], ["sh", "-c", "kill -9 $$"], 137, False),
        ([], ["/no/such/program"], 127, False),
    ],
)
def test_a_phase_that_fails_is_named_in_the_table_and_gives_its_status(
    flags, command, status, ran, capfd
):
    first = ["--", "chapters", "true"]
    assert phases.main([*flags, *first, "--", "tests", *command, "--", "last", "true"]) == status
    said, table = capfd.readouterr().out.split("\n\nchapters")
    assert ("=== last" in said) == ("\nlast" in table) == ran
    assert re.match(r" +\d+ s\n", table)
    assert re.search(rf"\ntests +\d+ s{'  FAILED' * bool(status)}\n", table)
    assert re.search(r"\nall +\d{1,2} s\n$", table)


COMMANDS = sorted(p.stem for p in (ROOT / "tools").glob("*.py") if "__main__" in p.read_text())


@pytest.mark.filterwarnings("ignore:'tools.*found in sys.modules")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_asked_what_it_does_only_says_so(name, monkeypatch, capsys):
    for class_, does in ((subprocess.Popen, "__init__"), (Path, "write_text"), (Path, "unlink")):
        monkeypatch.setattr(class_, does, lambda *_, **__: pytest.fail("it began to work"))
    for word, status in (("--help", 0), ("--no-such-option", 2)):
        monkeypatch.setattr(sys, "argv", [name, word])
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as raised:
            runpy.run_module(f"tools.{name}", run_name="__main__")
        assert raised.value.code == status
    said = capsys.readouterr()
    assert said.out.startswith(f"usage: python -m tools.{name} ")
    assert f"python -m tools.{name}: error: " in said.err


# --- baselines ----------------------------------------------------------------------


def check(name: str = "accuracy", **changes: object) -> dict:
    record = {"name": name, "kind": "at least", "value": 0.9, "bound": 0.88, "drift": 0.02}
    return record | changes | {"shown": str(changes.get("value", 0.9)), "seconds": 1.0}


@pytest.mark.parametrize(
    ("now", "baseline", "said"),
    [
        ([check(value=0.919)], [check()], None),
        ([check(value=0.921)], [check()], "accuracy: was 0.9, is 0.921, may move by 0.02"),
        ([check(value=0.879)], [check()], "was 0.9, is 0.879"),
        ([check(value=float("nan"))], [check()], "is nan"),
        ([check(value=5.0, drift=None)], [check()], None),
        ([check(value=3, drift=0.0)], [check(value=3)], None),
        ([check(value="3", drift=0.0)], [check(value=3)], "was 3, is 3"),
        ([check(value="positive")], [check(value="negative")], "was negative, is positive"),
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

    def write(*found: dict, chapter="01-hub", profile="small", assets=()) -> None:
        content = {"chapter": chapter, "profile": profile, "versions": {}, "checks": list(found)}
        content["assets"] = dict.fromkeys(assets, "a source")
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
    assert said.err == ""
    records(check(value=0.97), check("loss", value=0.3))
    assert baselines.compare(["01-hub"]) == 1
    assert "DRIFT 01-hub: accuracy: was 0.9, is 0.97" in capsys.readouterr().err


def test_compare_fails_without_records_and_without_a_chapter(records, capsys):
    records(check())
    records(check(), chapter="02-gone")
    baselines.refresh(["01-hub", "02-gone"])
    assert baselines.compare(["01-hub"]) == 1
    assert "02-gone: a baseline without a chapter" in capsys.readouterr().err
    baselines.refresh(["01-hub"])
    assert baselines.compare(["01-hub"]) == 0
    (baselines.CHECKS / "01-hub.json").unlink()
    assert baselines.compare(["01-hub"]) == 1
    assert "no longer checked" in capsys.readouterr().err


def test_the_full_profile_is_neither_compared_nor_kept(records, capsys):
    records(check())
    baselines.refresh(["01-hub"])
    before = (baselines.BASELINES / "01-hub.json").read_text()
    records(check(value=0.99), profile="full")
    assert baselines.compare(["01-hub"]) == 0
    assert "not compared" in capsys.readouterr().out
    baselines.refresh(["01-hub"])
    assert (baselines.BASELINES / "01-hub.json").read_text() == before


def test_without_npm_only_what_needs_it_is_left_out_and_in_ci_it_is_missed(
    records, checkout, monkeypatch, capsys
):
    of_mails = 'if "spam" in assets.used():\n    check_at_least("of mails", recall, 0.9)'
    of_news = 'if "news" in assets.used():\n    check_at_least("of news", recall, 0.9)'
    cells = [new_markdown_cell(of_mails), *map(new_code_cell, ("check()", of_mails, of_news))]
    nbformat.write(new_notebook(cells=cells), checkout / "notebooks/01-hub.ipynb")
    monkeypatch.setattr(notebook_cache, "NOTEBOOKS", checkout / "notebooks")
    accuracy, mails, news = check(), check("of mails"), check("of news")
    records(accuracy, mails, news, assets=("news", "spam"))
    baselines.refresh(["01-hub"])
    before = (baselines.BASELINES / "01-hub.json").read_text()
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(baselines.shutil, "which", lambda _: None)
    records(accuracy, news, assets=("news",))
    assert baselines.compare(["01-hub"]) == 0
    assert "1 checks left out, whose data npm would fetch" in capsys.readouterr().out
    baselines.refresh(["01-hub"])
    assert (baselines.BASELINES / "01-hub.json").read_text() == before
    for found, assets, drift in (
        ([check(value=0.97), news], ["news"], "accuracy: was 0.9, is 0.97"),
        ([news], ["news"], "accuracy: no longer checked"),  # npm has no part in it
        ([accuracy], [], "of news: no longer checked"),  # pip fetches the news
        ([accuracy, news], ["news", "spam"], "of mails: no longer checked"),  # they were there
    ):
        records(*found, assets=assets)
        assert baselines.compare(["01-hub"]) == 1
        assert f"1 drift from the baselines\nDRIFT 01-hub: {drift}" in "".join(capsys.readouterr())
    records(accuracy, news, assets=("news",))
    monkeypatch.setenv("CI", "true")
    assert baselines.compare(["01-hub"]) == 1


# --- the same figures twice ---------------------------------------------------------


def test_a_second_run_must_give_the_same_figures_unless_they_say_why_not(records, tmp_path, capsys):
    compare = ["compare", "--first-run", str(tmp_path / "first")]
    varying = check("speed", varies="timing")
    records(check(), varying)
    shutil.copytree(tmp_path / "checks", tmp_path / "first")
    records(check(), varying | {"value": 7.5})
    assert baselines.main(compare) == 0
    assert "2 checks, no drift from the first run" in capsys.readouterr().out
    records(check(value=0.9000000000000001), varying)  # less than its drift
    assert baselines.main(compare) == 1
    assert "DRIFT 01-hub: accuracy: was 0.9, is 0.9000000000000001" in capsys.readouterr().err
    records(varying)
    assert baselines.main(compare) == 1
    assert "accuracy: no longer checked" in capsys.readouterr().err
