"""The command: all steps of the recipe, from the data set to a saved model and its metrics."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, get_args

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env
from safetensors import SafetensorError
from torch.distributed import DistError
from tqdm.auto import tqdm
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

# What is told in one line. All else is a mistake of ours, and is shown whole.
PROBLEMS = (assets.AssetError, SafetensorError, KeyError, ValueError, OSError, MemoryError)


def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate, save the model and its metrics; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="accelerate launch -m helpers.finetuning",
        description="Fine-tune a BERT classifier on IMDB, on one process or many.",
    )
    parser.add_argument("--model", default="encoder", help="a BERT of helpers.assets")
    parser.add_argument("--output", type=Path, default=Path("runs/imdb"))
    parser.add_argument("--train-reviews", type=int, dest="count", help="default: all there are")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop early; for trials")
    resume = "go on from the newest whole checkpoint, if any"
    parser.add_argument("--resume", action="store_true", help=resume)
    waits = "seconds that a process waits for one that is silent; default 1800"
    parser.add_argument("--timeout", type=int, default=1800, help=waits)
    fields = asdict(Recipe())
    for name, default in fields.items():
        choices = get_args(Trainable) if name == "trainable" else None
        described = {"type": type(default), "default": default, "help": f"default {default}"}
        parser.add_argument(f"--{name.replace('_', '-')}", choices=choices, **described)
    options = vars(parser.parse_args(arguments))
    try:
        recipe = Recipe(**{name: options.pop(name) for name in fields})
    except ValueError as problem:
        parser.error(str(problem))
    try:
        run(recipe, **options)
    except PROBLEMS as problem:
        # Not behind a progress bar that was left when training ended.
        tqdm.write(f"error: {_in_words(problem)}", file=sys.stderr)
        return 1
    return 0


def _in_words(problem: Exception) -> str:
    said = problem.args[0] if isinstance(problem, KeyError) else problem
    return str(said) or type(problem).__name__


@contextmanager
def _together() -> Iterator[None]:
    """Let a problem that one process meets in this block end it on all of them.

    One process of each host raises what was found first, the others end without a word.
    """
    problem = None
    try:
        yield
    except PROBLEMS as caught:
        problem = caught
    found = [said for said in gather_object([problem and _in_words(problem)]) if said]
    if found and not PartialState().is_local_main_process:
        raise SystemExit(1)
    if found:
        raise problem or ValueError(found[0])


@contextmanager
def _naming_the_cause() -> Iterator[None]:
    """Say that a disk is full or a process is gone: each library has other errors for it."""
    try:
        yield
    except Exception as problem:
        said = str(problem)
        if sealed.says_full(said) or "inline_container" in said:
            what = "The disk is full ({}). What was whole before is whole still. Make room, then"
        elif isinstance(problem, DistError) or "/gloo/" in said:
            what = "Another process of this training is gone or silent ({}). Start all of them and"
        else:
            raise
        reason = (said.splitlines() or [type(problem).__name__])[0].rstrip(".")
        raise OSError(
            f"{what.format(reason)} go on from the newest checkpoint with --resume."
        ) from problem


@_naming_the_cause()
def run(
    recipe: Recipe,
    *,
    model: str,
    output: Path,
    count: int | None = None,
    max_steps: int = -1,
    resume: bool = False,
    timeout: int = 1800,
) -> dict[str, Any]:
    """Do what the command does; return what ``metrics.json`` holds.

    Both accuracies in there are of reviews of ``read_length``.

    Every process of a training calls this. What torchrun starts again, because a process has died,
    goes on from the newest checkpoint as with ``resume``.

    Args:
        model: name of a BERT in :mod:`helpers.assets`.
        output: folder for checkpoints, the model and ``metrics.json``.
        count: number of training reviews; None takes all.
        max_steps: ends training early; -1 does not.
        resume: go on from the newest checkpoint that is whole, if there is one in ``output``.
        timeout: seconds that a process waits for one that is silent.

    Raises:
        ValueError: an argument, the model or what is in ``output`` does not fit; the message says
            what to do.
        SystemExit: another process of this host has raised an error.
    """
    if timeout < 1:
        raise ValueError(f"--timeout must be at least 1, got {timeout}")
    limit = {"max_steps": max_steps} if max_steps > 0 else {}
    # The Trainer's own ddp_timeout does not reach processes on CPUs (transformers 5.23).
    PartialState(cpu=not profiles.uses_accelerator(), timeout=timedelta(seconds=timeout))
    arguments = training_arguments(recipe, output, **limit)
    begun = asdict(recipe) | {"model": model, "train_reviews": count, "max_steps": max_steps}
    begun |= {"profile": profiles.current(), "processes": arguments.world_size}
    # Each launcher counts only the failures of its own host.
    restarted = any(gather_object([os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"]))
    found, mark = [None, None], None
    with ExitStack() as until_the_end:
        with _together():
            if any(map(parse_flag_from_env, ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"))):
                raise ValueError(
                    "each process needs the whole model here, which FSDP and DeepSpeed divide. "
                    "A BERT fits: launch with several-gpus.yaml or several-hosts.yaml."
                )
            if count is not None and count < recipe.batch_size:
                raise ValueError(f"--train-reviews must be at least one batch, got {count}")
            if max_steps < 1 and max_steps != -1:
                raise ValueError(f"--max-steps must be at least 1, got {max_steps}")
            weights = assets.model(model)
            if arguments.process_index == 0:
                if resume and not restarted and not output.is_dir():
                    raise ValueError(f"there is no folder {output}, so nothing to --resume")
                until_the_end.enter_context(alone(output))
                require_same_training(output, begun, resume=resume or restarted)
                mark = until_the_end.enter_context(NamedTemporaryFile(dir=output, prefix=".seen-"))
                checkpoint = newest_checkpoint(output) if resume or restarted else None
                found = [checkpoint, Path(mark.name).name]
        checkpoint, seen = broadcast_object_list(found)
        with _together():
            if not (output / seen).exists():
                raise ValueError(
                    f"{output} is not the same folder on every host. Name one with --output that "
                    "all of them share, such as a network file system."
                )
        if mark:
            mark.close()  # and so deleted
        return _train(recipe, arguments, weights, begun, checkpoint)


def _train(
    recipe: Recipe,
    arguments: TrainingArguments,
    weights: str,
    begun: dict[str, Any],
    checkpoint: Path | None,
) -> dict[str, Any]:
    output, count = Path(arguments.output_dir), begun["train_reviews"]
    with _together():
        classifier = build_classifier(weights, recipe)
        tokenizer = AutoTokenizer.from_pretrained(weights)
        splits = prepare()
        shuffled = splits["train"].shuffle(seed=recipe.seed)
        splits["train"] = shuffled.select(range(min(count or len(shuffled), len(shuffled))))
        tokens = {}
        for name, part in splits.items():
            most = recipe.max_length if name == "train" else recipe.read_length
            tokens[name] = tokenize(part, tokenizer, max_length=most, head_share=recipe.head_share)
        parts = tokens["train"], tokens["validation"]
        trainer = build_trainer(classifier, tokenizer, arguments, *parts)
    with _together():
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
