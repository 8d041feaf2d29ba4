"""Commands of the handbook on something small, run as a program that can be made to die.

``python tests/faulty.py assets fetch`` is ``python -m helpers.assets fetch`` with one small asset
that pip finds in ``FAULTY_LINKS``; ``python tests/faulty.py finetuning …`` is ``python -m
helpers.finetuning …`` with a tiny BERT and few reviews. ``--killing FOLDER`` runs the command once
for each moment at which it changes a file in FOLDER, is killed at that very moment, and runs it
again to its end; it prints a line of JSON for each. ``--serve`` runs one command after the other,
see :class:`Server`: PyTorch and transformers are imported once.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers import assets
from helpers.assets import Asset, Wheel
from helpers.assets import __main__ as assets_command
from helpers.assets import cache as asset_cache

CONTENT = {"config.json": b'{"model_type": "bert"}\n', "deep/weights.bin": bytes(range(256)) * 4000}
SMALL = {"HANDBOOK_PROFILE": "small", "OMP_NUM_THREADS": "1"}
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod"}


# --- something small ----------------------------------------------------------------


def small_asset(folder: Path) -> Asset:
    """Write a wheel that pip accepts into ``folder``; describe the asset ``small`` in it."""
    path = folder / "handbook_small-0.1-py3-none-any.whl"
    members = {f"small/{name}": content for name, content in CONTENT.items()}
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: handbook-small\nVersion: 0.1\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members |= {f"handbook_small-0.1.dist-info/{name}": text for name, text in about.items()}
    if not path.exists():
        beside = path.with_suffix(f".{os.getpid()}")
        with zipfile.ZipFile(beside, "w") as archive:
            for member, content in members.items():
                archive.writestr(zipfile.ZipInfo(member), content)
        beside.replace(path)
    files = {name: (f"small/{name}", sha256(content)) for name, content in CONTENT.items()}
    wheel = Wheel("handbook-small", "0.1", sha256(path.read_bytes()), 1)
    return Asset("small", "model", "small", "none", wheel, files, "owner/small", "a" * 40)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tiny_model(folder: Path) -> Path:
    """Write a BERT of two narrow layers with some of the encoder's words, unless it is there.

    Its weights are large enough to give each text logits of its own. With all words, to hash the
    tokenizer would take datasets longer than all else that a tiny training does.
    """
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    if not folder.exists():
        torch.manual_seed(0)
        sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
        sizes["initializer_range"] = 0.5
        BertModel(BertConfig(num_hidden_layers=2, **sizes)).save_pretrained(folder)
        AutoTokenizer.from_pretrained(assets.model("encoder")).save_pretrained(folder)
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        words = content["model"]["vocab"].items()
        content["model"]["vocab"] = {word: number for word, number in words if number < 3_000}
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def few_reviews():
    """Return three splits of a few reviews each."""
    from datasets import Dataset, DatasetDict

    def part(size: int) -> Dataset:
        words = ("good", "bad")
        texts = [f"a {words[i % 2]} film" + " indeed" * (i * 5 // size) for i in range(size)]
        return Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(size)]})

    return DatasetDict(train=part(48), validation=part(8), test=part(8))


# --- dying --------------------------------------------------------------------------


class Moments:
    """Counts the changes of files in a folder, and kills this process at the one that is wanted."""

    def __init__(self, folder: Path, wanted: int, log: Path) -> None:
        self.folder, self.wanted, self.log, self.seen = str(folder), wanted, log, 0
        self.times: Counter[str] = Counter()
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple) -> None:
        if event not in FILE_EVENTS:
            return
        if event == "open":
            writes = isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
            if not writes and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
                return
        name = "" if isinstance(arguments[0], int) else os.fsdecode(arguments[0])
        if name.startswith(self.folder) and not name.endswith(".lock"):
            self.happens(f"{event} {Path(name).name}")

    def happens(self, what: str, now: Callable[[], None] | None = None) -> None:
        """Count a moment that counts; at the wanted one do ``now``, log it, and die."""
        self.times[what] += 1
        moment = f"{what} #{self.times[what]}"
        self.seen += bool(re.search(os.environ.get("FAULTY_MOMENTS", "."), moment))
        if self.seen == self.wanted:
            self.wanted = 0  # what is done now may be a moment of its own
            if now:
                now()
            Path(self.log).write_text(moment)
            os.kill(os.getpid(), signal.SIGKILL)

    def steps(self, trainer: type) -> None:
        """Make each step of training a moment."""
        whole = trainer.training_step

        def step(this: object, *rest: object, **others: object) -> object:
            self.happens(f"step {this.state.global_step + 1}")
            return whole(this, *rest, **others)

        trainer.training_step = step

    def halve(self, module: object, name: str) -> None:
        """Make ``module.name(what, path)`` a moment: its file is written, and then cut off.

        What it returns, if anything, is the file within ``path``.
        """
        whole = getattr(module, name)

        def cut(content: object, path: object, *rest: object, **others: object) -> object:
            def half() -> None:
                written = whole(content, path, *rest, **others) or path
                os.truncate(written, os.path.getsize(written) // 2)

            if isinstance(path, (str, os.PathLike)) and str(path).startswith(self.folder):
                self.happens(f"half of {Path(path).name}", half)
            return whole(content, path, *rest, **others)

        setattr(module, name, cut)


def begin(work: Callable[[], int], said: Path) -> BaseProcess:
    """Do ``work`` in a child of this process; what it says goes to two files in ``said``.

    Its exit status is what ``work`` returns, and negative if it was killed.
    """

    def told() -> None:
        for number, name in enumerate(("stdout", "stderr"), start=1):
            with (said / name).open("w") as to:
                os.dup2(to.fileno(), number)
        sys.exit(work())

    child = multiprocessing.get_context("fork").Process(target=told)
    child.start()
    return child


def contents(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below ``folder`` that is not a lock."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def kill_everywhere(folder: Path, command: Callable[[], int], again: Callable[[], int]) -> None:
    """Kill ``command`` at its first, second, … change of a file; each time run ``again`` after."""
    scratch = folder.with_name("scratch")
    log = scratch / "moment"
    shutil.copytree(folder, scratch / "start")
    for moment in itertools.count(1):
        shutil.rmtree(folder)
        shutil.copytree(scratch / "start", folder)
        log.write_text("none")

        def dying(moment: int = moment) -> int:
            moments = Moments(folder, moment, log)
            moments.halve(asset_cache, "_download")
            if "torch" in sys.modules:
                import torch
                from transformers import Trainer, modeling_utils

                moments.steps(Trainer)
                moments.halve(torch, "save")
                moments.halve(modeling_utils, "safe_save_file")
            return command()

        def status(work: Callable[[], int]) -> int:
            child = begin(work, scratch)
            child.join()
            return child.exitcode

        line = {"status": status(dying), "moment": log.read_text(), "left": contents(folder)}
        killed = line["status"] < 0
        line |= {"after": status(again) if killed else None, "then": contents(folder)}
        line["said"] = "".join((scratch / name).read_text() for name in ("stdout", "stderr"))
        print(json.dumps(line), flush=True)
        if not killed:
            return


# --- many commands, one process -----------------------------------------------------


class Server:
    """A program that is in :func:`serve`: what it imports is imported once for all commands."""

    def __init__(self, *program: str) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            program, stdin=pipe, stdout=pipe, text=True, env=os.environ | SMALL
        )

    def run_all(
        self, command: list[str], places: list[dict[str, str]], limit: int | None = None
    ) -> list[subprocess.CompletedProcess[str]]:
        """Run ``command`` once for each of these sets of variables, all at the same time.

        No file may grow beyond ``limit``: what a full disk is to a process, without being root.
        """
        print(json.dumps([command, places, limit]), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        return [subprocess.CompletedProcess(command, *each) for each in answer]

    def run(
        self, command: list[str], limit: int | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` once."""
        return self.run_all(command, [variables], limit)[0]

    def close(self) -> None:
        """Let the program end."""
        self.process.communicate(timeout=60)


def serve(work: Callable[[list[str]], int]) -> None:
    """Do ``work`` in children of this process for each command that a :class:`Server` sends.

    Of several children the others are ended when one fails, as launchers do.
    """
    gc.freeze()  # so that no child looks through all that was imported
    for line in sys.stdin:
        command, places, limit = json.loads(line)

        def in_place(place: dict[str, str], command=command, limit=limit) -> int:
            os.environ.update(place)
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return work(command)

        with tempfile.TemporaryDirectory() as folder:
            said, children = [Path(folder, str(number)) for number in range(len(places))], []
            for each, place in zip(said, places, strict=True):
                each.mkdir()
                children.append(begin(lambda place=place: in_place(place), each))
            while running := [child for child in children if child.exitcode is None]:
                wait([child.sentinel for child in running])
                if any(child.exitcode for child in children):
                    for child in running:
                        child.kill()
            answer = [
                [child.exitcode, (each / "stdout").read_text(), (each / "stderr").read_text()]
                for child, each in zip(children, said, strict=True)
            ]
        print(json.dumps(answer), flush=True)


# --- the commands -------------------------------------------------------------------


def copying(wheel: Path) -> SimpleNamespace:
    """Return what stands in for ``subprocess`` where each of many kills would ask pip anew."""

    def run(command: list[str], **_: object) -> SimpleNamespace:
        shutil.copy(wheel, command[command.index("--dest") + 1])
        return SimpleNamespace(returncode=0, stderr="")

    return SimpleNamespace(run=run, DEVNULL=None, PIPE=None)


def main(arguments: list[str]) -> int:
    """Run a command of the handbook on something small; see the module's docstring."""
    if arguments == ["--serve"]:
        from helpers import finetuning

        serve(main)
        return 0
    folder = None
    if arguments[0] == "--killing":
        folder, arguments = Path(arguments[1]), arguments[2:]
    program, *arguments = arguments
    links = Path(os.environ["FAULTY_LINKS"])
    if program == "assets":
        assets.ASSETS.clear()
        assets.ASSETS["small"] = small_asset(links)
        command, again = assets_command.main, list(arguments)
        if folder:
            (wheel,) = links.glob("*.whl")
            asset_cache.subprocess = copying(wheel)
    elif program == "finetuning":
        import torch

        from helpers import finetuning

        torch.set_num_threads(1)
        finetuning.command.prepare = few_reviews
        tiny = str(tiny_model(links / "tiny"))
        assets.model = lambda _name: tiny
        command, again = finetuning.main, [*arguments, "--resume"]
    else:
        return subprocess.run([program, *arguments]).returncode
    if folder is None:
        return command(list(arguments))
    kill_everywhere(folder, lambda: command(list(arguments)), lambda: command(again))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
