"""The table of assets, as ``entries.toml`` beside this file describes them."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path
from typing import Any

from helpers.assets import prepare
from helpers.assets.asset import Asset, Tarball, Wheel

_CONTAINERS = {"wheel": Wheel, "tarball": Tarball}


def _asset(name: str, entry: dict[str, Any]) -> Asset:
    packed = [kind(**entry.pop(key)) for key, kind in _CONTAINERS.items() if key in entry]
    if "derive" in entry:
        entry["derive"] = getattr(prepare, entry["derive"])
    if "derive_with" in entry:
        entry["derive"] = partial(entry["derive"], entry.pop("derive_with"))
    return Asset(name, container=packed[0] if packed else None, **entry)


_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
ASSETS: dict[str, Asset] = {name: _asset(name, entry) for name, entry in _TABLE.items()}
