"""The files of others in ``book/_vendor``: those that the manifest records, with licences."""

from __future__ import annotations

import json
import subprocess

import pytest

from tools import vendor

MANIFEST = json.loads(vendor.MANIFEST.read_text(encoding="utf-8"))


def test_every_file_is_the_one_that_was_recorded():
    found = vendor.manifest(MANIFEST["packages"])
    assert found["sha256"] == MANIFEST["sha256"]
    assert len(found["sha256"]) > 40
    icons = json.loads((vendor.VENDOR / "fontawesome" / "icons.json").read_text("utf-8"))
    assert list(icons) == list(vendor.ICONS)
    assert all((vendor.VENDOR / "fontawesome" / f"{icon}.svg").is_file() for icon in vendor.ICONS)


def test_the_versions_are_those_that_the_command_asks_for():
    versions = {name: about["version"] for name, about in MANIFEST["packages"].items()}
    assert versions == vendor.PACKAGES
    assert all(about["integrity"].startswith("sha512-") for about in MANIFEST["packages"].values())


@pytest.mark.parametrize(
    ("name", "words"), [("katex", "MIT License"), ("fontawesome", "CC BY 4.0")]
)
def test_each_has_its_licence_beside_it(name, words):
    (licence,) = (vendor.VENDOR / name).glob("LICENSE*")
    assert words in licence.read_text(encoding="utf-8")


def test_a_failed_fetch_leaves_the_files_as_they_are(tmp_path, monkeypatch, capsys):
    def run(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="E404 not found")

    monkeypatch.setattr(vendor, "VENDOR", tmp_path)
    monkeypatch.setattr(vendor.subprocess, "run", run)
    (tmp_path / "kept").touch()
    assert vendor.main([]) == 1
    assert "E404" in capsys.readouterr().err
    assert (tmp_path / "kept").exists()
