"""Everything that decides how a classifier is fine-tuned, in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from helpers.shapes import checked

Trainable = Literal["all", "without embeddings", "upper half", "head"]

# Which fields have a range, whether a number lies in it, and the range in words.
_RANGES = (
    (("max_length", "read_length"), lambda number: number >= 3, "at least 3"),
    (("batch_size", "evaluations"), lambda number: number >= 1, "at least 1"),
    (("learning_rate", "epochs"), lambda number: 0 < number < math.inf, "finite and above 0"),
    (("weight_decay",), lambda number: 0 <= number < math.inf, "finite and at least 0"),
    (("head_share",), lambda number: 0 <= number <= 1, "between 0 and 1"),
    (("warmup", "dropout"), lambda number: 0 <= number < 1, "at least 0 and below 1"),
    (("seed",), lambda number: 0 <= number < 2**32, "at least 0 and below 2^32"),
)


@checked
@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a classifier is fine-tuned; a ValueError names what is wrong.

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
        evaluations: how often the validation split is read in one epoch; also when training ends.
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
        """Refuse a number that is out of range."""
        for name, value in tuple(vars(self).items()):
            if isinstance(value, np.generic):  # JSON, and so the saved model, knows no such number
                object.__setattr__(self, name, value.item())
        for names, fits, wanted in _RANGES:
            for name in names:
                if not fits(getattr(self, name)):
                    raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)!r}")
