"""``python -m helpers.finetuning`` on a tiny BERT and few real reviews, whose host can die.

``TINY`` names the folder of the model. ``FAULTY_STEP`` names the step at which the process of rank
``FAULTY_RANK`` is killed, with ``FAULTY_HOST`` its launcher too; what is started again lives on.
``LOGITS`` names a file for the logits of the test reviews. ``EACH`` is a list of arguments in JSON,
for one run after the other; each process then works in a folder of its own in ``FAULTY_PLACE``, and
the one of rank ``FAULTY_RANK`` finds no memory, and in the last run it is silent. ``--serve`` runs
one command after the other, see ``faulty.Server``.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import Dataset, DatasetDict, load_dataset
from faulty import serve
from transformers import Trainer

from helpers import assets, finetuning, memory, profiles
from helpers.finetuning import command

PATIENCE = 300  # seconds of silence; longer than any test waits
SIZES = {"train": 96, "validation": 41, "test": 83}  # the last two: no multiple of two processes


def few_reviews() -> DatasetDict:
    """Return the first words of real reviews, 3 to 20 of them; no review twice."""
    reviews = load_dataset(**assets.dataset("imdb"))["train"]
    rows = iter(np.random.default_rng(0).permutation(len(reviews)))

    def part(size: int) -> Dataset:
        chosen = reviews.select(list(itertools.islice(rows, size)))
        texts = [" ".join(text.split()[: 3 + 7 * n % 18]) for n, text in enumerate(chosen["text"])]
        return Dataset.from_dict({"text": texts, "label": chosen["label"]})

    return DatasetDict({name: part(size) for name, size in SIZES.items()})


def die_in_training() -> None:
    """Let this process be killed at the wanted step."""
    whole, wanted = Trainer.training_step, int(os.environ["FAULTY_STEP"])

    def step(trainer: Trainer, *rest: object, **others: object) -> object:
        if trainer.state.global_step + 1 == wanted:
            if "FAULTY_HOST" in os.environ:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(trainer, *rest, **others)

    Trainer.training_step = step


def save_logits(path: str) -> None:
    """Save what the command predicts; of several splits, the last."""
    whole = command.predict_logits

    def predict(*arguments: object) -> np.ndarray:
        logits = whole(*arguments)
        np.save(path, logits)
        return logits

    command.predict_logits = predict


def refuse_each(cases: list[list[str]]) -> int:
    """Run the command for each of ``cases``, print how it ended, return the last status."""
    rank = os.environ["RANK"]
    os.chdir(Path(os.environ["FAULTY_PLACE"]) / rank)  # a relative path is each process's own
    if rank == os.environ["FAULTY_RANK"]:
        memory.available = lambda: 0
    for number, case in enumerate(cases, start=1):
        if number == len(cases) and rank == os.environ["FAULTY_RANK"]:
            time.sleep(PATIENCE)
        try:
            status = finetuning.main(case)
        except SystemExit as end:
            status = end.code
        print(status, flush=True)
    return status


def main(arguments: list[str]) -> int:
    """Run the command on something small; see the module's docstring."""
    if arguments == ["--serve"]:
        serve(main)
        return 0
    command.prepare = few_reviews
    assets.model = lambda _name: os.environ["TINY"]
    profiles.computes_bf16_fast = lambda: False  # the same numbers on every machine
    if "EACH" in os.environ:
        return refuse_each(json.loads(os.environ["EACH"]))
    restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    if os.environ.get("FAULTY_RANK") == os.environ["RANK"] and not restarted:
        die_in_training()
    if "LOGITS" in os.environ and os.environ["RANK"] == "0":
        save_logits(os.environ["LOGITS"])
    return finetuning.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
