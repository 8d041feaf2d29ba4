"""The fine-tuning recipe of chapters 07 to 10, in the notebook and from the command line.

A chapter calls the functions below one at a time. The command runs them in the same order,
on one process or, through Accelerate, on many::

    accelerate launch -m helpers.finetuning --help
    accelerate launch -m helpers.finetuning --train-reviews 4000 --output runs/imdb

It trains, chooses the best checkpoint on the validation split, reads the test split once,
and leaves the model and ``metrics.json`` in the output folder.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import evaluate
import numpy as np
import torch
from accelerate.utils import is_bf16_available
from datasets import Dataset, DatasetDict
from scipy.sparse import csr_matrix, triu
from sklearn.feature_extraction.text import CountVectorizer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils.notebook import NotebookProgressCallback

from helpers import assets, metrics, profiles

FILM_GAP = 30  # IMDB holds at most 30 reviews of one film for each label
Trainable = Literal["all", "without embeddings", "upper half", "head"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a classifier is fine-tuned.

    Args:
        max_length: tokens of a review that the model reads in training, markers included.
        read_length: tokens that it reads once it is trained; more is slower and better.
        head_share: share of them from the beginning of a review; the others are its end.
        trainable: which weights may change, see :func:`choose_trainable`.
        learning_rate: its highest value, reached when the warm-up ends.
        warmup: share of the training steps over which the learning rate rises from zero.
        epochs: how often every review is read.
        batch_size: reviews in one step, on each device.
        weight_decay: pull of the weights towards zero (AdamW).
        dropout: share of hidden units set to zero in training.
        evaluations: how often the validation split is read in one epoch.
        seed: decides the new head, the order of the reviews, and dropout.
    """

    max_length: int = 128
    read_length: int = 256
    head_share: float = 0.25
    trainable: Trainable = "upper half"
    learning_rate: float = 2e-4
    warmup: float = 0.1
    epochs: float = 1.0
    batch_size: int = 16
    weight_decay: float = 0.01
    dropout: float = 0.0
    evaluations: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a recipe that cannot be cooked."""
        for name in ("max_length", "read_length"):
            if getattr(self, name) < 3:
                raise ValueError(f"{name} must be at least 3, got {getattr(self, name)}")
        if not 0 <= self.head_share <= 1:
            raise ValueError(f"head_share must lie in [0, 1], got {self.head_share!r}")
        for name in ("learning_rate", "epochs", "batch_size", "evaluations"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than zero, got {getattr(self, name)!r}")
        for name in ("warmup", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)!r}")


# --- splits without shared films ----------------------------------------------------


def split_by_film(
    reviews: DatasetDict, *, test: int = 3_000, validation: int = 1_200, stretches: int = 6
) -> DatasetDict:
    """Split IMDB into train, validation and test so that films stay on one side.

    IMDB's reviews lie in order of their label and, within a label, of their film, with at most
    30 of one film. Each label's half is cut into ``stretches``; the end of each stretch goes to
    validation and test, with 30 reviews left out at every border. Where the data set has an
    official test split, that one is used and only validation is cut from ``train``.

    Films that occur under both labels are not separated by this; see :func:`linked_reviews`.

    Args:
        reviews: a data set with a ``train`` split sorted by label, as on the Hub.
        test: number of test reviews, both labels together; ignored if there is a test split.
        validation: number of validation reviews, both labels together.
        stretches: how many separate places of each half the held-out reviews come from.

    Returns:
        The three splits; each has a column ``position``, the row in the original ``train``.

    Raises:
        ValueError: the reviews are not sorted by label, or too few for the split asked for.
    """
    source = reviews["train"]
    labels = np.asarray(source["label"])
    if (np.diff(np.sort(np.unique(labels))) != 1).any() or (np.diff(labels) < 0).any():
        raise ValueError(
            "split_by_film needs IMDB's own order, all reviews of label 0 before those of "
            "label 1; the data set was shuffled or is another one"
        )
    official = "test" in reviews
    pieces = 2 * stretches
    cut = {"validation": validation // pieces, "test": 0 if official else test // pieces}
    positions: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for label in (0, 1):
        half = np.flatnonzero(labels == label)
        for stretch in np.array_split(half, stretches):
            for name, part in _cut_stretch(stretch, cut).items():
                positions[name] += part
    numbered = source.add_column("position", list(range(len(source))))
    splits = {name: numbered.select(rows) for name, rows in positions.items() if rows}
    if official:
        rows = range(len(source), len(source) + len(reviews["test"]))
        splits["test"] = reviews["test"].add_column("position", list(rows))
    return DatasetDict(splits)


def _cut_stretch(stretch: np.ndarray, sizes: dict[str, int]) -> dict[str, list[int]]:
    """Cut held-out pieces off the end of one stretch, a gap before and after each."""
    parts: dict[str, list[int]] = {}
    end = len(stretch)
    for name, size in sizes.items():
        if size:
            end -= FILM_GAP
            parts[name] = stretch[max(0, end - size) : max(0, end)].tolist()
            end -= size
    end -= FILM_GAP
    if end < 1:
        raise ValueError(
            f"a stretch of {len(stretch)} reviews cannot give up {sum(sizes.values())} and keep "
            f"gaps of {FILM_GAP}; ask for fewer held-out reviews or fewer stretches"
        )
    return {"train": stretch[:end].tolist()} | parts


def rare_names(texts: Sequence[str], *, least: int = 2, most: int = 40) -> csr_matrix:
    """Return which review holds which rare capitalized word, as a sparse 0/1 matrix.

    Names of people and characters are the fingerprint of a film. A word counts as rare if it
    occurs in ``least`` to ``most`` of the reviews. Shape: (reviews, names).
    """
    words = CountVectorizer(
        binary=True, lowercase=False, token_pattern=r"\b[A-Z][a-z]{2,}\b", min_df=least, max_df=most
    )
    return words.fit_transform(texts)


def linked_reviews(names: csr_matrix, *, shared: int = 2) -> np.ndarray:
    """Return the pairs of reviews that share at least ``shared`` rare names.

    Shape: (pairs, 2), row numbers with the smaller one first.
    """
    together = triu(names @ names.T, k=1).tocoo()
    enough = together.data >= shared
    return np.stack([together.row[enough], together.col[enough]], axis=1)


def drop_linked(splits: DatasetDict, links: np.ndarray) -> DatasetDict:
    """Take out reviews linked to a held-out one: from train and validation, never from test.

    Args:
        splits: as :func:`split_by_film` returns them.
        links: pairs of positions, as :func:`linked_reviews` returns them.
    """
    test = set(splits["test"]["position"])
    validation = set(splits["validation"]["position"])
    near_test = _partners(links, test)
    validation -= near_test
    near_held_out = near_test | _partners(links, validation)
    keep = {"train": lambda p: p not in near_held_out, "validation": lambda p: p in validation}
    kept = {
        name: splits[name].select(
            [row for row, position in enumerate(splits[name]["position"]) if wanted(position)]
        )
        for name, wanted in keep.items()
    }
    return DatasetDict(kept | {"test": splits["test"]})


def _partners(links: np.ndarray, positions: set[int]) -> set[int]:
    chosen = np.fromiter(positions, dtype=int)
    left, right = np.isin(links[:, 0], chosen), np.isin(links[:, 1], chosen)
    return set(links[left, 1].tolist()) | set(links[right, 0].tolist())


# --- from text to tokens ------------------------------------------------------------


def clean(text: str) -> str:
    """Replace the line breaks that IMDB kept from its web pages (``<br />``) by a space."""
    return re.sub(r"(?:\s*<br\s*/?>\s*)+", " ", text)


def head_and_tail(ids: list[int], length: int, head: int) -> list[int]:
    """Shorten ``ids`` to ``length``: the first ``head`` of them and as many from the end.

    Raises:
        ValueError: ``head`` is negative or greater than ``length``.
    """
    if not 0 <= head <= length:
        raise ValueError(f"head must lie between 0 and length = {length}, got {head}")
    if len(ids) <= length:
        return list(ids)
    tail = length - head
    return [*ids[:head], *(ids[-tail:] if tail else [])]


def tokenize(
    reviews: Dataset, tokenizer: PreTrainedTokenizerBase, *, max_length: int, head_share: float
) -> Dataset:
    """Return ``input_ids``, ``attention_mask``, ``labels`` and ``length`` of each review.

    A review that is too long keeps its beginning and its end, ``head_share`` of the tokens for
    the beginning; the markers around it ([CLS] and [SEP] for BERT) count in ``max_length``.

    Raises:
        ValueError: ``max_length`` leaves no room, or ``head_share`` is not in [0, 1].
    """
    # What the tokenizer puts around nothing: [CLS] [SEP] for BERT, an end marker for T5.
    markers = tokenizer("")["input_ids"]
    before, after = markers[: len(markers) // 2], markers[len(markers) // 2 :]
    room = max_length - len(markers)
    if room < 1:
        raise ValueError(f"max_length must exceed the {len(markers)} markers, got {max_length}")
    if not 0 <= head_share <= 1:
        raise ValueError(f"head_share must lie in [0, 1], got {head_share!r}")
    head = round(head_share * room)

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = [clean(text) for text in batch["text"]]
        # verbose=False: a warning about reviews over 512 tokens, which are shortened below.
        whole = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        kept = [head_and_tail(ids, room, head) for ids in whole]
        ids = [[*before, *part, *after] for part in kept]
        return {
            "input_ids": ids,
            "attention_mask": [[1] * len(part) for part in ids],
            "labels": batch["label"],
            "length": [len(part) for part in ids],
        }

    return reviews.map(encode, batched=True, remove_columns=reviews.column_names, desc="tokenizing")


# --- the model and what may change in it --------------------------------------------


def build_classifier(
    name: str, recipe: Recipe, *, labels: Sequence[str] = ("negative", "positive")
) -> PreTrainedModel:
    """Load the pretrained model ``name`` and put a new classification head on it.

    Attention dropout is switched off: on a CPU it costs more than all else (see chapter 08).
    """
    set_seed(recipe.seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        name,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        hidden_dropout_prob=recipe.dropout,
        attention_probs_dropout_prob=0.0,
    )
    choose_trainable(model, recipe.trainable)
    return model


def choose_trainable(model: PreTrainedModel, which: Trainable) -> int:
    """Freeze the weights that ``which`` leaves out; return how many numbers may still change.

    ``"all"``, ``"without embeddings"``, ``"upper half"`` (no embeddings and no layer of the
    lower half) or ``"head"`` (the new classifier and the pooler below it).

    Raises:
        ValueError: ``which`` is none of these.
    """
    layers = model.base_model.encoder.layer
    frozen: dict[str, list[torch.nn.Module]] = {
        "all": [],
        "without embeddings": [model.base_model.embeddings],
        "upper half": [model.base_model.embeddings, *layers[: len(layers) // 2]],
        "head": [model.base_model.embeddings, *layers],
    }
    if which not in frozen:
        raise ValueError(f"trainable must be one of {', '.join(map(repr, frozen))}, got {which!r}")
    model.requires_grad_(True)
    for module in frozen[which]:
        module.requires_grad_(False)
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


# --- training and measuring ---------------------------------------------------------


def computes_bf16_fast() -> bool:
    """Say whether this machine multiplies bfloat16 matrices in hardware."""
    if torch.accelerator.is_available():
        return is_bf16_available()
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("amx_tile"))


def training_arguments(
    recipe: Recipe, output: str | Path, *, validate: bool = True, **overrides: Any
) -> TrainingArguments:
    """Translate a recipe into the Trainer's arguments; ``overrides`` win.

    With ``validate=False`` no validation split is needed, and no checkpoint is kept.
    """
    every = 1.0 / (recipe.evaluations * recipe.epochs)  # a share of all steps
    arguments: dict[str, Any] = {
        "output_dir": str(output),
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": 64,
        "learning_rate": recipe.learning_rate,
        "warmup_steps": recipe.warmup,  # below 1: a share of all steps
        "weight_decay": recipe.weight_decay,
        "optim": "adamw_torch_fused",
        "bf16": computes_bf16_fast(),
        "use_cpu": not torch.accelerator.is_available(),  # bf16 wants to be told
        # Reviews of like length share a batch, so that little of it is padding.
        "train_sampling_strategy": "group_by_length",
        "length_column_name": "length",
        "eval_strategy": "steps" if validate else "no",
        "eval_steps": every,
        "save_strategy": "steps" if validate else "no",
        "save_steps": every,
        "save_total_limit": 1,
        "load_best_model_at_end": validate,
        "metric_for_best_model": "accuracy",
        "logging_steps": 0.05,
        "report_to": "none",
        "dataloader_pin_memory": torch.accelerator.is_available(),
        "seed": recipe.seed,
    }
    return TrainingArguments(**(arguments | overrides))


def compute_accuracy(predictions: EvalPrediction) -> dict[str, float]:
    """Turn logits (reviews, labels) and labels into the accuracy, through ``evaluate``."""
    accuracy = evaluate.load(metrics.path("accuracy"))
    chosen = predictions.predictions.argmax(axis=-1)
    return accuracy.compute(predictions=chosen, references=predictions.label_ids)


def build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    arguments: TrainingArguments,
    train: Dataset | None = None,
    validation: Dataset | None = None,
) -> Trainer:
    """Put model, data and arguments together; batches are padded to their longest review."""
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_accuracy,
    )
    # One plain progress bar for terminal, notebook and book, and no line for every log entry.
    for callback in (PrinterCallback, ProgressCallback, NotebookProgressCallback):
        trainer.remove_callback(callback)
    if not arguments.disable_tqdm:
        trainer.add_callback(PlainProgress)
    return trainer


class PlainProgress(ProgressCallback):
    """A tqdm bar in plain text; the log stays in ``trainer.state.log_history``."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """Print nothing."""


def save_classifier(trainer: Trainer, folder: str | Path) -> None:
    """Write weights (safetensors), configuration and tokenizer to ``folder``.

    ``Trainer.save_model`` also pickles its arguments. Loading a pickle can run any code, so
    that file is not left for others to load.
    """
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        (Path(folder) / "training_args.bin").unlink(missing_ok=True)


def predict_logits(trainer: Trainer, reviews: Dataset) -> np.ndarray:
    """Return the logits of each review in the order given; shape (reviews, labels).

    ``Trainer.predict`` alone would not: where training groups reviews by length, prediction
    does so too, and its rows come back in that other order. Here the reviews are sorted by
    length, read in sequence, and their logits put back in place.
    """
    order = np.argsort(reviews["length"], kind="stable")
    strategy = trainer.args.train_sampling_strategy
    trainer.args.train_sampling_strategy = "sequential"
    try:
        logits = trainer.predict(reviews.select(order)).predictions
    finally:
        trainer.args.train_sampling_strategy = strategy
    return logits[np.argsort(order)]


# --- the command --------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate, save the model and its metrics."""
    parser = argparse.ArgumentParser(
        prog="accelerate launch -m helpers.finetuning",
        description="Fine-tune a BERT classifier on IMDB, on one process or many.",
    )
    parser.add_argument("--model", default="encoder", help="a model of helpers.assets")
    parser.add_argument("--dataset", default="imdb", help="a data set of helpers.assets")
    parser.add_argument("--output", type=Path, default=Path("runs/imdb"))
    parser.add_argument("--train-reviews", type=int, help="default: all of the training split")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop early; for trials")
    for name, default in asdict(Recipe()).items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default, help=f"default {default}")
    options = vars(parser.parse_args(arguments))
    model, dataset, output, count, max_steps = (
        options.pop(name) for name in ("model", "dataset", "output", "train_reviews", "max_steps")
    )
    try:
        recipe = replace(Recipe(), **options)
        if count is not None and count < recipe.batch_size:
            raise ValueError(f"--train-reviews must be at least one batch, got {count}")
    except ValueError as problem:
        parser.error(str(problem))
    run(recipe, model=model, dataset=dataset, output=output, count=count, max_steps=max_steps)
    return 0


def run(
    recipe: Recipe,
    *,
    model: str,
    dataset: str,
    output: Path,
    count: int | None = None,
    max_steps: int = -1,
) -> dict[str, Any]:
    """Do what the command does; return what ``metrics.json`` holds."""
    splits = prepare(dataset)
    train = splits["train"].shuffle(seed=recipe.seed)
    train = train.select(range(min(count or len(train), len(train))))
    tokenizer = AutoTokenizer.from_pretrained(assets.model(model))
    length = {"train": recipe.max_length, "validation": recipe.max_length}
    tokens = {
        name: tokenize(
            part,
            tokenizer,
            max_length=length.get(name, recipe.read_length),
            head_share=recipe.head_share,
        )
        for name, part in (splits | {"train": train}).items()
    }
    trainer = build_trainer(
        build_classifier(assets.model(model), recipe),
        tokenizer,
        training_arguments(recipe, output, max_steps=max_steps),
        tokens["train"],
        tokens["validation"],
    )
    trained = trainer.train()
    logits = predict_logits(trainer, tokens["test"])
    chosen = logits.argmax(axis=-1)
    measured = {
        "test_accuracy": float((chosen == np.asarray(tokens["test"]["labels"])).mean()),
        "validation_accuracy": trainer.state.best_metric,
        "train_seconds": trained.metrics["train_runtime"],
        "train_reviews": len(tokens["train"]),
        "test_reviews": len(tokens["test"]),
        "processes": trainer.accelerator.num_processes,
        "profile": profiles.current(),
        "assets": assets.used(),
        "recipe": asdict(recipe),
    }
    save_classifier(trainer, output)
    if trainer.is_world_process_zero():
        beside = output / ".metrics.json"
        beside.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
        beside.replace(output / "metrics.json")
        print(json.dumps(measured, indent=2))
    return measured


def prepare(dataset: str = "imdb") -> DatasetDict:
    """Load a data set and split it without shared films, in one call."""
    from datasets import load_dataset

    reviews = load_dataset(**assets.dataset(dataset))
    splits = split_by_film(reviews)
    # Row numbers in this list are the positions that split_by_film hands out.
    texts = [*reviews["train"]["text"], *(reviews["test"]["text"] if "test" in reviews else [])]
    links = linked_reviews(rare_names(texts))
    return drop_linked(splits, links)


if __name__ == "__main__":
    sys.exit(main())
