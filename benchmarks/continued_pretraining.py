"""Further pretraining on reviews: labels learned from the packaged encoder, and after more MLM.

    python benchmarks/continued_pretraining.py --folder runs/continued

The packaged encoder goes on with chapter 08's loop, masked words only, on the training reviews
without their labels (Sun et al. 2019, section 5.4). It came without BERT's head for masked words,
so a new one is trained alone at first. Then 500, 1,000 and 2,000 labels are learned from the
encoder as it was and as it became; three seeds decide reviews, head and order, and all else is
equal. Results are added to ``continued_pretraining.json`` beside this file. What is there is not
run again, and an interrupted pretraining goes on from its checkpoint in the folder.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from pretraining import code_cells
from results import Results
from torch import Tensor, nn
from transformers import AutoTokenizer, BertForPreTraining, set_seed

from helpers import assets, finetuning, pretraining

RESULTS = Results(Path(__file__).with_suffix(".json"), ("torch", "transformers", "tokenizers"))
LENGTH, REVIEWS, HELD_OUT = 128, 4_000, 256
STAGES = {  # the new head alone, then everything
    "head": {"batch": 16, "part": 16, "rate": 1e-3, "steps": 60, "seed": 0},
    "all": {"batch": 16, "part": 16, "rate": 1e-4, "steps": 320, "seed": 60},
}
COUNTS, SEEDS, TEST, LEAST_STEPS = (500, 1_000, 2_000), (0, 1, 2), 1_000, 60
RECIPE = {"max_length": 48, "trainable": "upper half"}


def main() -> None:
    """Run what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for weights")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    splits = finetuning.prepare()
    tokenizer = AutoTokenizer.from_pretrained(assets.model("encoder"))
    if not (folder / "continued").is_dir():
        continue_pretraining(splits, tokenizer, folder)
    starts = {"packaged": assets.model("encoder"), "continued": folder / "continued"}
    test = splits["test"].shuffle(seed=0).select(range(TEST))
    for seed, (start, weights) in itertools.product(SEEDS, starts.items()):
        fine_tune(splits["train"], test, tokenizer, start, str(weights), seed)


# --- masked words -------------------------------------------------------------------------------


def definitions() -> dict[str, Any]:
    """Return the functions that chapter 08 defines, with its imports and nothing else."""
    book: dict[str, Any] = {"__name__": "chapter"}
    for name, source in code_cells():
        tree = ast.parse(source)
        kinds = ast.Import, ast.ImportFrom, ast.FunctionDef
        tree.body = [part for part in tree.body if isinstance(part, kinds)]
        exec(compile(tree, name, "exec"), book)
    return book


def continue_pretraining(splits, tokenizer, folder: Path) -> None:
    """Train the head for masked words, then the whole encoder; keep the encoder in the folder."""
    book = definitions()
    book |= {"PAD": tokenizer.pad_token_id, "precision": "no"}
    book["masks"] = {
        "mask_id": tokenizer.mask_token_id,
        "special_ids": tokenizer.all_special_ids,
        "vocab_size": len(tokenizer),
    }
    both = book["loss_of"]
    book["loss_of"] = lambda *rows: (both(*rows)[0], torch.zeros(()))  # no pairs
    reviews = splits["train"].shuffle(seed=0).select(range(REVIEWS))
    train = packed(reviews["text"], tokenizer)
    held_out = packed(splits["validation"]["text"], tokenizer)[:HELD_OUT]
    set_seed(0)
    model = with_head(train, tokenizer)
    first = 0
    for stage, settings in STAGES.items():
        model.requires_grad_(stage == "all")
        for part in (model.transform, model.norm):
            part.requires_grad_(True)
        model.bias.requires_grad_(True)
        for part in (model.pooler, model.next_sentence):  # nothing of MLM goes through them
            part.requires_grad_(False)
        ids = train[first : first + settings["steps"] * settings["batch"]]
        data = ids, torch.zeros_like(ids), torch.zeros(len(ids), dtype=torch.long)
        book["pretrain"](model, data, folder / f"{stage}.safetensors", settings, every=10)
        first += len(ids)
        if not RESULTS.is_there("pretraining", stage=stage):
            told = {"stage": stage, **settings, "tokens": ids.numel()}
            RESULTS.record("pretraining", told | look(model, held_out, book["masks"]))
    encoder = pretraining.to_transformers(model).bert
    encoder.save_pretrained(folder / "beside")
    (folder / "beside").rename(folder / "continued")


def packed(texts: Sequence[str], tokenizer) -> Tensor:
    """Return all texts in rows of one length: joined by [SEP], cut, in random order."""
    ends = {"add_special_tokens": False, "verbose": False}
    ids = tokenizer([finetuning.clean(text) for text in texts], **ends)["input_ids"]
    stream = np.concatenate([[*row, tokenizer.sep_token_id] for row in ids])
    room = LENGTH - 2
    rows = torch.from_numpy(stream[: len(stream) // room * room].reshape(-1, room)).long()
    rows = nn.functional.pad(rows, (1, 0), value=tokenizer.cls_token_id)
    rows = nn.functional.pad(rows, (0, 1), value=tokenizer.sep_token_id)
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]


def with_head(train: Tensor, tokenizer) -> pretraining.BertPretraining:
    """Return the chapter's model with the encoder's weights and a new head that knows counts."""
    theirs = BertForPreTraining.from_pretrained(assets.model("encoder"))
    config = theirs.config
    model = pretraining.BertPretraining(
        pretraining.bert_config(
            config.vocab_size,
            d_model=config.hidden_size,
            num_heads=config.num_attention_heads,
            encoder_layers=config.num_hidden_layers,
            d_ff=config.intermediate_size,
            max_length=config.max_position_embeddings,
            dropout=0.0,
            attention_dropout=0.0,
        )
    )
    model.load_state_dict(pretraining.state_from_pretraining(theirs))
    counts = torch.bincount(train.flatten(), minlength=config.vocab_size).double()
    counts[tokenizer.all_special_ids] = 0
    with torch.no_grad():
        model.bias.copy_(((counts + 1) / (counts + 1).sum()).log())
        model.norm.weight.fill_(0.2)  # at first the bias decides, as in the chapter
    return model


@torch.inference_mode()
def look(model: nn.Module, ids: Tensor, masks: dict[str, Any]) -> dict[str, float]:
    """Return the mean loss at chosen positions of held-out rows, and its standard error."""
    seeded = torch.Generator().manual_seed(0)
    read, labels = pretraining.mask_tokens(ids, **masks, generator=seeded)
    model.eval()
    sums, counts = [], []
    for inputs, right in zip(read.split(32), labels.split(32), strict=True):
        where = right != pretraining.IGNORED
        logits, _ = model(inputs, torch.zeros_like(inputs), torch.ones_like(where), where)
        losses = torch.zeros(right.shape)
        losses[where] = nn.functional.cross_entropy(logits, right[where], reduction="none")
        sums.append(losses.sum(1))
        counts.append(where.sum(1))
    total, count = torch.cat(sums), torch.cat(counts)
    mean = total.sum() / count.sum()
    error = (total - mean * count).std() * len(count) ** 0.5 / count.sum()
    return {"MLM loss": round(float(mean), 4), "standard error": round(float(error), 4)}


# --- labels -------------------------------------------------------------------------------------


def fine_tune(train, test, tokenizer, start: str, weights: str, seed: int) -> None:
    """Learn the labels of growing parts of the reviews that the seed chose."""
    todo = [{"start": start, "reviews": count, "seed": seed} for count in COUNTS]
    todo = [key for key in todo if not RESULTS.is_there("fine-tuning", **key)]
    if not todo:
        return
    recipe = finetuning.Recipe(**RECIPE, seed=seed)
    train = train.shuffle(seed=seed).select(range(max(COUNTS)))
    read = {"max_length": recipe.max_length, "head_share": recipe.head_share}
    rows = [finetuning.tokenize(part, tokenizer, **read) for part in (train, test)]
    # The lower half does not change, so its vectors are computed once.
    lower = finetuning.build_classifier(weights, recipe)
    layers = lower.bert.encoder.layer
    lower.bert.encoder.layer = layers[: len(layers) // 2]
    (states, labels), judged = (vectors(lower, part) for part in rows)
    for key in todo:
        begin = time.process_time()
        upper = finetuning.build_classifier(weights, recipe)
        upper.bert.encoder.layer = upper.bert.encoder.layer[len(layers) // 2 :]
        upper.bert.embeddings = AsTheyAre()
        known = {name: tensor[: key["reviews"]] for name, tensor in states.items()}
        learn(upper, known, labels[: key["reviews"]], recipe)
        found = {"accuracy": accuracy(upper, *judged), "test": TEST}
        RESULTS.record("fine-tuning", key | found | {"seconds": round(time.process_time() - begin)})


class AsTheyAre(nn.Module):
    """Stands in for the embeddings where the vectors below the upper half are known."""

    def forward(self, inputs_embeds: Tensor, **_: Any) -> Tensor:
        """Return them."""
        return inputs_embeds


@torch.no_grad()
def vectors(lower: nn.Module, rows: Dataset) -> tuple[dict[str, Tensor], Tensor]:
    """Return what the upper half reads, and the labels."""
    fill = {"batch_first": True}
    ids, mask = (
        nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows[name]], **fill)
        for name in ("input_ids", "attention_mask")
    )
    parts = zip(ids.split(50), mask.split(50), strict=True)
    states = torch.cat([lower.eval().bert(*part).last_hidden_state for part in parts])
    return {"inputs_embeds": states, "attention_mask": mask}, torch.tensor(rows["labels"])


def learn(model: nn.Module, inputs, labels: Tensor, recipe: finetuning.Recipe) -> None:
    """Fine-tune with warm-up and decay, at least a number of steps."""
    rng = np.random.default_rng(recipe.seed)
    steps = max(LEAST_STEPS, len(labels) // recipe.batch_size)
    passes = -(-steps * recipe.batch_size // len(labels))
    order = np.concatenate([rng.permutation(len(labels)) for _ in range(passes)])
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    decay = {"weight_decay": recipe.weight_decay}
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, fused=True, **decay)
    model.train()
    for step in range(steps):
        rising, falling = (step + 1) / (recipe.warmup * steps), 1 - step / steps
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * min(rising, falling)
        group = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        batch = {name: tensor[group] for name, tensor in inputs.items()}
        model(**batch, labels=labels[group]).loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()


@torch.inference_mode()
def accuracy(model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> float:
    """Return the share of reviews that are classified rightly."""
    model.eval()
    parts = zip(*(tensor.split(50) for tensor in inputs.values()), strict=True)
    said = [model(**dict(zip(inputs, part, strict=True))).logits.argmax(-1) for part in parts]
    return round(float((torch.cat(said) == labels).double().mean()), 4)


if __name__ == "__main__":
    main()
