"""Fine-tuning on few labelled articles: the curve of chapter 12 that takes too long there.

    python benchmarks/few_labels.py 8 16 32 64 128 256 512 --seeds 0 1 2

Each run trains the upper half of the encoder and a new head on that many articles, their first 48
tokens, and reads the first 450 test articles. It is added to ``few_labels.json`` beside this file,
with its date and versions; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import time
from pathlib import Path

import numpy as np
import torch
from datasets import disable_progress_bars
from sklearn.metrics import f1_score
from transformers import AutoTokenizer

from helpers import assets, classification, finetuning, sealed

RESULTS = Path(__file__).with_suffix(".json")
TOKENS, BATCH, LEAST_STEPS, RATE = 48, 16, 40, 2e-4


def main() -> None:
    """Run what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=int, nargs="+", help="numbers of labelled articles")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    disable_progress_bars()
    parts = classification.split_news()
    for count in options.labels:
        for seed in options.seeds:
            results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
            if not any((r["labels"], r["seed"]) == (count, seed) for r in results):
                found = measure(parts, count, seed)
                print(found, flush=True)
                results = sorted([*results, found], key=lambda r: (r["labels"], r["seed"]))
                sealed.write(RESULTS, json.dumps(results, indent=1) + "\n")


def measure(parts, count: int, seed: int) -> dict[str, object]:
    """Train on ``count`` articles chosen by ``seed``; return accuracy and macro F1 of the test."""
    begin = time.process_time()
    chosen = np.random.default_rng(seed).permutation(len(parts["train"]))[:count]
    train, test = parts["train"].select(chosen), parts["test"].select(range(450))
    tokenizer = AutoTokenizer.from_pretrained(assets.model("encoder"))
    recipe = finetuning.Recipe(trainable="upper half", max_length=TOKENS, seed=seed)
    names = train.features["label"].names
    model = finetuning.build_classifier(assets.model("encoder"), recipe, labels=names)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.01)
    steps = max(LEAST_STEPS, 2 * count // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps)
    options = {"truncation": True, "max_length": TOKENS, "padding": True, "return_tensors": "pt"}
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(count) for _ in range(steps * BATCH // count + 1)])
    model.train()
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        batch = tokenizer([train["text"][int(row)] for row in rows], **options)
        labels = torch.tensor([train["label"][int(row)] for row in rows])
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.eval()
    said = []
    with torch.no_grad():
        for first in range(0, len(test), 50):
            batch = tokenizer(test["text"][first : first + 50], **options)
            said += model(**batch).logits.argmax(-1).tolist()
    right = np.array(test["label"])
    return {
        "labels": count,
        "seed": seed,
        "accuracy": round(float((np.array(said) == right).mean()), 4),
        "macro_f1": round(float(f1_score(right, said, average="macro")), 4),
        "seconds": round(time.process_time() - begin),
        "date": datetime.date.today().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }


if __name__ == "__main__":
    main()
