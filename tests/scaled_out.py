"""``python -m helpers.finetuning`` on a few real reviews, as a program whose host can die.

``FAULTY_STEP`` names the step of training at which the process of rank ``FAULTY_RANK`` is killed,
and with ``FAULTY_HOST`` its launcher too. Restarted processes live on. ``LOGITS`` names a file for
the logits of the test reviews.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import DatasetDict, load_dataset
from transformers import Trainer

from helpers import assets, finetuning, profiles
from helpers.finetuning import command

SIZES = {"train": 96, "validation": 41, "test": 83}  # the last two: no multiple of two processes


def few_reviews() -> DatasetDict:
    """Return real reviews of both labels, and no review twice."""
    reviews = load_dataset(**assets.dataset("imdb"))["train"]
    rows = iter(np.random.default_rng(0).permutation(len(reviews)))
    return DatasetDict(
        {name: reviews.select(list(itertools.islice(rows, size))) for name, size in SIZES.items()}
    )


def die_in_training() -> None:
    """Let this process be killed at the wanted step."""
    whole, wanted = Trainer.training_step, int(os.environ.get("FAULTY_STEP", 0))

    def step(trainer: Trainer, *rest: object, **others: object) -> object:
        if trainer.state.global_step + 1 == wanted:
            if "FAULTY_HOST" in os.environ:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(trainer, *rest, **others)

    Trainer.training_step = step


if __name__ == "__main__":
    command.prepare = few_reviews
    profiles.computes_bf16_fast = lambda: False  # the same numbers on every machine
    if os.environ.get("RANK") == os.environ.get("FAULTY_RANK") and not int(
        os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)
    ):
        die_in_training()
    sys.exit(finetuning.main())
