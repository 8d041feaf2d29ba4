"""Where executed notebooks are kept, and what makes a kept one worthless.

Jupyter Cache notices changed code cells, but not changed ``helpers``, other versions of libraries
or another number of threads. So each state of those has a cache of its own, named after a hash.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path

import nbformat
from filelock import FileLock, Timeout
from jupyter_cache import get_cache
from jupyter_cache.cache.db import NbCacheRecord
from jupyter_cache.cache.main import JupyterCacheBase

from helpers import sealed

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
# A lane (see the Makefile) builds elsewhere: its figures are not those of the lock.
BUILD = ROOT / (os.environ.get("HANDBOOK_BUILD") or "_build")
CACHES = BUILD / "cache"
CHECKS = BUILD / "checks"
KEEP = 3
THREADS = 1  # of a chapter: two chapters side by side are quicker than one with two threads

ANSI = re.compile(r"\x1b\[[0-9;]*m")  # the colours of a terminal


def notebooks() -> list[Path]:
    """Return the chapters in reading order."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def digest(files: Iterable[Path], root: Path, *others: object) -> str:
    """Return a hash of the names, below ``root``, and contents of ``files``, and of ``others``."""
    found = hashlib.sha256(repr(others).encode())
    for path in sorted(files):
        found.update(f"{os.path.relpath(path, root)}\0{sealed.sha256(path)}\0".encode())
    return found.hexdigest()[:16]


def environment_key() -> str:
    """Return a hash of everything but the notebook that its outputs depend on."""
    profile = os.environ.get("HANDBOOK_PROFILE") or "small"
    machine = (platform.python_version(), platform.machine())
    kinds = ("*.py", "*.toml", "*.yaml", "*.sh")
    helpers = (path for kind in kinds for path in (ROOT / "helpers").rglob(kind))
    installed = sorted({f"{each.name}=={each.version}" for each in distributions()})
    return digest(helpers, ROOT, profile, THREADS, installed, machine)


def cache_path() -> Path:
    """Return the folder of the cache for the present state of ``helpers`` and the packages."""
    return CACHES / environment_key()


def open_cache() -> JupyterCacheBase:
    """Open that cache, mark it as the latest, and drop the oldest ones."""
    path = cache_path()
    path.mkdir(parents=True, exist_ok=True)
    os.utime(path)
    by_age = sorted(CACHES.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for old in by_age[KEEP:]:
        if old != path:  # a clock that was set back makes all others look younger
            shutil.rmtree(old, ignore_errors=True)
    return get_cache(path)


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other build is at work in this checkout, and keep others waiting meanwhile."""
    lock = FileLock(CACHES.parent / ".lock")
    CACHES.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print("Another build is at work in this checkout: waiting.", file=sys.stderr, flush=True)
        held = lock.acquire()
    with held:
        yield


def record_of(cache: JupyterCacheBase, notebook: Path) -> NbCacheRecord | None:
    """Return the record of the executed ``notebook``, or None if it must be run."""
    try:
        record = cache.match_cache_notebook(nbformat.read(notebook, nbformat.NO_CONVERT))
    except KeyError:
        return None
    # Jupyter Book by itself executes and caches too, but without the records of the checks.
    return record if "checks" in record.data else None
