"""The Hub of the rehearsal is like the real one, and what the real one may answer is understood.

The clients are the real ones. Where they read their settings at import, they run in a process of
their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub import TWINS, Fault, Hub, blob, twins
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from helpers import assets
from tools.cache import ROOT

BERT, IMDB = assets.ASSETS["encoder"], assets.ASSETS["imdb"]
SMALL_DISK = "mount -t tmpfs -o size=1m none {0} && exec {1}"


@pytest.fixture(scope="module")
def hub():
    """A Hub without faults."""
    with Hub() as running:
        yield running
        assert running.unknown == []


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """What conftest.py forbids; each test here asks the Hub of this machine, by its address."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.endpoint, token=False)


# --- the server -------------------------------------------------------------------------


def test_every_asset_has_a_twin():
    assert sorted(TWINS) == sorted(assets.ASSETS), "one line in TWINS, tests/hub.py"
    for twin, asset in zip(twins(), assets.ASSETS.values(), strict=True):
        assert (twin.id, twin.kind, twin.commit) == (
            asset.hub_id,
            f"{asset.kind}s",
            asset.hub_revision,
        )


def test_information_is_what_the_client_expects(api):
    model = api.model_info(BERT.hub_id)
    assert (model.id, model.sha) == (BERT.hub_id, BERT.hub_revision)
    assert "config.json" in {file.rfilename for file in model.siblings}
    data = api.dataset_info(IMDB.hub_id, revision=IMDB.hub_revision)
    assert (data.id, data.sha) == (IMDB.hub_id, IMDB.hub_revision)


def test_an_old_name_still_leads_to_the_repository(api):
    assert api.model_info("bert-base-cased").id == BERT.hub_id


def test_trees_and_paths(api):
    tree = {entry.path: entry for entry in api.list_repo_tree(IMDB.hub_id, repo_type="dataset")}
    assert set(tree) == {"plain_text", "README.md"}
    whole = api.list_repo_files(IMDB.hub_id, repo_type="dataset")
    assert "plain_text/train-00000-of-00001.parquet" in whole
    (one,) = api.get_paths_info(BERT.hub_id, ["model.safetensors", "missing"])
    content = twins()[0].files["model.safetensors"]
    assert (one.size, one.lfs.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("file", ["model.safetensors", "vocab.txt"])
def test_a_file_is_described_and_delivered(api, hub, tmp_path, file):
    content = twins()[0].files[file]
    etag = hashlib.sha256(content).hexdigest() if file.endswith("safetensors") else blob(content)
    address = f"{hub.endpoint}/{BERT.hub_id}/resolve/{BERT.hub_revision}/{file}"
    told = api.get_hf_file_metadata(url=address)
    assert (told.etag, told.size, told.commit_hash) == (etag, len(content), BERT.hub_revision)
    path = hf_hub_download(BERT.hub_id, file, endpoint=hub.endpoint, cache_dir=tmp_path)
    assert Path(path).read_bytes() == content


def test_what_is_not_there_is_refused_as_the_hub_does(api, hub, tmp_path):
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("nobody/nothing")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(BERT.hub_id, revision="0" * 40)
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(BERT.hub_id, "missing", endpoint=hub.endpoint, cache_dir=tmp_path)
    with (
        Hub(faults=(Fault("/api/models", status=403, code="GatedRepo"),)) as gated,
        pytest.raises(GatedRepoError),
    ):
        HfApi(endpoint=gated.endpoint).model_info(BERT.hub_id)


def test_a_route_that_is_not_documented_is_noted():
    import urllib.error
    import urllib.request

    with Hub() as other:
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{other.endpoint}/api/whatever")
        assert other.unknown == ["GET /api/whatever"]


# --- assets, through the real clients ------------------------------------------------------

ASK = """
import dataclasses, json, sys, time
from helpers import assets, checks

sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.01))  # the client waits between attempts
call, name, pinned = sys.argv[1:]
if pinned == "unpinned":
    assets.ASSETS[name] = dataclasses.replace(assets.ASSETS[name], hub_revision=None)
try:
    print(json.dumps(getattr(assets, call)(name)))
except assets.AssetError as problem:
    print(f"AssetError: {problem}")
else:
    checks.begin("99-ask")
    checks.check_equal("recorded", 1, 1)
"""


def ask(hub: Hub, home: Path, call: str, name: str, *, pinned: str = "pinned", disk=None, **more):
    """Call ``assets.model`` or ``assets.dataset`` in full, in a process of its own."""
    environment = os.environ | hub.environment(home) | {"PYTHONPATH": str(ROOT)}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HANDBOOK_CHECKS": str(home.parent)}
    command = [sys.executable, "-c", ASK, call, name, pinned]
    if disk:
        quoted = 'env python -c "$ASK" ' + f"{call} {name} {pinned}"
        environment |= {"ASK": ASK, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = [*disk, SMALL_DISK.format(home, quoted)]
    environment |= more
    done = subprocess.run(
        command, cwd=home.parent, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first = done.stdout.splitlines()[0]
    return first if first.startswith("AssetError") else json.loads(first)


def assert_helpful(answer: str, asset: assets.Asset, hub: Hub) -> None:
    """The message names what was wanted, from where, and what to do, in one line."""
    assert answer.startswith("AssetError: ")
    for part in (asset.hub_id, asset.hub_revision, hub.endpoint, "HANDBOOK_PROFILE=small"):
        assert part in answer
    assert len(answer) < 450


FAULTS = {
    "no such repository": (Fault("/api/", status=401, code="RepoNotFound"), "gone, or private"),
    "gated, no token": (Fault("/resolve/", status=401, code="GatedRepo"), "has to be granted"),
    "gated, no access": (Fault("/resolve/", status=403, code="GatedRepo"), "has to be granted"),
    "revision gone": (Fault("/api/", status=404, code="RevisionNotFound"), "revision is gone"),
    "too many requests": (Fault("/api/", status=429), "answered 429. Try again later"),
    "broken": (Fault("/api/", status=500), "answered 500. Try again later"),
    "overloaded": (Fault("/resolve/", status=503), "answered 503. Try again later"),
    "storage broken": (Fault("/large/", status=500), "answered 500. Try again later"),
    "truncated": (Fault("/large/", keep=0.5), "the connection broke off. Run this again"),
    "slow": (Fault("/large/", seconds=20), "did not answer in time. Try again"),
}


# Models and data sets take the same way: two faults are enough to show that.
@pytest.mark.parametrize(
    ("call", "name", "what"),
    [
        *(("model", "encoder", what) for what in FAULTS),
        ("dataset", "imdb", "gated, no access"),
        ("dataset", "imdb", "truncated"),
    ],
)
def test_a_fault_of_the_hub_is_said_in_one_line(tmp_path, call, name, what):
    fault, said = FAULTS[what]
    patience = {"HF_HUB_DOWNLOAD_TIMEOUT": "1"} if fault.seconds else {}
    with Hub(faults=(fault,)) as hub:
        answer = ask(hub, tmp_path / "home", call, name, **patience)
        assert_helpful(answer, assets.ASSETS[name], hub)
    assert said in answer


def test_a_hub_that_is_not_there_is_said_in_one_line(tmp_path):
    with Hub() as hub:
        pass
    answer = ask(hub, tmp_path / "home", "model", "encoder")
    assert_helpful(answer, BERT, hub)
    assert "the Hub cannot be reached" in answer


def test_offline_says_so_and_what_was_fetched_before_still_serves(tmp_path):
    with Hub() as hub:
        home = tmp_path / "home"
        answer = ask(hub, home, "model", "encoder", HF_HUB_OFFLINE="1")
        assert_helpful(answer, BERT, hub)
        assert "HF_HUB_OFFLINE forbids it. Unset that" in answer
        folder = ask(hub, home, "model", "encoder")
        assert ask(hub, home, "model", "encoder", HF_HUB_OFFLINE="1") == folder
    assert ask(hub, home, "model", "encoder") == folder  # and now the Hub is gone


def test_a_download_that_broke_off_is_taken_up_again(tmp_path):
    with Hub(faults=(Fault("/large/", keep=0.5, times=1),)) as hub:
        answer = ask(hub, tmp_path / "home", "model", "encoder")
        if answer.startswith("AssetError"):  # the oldest clients do not try again by themselves
            assert "the connection broke off. Run this again" in answer
            answer = ask(hub, tmp_path / "home", "model", "encoder")
    folder = Path(answer)
    for file, content in twins()[0].files.items():
        if file.endswith(".bin"):
            assert not (folder / file).exists()
        else:
            assert (folder / file).read_bytes() == content


def test_a_full_disk_is_said_in_one_line(tmp_path):
    unshare = shutil.which("unshare")
    disk = [str(unshare), "--map-root-user", "--mount", "sh", "-c"]
    (tmp_path / "home").mkdir()
    if not unshare or subprocess.run([*disk, SMALL_DISK.format(tmp_path, "true")]).returncode:
        pytest.skip("no small disk can be mounted here (unshare --map-root-user --mount)")
    with Hub() as hub:
        answer = ask(hub, tmp_path / "home", "model", "encoder", disk=disk)
        assert_helpful(answer, BERT, hub)
    assert "the disk is full" in answer


@pytest.mark.parametrize(("call", "name"), [("model", "encoder"), ("dataset", "imdb")])
def test_without_a_pinned_revision_the_commit_is_recorded_in_the_ledger(tmp_path, call, name):
    asset = assets.ASSETS[name]
    with Hub() as hub:
        answer = ask(hub, tmp_path / "home", call, name, pinned="unpinned")
    if call == "model":
        assert answer.endswith(asset.hub_revision)
    else:
        assert answer == {"path": asset.hub_id, "revision": asset.hub_revision}
    written = json.loads((tmp_path / "99-ask.json").read_text(encoding="utf-8"))
    assert written["assets"] == {name: f"{asset.hub_id}@{asset.hub_revision}"}
