"""The fine-tuning recipe of chapters 07 to 10, in the notebook and from the command line.

A chapter calls the functions below one at a time. The command runs them in the same order,
on one process or, through Accelerate, on many::

    accelerate launch -m helpers.finetuning --help
    accelerate launch -m helpers.finetuning --train-reviews 4000 --output runs/imdb

It trains, chooses the best checkpoint on the validation split, reads the test split once,
and leaves the model and ``metrics.json`` in the output folder. If it is interrupted, the same
command with ``--resume`` goes on from the newest checkpoint that is whole.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, get_args

import evaluate
import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import is_bf16_available, parse_flag_from_env
from datasets import Dataset, DatasetDict
from safetensors import SafetensorError
from scipy.optimize import minimize
from scipy.sparse import csr_array, csr_matrix, triu
from scipy.special import log_softmax
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
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.utils.notebook import NotebookProgressCallback

from helpers import assets, memory, metrics, profiles

FILM_GAP = 30  # IMDB holds at most 30 reviews of one film for each label
KEPT_CHECKPOINTS = 2
BEGUN = "training.json"  # in the folder of a training: what it was begun with
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

    Raises:
        TypeError: a number is something else, or an integer has a fraction.
        ValueError: an argument is out of range; the message names it.
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
        for name, value in asdict(self).items():
            kind = {"int": Integral, "float": Real}.get(self.__annotations__[name], str)
            if isinstance(value, bool) or not isinstance(value, kind):
                raise TypeError(f"{name} must be {self.__annotations__[name]}, got {value!r}")
            if kind is Real and not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value!r}")
        if self.trainable not in get_args(Trainable):
            raise ValueError(
                f"trainable must be one of {', '.join(map(repr, get_args(Trainable)))}, "
                f"got {self.trainable!r}"
            )
        for name in ("max_length", "read_length"):
            if getattr(self, name) < 3:
                raise ValueError(f"{name} must be at least 3, got {getattr(self, name)}")
        if not 0 <= self.head_share <= 1:
            raise ValueError(f"head_share must lie in [0, 1], got {self.head_share!r}")
        for name in ("learning_rate", "epochs", "batch_size", "evaluations"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than zero, got {getattr(self, name)!r}")
        if self.weight_decay < 0 or not 0 <= self.seed < 2**32:
            raise ValueError(
                "weight_decay and seed must be at least 0, and seed below 2^32, got "
                f"{self.weight_decay!r} and {self.seed!r}"
            )
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
        TypeError: ``reviews`` is no data set with splits, or a number is no integer.
        ValueError: there is no ``train`` split with labels 0 and 1, the reviews are not sorted by
            label, or too few for the split asked for.
    """
    _require("reviews", reviews, DatasetDict)
    for name, number, least in (
        ("test", test, 0), ("validation", validation, 0), ("stretches", stretches, 1)
    ):  # fmt: skip
        _require_integer(name, number, least)
    if "train" not in reviews or "label" not in reviews["train"].column_names:
        raise ValueError(f"reviews must have a split 'train' with a column 'label', got {reviews}")
    source = reviews["train"]
    labels = np.asarray(source["label"])
    if np.unique(labels).tolist() != [0, 1] or (np.diff(labels) < 0).any():
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
        if stretches > len(half):
            raise ValueError(
                f"{len(half)} reviews of label {label} cannot be cut into {stretches} stretches"
            )
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

    Raises:
        TypeError: ``texts`` is no sequence of strings, or a bound no integer.
        ValueError: a bound is below 1, or no word is as rare as that.
    """
    _require_integer("least", least, 1)
    _require_integer("most", most, 1)
    _require_strings("texts", texts)
    words = CountVectorizer(
        binary=True, lowercase=False, token_pattern=r"\b[A-Z][a-z]{2,}\b", min_df=least, max_df=most
    )
    return words.fit_transform(texts)


def linked_reviews(names: csr_matrix, *, shared: int = 2) -> np.ndarray:
    """Return the pairs of reviews that share at least ``shared`` rare names.

    Shape: (pairs, 2), row numbers with the smaller one first.

    Raises:
        TypeError: ``names`` is no sparse matrix or ``shared`` no integer.
        ValueError: ``shared`` is below 1.
    """
    _require("names", names, (csr_matrix, csr_array))
    _require_integer("shared", shared, 1)
    together = triu(names @ names.T, k=1).tocoo()
    enough = together.data >= shared
    return np.stack([together.row[enough], together.col[enough]], axis=1)


def drop_linked(splits: DatasetDict, links: np.ndarray) -> DatasetDict:
    """Take out reviews linked to a held-out one: from train and validation, never from test.

    Args:
        splits: as :func:`split_by_film` returns them.
        links: pairs of positions, as :func:`linked_reviews` returns them.

    Raises:
        TypeError: ``splits`` is no data set with splits.
        ValueError: a split or its column ``position`` is missing, or ``links`` are no pairs.
    """
    _require("splits", splits, DatasetDict)
    for name in ("train", "validation", "test"):
        if name not in splits or "position" not in splits[name].column_names:
            raise ValueError(f"splits must have {name!r} with a column 'position', got {splits}")
    links = np.asarray(links)
    if links.ndim != 2 or links.shape[1] != 2 or links.dtype.kind not in "iu":
        raise ValueError(
            f"links must be pairs of row numbers, got shape {links.shape} of {links.dtype}"
        )
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
    """Replace the line breaks that IMDB kept from its web pages (``<br />``) by a space.

    Raises:
        TypeError: ``text`` is no string.
    """
    return re.sub(r"(?:\s*<br\s*/?>\s*)+", " ", text)


def head_and_tail(ids: list[int], length: int, head: int) -> list[int]:
    """Shorten ``ids`` to ``length``: the first ``head`` of them and as many from the end.

    Raises:
        TypeError: ``ids`` is no sequence, or ``length`` or ``head`` no integer.
        ValueError: ``head`` is negative or greater than ``length``.
    """
    _require("ids", ids, Sequence)
    _require_integer("length", length, 0)
    _require_integer("head", head)
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
        TypeError: ``reviews`` is no data set, ``tokenizer`` no tokenizer, or a number is none.
        ValueError: ``max_length`` leaves no room, ``head_share`` is not in [0, 1], or a column is
            missing.
    """
    _require("reviews", reviews, Dataset)
    _require("tokenizer", tokenizer, PreTrainedTokenizerBase)
    _require_integer("max_length", max_length)
    _require("head_share", head_share, Real)
    if not {"text", "label"} <= set(reviews.column_names):
        raise ValueError(f"reviews must have columns text and label, got {reviews.column_names}")
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

    Raises:
        TypeError: ``name`` is no string, ``recipe`` no recipe, or a label no string.
        ValueError: there are fewer than two labels, or two are the same.
        OSError: there is no model ``name``.
    """
    _require("name", name, str)
    _require("recipe", recipe, Recipe)
    _require_strings("labels", labels)
    if len(set(labels)) < max(2, len(labels)):
        raise ValueError(f"labels must be two or more, all different, got {labels!r}")
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
        TypeError: ``model`` is no model of transformers.
        ValueError: ``which`` is none of these.
    """
    _require("model", model, PreTrainedModel)
    layers = model.base_model.encoder.layer
    frozen: dict[str, list[torch.nn.Module]] = {
        "all": [],
        "without embeddings": [model.base_model.embeddings],
        "upper half": [model.base_model.embeddings, *layers[: len(layers) // 2]],
        "head": [model.base_model.embeddings, *layers],
    }
    if not isinstance(which, str) or which not in frozen:
        raise ValueError(f"trainable must be one of {', '.join(map(repr, frozen))}, got {which!r}")
    model.requires_grad_(True)
    for module in frozen[which]:
        module.requires_grad_(False)
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


# --- training and measuring ---------------------------------------------------------


def uses_accelerator() -> bool:
    """Say whether training runs on a GPU: there is one, and Accelerate was not told otherwise."""
    return torch.accelerator.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")


def computes_bf16_fast() -> bool:
    """Say whether this machine multiplies bfloat16 matrices in hardware."""
    if uses_accelerator():
        return is_bf16_available()
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("amx_tile"))


def training_arguments(
    recipe: Recipe, output: str | Path, *, validate: bool = True, **overrides: Any
) -> TrainingArguments:
    """Translate a recipe into the Trainer's arguments; ``overrides`` win.

    With ``validate=False`` no validation split is needed, and no checkpoint is kept. In a
    rehearsal (see :mod:`helpers.profiles`) training ends at its step limit.

    Raises:
        TypeError: ``recipe`` is no recipe, ``output`` no path, or an override is unknown.
        ValueError: an override is out of range.
    """
    _require("recipe", recipe, Recipe)
    _require("output", output, (str, Path))
    _require("validate", validate, bool)
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
        "use_cpu": not uses_accelerator(),  # bf16 wants to be told
        "max_steps": profiles.rehearsal() or -1,
        # Reviews of like length share a batch, so that little of it is padding.
        "train_sampling_strategy": "group_by_length",
        "length_column_name": "length",
        "eval_strategy": "steps" if validate else "no",
        "eval_steps": every,
        "save_strategy": "steps" if validate else "no",
        "save_steps": every,
        "save_total_limit": None,  # SealCheckpoints deletes the old ones
        "load_best_model_at_end": validate,
        "metric_for_best_model": "accuracy",
        "logging_steps": 0.05,
        "report_to": "none",
        "dataloader_pin_memory": uses_accelerator(),
        "seed": recipe.seed,
    }
    return TrainingArguments(**(arguments | overrides))


def compute_accuracy(predictions: EvalPrediction) -> dict[str, float]:
    """Turn logits (reviews, labels) and labels into the accuracy, through ``evaluate``.

    Raises:
        TypeError: ``predictions`` is something else than the Trainer gives.
        ValueError: the logits are not finite, or do not fit the labels.
    """
    _require("predictions", predictions, EvalPrediction)
    logits, labels = np.asarray(predictions.predictions), np.asarray(predictions.label_ids)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.size:
        raise ValueError(f"logits {logits.shape} and labels {labels.shape} do not fit each other")
    if logits.dtype.kind != "f" or not np.isfinite(logits).all():
        raise ValueError("logits must be finite numbers: the training has diverged")
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
    """Put model, data and arguments together; batches are padded to their longest review.

    Raises:
        TypeError: an argument is something else than its annotation says.
        NotEnoughMemory: training on the longest reviews needs more memory than there is.
    """
    _require("model", model, PreTrainedModel)
    _require("tokenizer", tokenizer, PreTrainedTokenizerBase)
    _require("arguments", arguments, TrainingArguments)
    for name, part in (("train", train), ("validation", validation)):
        _require(name, part, (Dataset, type(None)))
    if train is not None and "length" in train.column_names and arguments.use_cpu:
        size = min(arguments.per_device_train_batch_size, max(1, len(train)))
        needed = training_memory(model, size, max(train["length"], default=0))
        memory.require(needed, f"training with batches of {size} reviews")
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_accuracy,
    )
    trainer.add_callback(SealCheckpoints)
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


def training_memory(model: PreTrainedModel, batch_size: int, length: int) -> int:
    """Return how many bytes training takes at least, beyond the model itself.

    For each weight that changes, a gradient and AdamW's two averages in float32; for each layer
    that changes, 17 numbers a token and feature that the backward pass wants to see again.

    Args:
        model: with its frozen weights marked, see :func:`choose_trainable`.
        batch_size: reviews in one step, at least 1.
        length: tokens of the longest review, 0 or more.

    Raises:
        TypeError: ``model`` is no model of transformers, or a number no integer.
        ValueError: ``batch_size`` or ``length`` is out of range.

    Source: Korthikanti et al. 2022, section 4.1 (https://arxiv.org/abs/2205.05198), without
    dropout masks and attention scores.
    """
    _require("model", model, PreTrainedModel)
    _require_integer("batch_size", batch_size, 1)
    _require_integer("length", length, 0)
    changing = [
        sum(weight.numel() for weight in layer.parameters() if weight.requires_grad)
        for layer in model.base_model.encoder.layer
    ]
    weights = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    numbers = 17 * batch_size * length * model.config.hidden_size * sum(map(bool, changing))
    return 4 * (3 * weights + numbers)


class SealCheckpoints(TrainerCallback):
    """Seal each checkpoint when it is whole, so that no other is ever resumed from.

    Older ones are deleted afterwards: two stay, the newest and the best, or the newest and the one
    before it. The Trainer's own ``save_total_limit`` goes by date, so once a clock was set back it
    deletes the newest. Here the number of steps decides.
    """

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the SHA-256 of every file of the checkpoint beside them; delete older ones."""
        processes = PartialState()
        processes.wait_for_everyone()  # each process writes a file of its own
        if processes.is_main_process:
            assets.seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            _delete_older_checkpoints(args, state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Delete what was left when a process was killed while it deleted."""
        if PartialState().is_main_process and args.save_strategy != "no":
            _delete_older_checkpoints(args, state)


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
        (folder / assets.MANIFEST).unlink(missing_ok=True)  # half deleted, it is not whole
        shutil.rmtree(folder, ignore_errors=True)


def _checkpoints(output: str | Path) -> list[tuple[int, Path]]:
    """Return the number of steps and the folder of each checkpoint, whole or not, newest first."""
    numbered = [
        (int(match[1]), path)
        for path in Path(output).glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    ]
    return sorted(numbered, reverse=True)


def newest_checkpoint(output: str | Path) -> Path | None:
    """Return the newest checkpoint in ``output`` that is whole; None if there is none.

    One that was being written when the process died is passed over. So is one that cannot be
    resumed from because it holds the weights only (``save_only_model``).

    Raises:
        TypeError: ``output`` is no path.
        ValueError: a file of that checkpoint has changed since it was written.
    """
    _require("output", output, (str, Path))
    for _, folder in _checkpoints(output):
        if not (folder / assets.MANIFEST).is_file() or not list(folder.glob("optimizer*")):
            continue
        if found := assets.damage(folder):
            raise ValueError(
                f"{found[0]} Delete {folder} to go on from the checkpoint before it, or start anew "
                "without --resume."
            )
        return folder
    return None


def fit_bias(logits: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Find what to add to the logits of each label so that the labels become most likely.

    The sum is chosen that lowers the cross-entropy of ``labels`` most: vector scaling with
    biases only (Guo and others 2017, section 4.2). One validation split is enough for so few
    numbers. A label's bias says how much too seldom the model chooses it.

    Args:
        logits: shape (reviews, labels).
        labels: the right label of each review.

    Returns:
        The biases, shape (labels,), with mean zero.

    Raises:
        TypeError: logits or labels hold something else than numbers.
        ValueError: the shapes do not fit, a logit is not finite, a label has no review, or no
            biases were found because logits are too far apart.
    """
    logits, labels = _numbers("logits", logits), _numbers("labels", labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "fit_bias needs logits of shape (reviews, labels) and one label for each review, "
            f"got {logits.shape} and {labels.shape}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("fit_bias needs finite logits")
    if logits.shape[1] < 2 or set(labels.tolist()) != set(range(logits.shape[1])):
        raise ValueError(
            f"fit_bias needs at least one review of each of the {logits.shape[1]} labels, "
            f"got labels {sorted(set(labels.tolist()))}"
        )

    def loss_and_slope(bias: np.ndarray) -> tuple[float, np.ndarray]:
        logs = log_softmax(logits + bias, axis=-1)
        loss = -logs[np.arange(len(labels)), labels].mean()
        return loss, np.exp(logs).mean(axis=0) - shares

    labels = labels.astype(int)
    shares = np.bincount(labels, minlength=logits.shape[1]) / len(labels)
    found = minimize(loss_and_slope, np.zeros(logits.shape[1]), jac=True, method="BFGS")
    if not np.abs(found.jac).max() < 1e-3:
        raise ValueError(
            "no biases balance the labels: some logits are too far apart, the largest is "
            f"{np.abs(logits).max():.3g}"
        )
    return found.x - found.x.mean()


def add_to_bias(model: PreTrainedModel, bias: Sequence[float]) -> None:
    """Add ``bias``, one number for each label, to the last layer of the classifier.

    What is saved afterwards holds the change, so it answers the same elsewhere.

    Raises:
        TypeError: ``model`` is no model of transformers, or ``bias`` holds no numbers.
        ValueError: there are not as many numbers as labels, or a sum is not finite in the numbers
            of the model, such as float32.
    """
    _require("model", model, PreTrainedModel)
    ours, numbers = model.classifier.bias, _numbers("bias", bias)
    if numbers.shape != tuple(ours.shape):
        raise ValueError(
            f"bias must hold {ours.numel()} numbers, one for each label, got shape {numbers.shape}"
        )
    with torch.no_grad():
        changed = ours + torch.as_tensor(numbers, dtype=ours.dtype, device=ours.device)
        if not torch.isfinite(changed).all():  # also if it is too large for the model's numbers
            raise ValueError(f"bias must be finite in {ours.dtype}, got {numbers.tolist()}")
        ours.copy_(changed)


def save_classifier(trainer: Trainer, folder: str | Path) -> None:
    """Write weights (safetensors), configuration and tokenizer to ``folder``.

    All files are written beside it first. While they are moved in, the folder has no
    ``config.json``, so that an interruption never leaves a mixture that can be loaded.

    ``Trainer.save_model`` also pickles its arguments. Loading a pickle can run any code, so
    that file is not left for others to load.

    Raises:
        TypeError: ``trainer`` is no trainer or ``folder`` no path.
        ValueError: ``folder`` is the root of the disk, beside which nothing can be written.
        OSError: the folder cannot be written; what was there before is untouched.
    """
    _require("trainer", trainer, Trainer)
    _require("folder", folder, (str, Path))
    folder = Path(folder).absolute()
    if not folder.name:
        raise ValueError(f"expected a folder to write to, got {folder}")
    beside = folder.with_name(f".{folder.name}-saving")
    if trainer.is_world_process_zero():
        shutil.rmtree(beside, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(beside))
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        (beside / "training_args.bin").unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)
        for path in sorted(beside.iterdir(), key=lambda path: path.name == "config.json"):
            path.replace(folder / path.name)
        beside.rmdir()


def predict_logits(trainer: Trainer, reviews: Dataset) -> np.ndarray:
    """Return the logits of each review in the order given; shape (reviews, labels).

    ``Trainer.predict`` alone would not: where training groups reviews by length, prediction
    does so too, and its rows come back in that other order. Here the reviews are sorted by
    length, read in sequence, and their logits put back in place.

    Raises:
        TypeError: ``trainer`` is no trainer or ``reviews`` no data set.
        ValueError: the reviews have no column ``length``; :func:`tokenize` makes it.
    """
    _require("trainer", trainer, Trainer)
    _require("reviews", reviews, Dataset)
    if "length" not in reviews.column_names:
        raise ValueError(f"reviews must have a column length, got {reviews.column_names}")
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
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest whole checkpoint, if any"
    )
    for name, default in asdict(Recipe()).items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default, help=f"default {default}")
    options = vars(parser.parse_args(arguments))
    count = options.pop("train_reviews")
    places = {
        name: options.pop(name) for name in ("model", "dataset", "output", "max_steps", "resume")
    }
    try:
        recipe = replace(Recipe(), **options)
        if count is not None and count < recipe.batch_size:
            raise ValueError(f"--train-reviews must be at least one batch, got {count}")
    except ValueError as problem:
        parser.error(str(problem))
    try:
        run(recipe, count=count, **places)
    except (
        assets.AssetError, SafetensorError, KeyError, ValueError, OSError, MemoryError
    ) as problem:  # fmt: skip
        said = problem.args[0] if isinstance(problem, KeyError) else problem
        print(f"error: {said or type(problem).__name__}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _naming_a_full_disk() -> Iterator[None]:
    """Say of a full disk that it is full: each library has another error for it, or only numbers.

    PyTorch's writer finds itself at an "unexpected pos", or "failed writing file".
    """
    try:
        yield
    except Exception as problem:
        said = str(problem)
        if not assets.SAYS_FULL.search(said) and "inline_container" not in said:
            raise
        reason = said.splitlines()[0].rstrip(".")
        raise OSError(
            f"The disk is full ({reason}). What was whole before is whole still. "
            "Make room, then go on from the newest checkpoint with --resume."
        ) from problem


@_naming_a_full_disk()
def run(
    recipe: Recipe,
    *,
    model: str,
    dataset: str,
    output: Path,
    count: int | None = None,
    max_steps: int = -1,
    resume: bool = False,
) -> dict[str, Any]:
    """Do what the command does; return what ``metrics.json`` holds.

    Raises:
        TypeError: ``recipe`` is no recipe, ``output`` no path, or ``count`` no integer.
        KeyError: there is no model or data set of that name.
        ValueError: ``count`` is less than one batch, the checkpoint to resume is damaged, or what
            is in ``output`` was begun otherwise.
        AssetError, NotEnoughMemory, OSError: see :mod:`helpers.assets`, :mod:`helpers.memory`.
    """
    _require("recipe", recipe, Recipe)
    _require("output", output, Path)
    _require_integer("max_steps", max_steps, -1)
    if count is not None:
        _require_integer("count", count)
        if count < recipe.batch_size:
            raise ValueError(f"--train-reviews must be at least one batch, got {count}")
    assets.model(model)
    begun = asdict(recipe) | {"model": model, "dataset": dataset, "train_reviews": count}
    begun |= {"max_steps": max_steps, "profile": profiles.current()}
    _require_same_training(output, begun, resume=resume)
    checkpoint = newest_checkpoint(output) if resume else None
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
        training_arguments(recipe, output, **({"max_steps": max_steps} if max_steps > 0 else {})),
        tokens["train"],
        tokens["validation"],
    )
    if trainer.is_world_process_zero():
        output.mkdir(parents=True, exist_ok=True)
        _write_json(output / BEGUN, begun)
    trained = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    validation = tokenize(
        splits["validation"],
        tokenizer,
        max_length=recipe.read_length,
        head_share=recipe.head_share,
    )
    bias = fit_bias(predict_logits(trainer, validation), validation["labels"])
    add_to_bias(trainer.model, bias)
    logits = predict_logits(trainer, tokens["test"])
    chosen = logits.argmax(axis=-1)
    measured = {
        "test_accuracy": float((chosen == np.asarray(tokens["test"]["labels"])).mean()),
        "validation_accuracy": trainer.state.best_metric,
        "bias": bias.tolist(),
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
        _write_json(output / "metrics.json", measured)
        print(json.dumps(measured, indent=2))
    return measured


def _require_same_training(output: Path, begun: dict[str, Any], *, resume: bool) -> None:
    """Refuse to mix two trainings in one folder: the checkpoints of one would end the other."""
    if not _checkpoints(output):
        return
    if not resume:
        raise ValueError(
            f"{output} holds checkpoints of an earlier training. Go on from them with --resume, "
            "delete them, or name another folder with --output."
        )
    try:
        before = json.loads((output / BEGUN).read_text(encoding="utf-8"))
        differs = [name for name in begun if before[name] != begun[name]]
    except (OSError, ValueError, KeyError, TypeError):
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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)


def prepare(dataset: str = "imdb") -> DatasetDict:
    """Load a data set and split it without shared films, in one call.

    Raises:
        KeyError: there is no data set of that name.
        AssetError: it cannot be fetched.
    """
    from datasets import load_dataset

    reviews = load_dataset(**assets.dataset(dataset))
    splits = split_by_film(reviews)
    # Row numbers in this list are the positions that split_by_film hands out.
    texts = [*reviews["train"]["text"], *(reviews["test"]["text"] if "test" in reviews else [])]
    links = linked_reviews(rare_names(texts))
    return drop_linked(splits, links)


# --- what a wrong input is told -----------------------------------------------------


def _require(name: str, value: Any, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind) or (kind is Real and isinstance(value, bool)):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(one.__name__ for one in kinds)
        raise TypeError(f"{name} must be of type {wanted}, got {type(value).__name__}")


def _numbers(name: str, values: Any) -> np.ndarray:
    """Return an array of floats; whole numbers that a float cannot hold are refused too."""
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "iuf":
            raise TypeError(f"it holds {found.dtype}")
        return found.astype(float)
    except (TypeError, ValueError, RuntimeError, OverflowError) as problem:
        raise TypeError(f"{name} must hold real numbers: {problem}") from None


def _require_integer(name: str, value: Any, least: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _require_strings(name: str, values: Any) -> None:
    if isinstance(values, str) or not all(isinstance(one, str) for one in _each(name, values)):
        raise TypeError(f"{name} must be a sequence of strings")


def _each(name: str, values: Any) -> Any:
    try:
        len(values)
        return iter(values)
    except TypeError:
        raise TypeError(f"{name} must be a sequence, got {type(values).__name__}") from None


if __name__ == "__main__":
    sys.exit(main())
