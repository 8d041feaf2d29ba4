"""The classifier: a pretrained model with a new head, how it is trained, and what it answers."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
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

from helpers import memory, metrics, profiles
from helpers.finetuning.checkpoints import SealCheckpoints
from helpers.finetuning.recipe import Recipe, Trainable
from helpers.shapes import checked


def build_classifier(
    name: str, recipe: Recipe, *, labels: Sequence[str] = ("negative", "positive")
) -> PreTrainedModel:
    """Load the pretrained model ``name`` and put a new classification head on it.

    Attention dropout is switched off, since on a CPU it costs time.

    Raises:
        ValueError: there are fewer than two labels, two are the same, the model is no BERT, or the
            recipe asks for more tokens than it can read.
    """
    if len(set(labels)) < max(2, len(labels)):  # with one, transformers would do a regression
        raise ValueError(f"labels must be two or more, all different, got {labels!r}")
    config = AutoConfig.from_pretrained(name)
    if config.model_type != "bert":  # others have their layers, or their head, elsewhere
        raise ValueError(f"the recipe fine-tunes a BERT, but {name} is a {config.model_type!r}")
    most = config.max_position_embeddings
    if max(recipe.max_length, recipe.read_length) > most:
        raise ValueError(
            f"the model reads at most {most} tokens, but max_length is {recipe.max_length} and "
            f"read_length {recipe.read_length}"
        )
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


@checked
def choose_trainable(model: PreTrainedModel, which: Trainable) -> int:
    """Freeze the weights that ``which`` leaves out; return how many numbers may still change.

    ``"all"``, ``"without embeddings"``, ``"upper half"`` (no embeddings and no layer of the
    lower half) or ``"head"`` (the new classifier and the pooler below it).
    """
    base = model.base_model
    embeddings, layers = base.embeddings, base.encoder.layer
    frozen: dict[str, list[torch.nn.Module]] = {
        "all": [],
        "without embeddings": [embeddings],
        "upper half": [embeddings, *layers[: len(layers) // 2]],
        "head": [embeddings, *layers],
    }
    model.requires_grad_(True)
    for module in frozen[which]:
        module.requires_grad_(False)
    return _count_trainable(model)


def _count_trainable(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def training_arguments(
    recipe: Recipe, output: str | Path, *, validate: bool = True, **overrides: Any
) -> TrainingArguments:
    """Translate a recipe into the Trainer's arguments; ``overrides`` win.

    With ``validate=False`` no validation split is needed, and no checkpoint is kept.
    """
    # A share of all steps. The Trainer would read 1 as one step, so once is just below it.
    every = min(1 / (recipe.evaluations * recipe.epochs), math.nextafter(1, 0))
    arguments: dict[str, Any] = {
        "output_dir": str(output),
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": 64,
        "learning_rate": recipe.learning_rate,
        "warmup_steps": recipe.warmup,  # below 1: a share of all steps
        "weight_decay": recipe.weight_decay,
        "optim": "adamw_torch_fused",
        "bf16": profiles.computes_bf16_fast(),
        "use_cpu": not profiles.uses_accelerator(),  # bf16 wants to be told
        "max_steps": profiles.rehearsal() or -1,
        # Reviews of like length share a batch, so that little of it is padding.
        "train_sampling_strategy": "group_by_length",
        "length_column_name": "length",
        "eval_strategy": "steps" if validate else "no",
        "eval_steps": every,
        "save_strategy": "steps" if validate else "no",
        "save_steps": every,
        "load_best_model_at_end": validate,
        "metric_for_best_model": "accuracy",
        "logging_steps": 0.05,
        "report_to": "none",
        "dataloader_pin_memory": profiles.uses_accelerator(),
        "seed": recipe.seed,
    }
    return TrainingArguments(**(arguments | overrides))


def compute_accuracy(predictions: EvalPrediction) -> dict[str, float]:
    """Return the accuracy of logits (reviews, labels); ValueError if one is not finite."""
    if not np.isfinite(predictions.predictions).all():
        raise ValueError("logits must be finite numbers: the training has diverged")
    import evaluate  # takes a second, and only this needs it

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
    that changes, 16 numbers a token and feature for the backward pass: Korthikanti et al. 2022,
    section 4.1 (https://arxiv.org/abs/2205.05198), without dropout masks and attention scores.

    ``length`` is that of the longest review, in tokens.
    """
    changing = [bool(_count_trainable(layer)) for layer in model.base_model.encoder.layer]
    numbers = 16 * batch_size * length * model.config.hidden_size * sum(changing)
    return 4 * (3 * _count_trainable(model) + numbers)


def predict_logits(trainer: Trainer, reviews: Dataset) -> np.ndarray:
    """Return the logits of each review in the order given; shape (reviews, labels).

    ``Trainer.predict`` would not: where training groups reviews by length, its rows come back in
    that other order. ``reviews`` are what :func:`tokenize` returns.
    """
    if not len(reviews):  # the Trainer would return None
        return np.zeros((0, trainer.model.config.num_labels), dtype=np.float32)
    order = np.argsort(reviews["length"], kind="stable")
    loader = DataLoader(
        reviews.select(order).remove_columns("length"),
        batch_size=trainer.args.eval_batch_size,
        collate_fn=trainer.data_collator,
        pin_memory=trainer.args.dataloader_pin_memory,
    )
    output = trainer.evaluation_loop(trainer.accelerator.prepare(loader), "Prediction")
    # Ends the progress bar, as Trainer.predict does.
    trainer.callback_handler.on_predict(trainer.args, trainer.state, trainer.control, {})
    return output.predictions[np.argsort(order)]


def save_classifier(trainer: Trainer, folder: str | Path) -> None:
    """Write weights (safetensors), configuration and tokenizer to ``folder``.

    All files are written to a folder within it first. While they change places with the older ones,
    ``folder`` has no ``config.json``, so that a kill never leaves a mixture that can be loaded. If
    the folder cannot be written, a model that was there before is usable still.
    """
    folder = Path(folder)
    beside = folder / ".saving"  # within it, so on the same disk
    before = beside / "before"
    if trainer.is_world_process_zero():
        shutil.rmtree(beside, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(beside))
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        (beside / "training_args.bin").unlink(missing_ok=True)  # a pickle, which can run any code
        names = sorted(os.listdir(beside), key=lambda name: name == "config.json")
        before.mkdir()
        moves = [(folder / name, before / name) for name in reversed(names)]
        moves += [(beside / name, folder / name) for name in names]
        try:
            for here, there in moves:
                if here.exists():  # in the first half, not every name
                    here.replace(there)
        except BaseException:
            for here, there in reversed(moves):
                if there.exists() and not here.exists():
                    there.replace(here)
            raise
        shutil.rmtree(beside)
