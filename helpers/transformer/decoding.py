"""Writing an answer id by id: beam search, which with one beam is the greedy search."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from helpers.shapes import checked
from helpers.transformer.config import TransformerConfig


@checked
@torch.no_grad()
def beam_search(
    next_logits: Callable[[Tensor], Tensor],
    start: Int[Tensor, "batch beams 1"],
    config: TransformerConfig,
    *,
    max_length: int,
    length_penalty: float,
) -> Int[Tensor, "batch n"]:
    """Follow the best ``beams`` answers of each source, and return the very best.

    A sequence of n ids scores ``log p / ((5 + n) / 6) ** length_penalty``: 0 prefers short answers,
    more of it long ones. ``pad_id`` and ``begin_id`` are never chosen; an answer that has ended
    goes on with ``pad_id``.

    ``next_logits`` takes the ids so far, ``(batch * beams, length)``, and returns the logits of the
    id that follows, ``(batch * beams, vocabulary)``. ``start`` is ``begin_id`` for each beam; it is
    not returned.

    Source: Wu et al. 2016, equation 14 (https://arxiv.org/abs/1609.08144).
    """
    ids, (batch, beams, _) = start, start.shape
    # All beams begin alike: all but the first are off for the first step.
    log_p = start.new_full((batch, beams), -math.inf, dtype=torch.float32)
    log_p[:, 0] = 0.0
    for _ in range(max_length):
        # (batch * beams, vocabulary)
        logits = next_logits(ids.flatten(0, 1)).float()
        logits[:, [config.pad_id, config.begin_id]] = -math.inf
        step = logits.log_softmax(dim=-1).unflatten(0, (batch, beams))
        last = ids[..., -1]
        done = (last == config.end_id) | (last == config.pad_id)
        frozen = torch.full_like(step[0, 0], -math.inf)
        frozen[config.pad_id] = 0.0  # goes on with padding, for free
        step = torch.where(done.unsqueeze(-1), frozen, step)
        total = log_p.unsqueeze(-1) + step  # (batch, beams, vocabulary)
        # The length counts the id that is about to be added.
        length = (ids != config.pad_id).sum(-1) - done.long()
        scores = total / ((5 + length.unsqueeze(-1)) / 6) ** length_penalty
        # (batch, beams), the best one first
        best = scores.flatten(1).topk(beams).indices
        log_p = total.flatten(1).gather(1, best)
        parent, chosen = best // step.shape[-1], best % step.shape[-1]
        ids = ids.gather(1, parent.unsqueeze(-1).expand_as(ids))
        ids = torch.cat((ids, chosen.unsqueeze(-1)), dim=-1)
        ended = (chosen == config.end_id) | (chosen == config.pad_id)
        if bool((ended | log_p.isneginf()).all()):
            break
    return ids[:, 0, 1:]
