"""A lean to one label, found on the validation split and mended in the last layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax
from transformers import PreTrainedModel

from helpers.shapes import checked


@checked
def fit_bias(
    logits: Float[np.ndarray, "reviews labels"], labels: Int[np.ndarray, " reviews"]
) -> Float[np.ndarray, " labels"]:
    """Return the biases, with mean zero, that lower the cross-entropy of ``labels`` most.

    Added to the logits, they are vector scaling with biases only (Guo and others 2017, section
    4.2). A label's bias says how much too seldom the model chooses it.

    Raises:
        ValueError: a logit is not finite, a label does not occur, or no biases balance the labels.
    """
    if not np.isfinite(logits).all():
        raise ValueError("fit_bias needs finite logits")
    counts = np.bincount(labels, minlength=logits.shape[1])
    if len(counts) < 2 or len(counts) > logits.shape[1] or not counts.all():
        raise ValueError(
            f"fit_bias needs at least one review of each of the {logits.shape[1]} labels, "
            f"got labels {np.unique(labels).tolist()}"
        )
    shares = counts / len(labels)
    logits = logits.astype(float)

    def loss_and_slope(bias: np.ndarray) -> tuple[float, np.ndarray]:
        logs = log_softmax(logits + bias, axis=-1)
        loss = -logs[np.arange(len(labels)), labels].mean()
        return loss, np.exp(logs).mean(axis=0) - shares

    found = minimize(loss_and_slope, np.zeros(len(shares)), jac=True, method="BFGS")
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
        ValueError: there are not as many numbers as labels, or a sum is not finite.
    """
    ours, numbers = model.classifier.bias, np.asarray(bias)
    if numbers.shape != tuple(ours.shape):  # one number alone would be added to each
        raise ValueError(
            f"bias must hold {ours.numel()} numbers, one for each label, got shape {numbers.shape}"
        )
    with torch.no_grad():
        changed = ours + torch.as_tensor(numbers, dtype=ours.dtype, device=ours.device)
        if not torch.isfinite(changed).all():  # also if it is too large for the model's numbers
            raise ValueError(f"bias must be finite in {ours.dtype}, got {numbers.tolist()}")
        ours.copy_(changed)
