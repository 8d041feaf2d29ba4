"""Execute the chapters that need it, once, for the tests and for the book.

Copies of the notebooks are run by pytest with nbmake, one on each core, the longest first. A copy
that passed goes into the cache from which the book takes its outputs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil

from helpers import memory, profiles, sealed
from helpers.checks import NOT_RECORDED
from tools import cache as notebook_cache
from tools import progress
from tools.baselines import BASELINES, load
from tools.cache import ANSI, BUILD, CHECKS, ROOT, THREADS

TIMEOUT = 1800  # seconds for one cell: generous, so that a busy machine does not stop a chapter


def main(arguments: list[str] | None = None) -> int:
    """Execute what is stale, print how long each chapter took, return 0 if all passed."""
    parser = argparse.ArgumentParser(prog="python -m tools.execute", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="chapter", help="such as 10-imdb; default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    if os.environ.get(profiles.REHEARSAL, "").strip():
        parser.error(f"{profiles.REHEARSAL} is set; a rehearsal makes no book: `make rehearsal`")
    known = {path.stem: path for path in notebook_cache.notebooks()}
    for name in options.names:
        if name not in known:
            parser.error(f"no chapter is called {name!r}; there are {', '.join(known)}")
    # What is running then ends as well, see run(); an interruption does the same.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    chapters = [path for name, path in known.items() if name in (options.names or known)]
    return execute(chapters, jobs=options.jobs)


def execute(chapters: list[Path], *, jobs: int) -> int:
    """Bring the cache up to date for ``chapters``; return 0 if every one of them passed."""
    with notebook_cache.alone():
        cache = notebook_cache.open_cache()
        stale = [path for path in chapters if not notebook_cache.record_of(cache, path)]
        stale.sort(key=seconds_before, reverse=True)
        try:
            jobs = require_memory(stale, jobs)
        except memory.NotEnoughMemory as problem:
            print(f"error: {problem}", file=sys.stderr)
            return 1
        # Not below _build: nbmake passes over every notebook in there.
        with tempfile.TemporaryDirectory(prefix="handbook-") as folder:
            scratch, passed = Path(folder), {}

            def keep(path: Path, seconds: float) -> None:
                passed[path] = _keep(cache, path, scratch, seconds)

            log = run(stale, scratch, jobs, keep)
        outside = " failed" not in log or "NBMAKE INTERNAL ERROR" in log  # not an error of a cell
        if outside and not all(passed.values()):
            print(log[-4000:], file=sys.stderr)
        complete = _restore_checks(cache, chapters, passed)
        return 0 if complete and all(passed.values()) else 1


def require_memory(stale: list[Path], jobs: int) -> int:
    """Return how many chapters fit into memory at a time; NotEnoughMemory if none does."""
    wanted = {path.stem: load(BASELINES, path.stem).get("memory_gib") or 0.0 for path in stale}
    largest = sorted(wanted, key=wanted.__getitem__, reverse=True)[:jobs]
    while len(largest) > 1 and sum(map(wanted.get, largest)) * memory.GIB > memory.available():
        largest.pop()
    needed = int(sum(map(wanted.get, largest)) * memory.GIB)
    memory.require(needed, f"executing {', '.join(largest)}")
    return max(1, len(largest))


def seconds_before(notebook: Path) -> float:
    """Return how long a chapter took in the last run or for its baseline; a new one is longest."""
    now, baseline = (load(folder, notebook.stem) for folder in (CHECKS, BASELINES))
    return now.get("execution_seconds") or baseline.get("seconds") or float("inf")


def run(
    stale: list[Path],
    scratch: Path,
    jobs: int,
    ended: Callable[[Path, float], object] = lambda path, seconds: None,
    variables: dict[str, str] | None = None,
) -> str:
    """Execute copies of notebooks, in their order; return what pytest said of them.

    They lie in ``scratch``, an empty folder not below ``_build``, their records in
    ``scratch/checks``. ``ended`` is called with each notebook and its seconds as soon as its copy
    ended. ``variables`` of the environment come on top of the usual ones.
    """
    environment = os.environ | {
        "HANDBOOK_CHECKS": str(scratch / "checks"),
        "HANDBOOK_PROFILE": os.environ.get("HANDBOOK_PROFILE") or "small",
        "OMP_NUM_THREADS": str(THREADS),
        # datasets does not see that a helper changed, and would give rows back that it once made.
        "HF_DATASETS_CACHE": str(scratch / "datasets"),
        "TOKENIZERS_PARALLELISM": "true",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    environment |= variables or {}
    if environment["HANDBOOK_PROFILE"] == "small":
        # The packaged assets are complete; a chapter that reaches for the Hub is mistaken.
        environment["HF_HUB_OFFLINE"] = "1"
    waiting, running, said = list(stale), {}, time.monotonic()
    sockets = tempfile.TemporaryDirectory(prefix="handbook-")  # not in scratch: see progress
    environment[progress.SOCKETS] = sockets.name
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                path = waiting.pop(0)
                cells = copy_without_outputs(path, scratch)
                print(f"{path.stem}: begins, {cells} cells", flush=True)
                running[path] = (_start(path, scratch, environment), time.perf_counter(), cells)
            time.sleep(0.2)
            if time.monotonic() - said >= progress.EVERY:
                at = [progress.place(scratch / path.name, n) for path, (*_, n) in running.items()]
                print("; ".join(at), flush=True)
                said = time.monotonic()
            for path, (process, begin, cells) in list(running.items()):
                if process.poll() is not None:
                    seconds = time.perf_counter() - begin
                    at = progress.place(scratch / path.name, cells)
                    how = f"{at}: failed" if process.returncode else f"{path.stem}: ends"
                    print(f"{how} after {seconds:.0f} s", flush=True)
                    del running[path]
                    ended(path, seconds)
    finally:
        for process, *_ in running.values():
            _end(process)
        sockets.cleanup()
    logs = (scratch / f"{path.stem}.log" for path in stale)
    return "\n".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)


def copy_without_outputs(path: Path, scratch: Path) -> int:
    """Copy a notebook into ``scratch`` as if it never ran; return how many cells it has."""
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, scratch / path.name)
    return len(notebook.cells)


def _start(path: Path, scratch: Path, environment: dict[str, str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "pytest", "--disable-plugin-autoload"]  # half of its start
    command += ["-p", "nbmake.pytest_plugin", "-p", "tools.progress", "-p", "no:cacheprovider"]
    command += ["--nbmake", "--overwrite", f"--nbmake-timeout={TIMEOUT}", "-q", "--no-header"]
    command += ["--tb=short", "-c", os.devnull, f"--rootdir={scratch}"]
    environment = environment | {progress.VARIABLE: str(scratch / f"{path.stem}.cell")}
    with (scratch / f"{path.stem}.log").open("w") as log:
        return subprocess.Popen(
            [*command, str(scratch / path.name)], cwd=ROOT, env=environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip


def _end(process: subprocess.Popen) -> None:
    """End a chapter with all that it started; its kernel is in a session of its own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        chapter = psutil.Process(process.pid)
        for one in [chapter, *chapter.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def _keep(cache, path: Path, scratch: Path, seconds: float) -> bool:
    """Put the executed copy of ``path`` into the cache; say what is wrong if it failed."""
    copy = scratch / path.name
    executed = nbformat.read(copy, nbformat.NO_CONVERT)
    if problem := problem_of(executed):
        failed = BUILD / "failed" / path.name
        failed.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(copy, failed)
        print(f"\nFAILED {path.relative_to(ROOT)}: {problem}\n", file=sys.stderr)
        print(f"The notebook as far as it came: {failed}\n", file=sys.stderr, flush=True)
        return False
    # The cache compares the cells' metadata too: with their times a copy would never match.
    for cell in executed.cells:
        cell.metadata.pop("execution", None)
    nbformat.write(executed, copy)
    data = load(scratch / "checks", path.stem) | {"execution_seconds": round(seconds, 1)}
    uri = path.relative_to(ROOT).as_posix()
    cache.cache_notebook_file(copy, uri=uri, data=data, overwrite=True)
    return True


def problem_of(executed: nbformat.NotebookNode) -> str | None:
    """Return which cell of an executed notebook failed and how, or None if all ran."""
    for number, cell in enumerate(executed.cells, start=1):
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                trace = "\n".join(output.traceback)
                error = f"raised {output.ename}: {output.evalue}"
                return ANSI.sub("", f"cell {number} {error}\n\n{cell.source}\n\n{trace}")
            if NOT_RECORDED in output.get("text", ""):
                return f"cell {number} lost a record: {output.text.strip()}"
        if cell.source.strip() and cell.execution_count is None:
            return f"cell {number} did not finish (killed, out of memory, or over {TIMEOUT} s)"
    return None


def _restore_checks(cache, chapters: list[Path], passed: dict[Path, bool]) -> bool:
    """Write each chapter's records to ``_build/checks``; return whether the cache holds all.

    ``passed`` has those that were executed just now.
    """
    CHECKS.mkdir(parents=True, exist_ok=True)
    names = {path.stem for path in notebook_cache.notebooks()} - {path.stem for path in chapters}
    for left in CHECKS.glob("*.json"):
        if left.stem not in names:
            left.unlink()
    width = max((len(path.stem) for path in chapters), default=0)
    records = {path: notebook_cache.record_of(cache, path) for path in chapters}
    for path, record in records.items():
        if record is None:
            how = "changed while it ran: run again" if passed.get(path) else "failed"
            print(f"{path.stem:<{width}}  {how}")
            continue
        executed = record.created.replace(microsecond=0).isoformat() + "Z"
        text = json.dumps(record.data | {"executed": executed}, indent=1, ensure_ascii=False)
        sealed.write(CHECKS / f"{path.stem}.json", text + "\n")
        how = "executed" if path in passed else "cached, not executed again"
        print(f"{path.stem:<{width}}  {record.data['execution_seconds']:7.1f} s  {how}")
    return None not in records.values()


if __name__ == "__main__":
    sys.exit(main())
