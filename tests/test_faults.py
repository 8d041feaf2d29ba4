"""What is broken on purpose, and what must then happen: see the page book/faults.md.

Each fault is tried on a command of the handbook in a process of its own; ``faulty.py`` gives the
command something small to work on. A test that saw all go well records it for the page.
"""

from __future__ import annotations

import csv
import hashlib
import http.server
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import faulty
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output, writes

from helpers import assets, memory
from tools import cache as notebook_cache
from tools import execute, faults

pytestmark = pytest.mark.faults

ROOT = notebook_cache.ROOT
FAULTY = [sys.executable, str(ROOT / "tests/faulty.py")]
TINY = ["--batch-size", "16", "--max-length", "16", "--read-length", "16", "--evaluations", "2"]
TINY += ["--epochs", "1", "--trainable", "all", "--learning-rate", "0.01"]
GIB = 2**30


@pytest.fixture
def place(tmp_path):
    """An environment in which pip knows the small wheel only, and the cache is empty."""
    (tmp_path / "links").mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    return environment | {
        "HANDBOOK_ASSETS": str(tmp_path / "cache"),
        "HANDBOOK_PROFILE": "small",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(tmp_path / "links"),
        "FAULTY_LINKS": str(tmp_path / "links"),
        "PIP_NO_INDEX": "1",
    }


def run(
    command: list[str],
    environment: dict[str, str],
    before: Callable[[], None] | None = None,
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, cwd=cwd, preexec_fn=before, timeout=550, text=True,
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
    )  # fmt: skip


def one_clear_message(said: str) -> str:
    """The one line that begins with "error:"; fails if there is a traceback or none or two."""
    assert "Traceback" not in said, said
    messages = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1, said
    return messages[0]


def is_whole(folder: Path) -> bool:
    return all((folder / name).read_bytes() == data for name, data in faulty.CONTENT.items())


def left_over(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.name not in ("small", ".small.lock")]


def limit_files(size: int) -> Callable[[], None]:
    """No file may grow beyond ``size``: what a full disk is to a process, without being root."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


# --- killed -------------------------------------------------------------------------


def killed_everywhere(
    folder: Path, command: list[str], environment: dict[str, str]
) -> list[dict[str, object]]:
    """Run ``command`` once for each moment at which it changes a file in ``folder``, see faulty."""
    done = run([*FAULTY, "--killing", str(folder), *command], environment)
    assert done.returncode == 0, done.stderr[-2000:]
    *lines, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert last["status"] == 0, last["said"]
    assert lines
    for line in lines:
        assert line["status"] == -signal.SIGKILL
        assert line["after"] == 0, f"killed at {line['moment']}, then: {line['said']}"
    return [*lines, last]


def test_a_repair_killed_at_any_moment_leaves_the_old_copy_or_the_new(place, tmp_path):
    cache = tmp_path / "cache"
    assert run([*FAULTY, "assets", "fetch"], place).returncode == 0
    (cache / "small/config.json").write_bytes(b"damaged")
    old = faulty.contents(cache / "small")
    *lines, last = killed_everywhere(cache, ["assets", "fetch"], place)
    new = {name.removeprefix("small/"): sha256 for name, sha256 in last["then"].items()}
    assert set(new) == {*faulty.CONTENT, assets.MANIFEST}
    for line in lines:
        left = {name: sha256 for name, sha256 in line["left"].items() if name.startswith("small/")}
        left = {name.removeprefix("small/"): sha256 for name, sha256 in left.items()}
        swept = line["moment"].endswith("-damaged")
        assert left in (old, new) or (not left and "rename" in line["moment"]) or swept, line
        assert line["then"] == last["then"], "not swept up"
    assert len(lines) >= 10
    faults.record(
        "Killed",
        "SIGKILL at each change of a file while an asset is fetched",
        "The cache held the old copy, the new one or none, never a part. The next fetch got it.",
        cases=len(lines),
    )


class Stalling(http.server.BaseHTTPRequestHandler):
    """A package index that sends half of the wheel, then nothing more."""

    def do_GET(self) -> None:
        server = self.server
        self.send_response(200)
        if not self.path.endswith(".whl"):
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f'<a href="/{server.wheel.name}">{server.wheel.name}</a>'.encode())
            return
        content = server.wheel.read_bytes()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        server.begun.set()
        server.end.wait(60)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_download_killed_half_way_is_begun_again(place, tmp_path):
    faulty.small_asset(tmp_path / "links")
    (wheel,) = (tmp_path / "links").glob("*.whl")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalling) as server:
        server.wheel, server.begun, server.end = wheel, threading.Event(), threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        index = {"PIP_INDEX_URL": f"http://127.0.0.1:{server.server_port}/", "NO_PROXY": "*"}
        stalled = {key: v for key, v in place.items() if key != "PIP_NO_INDEX"} | index
        del stalled["PIP_FIND_LINKS"]
        try:
            with subprocess.Popen(
                [*FAULTY, "assets", "fetch"], env=stalled, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ) as process:  # fmt: skip
                assert server.begun.wait(60), "the download did not begin"
                process.kill()
        finally:
            server.end.set()
            server.shutdown()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "cache/small").exists()
    done = run([*FAULTY, "assets", "fetch"], place)
    assert done.returncode == 0, done.stderr
    assert is_whole(tmp_path / "cache/small")
    assert left_over(tmp_path / "cache") == []
    faults.record(
        "Killed",
        "SIGKILL in the middle of a download",
        "Nothing was in the cache. The next fetch swept up and got it whole.",
    )


MOMENTS = (
    r"step 3|half of (model|optim)|(open|os.rename) (trainer_state|.manifest)|os.remove manifest"
    r"|os.r\w+ (config.json|model.safetensors|.metrics|.out-saving)"
)


def test_training_killed_at_any_moment_is_resumed_to_the_same_weights(place, tmp_path):
    work = tmp_path / "work"
    environment = place | {"FAULTY_MOMENTS": f"^({MOMENTS})"}
    environment.pop("HANDBOOK_ASSETS")  # the tokenizer is the encoder's
    command = ["finetuning", "--output", str(work / "out"), *TINY, "--evaluations", "3"]
    *lines, last = killed_everywhere(work, command, environment)
    weights = [name for name in last["then"] if name.endswith("model.safetensors")]
    assert len(weights) == 3  # two checkpoints and the model; the first one was deleted
    before, half = last["then"], 0
    for line in lines:
        assert set(line["then"]) == set(before), line["moment"]
        for name in weights:
            assert line["then"][name] == before[name], f"killed at {line['moment']}: {name}"
        left = line["left"]
        if "out/config.json" in left:  # without it, nothing loads the folder
            for name in ("config.json", "model.safetensors", "tokenizer.json"):
                assert left[f"out/{name}"] == before[f"out/{name}"], line["moment"]
        for folder in {name.rpartition("/")[0] for name in left if "checkpoint" in name}:
            sealed = f"{folder}/{assets.MANIFEST}" in left
            files = [f"{folder}/{name}" for name in ("model.safetensors", "config.json")]
            # The middle one is deleted in the end, so there is nothing to compare it with.
            same = all(name in left and left[name] == before.get(name, left[name])
                       for name in files)  # fmt: skip
            assert same or not sealed
            half += not sealed
    moments = [line["moment"] for line in lines]
    assert half >= 4, "no kill left a checkpoint unsealed"
    training = sum(moment.startswith("step") for moment in moments)
    assert training == 1
    final = moments[[n for n, one in enumerate(moments) if "manifest" in one][-1] + 1 :]
    faults.record(
        "Killed",
        "SIGKILL while the Trainer trains or writes a checkpoint",
        "A half-written checkpoint was passed over; resumed, it gave the very same weights.",
        cases=len(lines) - len(final),
    )
    faults.record(
        "Killed",
        "SIGKILL while the trained model and its metrics are saved",
        "The folder could be loaded whole or not at all; resumed, it gave the very same weights.",
        cases=len(final),
    )


# --- disk and memory ----------------------------------------------------------------


def can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    command = "mount -t tmpfs -o size=64k none /mnt"
    return (
        subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True).returncode == 0
    )


def test_a_full_disk_is_named_and_nothing_is_kept(place, tmp_path):
    fault = "A disk too small for an asset, for its wheel or for what is in it"
    if not can_mount():
        faults.skip("Disk and memory", fault, "a small disk can only be mounted by root")
        pytest.skip("a small disk can only be mounted by root")
    disk = tmp_path / "small disk"
    disk.mkdir()
    place["HANDBOOK_ASSETS"] = str(disk / "cache")
    for size in ("64k", "700k", "1200k", "1800k"):
        script = f'mount -t tmpfs -o size={size} none "$0"; "$@"; echo "exit $?"; find "$0" -type f'
        command = ["unshare", "-m", "sh", "-c", script, str(disk), *FAULTY, "assets", "fetch"]
        done = run(command, place)
        message = one_clear_message(done.stderr)
        assert "small could not be written" in message
        assert "The disk is full" in message
        assert "HANDBOOK_ASSETS" in message
        assert "exit 1" in done.stdout
        files = done.stdout.split("exit 1")[1].split("\n")
        assert [one for one in files if one and not one.endswith(".lock")] == []
    faults.record(
        "Disk and memory", fault, "One message says that the disk is full; nothing was kept.",
        cases=4,
    )  # fmt: skip


@pytest.mark.parametrize("size", [1_000, 500_000])
def test_a_file_that_cannot_grow_is_like_a_full_disk(place, tmp_path, size):
    run([*FAULTY, "assets", "fetch"], place)
    (tmp_path / "cache/small/config.json").write_bytes(b"damaged")
    old = faulty.contents(tmp_path / "cache/small")
    done = run([*FAULTY, "assets", "fetch"], place, limit_files(size))
    assert done.returncode == 1
    assert "The disk is full" in one_clear_message(done.stderr)
    assert faulty.contents(tmp_path / "cache/small") == old
    assert left_over(tmp_path / "cache") == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished tiny training with two checkpoints, and the environment it ran in."""
    folder = tmp_path_factory.mktemp("trained")
    environment = os.environ | {
        "HANDBOOK_PROFILE": "small",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "FAULTY_LINKS": str(folder),
    }
    done = run([*FAULTY, "finetuning", "--output", str(folder / "out"), *TINY], environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "out", environment


def test_training_on_a_full_disk_ends_with_one_message_and_keeps_the_old_model(trained, tmp_path):
    out = shutil.copytree(trained[0], tmp_path / "out")
    (out / "training.json").unlink()
    old = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    for checkpoint in out.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    command = [*FAULTY, "finetuning", "--output", str(out), *TINY, "--seed", "1"]
    done = run(command, trained[1], limit_files(500_000))
    assert done.returncode == 1
    assert "The disk is full" in one_clear_message(done.stderr)
    left = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert left.pop("training.json")
    assert left == old
    assert not list(out.glob(f"checkpoint-*/{assets.MANIFEST}"))
    done = run([*command, "--resume"], trained[1])
    assert done.returncode == 0, "the half-written checkpoint is in the way"
    faults.record(
        "Disk and memory",
        "A disk that fills up while a checkpoint is written",
        "One message; the model saved before was untouched, the half checkpoint never loaded.",
    )


# What the disk lacks room for: each is written by another library, with errors of its own.
SMALL_DISKS = {
    "the weights of the first checkpoint": "900k",
    "its tokenizer": "1500k",
    "its optimizer": "2500k",
    "the optimizer of the second one": "6500k",
    "the trained model": "8500k",
}


def fill_and_enlarge(disk: Path, size: str, environment: dict[str, str]) -> tuple[str, str, str]:
    """Train on a small disk until it is full, make it larger, resume; what was said and left."""
    script = """
    mount -t tmpfs -o "size=$1" none "$0" && shift
    "$@" > /dev/null; echo "exit $?"
    mount -o remount,size=100m "$0"
    "$@" --resume 2> /dev/null > /dev/null; echo "exit $?"
    cd "$0"; find . -name "*.safetensors" | sort | xargs sha256sum
    """
    disk.mkdir()
    command = [*FAULTY, "finetuning", "--output", str(disk / "out"), *TINY]
    done = run(["unshare", "-m", "sh", "-c", script, str(disk), size, *command], environment)
    first, then, *sums = done.stdout.splitlines()
    return done.stderr, f"{first}, {then}", "\n".join(sums)


def test_a_training_that_filled_its_disk_goes_on_once_there_is_room(trained, tmp_path):
    fault = "A disk too small for a training, at five different files"
    if not can_mount():
        faults.skip("Disk and memory", fault, "a small disk can only be mounted by root")
        pytest.skip("a small disk can only be mounted by root")
    out, environment = trained
    whole = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./out/{path.relative_to(out)}"
             for path in sorted(out.rglob("*.safetensors"))]  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        tries = {
            what: pool.submit(fill_and_enlarge, tmp_path / size, size, environment)
            for what, size in SMALL_DISKS.items()
        }
    for what, one in tries.items():
        said, ended, sums = one.result()
        assert ended == "exit 1, exit 0", f"{what}: {ended}\n{said[-2000:]}"
        assert "The disk is full" in one_clear_message(said), what
        assert sorted(sums.splitlines()) == sorted(whole), f"{what}: other weights"
    faults.record(
        "Disk and memory",
        fault,
        "One message; with more room it was resumed, and gave the very same weights.",
        cases=len(tries),
    )


def test_a_check_that_cannot_be_recorded_makes_the_build_fail(tmp_path):
    code = "from helpers import checks\nchecks.begin('01-a')\nchecks.check_equal('one', 1, 1)"
    environment = os.environ | {"HANDBOOK_CHECKS": str(tmp_path)}
    done = run([sys.executable, "-c", code], environment, limit_files(100))
    assert done.returncode == 0
    assert "✓ one" in done.stdout
    assert list(tmp_path.iterdir()) == []
    output = new_output("stream", text=done.stdout)
    cell = new_code_cell(code, execution_count=1, outputs=[output])
    assert "lost a record" in execute.problem_of(new_notebook(cells=[cell]))
    faults.record(
        "Disk and memory",
        "A disk that fills up while a check is recorded",
        "The reader goes on and is told; a build fails and names the cell. No half record.",
    )


def test_a_read_only_cache_serves_what_is_sound_and_names_what_it_cannot_mend(place, tmp_path):
    cache = tmp_path / "cache"
    fault = "A cache that may not be written: sound, damaged, empty"
    if os.geteuid() == 0 and not can_mount():
        faults.skip("Disk and memory", fault, "root may write anywhere, and cannot mount here")
        pytest.skip("root may write anywhere, and cannot mount here")
    assert run([*FAULTY, "assets", "fetch"], place).returncode == 0

    def read_only() -> subprocess.CompletedProcess[str]:
        if os.geteuid() == 0:
            script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
            before = ["unshare", "-m", "sh", "-c", script, str(cache)]
            return run([*before, *FAULTY, "assets", "fetch"], place)
        cache.chmod(0o555)
        try:
            return run([*FAULTY, "assets", "fetch"], place)
        finally:
            cache.chmod(0o755)

    done = read_only()
    assert done.returncode == 0, done.stderr
    assert "small: ready" in done.stdout
    (cache / "small/config.json").write_bytes(b"damaged")
    for state in ("damaged", "empty"):
        if state == "empty":
            shutil.rmtree(cache / "small")
        before = faulty.contents(cache)
        done = read_only()
        assert done.returncode == 1
        message = one_clear_message(done.stderr)
        assert f"the asset cache {cache} cannot be written" in message
        assert "HANDBOOK_ASSETS" in message
        assert faulty.contents(cache) == before
    faults.record(
        "Disk and memory", fault,
        "A sound one was used as it is; the others gave one message with the way out.", cases=3,
    )  # fmt: skip


def test_training_that_would_not_fit_into_memory_is_refused_before_it_begins(place, tmp_path):
    place.pop("HANDBOOK_ASSETS")
    place |= {"FAULTY_SPARE": str(GIB), "FAULTY_WORDS": "300"}
    command = ["finetuning", "--output", str(tmp_path / "out"), "--batch-size", "48"]
    command += ["--max-length", "256", "--trainable", "all"]
    done = run([*FAULTY, *command], place)
    assert done.returncode == 1, done.stderr[-2000:]
    message = one_clear_message(done.stderr)
    needed, there = map(float, re.findall(r"([\d.]+) GiB", message))
    assert needed - there == pytest.approx(1, abs=0.11)  # both are rounded to a tenth
    assert "training with batches of 48 reviews" in message
    assert not list(tmp_path.glob("out/*"))
    faults.record(
        "Disk and memory",
        "1 GiB less memory than a training needs",
        "Refused before it began, with what is needed and what is there.",
    )


def test_chapters_that_would_not_fit_into_memory_are_not_begun(tmp_path, monkeypatch, capsys):
    baseline = tmp_path / "01-large.json"
    baseline.write_text(json.dumps({"memory_gib": 3.0, "checks": []}))
    path = tmp_path / "notebooks/01-large.ipynb"
    path.parent.mkdir()
    path.write_text(writes(new_notebook(cells=[new_code_cell("1 + 1")])))
    monkeypatch.setattr(execute, "BASELINES", tmp_path)
    monkeypatch.setattr(notebook_cache, "CACHES", tmp_path / "_build/cache")
    monkeypatch.setattr(execute, "run", lambda *_: pytest.fail("it was begun"))
    monkeypatch.setattr(memory, "available", lambda: 2 * GIB)
    assert execute.execute([path], jobs=1) == 1
    message = one_clear_message(capsys.readouterr().err)
    assert "executing 01-large needs about 3.0 GiB of memory, and 2.0 GiB is available" in message
    monkeypatch.setattr(memory, "available", lambda: 3 * GIB)
    execute.require_memory([path], 1)
    faults.record(
        "Disk and memory",
        "1 GiB less memory than a chapter took when its baseline was made",
        "Refused before it began, with what is needed and what is there.",
    )


# --- damaged files ------------------------------------------------------------------


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def damaged_copy(name: str, cache: Path) -> Path:
    """Copy the asset ``name``, damage its largest file, and return that."""
    source, target = assets.cache_folder() / name, cache / name
    files = [path for path in source.rglob("*") if path.is_file()]
    largest = max(
        (one for one in files if one.name != assets.MANIFEST), key=lambda p: p.stat().st_size
    )
    for path in files:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy) if path == largest else copy.symlink_to(path)
    damaged = target / largest.relative_to(source)
    flip(damaged)
    return damaged


@pytest.mark.parametrize("name", assets.ASSETS)
def test_one_changed_bit_in_an_asset_is_named_and_not_used(place, tmp_path, name):
    assets.fetch(name)
    path = damaged_copy(name, tmp_path / "cache")
    done = run([sys.executable, "-m", "helpers.assets", "verify", name], place)
    assert done.returncode == 1
    assert f"{path} is damaged" in done.stdout
    code = f"from helpers import assets; assets.{assets.ASSETS[name].kind}({name!r})"
    done = run([sys.executable, "-c", code], place)
    assert done.returncode == 1
    assert f"{path} is damaged" in done.stderr
    assert f"AssetError: {name} is not in the cache" in done.stderr
    assert path.is_file(), "thrown away, and nothing in its place"
    faults.record(
        "Damaged files",
        f"One bit changed in the asset {name}, no network",
        "The file was named, the asset was not loaded, its other files were kept.",
    )


def packaged_again(name: str, links: Path) -> assets.Asset:
    """Describe the asset ``name`` as it is, but from a wheel written into ``links``."""
    asset, folder = assets.ASSETS[name], assets.cache_folder() / name
    if not asset.derive:
        files = {member: folder / file for file, (member, _) in asset.files.items()}
        return replace(asset, wheel=faulty.write_wheel(links, asset.wheel.package, files))
    combined = links / "combined.csv"
    source = {"imdb": "imdb", "rotten-tomatoes": "rotten_tomatoes"}[name]
    with combined.open("w", encoding="utf-8", newline="") as out:
        rows = csv.DictWriter(out, ("text", "label", "source"))
        rows.writeheader()
        for line in (folder / "train.jsonl").read_text(encoding="utf-8").split("\n")[:-1]:
            rows.writerow(json.loads(line) | {"source": source})
    ((file, (member, _)),) = asset.files.items()
    sha256 = hashlib.sha256(combined.read_bytes()).hexdigest()
    wheel = faulty.write_wheel(links, asset.wheel.package, {member: combined})
    return replace(asset, wheel=wheel, files={file: (member, sha256)})


# The generator's own package cannot be made again: its cached files are no longer GGUF.
@pytest.mark.parametrize("name", [name for name in assets.ASSETS if name != "generator"])
def test_one_changed_bit_in_an_asset_is_mended_by_fetching_it_again(
    place, tmp_path, monkeypatch, name, capsys
):
    assets.fetch(name)
    asset = packaged_again(name, tmp_path / "links")
    sound = faulty.contents(assets.cache_folder() / name)
    path = damaged_copy(name, tmp_path / "cache")
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    for key in ("PIP_CONFIG_FILE", "PIP_FIND_LINKS", "PIP_NO_INDEX", "HANDBOOK_ASSETS"):
        monkeypatch.setenv(key, place[key])
    monkeypatch.setitem(assets.ASSETS, name, asset)
    assert assets.main(["fetch", name]) == 0
    assert str(path) in capsys.readouterr().err
    mended = faulty.contents(tmp_path / "cache" / name)
    assert {**mended, assets.MANIFEST: ""} == {**sound, assets.MANIFEST: ""}
    faults.record(
        "Damaged files",
        f"One bit changed in the asset {name}, the package at hand",
        "The file was named and fetched again; every SHA-256 agrees.",
    )


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_one_changed_bit_in_a_checkpoint_is_named_and_not_resumed_from(trained, tmp_path, name):
    out = shutil.copytree(trained[0], tmp_path / "out")
    newest = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    flip(newest / name)
    old = faulty.contents(out)
    command = [*FAULTY, "finetuning", "--output", str(out), *TINY, "--resume"]
    done = run(command, trained[1])
    assert done.returncode == 1
    message = one_clear_message(done.stderr)
    assert f"{newest / name} is damaged" in message
    assert f"Delete {newest}" in message
    assert faulty.contents(out) == old
    if name == "optimizer.pt":  # what the message advises works
        shutil.rmtree(newest)
        assert run(command, trained[1]).returncode == 0
        weights = newest / "model.safetensors"
        whole = trained[0] / newest.name / "model.safetensors"
        assert weights.read_bytes() == whole.read_bytes()
    faults.record(
        "Damaged files",
        f"One bit changed in a checkpoint, in {name}",
        "The file was named, and nothing resumed from it."
        + " The checkpoint before it worked." * (name == "optimizer.pt"),
    )


# --- two at once --------------------------------------------------------------------


def small_checkout(root: Path) -> Path:
    """Copy the tools and helpers to ``root``, with one short chapter and a book of one page."""
    for name in ("tools", "helpers"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, root / name)
    (root / "notebooks").mkdir()
    source = "from helpers import checks\nchecks.begin('01-short')\nchecks.check_equal('one', 1, 1)"
    cells = [new_code_cell(source, id="first")]
    (root / "notebooks/01-short.ipynb").write_text(writes(new_notebook(cells=cells)))
    (root / "page.md").write_text("# One page\n\nWith a sentence.\n")
    (root / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    config = "title: Small\nonly_build_toc_files: true\nexecute: {execute_notebooks: 'off'}\n"
    (root / "_config.yml").write_text(config)
    return root


def twice_at_once(root: Path, *command: str) -> list[tuple[int, str, str]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    started = [
        subprocess.Popen(
            [sys.executable, *command], cwd=root, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=300) for process in started]
    return [(one.returncode, *texts) for one, texts in zip(started, said, strict=True)]


def test_two_builds_at_once_both_succeed(tmp_path):
    root = small_checkout(tmp_path / "checkout")
    for command in ("tools.execute", "tools.book"):
        ended = twice_at_once(root, "-m", command)
        assert [status for status, *_ in ended] == [0, 0], ended
        waited = [err for *_, err in ended if "Another build is at work in this checkout" in err]
        assert len(waited) == 1, ended
        if command == "tools.execute":
            out = [out for _, out, _ in ended]
            assert sum(bool(re.search(r"s  executed", text)) for text in out) == 1, out
            assert sum("cached, not executed again" in text for text in out) == 1, out
    records = json.loads((root / "_build/checks/01-short.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in records["checks"]] == ["one"]
    assert "With a sentence" in (root / "_build/html/page.html").read_text(encoding="utf-8")
    faults.record(
        "Two at once",
        "Two builds begun in one checkout at the same time",
        "The second said that it waits; both succeeded; the chapter was executed once.",
        cases=2,
    )


def test_two_fetches_at_once_both_succeed(place, tmp_path):
    started = [
        subprocess.Popen([*FAULTY, "assets", "fetch"], env=place, cwd=ROOT, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert sum("fetching handbook-small" in one for one in said) == 1
    assert is_whole(tmp_path / "cache/small")
    faults.record(
        "Two at once",
        "Three fetches of one asset at the same time",
        "It was downloaded once; all three succeeded.",
        cases=3,
    )


# --- place, clock and language ------------------------------------------------------


@pytest.fixture(scope="module")
def turkish(tmp_path_factory) -> str | None:
    """The folder of a Turkish locale, in which i and I are no pair; None if none can be made."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        return None
    command = ["localedef", "-i", "tr_TR", "-f", "UTF-8", str(folder / "tr_TR.UTF-8")]
    subprocess.run(command, capture_output=True)
    return str(folder) if (folder / "tr_TR.UTF-8").exists() else None


LANGUAGES = {
    "LC_ALL=C, and Python kept from mending that": {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
    },
    "LC_ALL=C": {"LC_ALL": "C"},
    "LC_ALL=tr_TR.UTF-8": {"LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0"},
}  # fmt: skip

CHECKING = """
import locale
locale.setlocale(locale.LC_ALL, "")
from helpers import checks
checks.begin("01-language")
checks.check_equal("a name with letters: ı İ ß 李", "TITLE".lower(), "title")
checks.check_at_least("a number", 1234567, 1.5)
"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_language_of_the_system_changes_nothing(place, tmp_path, turkish, language):
    place |= LANGUAGES[language]
    fault = f"Another language: {language}"
    if "tr_TR" in language:
        if turkish is None:
            faults.skip("Place, clock and language", fault, "no Turkish locale can be made here")
            pytest.skip("no Turkish locale: Debian's package locales and localedef make one")
        place["LOCPATH"] = turkish
    for command in ("fetch", "verify", "list"):
        done = run([*FAULTY, "assets", command], place)
        assert done.returncode == 0, done.stderr
    (tmp_path / "cache/small/config.json").write_bytes(b"damaged")
    done = run([*FAULTY, "assets", "verify"], place)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "config.json is damaged" in done.stdout
    place["HANDBOOK_CHECKS"] = str(tmp_path)
    program = tmp_path / "checking.py"
    program.write_text(CHECKING, encoding="utf-8")
    done = run([sys.executable, str(program)], place | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "1,234,567" in done.stdout
    kept = json.loads((tmp_path / "01-language.json").read_text(encoding="utf-8"))
    assert [one["value"] for one in kept["checks"]] == ["title", 1234567.0]
    assert kept["checks"][0]["name"].endswith("ı İ ß 李")
    done = run([sys.executable, "-m", "tools.baselines", "compare"], place)
    assert "Traceback" not in done.stderr
    faults.record(
        "Place, clock and language", fault,
        "All commands worked; records and names were written as UTF-8.", cases=6,
    )  # fmt: skip


@pytest.mark.parametrize("year", [1971, 2098])
def test_a_clock_that_was_wrong_changes_nothing(place, tmp_path, monkeypatch, year):
    moment = (year - 1970) * 365.25 * 86400
    assert run([*FAULTY, "assets", "fetch"], place).returncode == 0
    cache = tmp_path / "cache"
    for path in [cache, *cache.rglob("*")]:
        os.utime(path, (moment, moment))
    done = run([*FAULTY, "assets", "fetch"], place)
    assert done.returncode == 0
    assert "fetching" not in done.stderr
    flip(cache / "small/deep/weights.bin")
    os.utime(cache / "small/deep/weights.bin", (moment, moment))  # as old as before: still found
    assert run([*FAULTY, "assets", "verify"], place).returncode == 1
    # Executed chapters are kept by content, and the present ones are never taken for old.
    monkeypatch.setattr(notebook_cache, "CACHES", tmp_path / "caches")
    for number in range(5):
        (tmp_path / f"caches/{number}").mkdir(parents=True)
        os.utime(tmp_path / f"caches/{number}", (moment, moment))
    with monkeypatch.context() as patch:
        patch.setattr(notebook_cache, "environment_key", lambda: "0")
        opened = notebook_cache.open_cache()
        assert (tmp_path / "caches/0").is_dir()
        assert opened.list_cache_records() == []
        os.utime(tmp_path / "caches/0", (1, 1))
        notebook_cache.open_cache()
        assert (tmp_path / "caches/0").is_dir()
    faults.record(
        "Place, clock and language",
        f"Files dated by a clock that was wrong: {year}",
        "Assets and executed chapters were told by their content, not by their dates.",
        cases=4,
    )


@pytest.mark.parametrize("year", [1971, 2098])
def test_a_system_clock_that_is_wrong_changes_nothing(place, tmp_path, trained, year):
    fault = f"A system clock that says {year}"
    if shutil.which("faketime") is None:
        faults.skip("Place, clock and language", fault, "there is no program faketime")
        pytest.skip("no faketime: Debian's package of that name has it")
    then = ["faketime", "--exclude-monotonic", "-f", f"@{year}-05-01 00:00:00"]
    told = run([*then, sys.executable, "-c", "import time; print(time.gmtime()[0])"], place)
    assert told.stdout.strip() == str(year), "the clock was not changed"
    for command in ("fetch", "verify", "list"):
        done = run([*then, *FAULTY, "assets", command], place)
        assert done.returncode == 0, done.stderr
    assert is_whole(tmp_path / "cache/small")
    out, environment = trained
    command = [*then, *FAULTY, "finetuning", "--output", str(tmp_path / "out"), *TINY]
    done = run(command, environment)
    assert done.returncode == 0, done.stderr[-2000:]
    for path in out.rglob("*.safetensors"):
        assert (tmp_path / "out" / path.relative_to(out)).read_bytes() == path.read_bytes()
    root = small_checkout(tmp_path / "checkout")
    command = [*then, sys.executable, "-m", "tools.book"]
    done = run(command, place | {"PYTHONPATH": str(root)}, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (root / "_build/html/page.html").is_file()
    faults.record(
        "Place, clock and language",
        fault,
        "Assets were fetched, a training gave the very same weights, a book was built.",
        cases=5,
    )


def test_a_home_with_spaces_and_foreign_letters(place, tmp_path):
    home = tmp_path / "Jürgen Öztürk's 李 home"
    home.mkdir()
    place.pop("HANDBOOK_ASSETS")
    place |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    for command in ("fetch", "verify", "list"):
        done = run([*FAULTY, "assets", command], place)
        assert done.returncode == 0, done.stderr
    assert is_whole(home / ".cache/huggingface-handbook/small")
    root = small_checkout(home / "the hand book")
    environment = place | {"PYTHONPATH": str(root)}
    for command in ("tools.execute", "tools.book"):
        done = run([sys.executable, "-m", command], environment, cwd=root)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (root / "_build/checks/01-short.json").is_file()
    assert (root / "_build/html/page.html").is_file()
    # The Makefile names its programs by relative paths; this is the command that CI relies on.
    shutil.copy(ROOT / "Makefile", root / "Makefile")
    (root / ".venv").symlink_to(Path(sys.prefix))
    installed = ["--old-file", ".venv/.installed"]
    done = run(["make", "-C", str(root), *installed, "unit", "--dry-run"], place)
    assert done.returncode == 0, done.stderr
    faults.record(
        "Place, clock and language",
        "A home and a checkout with spaces, an apostrophe, umlauts and Chinese letters",
        "Assets, an executed chapter and a book were made there.",
        cases=6,
    )
