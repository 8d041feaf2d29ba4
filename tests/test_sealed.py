"""A seal covers every file of a folder, and a text is written in one step or not at all."""

from __future__ import annotations

import hashlib
import json

import pytest

from helpers import sealed

FILES = {"a.bin": b"\0", "deep/er/b.json": b"{}", "deep/manifest.json": b"1", ".c": b"2", "z": b""}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".manifest.json").write_text("left by a process that was killed while it sealed")
    sealed.seal(tmp_path, source="here")
    return tmp_path


def test_a_seal_holds_the_sum_of_every_file(folder):
    said = json.loads((folder / sealed.MANIFEST).read_text())
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    assert said == {"source": "here", "sha256": sums}
    assert sealed.damage(folder) == []
    assert not (folder / ".manifest.json").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_changed_or_is_gone_is_named(folder, name):
    (folder / name).write_bytes(b"other")
    assert [str(folder / name) in line for line in sealed.damage(folder)] == [True]
    (folder / name).unlink()
    assert sealed.damage(folder) == [f"{folder / name} is missing."]


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "metrics.json"
    sealed.write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        sealed.write(path, "new \ud800")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["metrics.json"]
