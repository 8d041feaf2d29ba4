"""The Hub of the rehearsal is like the real one, and what the real one may answer is understood.

The clients are the real ones. Where they read their settings at import, they run in a process of
their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub import TWINS, Fault, Hub, files_of

from helpers import assets
from tools.cache import ROOT

SMALL_DISK = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
SMALL_DISK += ['mount -t tmpfs -o size=1m none "$0" && exec "$@"']


def test_every_asset_of_the_hub_has_a_twin():
    on_the_hub = [name for name, asset in assets.ASSETS.items() if asset.hub_id]
    assert list(TWINS) == on_the_hub, "one line in TWINS, tests/hub.py, in this order"


# --- assets, through the real clients ------------------------------------------------------

ASK = """
import json, sys, time
from helpers import assets

sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.01))  # the client waits between attempts
call, name = sys.argv[1:]
try:
    print(json.dumps(getattr(assets, call)(name)))
except assets.AssetError as problem:
    print(f"AssetError: {problem}")
"""


def ask(hub: Hub, home: Path, call="model", name="encoder", before=(), **more):
    """Call ``assets.model`` or ``assets.dataset`` in full, in a process of its own."""
    environment = os.environ | hub.environment(home) | {"PYTHONPATH": str(ROOT)}
    environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    done = subprocess.run(
        [*before, sys.executable, "-c", ASK, call, name], cwd=home.parent, env=environment | more,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first = done.stdout.splitlines()[0]
    return first if first.startswith("AssetError") else json.loads(first)


def assert_helpful(answer: str, name: str, hub: Hub, said: str) -> None:
    """The message names what was wanted, from where, why not, and what to do, in one line."""
    asset = assets.ASSETS[name]
    assert answer.startswith("AssetError: ")
    for part in (asset.hub_id, asset.hub_revision, hub.endpoint, "HANDBOOK_PROFILE=small", said):
        assert part in answer
    assert len(answer) < 450


FAULTS = [
    ("encoder", Fault("/api/", status=401, code="RepoNotFound"), "gone, or private"),
    ("encoder", Fault("/resolve/", status=401, code="GatedRepo"), "has to be granted"),
    ("encoder", Fault("/api/", status=404, code="RevisionNotFound"), "revision is gone"),
    ("encoder", Fault("/api/", status=429), "answered 429. Try again later"),
    ("encoder", Fault("/large/", status=503), "answered 503. Try again later"),
    ("encoder", Fault("/large/", seconds=20), "did not answer in time. Try again"),
    ("imdb", Fault("/large/", keep=0.5), "the connection broke off. Run this again"),
]


@pytest.mark.parametrize(("name", "fault", "said"), FAULTS)
def test_a_fault_of_the_hub_is_said_in_one_line(tmp_path, name, fault, said):
    patience = {"HF_HUB_DOWNLOAD_TIMEOUT": "1"} if fault.seconds else {}
    with Hub(faults=(fault,)) as hub:
        answer = ask(hub, tmp_path / "home", assets.ASSETS[name].kind, name, **patience)
        assert_helpful(answer, name, hub, said)


def assert_fetched_whole(folder: str) -> None:
    """All files of the encoder are there, byte for byte, but the pickle, which is never fetched."""
    expected = dict(files_of("encoder"))
    assert expected.pop("pytorch_model.bin")
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == expected


def test_without_the_hub_it_says_so_and_what_was_fetched_before_still_serves(tmp_path):
    home = tmp_path / "home"
    with Hub() as hub:
        answer = ask(hub, home, HF_HUB_OFFLINE="1")
        assert_helpful(answer, "encoder", hub, "HF_HUB_OFFLINE forbids it. Unset that")
        folder = ask(hub, home)
        assert ask(hub, home, HF_HUB_OFFLINE="1") == folder
    assert_fetched_whole(folder)
    assert ask(hub, home) == folder  # and now the Hub is gone
    answer = ask(hub, tmp_path / "other")
    assert_helpful(answer, "encoder", hub, "the Hub cannot be reached")


def test_a_download_that_broke_off_is_taken_up_again(tmp_path):
    with Hub(faults=(Fault("/large/", keep=0.5, times=1),)) as hub:
        answer = ask(hub, tmp_path / "home")
        if answer.startswith("AssetError"):  # the oldest clients do not try again by themselves
            assert_helpful(answer, "encoder", hub, "the connection broke off. Run this again")
            answer = ask(hub, tmp_path / "home")
    assert_fetched_whole(answer)


def test_a_full_disk_is_said_in_one_line(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    if not shutil.which("unshare") or subprocess.run([*SMALL_DISK, home, "true"]).returncode:
        pytest.skip("no small disk can be mounted here (unshare --map-root-user --mount)")
    with Hub() as hub:
        answer = ask(hub, home, before=[*SMALL_DISK, home])
        assert_helpful(answer, "encoder", hub, "the disk is full")
