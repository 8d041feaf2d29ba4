"""The files of others in ``book/_vendor``: those that the manifest records, with licences."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile

import pytest

from tools import vendor

MANIFEST = json.loads(vendor.MANIFEST.read_text(encoding="utf-8"))
FOLDERS = {"katex": "katex", "@fortawesome/fontawesome-free": "fontawesome"}


def test_every_file_is_the_one_that_was_recorded():
    found = vendor.manifest(MANIFEST["packages"])
    assert found["sha256"] == MANIFEST["sha256"]
    assert len(found["sha256"]) > 40


def test_the_versions_are_those_that_the_command_asks_for():
    versions = {name: about["version"] for name, about in MANIFEST["packages"].items()}
    assert versions == {
        "katex": vendor.KATEX,
        "@fortawesome/fontawesome-free": vendor.FONTAWESOME,
    }
    assert all(about["integrity"].startswith("sha512-") for about in MANIFEST["packages"].values())


@pytest.mark.parametrize(
    ("name", "words"), [("katex", "MIT License"), ("fontawesome", "CC BY 4.0")]
)
def test_each_has_its_licence_beside_it(name, words):
    (licence,) = (vendor.VENDOR / name).glob("LICENSE*")
    assert words in licence.read_text(encoding="utf-8")


def test_every_icon_that_is_asked_for_is_there():
    table = json.loads((vendor.VENDOR / "fontawesome" / "icons.json").read_text("utf-8"))
    assert list(table) == list(vendor.ICONS)
    assert all((vendor.VENDOR / "fontawesome" / f"{icon}.svg").is_file() for icon in vendor.ICONS)


def test_npm_that_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="npm is not installed"):
        vendor.unpack("katex", vendor.KATEX, tmp_path)


@pytest.mark.parametrize("shape", ["list", "dictionary"])
def test_what_npm_fetched_is_unpacked(tmp_path, monkeypatch, shape):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "LICENSE").write_text("free")
    with tarfile.open(tmp_path / "thing-1.0.0.tgz", "w:gz") as tar:
        tar.add(tmp_path / "package", "package")
    shutil.rmtree(tmp_path / "package")
    about = {"filename": "thing-1.0.0.tgz", "integrity": "sha512-x"}
    answer = json.dumps([about] if shape == "list" else {"thing": about})

    def run(command, **_):
        assert command[:3] == ["npm", "pack", "thing@1.0.0"]
        return subprocess.CompletedProcess(command, 0, answer, "")

    monkeypatch.setattr(vendor.subprocess, "run", run)
    folder, integrity = vendor.unpack("thing", "1.0.0", tmp_path)
    assert (folder / "LICENSE").read_text() == "free"
    assert integrity == "sha512-x"


def test_a_failed_fetch_leaves_the_files_as_they_are(tmp_path, monkeypatch, capsys):
    def run(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="E404 not found")

    monkeypatch.setattr(vendor, "VENDOR", tmp_path)
    monkeypatch.setattr(vendor.subprocess, "run", run)
    (tmp_path / "kept").touch()
    assert vendor.main([]) == 1
    assert "E404" in capsys.readouterr().err
    assert (tmp_path / "kept").exists()


def test_the_command_says_what_it_is():
    run = subprocess.run(
        [sys.executable, "-m", "tools.vendor", "--help"], capture_output=True, text=True, check=True
    )
    assert "book/_vendor" in run.stdout
