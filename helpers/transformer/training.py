"""How the Transformer of the paper is trained: its loss and its learning rate."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from helpers.shapes import checked


@checked
def label_smoothed_loss(
    logits: Float[Tensor, "*batch vocabulary"],
    target: Int[Tensor, "*batch"],
    smoothing: float = 0.1,
    ignore_id: int | None = None,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy against a target that leaves some probability to all ids.

    The right id is to get ``1 - smoothing`` and all V ids together share ``smoothing`` evenly.
    Positions whose target is ``ignore_id`` (padding) do not count. The mean is in nats, NaN if no
    position counts.

    Raises:
        ValueError: ``smoothing`` is not at least 0 and below 1.

    Source: Vaswani et al. 2017, section 5.4; Szegedy et al. 2016, section 7
    (https://arxiv.org/abs/1512.00567).
    """
    if not 0 <= smoothing < 1:
        raise ValueError(
            f"smoothing is {smoothing}; expected at least 0 and below 1."
        )
    if ignore_id is not None:
        counts = target != ignore_id
        # (counted, vocabulary), (counted)
        logits, target = logits[counts], target[counts]
    log_p = logits.log_softmax(dim=-1)
    right = log_p.gather(-1, target.long().unsqueeze(-1)).squeeze(-1)
    # Not zero times the mean: an id that is ruled out has log p = -inf.
    if smoothing == 0:
        return -right.mean()
    evenly = log_p.mean(dim=-1)
    return -((1 - smoothing) * right + smoothing * evenly).mean()


@checked
def warmup_learning_rate(
    step: int, d_model: int, warmup_steps: int = 4000
) -> float:
    """Return the paper's learning rate: a straight rise, then a fall with the root of the step.

    ``d_model^-0.5 * min(step^-0.5, step * warmup_steps^-1.5)``, where ``step`` 1 is the first
    update.

    Source: Vaswani et al. 2017, equation 3.
    """
    return d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)
