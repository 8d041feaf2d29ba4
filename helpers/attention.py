"""Attention from its definition: scaled dot-product, multi-head, and tiled (chapter 02).

A mask is boolean, ``True`` means *may attend*, and it must broadcast to the shape of the scores.
A query that may attend to nothing gets weights and an output of zeros, never NaN.

Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2
(https://arxiv.org/abs/1706.03762).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.shapes import at_least_float32, checked


@at_least_float32
@checked
def scaled_dot_product_attention(
    query: Float[Tensor, "*batch n_queries d_k"],
    key: Float[Tensor, "*batch n_keys d_k"],
    value: Float[Tensor, "*batch n_keys d_v"],
    mask: Bool[Tensor, "*#batch #n_queries #n_keys"] | None = None,
    *,
    dropout: float = 0.0,
) -> tuple[
    Float[Tensor, "*batch n_queries d_v"],
    Float[Tensor, "*batch n_queries n_keys"],
]:
    r"""Return ``softmax(query keyᵀ / √d_k) value`` and the softmax's weights.

    A row of weights sums to 1, or is all zeros where the mask allows nothing. ``dropout`` is the
    share of them set to zero before they meet the values. It always acts, so a module passes 0 when
    it is not training, and it does not show in the weights that are returned.

    Source: Vaswani et al. 2017, equation 1.
    """
    d_k = query.shape[-1]
    # scores, weights: (…, n_queries, n_keys); output: (…, n_queries, d_v)
    scores = query @ key.transpose(-2, -1) / math.sqrt(d_k)
    weights = masked_softmax(scores, mask)
    output = F.dropout(weights, dropout) @ value
    return output, weights


@at_least_float32
@checked
def masked_softmax(
    scores: Float[Tensor, "*batch n_keys"],
    mask: Bool[Tensor, "*#batch #n_keys"] | None = None,
) -> Float[Tensor, "*batch n_keys"]:
    """Return the softmax over the last dimension, with zeros where ``mask`` forbids.

    A row sums to 1 or, where it allows nothing, to 0. The gradients are finite too.
    """
    if mask is None:
        return scores.softmax(dim=-1)
    # A row of -inf alone would give NaN, forward and backward. Here no
    # NaN arises even in between: PyTorch's anomaly detection stays silent.
    nothing = ~mask.any(dim=-1, keepdim=True)
    scores = scores.masked_fill(~mask, -math.inf).masked_fill(nothing, 0.0)
    return scores.softmax(dim=-1).masked_fill(~mask, 0.0)


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each in its own subspace of ``d_model / num_heads``.

    The projections ``query``, ``key``, ``value`` and ``output`` are registered in this order, each
    an ``nn.Linear(d_model, d_model)`` with a bias. One ``Linear`` holds the matrices of all heads:
    rows ``i * d_k`` to ``(i + 1) * d_k`` belong to head ``i``. ``dropout`` is the share of the
    attention weights dropped in training.

    Raises:
        ValueError: ``num_heads`` does not divide ``d_model``.

    Source: Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        dropout: float = 0.0,
    ) -> None:
        """Make the four projections with PyTorch's own initialization of ``nn.Linear``."""
        super().__init__()
        if num_heads < 1 or d_model % num_heads:
            raise ValueError(
                f"num_heads is {num_heads}; expected a divisor of d_model "
                f"= {d_model}, because every head gets an equal part."
            )
        self.d_model = d_model
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model)

    @checked
    def forward(
        self,
        query: Float[Tensor, "batch n_queries {self.d_model}"],
        key: Float[Tensor, "batch n_keys {self.d_model}"],
        value: Float[Tensor, "batch n_keys {self.d_model}"],
        mask: Bool[Tensor, "*#heads #n_queries #n_keys"] | None = None,
    ) -> tuple[
        Float[Tensor, "batch n_queries {self.d_model}"],
        Float[Tensor, "batch {self.num_heads} n_queries n_keys"],
    ]:
        """Project, attend in every head, concatenate, project again; return the weights as well.

        A mask of two or three dimensions broadcasts to ``(batch, n_queries, n_keys)`` and is the
        same for every head; one of four broadcasts to ``(batch, num_heads, n_queries, n_keys)``.
        """
        if mask is not None and mask.ndim == 3:
            mask = mask.unsqueeze(1)  # the same for every head
        # (batch, heads, n_queries, d_k); k, v: (batch, heads, n_keys, d_k)
        q = split_heads(self.query(query), self.num_heads)
        k = split_heads(self.key(key), self.num_heads)
        v = split_heads(self.value(value), self.num_heads)
        mixed, weights = scaled_dot_product_attention(
            q, k, v, mask, dropout=self.dropout if self.training else 0.0
        )
        return self.output(merge_heads(mixed)), weights


@checked
def split_heads(
    vectors: Shaped[Tensor, "batch positions d_model"], num_heads: int
) -> Shaped[Tensor, "batch {num_heads} positions d_model//{num_heads}"]:
    """Cut every vector into ``num_heads`` equal parts, one sequence of parts per head."""
    d_k = vectors.shape[-1] // num_heads
    parts = vectors.unflatten(-1, (num_heads, d_k))
    return parts.transpose(1, 2)  # (batch, heads, positions, d_k)


@checked
def merge_heads(
    vectors: Shaped[Tensor, "batch heads positions d_k"],
) -> Shaped[Tensor, "batch positions heads*d_k"]:
    """Put the parts of every head side by side again: the inverse of :func:`split_heads`."""
    parts = vectors.transpose(1, 2)  # (batch, positions, heads, d_k)
    return parts.flatten(2)  # (batch, positions, heads * d_k)


@checked
def causal_mask(
    length: int, *, device: torch.device | str | None = None
) -> Bool[Tensor, "{length} {length}"]:
    """Return the mask that lets every position see itself and what came before it."""
    everything = torch.ones(length, length, dtype=torch.bool, device=device)
    return everything.tril()


@checked
def padding_mask(
    attention_mask: Shaped[Tensor, "batch n_keys"],
) -> Bool[Tensor, "batch 1 n_keys"]:
    """Turn a tokenizer's ``attention_mask`` (1 or ``True`` for a token, 0 for padding) into a mask.

    It broadcasts over the queries; join it with a causal mask by ``&``.

    Raises:
        ValueError: ``attention_mask`` holds other numbers than 0 and 1.
    """
    allowed = attention_mask == 1
    known = allowed | (attention_mask == 0)
    # Reading the numbers waits for a GPU: build masks outside a model.
    if attention_mask.dtype != torch.bool and not known.all():
        raise ValueError(
            "attention_mask holds other numbers than 0 and 1; expected 1 "
            "for a token, 0 for padding. A mask of 0 and -inf becomes one "
            "by mask == 0."
        )
    return allowed.unsqueeze(1)  # (batch, 1, n_keys)


@at_least_float32
@checked
def tiled_attention(
    query: Float[Tensor, "*batch n_queries d_k"],
    key: Float[Tensor, "*batch n_keys d_k"],
    value: Float[Tensor, "*batch n_keys d_v"],
    mask: Bool[Tensor, "*#batch #n_queries #n_keys"] | None = None,
    tile: int = 128,
) -> Float[Tensor, "*batch n_queries d_v"]:
    """Return the output of :func:`scaled_dot_product_attention`, ``tile`` keys at a time.

    A running maximum, a running sum and a running output per query are enough for an exact
    softmax, so no more than ``n_queries * tile`` scores exist at once. That holds without
    gradients; with them, autograd keeps every tile (FlashAttention recomputes them instead).

    Source: Milakov and Gimelshein 2018 (https://arxiv.org/abs/1805.02867); Dao et al. 2022,
    FlashAttention, algorithm 1 (https://arxiv.org/abs/2205.14135).
    """
    if tile < 1:  # a negative step would skip all keys and return zeros
        raise ValueError(f"tile is {tile}; expected at least 1.")
    scaled = query / math.sqrt(query.shape[-1])
    lowest = torch.finfo(query.dtype).min
    *rows, n_keys = *query.shape[:-1], key.shape[-2]
    maximum = scaled.new_full((*rows, 1), lowest)
    total = torch.zeros_like(maximum)  # (…, n_queries, 1)
    output = scaled.new_zeros(*rows, value.shape[-1])  # (…, n_queries, d_v)
    allowed = None if mask is None else mask.expand(*rows, n_keys)  # a view
    for start in range(0, n_keys, tile):
        part = slice(start, start + tile)
        # (…, n_queries, tile)
        scores = scaled @ key[..., part, :].transpose(-2, -1)
        here = None if allowed is None else allowed[..., part]
        if here is not None:
            scores = scores.masked_fill(~here, lowest)
        # The maximum cancels in the result: no gradient passes through it.
        highest = scores.detach().amax(dim=-1, keepdim=True)
        new_maximum = torch.maximum(maximum, highest)
        terms = torch.exp(scores - new_maximum)
        terms = terms if here is None else terms.masked_fill(~here, 0.0)
        # The older terms, against a lower maximum, were too large.
        correction = torch.exp(maximum - new_maximum)
        total = total * correction + terms.sum(dim=-1, keepdim=True)
        output = output * correction + terms @ value[..., part, :]
        maximum = new_maximum
    return output / total.where(total > 0, 1.0)
