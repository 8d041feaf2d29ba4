"""The only place that knows where models and data sets come from.

In the ``small`` profile they come out of packages of the Python package index and of npm's
registry, which carry the real weights and the real reviews bit for bit. In the ``full`` profile
the same names resolve to repositories of the Hugging Face Hub, where it has them::

    tokenizer = AutoTokenizer.from_pretrained(assets.model("encoder"))
    reviews = load_dataset(**assets.dataset("imdb"))

On the command line::

    python -m helpers.assets            # what there is, and what is cached
    python -m helpers.assets fetch      # get everything that is missing or damaged
    python -m helpers.assets verify     # recompute every SHA-256
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers import profiles
from helpers.assets.cache import (
    VARIABLE,
    AssetError,
    NpmMissing,
    cache_folder,
    fetch,
    fetch_once,
    find,
    problems,
)
from helpers.assets.entries import ASSETS, Asset, Tarball, Wheel
from helpers.assets.hub import snapshot
from helpers.sealed import MANIFEST as MANIFEST

__all__ = [
    "ASSETS",
    "VARIABLE",
    "Asset",
    "AssetError",
    "NpmMissing",
    "Tarball",
    "Wheel",
    "cache_folder",
    "dataset",
    "fetch",
    "model",
    "problems",
    "used",
]

_USED: dict[str, str] = {}


def model(name: str) -> str:
    """Return what ``from_pretrained`` takes for the model ``name``.

    In ``small`` a folder of the cache, fetched first if it is missing or damaged; in
    ``full`` a repository of the Hub, downloaded at its pinned revision.

    Raises:
        KeyError: there is no model of that name.
        AssetError: it is not cached and cannot be fetched.
    """
    return str(_folder_of(find(name, "model")))


def dataset(name: str) -> dict[str, Any]:
    """Return the keyword arguments that make ``load_dataset`` load the data set ``name``.

    Both profiles give a ``DatasetDict`` with a ``train`` split whose columns are ``text``
    (a string) and ``label`` (a ``ClassLabel``); the Hub's has further splits. Translations have
    the columns ``key`` (a string) and ``translation`` (a dictionary from language to string, or
    to None), and are the same in both profiles. Errors are those of :func:`model`.
    """
    asset = find(name, "dataset")
    folder = _folder_of(asset)
    if profiles.current() == "full" and asset.hub_id:
        # The snapshot's folder is named after the commit, also where no revision is pinned.
        return {"path": asset.hub_id, "revision": folder.name}
    from datasets import ClassLabel, Features, Value

    string = Value("string")
    columns: dict[str, Any] = {"text": string, "label": ClassLabel(names=list(asset.labels))}
    if asset.languages:
        columns = {"key": string, "translation": dict.fromkeys(asset.languages, string)}
    files = {"train": str(folder / "train.jsonl")}
    return {"path": "json", "data_files": files, "features": Features(columns)}


def used() -> dict[str, str]:
    """Return the exact source of every asset this process asked for, by name.

    A packaged asset reads ``package==version``, one of the Hub ``id@commit``.
    """
    return dict(_USED)


def _folder_of(asset: Asset) -> Path:
    """Return the folder that holds an asset, fetched if need be, and note where it is from."""
    if profiles.current() == "full" and asset.hub_id:
        folder = snapshot(asset)
        _USED[asset.name] = f"{asset.hub_id}@{folder.name}"
    else:
        folder = fetch_once(asset.name, cache_folder())
        _USED[asset.name] = asset.container.requirement
    return folder
