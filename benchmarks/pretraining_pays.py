"""Does pretraining pay: labels learned from random, counted and pretrained weights.

    python benchmarks/pretraining_pays.py --folder runs/pretraining

The labels of 500, 1,000 and 2,000 reviews are learned from three beginnings of chapter 08's small
BERT: at random, with what counting knows, and as ``pretraining.py`` left it in the folder; the
labels of 500 also from what it left without NSP. Three seeds decide reviews, head and order; all
else is equal. Results are added to ``pretraining.json``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pretraining
import torch
from datasets import Dataset
from safetensors.torch import load_file
from tokenizers.processors import BertProcessing
from torch import Tensor, nn
from transformers import BertForSequenceClassification, set_seed

from helpers import finetuning
from helpers.pretraining import to_transformers

TOKENS, EPOCHS, RATE, BATCH = 128, 3, 5e-4, 16
COUNTS, SEEDS, TEST = (500, 1_000, 2_000), (0, 1, 2), 1_500
WEIGHTS = {
    "pretrained": "with-nsp-2500.safetensors",
    "without NSP": "without-nsp-2500.safetensors",
}


def main() -> None:
    """Run what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="what pretraining.py left")
    folder = parser.parse_args().folder
    book = pretraining.chapter("def interval(", folder)
    ends = ("[SEP]", book["SEP"]), ("[CLS]", book["CLS"])
    book["wrapped"].backend_tokenizer.post_processor = BertProcessing(*ends)
    read = {"max_length": TOKENS, "head_share": 0.25}
    test = book["splits"]["test"].shuffle(seed=0).select(range(TEST))
    test = finetuning.tokenize(test, book["wrapped"], **read)
    for count in COUNTS:
        for seed in SEEDS:
            train = book["splits"]["train"].shuffle(seed=seed).select(range(count))
            train = finetuning.tokenize(train, book["wrapped"], **read)
            starts = "random", "counted", "pretrained", "without NSP"
            for start in starts[: 4 if count == COUNTS[0] else 3]:
                key = {"start": start, "reviews": count, "seed": seed}
                if pretraining.RESULTS.is_there("fine-tuning", **key):
                    continue
                begin = time.process_time()
                model = classifier(book, start, seed, folder)
                fine_tune(model, train, seed)
                found = {"accuracy": round(accuracy(model, test), 4), "test": TEST}
                seconds = round(time.process_time() - begin)
                pretraining.RESULTS.record("fine-tuning", key | found | {"seconds": seconds})


def classifier(book: dict[str, Any], start: str, seed: int, folder: Path) -> nn.Module:
    """Return the chapter's BERT in one of its beginnings, under a new head."""
    model = book["fresh"](counting=start != "random", seed=seed)
    if start in WEIGHTS:
        model.load_state_dict(load_file(folder / WEIGHTS[start]))
    whole = to_transformers(model)
    set_seed(seed)
    new = BertForSequenceClassification(whole.config)
    # The pooler belongs to the encoder's weights, as in the library's own loading.
    print(new.bert.load_state_dict(whole.bert.state_dict(), strict=False))
    return new


def fine_tune(model: nn.Module, train: Dataset, seed: int) -> None:
    """Learn the labels, with warm-up and decay."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    orders = np.concatenate([rng.permutation(len(train)) for _ in range(EPOCHS)])
    groups = np.array_split(orders, len(orders) // BATCH)
    rows, model = list(train), model.train()
    for step, group in enumerate(groups):
        rising, falling = (step + 1) / (0.1 * len(groups)), 1 - step / len(groups)
        optimizer.param_groups[0]["lr"] = RATE * min(rising, falling)
        model(**padded([rows[n] for n in group])).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def padded(rows: list[dict]) -> dict[str, Tensor]:
    """Fill up with zeros, the id of [PAD]."""
    columns = {
        name: nn.utils.rnn.pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True)
        for name in ("input_ids", "attention_mask")
    }
    return columns | {"labels": torch.tensor([row["labels"] for row in rows])}


@torch.inference_mode()
def accuracy(model: nn.Module, test: Dataset) -> float:
    """Return the share of reviews that are classified rightly."""
    model.eval()
    rows, right = sorted(test, key=lambda row: row["length"]), 0
    for first in range(0, len(rows), 50):
        batch = padded(rows[first : first + 50])
        labels = batch.pop("labels")
        right += int((model(**batch).logits.argmax(-1) == labels).sum())
    return right / len(rows)


if __name__ == "__main__":
    main()
