"""The files of others in ``book/_vendor``: those of the pinned packages, with their licences."""

from __future__ import annotations

import json
import subprocess

import pytest

from tools import vendor

PACKAGE, LOCK, ICONS = (
    json.loads((vendor.VENDOR / name).read_text(encoding="utf-8"))
    for name in ("package.json", "package-lock.json", vendor.ICONS)
)


@pytest.mark.parametrize(
    ("name", "folder", "licence", "files"),
    [
        ("katex", "katex", "MIT License", ["katex.min.js"]),
        (
            "@fortawesome/fontawesome-free", "fontawesome", "CC BY 4.0",
            [f"{icon}.svg" for icon in ICONS],
        ),
    ],
)  # fmt: skip
def test_the_files_are_those_of_the_pinned_version_and_have_their_licence(
    name, folder, licence, files
):
    version = PACKAGE["dependencies"][name]
    locked = LOCK["packages"][f"node_modules/{name}"]
    assert locked["version"] == version
    assert locked["integrity"].startswith("sha512-")
    assert "resolved" not in locked
    for file in files:
        assert version in (vendor.VENDOR / folder / file).read_text("utf-8"), "make vendor"
    (path,) = (vendor.VENDOR / folder).glob("LICENSE*")
    assert licence in path.read_text(encoding="utf-8")


def test_a_failed_fetch_leaves_the_files_as_they_are(monkeypatch):
    def run(command, **_):
        raise subprocess.CalledProcessError(1, command)

    before = sorted(vendor.VENDOR.rglob("*"))
    monkeypatch.setattr(vendor.subprocess, "run", run)
    with pytest.raises(SystemExit, match="npm could not fetch the packages"):
        vendor.main()
    assert sorted(vendor.VENDOR.rglob("*")) == before
