"""Checkpoints that can be trusted: sealed when whole, deleted by age in steps, never mixed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from filelock import FileLock, Timeout
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from helpers import sealed

KEPT_CHECKPOINTS = 2
BEGUN = "training.json"  # in the folder of a training: what it was begun with


class SealCheckpoints(TrainerCallback):
    """Seal each checkpoint when it is whole, so that no other is ever resumed from.

    Older ones are deleted afterwards: two stay, the newest and the best, or the newest and the one
    before it. The Trainer's own ``save_total_limit`` goes by date, and a clock can be set back.
    """

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the SHA-256 of every file of the checkpoint beside them; delete older ones."""
        processes = PartialState()
        processes.wait_for_everyone()  # each process writes a file of its own
        if processes.is_main_process:
            sealed.seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            _delete_older_checkpoints(args, state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Delete what was left when a process was killed while it deleted."""
        if PartialState().is_main_process and args.save_strategy != "no":
            _delete_older_checkpoints(args, state)


def newest_checkpoint(output: str | Path) -> Path | None:
    """Return the newest checkpoint in ``output`` that is whole; None if there is none.

    One that holds the weights only (``save_only_model``) is passed over.

    Raises:
        ValueError: a file of that checkpoint has changed since it was written.
    """
    for _, folder in _checkpoints(output):
        if not (folder / sealed.MANIFEST).is_file() or not list(folder.glob("optimizer*")):
            continue
        if found := sealed.damage(folder):
            raise ValueError(
                f"{found[0]} Delete {folder} to go on from the checkpoint before it, or start anew "
                "without --resume."
            )
        return folder
    return None


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Refuse, with a ValueError, every other training in ``output`` until this one ends or dies."""
    output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output / ".training.lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(
            f"another training is at work in {output}. Name another folder with --output."
        ) from None


def require_same_training(output: Path, begun: dict[str, Any], *, resume: bool) -> None:
    """Refuse, with a ValueError, to mix two trainings in one folder.

    ``begun`` is what this training is begun with; the file :data:`BEGUN` says it of the earlier.
    """
    if not _checkpoints(output):
        return
    if not resume:
        raise ValueError(
            f"{output} holds checkpoints of an earlier training. Go on from them with --resume, "
            "delete them, or name another folder with --output."
        )
    try:
        before = json.loads((output / BEGUN).read_text(encoding="utf-8"))
        before.setdefault("processes", begun["processes"])  # files of before it was recorded
        differs = [name for name in begun if before[name] != begun[name]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{output / BEGUN} is missing or unreadable, so nobody can say what the checkpoints "
            "beside it belong to. Delete them, or name another folder with --output."
        ) from None
    if differs:
        what = "; ".join(f"{name} was {before[name]!r}, now {begun[name]!r}" for name in differs)
        raise ValueError(
            f"{output} holds checkpoints of another training: {what}. "
            "Repeat its arguments, or name another folder with --output."
        )


def _checkpoints(output: str | Path) -> list[tuple[int, Path]]:
    """Return the number of steps and the folder of each checkpoint, whole or not, newest first."""
    numbered = [
        (int(match[1]), path)
        for path in Path(output).glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    ]
    return sorted(numbered, reverse=True)


def _delete_older_checkpoints(args: TrainingArguments, state: TrainerState) -> None:
    best = state.best_model_checkpoint
    kept = {Path(args.output_dir) / Path(best).name} if best else set()
    for step, folder in _checkpoints(args.output_dir):
        # One with more steps is not older: an earlier training left it.
        if step > state.global_step or folder in kept:
            continue
        if len(kept) < KEPT_CHECKPOINTS:
            kept.add(folder)
            continue
        (folder / sealed.MANIFEST).unlink(missing_ok=True)  # half deleted, it is not whole
        shutil.rmtree(folder, ignore_errors=True)
