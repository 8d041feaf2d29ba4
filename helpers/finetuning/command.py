"""The command: all steps of the recipe, from the data set to a saved model and its metrics."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors import SafetensorError
from transformers import AutoTokenizer, EvalPrediction, TrainingArguments

from helpers import assets, profiles, sealed
from helpers.finetuning.calibration import add_to_bias, fit_bias
from helpers.finetuning.checkpoints import BEGUN, alone, newest_checkpoint, require_same_training
from helpers.finetuning.classifier import (
    build_classifier,
    build_trainer,
    compute_accuracy,
    predict_logits,
    save_classifier,
    training_arguments,
)
from helpers.finetuning.recipe import Recipe, Trainable
from helpers.finetuning.splits import prepare
from helpers.finetuning.texts import tokenize


def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate, save the model and its metrics; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="accelerate launch -m helpers.finetuning",
        description="Fine-tune a BERT classifier on IMDB, on one process or many.",
    )
    parser.add_argument("--model", default="encoder", help="a BERT of helpers.assets")
    parser.add_argument("--output", type=Path, default=Path("runs/imdb"))
    parser.add_argument(
        "--train-reviews", type=int, dest="count", help="default: all of the training split"
    )
    parser.add_argument("--max-steps", type=int, default=-1, help="stop early; for trials")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest whole checkpoint, if any"
    )
    fields = asdict(Recipe())
    for name, default in fields.items():
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=type(default),
            default=default,
            choices=get_args(Trainable) if name == "trainable" else None,
            help=f"default {default}",
        )
    options = vars(parser.parse_args(arguments))
    try:
        recipe = Recipe(**{name: options.pop(name) for name in fields})
    except ValueError as problem:
        parser.error(str(problem))
    try:
        run(recipe, **options)
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
        if not sealed.says_full(said) and "inline_container" not in said:
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
    output: Path,
    count: int | None = None,
    max_steps: int = -1,
    resume: bool = False,
) -> dict[str, Any]:
    """Do what the command does; return what ``metrics.json`` holds.

    Checkpoints are compared on validation reviews as the trained model will read them, at
    ``read_length``. Both accuracies in ``metrics.json`` are of that length.

    Args:
        model: name of a BERT in :mod:`helpers.assets`.
        output: folder for checkpoints, the model and ``metrics.json``.
        count: number of training reviews; None takes all.
        max_steps: ends training early; -1 does not.

    Raises:
        KeyError: there is no model of that name.
        ValueError: ``count`` or ``max_steps`` is too small, the model is no BERT or cannot read as
            many tokens as the recipe asks for, the checkpoint to resume is damaged, what is in
            ``output`` was begun otherwise, or another training is at work there.
        AssetError, NotEnoughMemory, OSError: see :mod:`helpers.assets`, :mod:`helpers.memory`.
    """
    if count is not None and count < recipe.batch_size:
        raise ValueError(f"--train-reviews must be at least one batch, got {count}")
    if max_steps < 1 and max_steps != -1:
        raise ValueError(f"--max-steps must be at least 1, got {max_steps}")
    weights = assets.model(model)
    limit = {"max_steps": max_steps} if max_steps > 0 else {}
    arguments = training_arguments(recipe, output, **limit)
    begun = asdict(recipe) | {"model": model, "train_reviews": count}
    begun |= {"max_steps": max_steps, "profile": profiles.current()}
    with alone(output) if arguments.process_index == 0 else nullcontext():
        require_same_training(output, begun, resume=resume)
        checkpoint = newest_checkpoint(output) if resume else None
        return _train(recipe, arguments, weights, begun, checkpoint)


def _train(
    recipe: Recipe,
    arguments: TrainingArguments,
    weights: str,
    begun: dict[str, Any],
    checkpoint: Path | None,
) -> dict[str, Any]:
    output, count = Path(arguments.output_dir), begun["train_reviews"]
    classifier = build_classifier(weights, recipe)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    splits = prepare()
    shuffled = splits["train"].shuffle(seed=recipe.seed)
    splits["train"] = shuffled.select(range(min(count or len(shuffled), len(shuffled))))
    tokens = {
        name: tokenize(
            part,
            tokenizer,
            max_length=recipe.max_length if name == "train" else recipe.read_length,
            head_share=recipe.head_share,
        )
        for name, part in splits.items()
    }
    trainer = build_trainer(classifier, tokenizer, arguments, tokens["train"], tokens["validation"])
    if trainer.is_world_process_zero():
        sealed.write(output / BEGUN, json.dumps(begun, indent=2) + "\n")
    trained = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    labels = {name: np.asarray(part["labels"]) for name, part in tokens.items()}
    bias = fit_bias(predict_logits(trainer, tokens["validation"]), labels["validation"])
    add_to_bias(trainer.model, bias)
    tested = EvalPrediction(predict_logits(trainer, tokens["test"]), labels["test"])
    measured = {
        "test_accuracy": compute_accuracy(tested)["accuracy"],
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
        content = json.dumps(measured, indent=2)
        sealed.write(output / "metrics.json", content + "\n")
        print(content)
    return measured
