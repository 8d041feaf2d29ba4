"""Attention from its definition: scaled dot-product, multi-head, and tiled (chapter 02).

All shapes end in ``(…, positions, features)``. A mask is boolean, ``True`` means *may attend*,
and it must broadcast to the shape of the scores. A query that may attend to nothing gets
weights and an output of zeros, never NaN.

Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2
(https://arxiv.org/abs/1706.03762).
"""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# --- one attention ------------------------------------------------------------------


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    r"""Return ``softmax(query keyᵀ / √d_k) value`` and the softmax's weights.

    Args:
        query: what each position looks for, ``(…, n_queries, d_k)``.
        key: what each position offers to be found by, ``(…, n_keys, d_k)``.
        value: what each position hands over, ``(…, n_keys, d_v)``.
        mask: boolean, ``True`` = may attend, broadcastable to ``(…, n_queries, n_keys)``.
        dropout: share of the weights set to zero before they meet the values. It always acts:
            a module passes 0 when it is not training.

    Returns:
        The output ``(…, n_queries, d_v)`` and the weights ``(…, n_queries, n_keys)``. A row of
        weights sums to 1, or is all zeros where the mask allows nothing. Dropout does not show
        in the returned weights.

    Raises:
        TypeError: an argument is no tensor or has the wrong dtype.
        ValueError: the shapes do not fit each other, or ``dropout`` is out of range.

    Source: Vaswani et al. 2017, equation 1.
    """
    _require_fitting(query, key, value, mask)
    _require_share("dropout", dropout)
    d_k = query.shape[-1]
    scores = query @ key.transpose(-2, -1) / math.sqrt(d_k)  # (…, n_queries, n_keys)
    weights = masked_softmax(scores, mask)  # (…, n_queries, n_keys)
    output = F.dropout(weights, dropout) @ value  # (…, n_queries, d_v)
    return output, weights


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the softmax of ``scores`` over the last dimension, where ``mask`` allows it.

    Args:
        scores: real numbers of any size, ``(…, n_queries, n_keys)``.
        mask: boolean, ``True`` = may attend, broadcastable to the shape of ``scores``.

    Returns:
        Weights of the same shape: zero where the mask forbids, and rows that sum to 1 or,
        where a row allows nothing, to 0. Their gradients are finite too.

    Raises:
        TypeError: ``scores`` is not floating point or ``mask`` is not boolean.
        ValueError: ``mask`` does not broadcast to the shape of ``scores``.
    """
    _require_floating("scores", scores)
    if mask is None:
        return scores.softmax(dim=-1)
    _require_mask(mask, scores.shape)
    # The lowest finite number, not -inf: a row of -inf would be 0/0 = NaN, forward and backward.
    # Here no NaN arises even in between, so PyTorch's anomaly detection stays silent.
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(~mask, lowest).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)


# --- many heads ---------------------------------------------------------------------


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each in its own subspace of ``d_model / num_heads``.

    The four projections ``query``, ``key``, ``value`` and ``output`` are registered in this
    order, each an ``nn.Linear(d_model, d_model)`` with a bias. One ``Linear`` holds the
    matrices of all heads: rows ``i * d_k`` to ``(i + 1) * d_k`` belong to head ``i``.

    Args:
        d_model: width of the vectors that go in and come out.
        num_heads: how many heads; must divide ``d_model``.
        dropout: share of the attention weights dropped in training, at least 0, below 1.

    Raises:
        TypeError: a size is no integer or ``dropout`` no number.
        ValueError: ``num_heads`` does not divide ``d_model``, one is not positive, or
            ``dropout`` is out of range.

    Source: Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0) -> None:
        """Make the four projections with PyTorch's own initialization of ``nn.Linear``."""
        super().__init__()
        _require_heads(d_model, num_heads)
        _require_share("dropout", dropout)
        self.d_model = d_model
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Project, attend in every head, concatenate, project again.

        Args:
            query: ``(batch, n_queries, d_model)``.
            key: ``(batch, n_keys, d_model)``.
            value: ``(batch, n_keys, d_model)``.
            mask: boolean, ``True`` = may attend, broadcastable to
                ``(batch, n_queries, n_keys)``, the same for every head; or with four
                dimensions, broadcastable to ``(batch, num_heads, n_queries, n_keys)``.

        Returns:
            The output ``(batch, n_queries, d_model)`` and the weights
            ``(batch, num_heads, n_queries, n_keys)``.

        Raises:
            TypeError: an argument is no tensor or has the wrong dtype.
            ValueError: the shapes do not fit each other or the module.
        """
        self._require_sequences(query=query, key=key, value=value)
        if mask is not None:
            mask = self._mask_for_heads(mask, query, key)
        heads = self.num_heads
        q = split_heads(self.query(query), heads)  # (batch, heads, n_queries, d_k)
        k = split_heads(self.key(key), heads)  # (batch, heads, n_keys, d_k)
        v = split_heads(self.value(value), heads)  # (batch, heads, n_keys, d_k)
        dropout = self.dropout if self.training else 0.0
        mixed, weights = scaled_dot_product_attention(q, k, v, mask, dropout=dropout)
        return self.output(merge_heads(mixed)), weights  # (batch, n_queries, d_model)

    def extra_repr(self) -> str:
        """Return what ``print(module)`` shows beside the projections."""
        return f"d_model={self.d_model}, num_heads={self.num_heads}, dropout={self.dropout}"

    def _require_sequences(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            _require_floating(name, tensor)
            require_dtype_of(self.query.weight, name, tensor)
            if tensor.ndim != 3 or tensor.shape[-1] != self.d_model:
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}; expected (batch, positions, "
                    f"d_model) with d_model = {self.d_model}. A single sequence becomes a "
                    f"batch of one by {name}.unsqueeze(0)."
                )
        query, key, value = tensors.values()
        if not query.shape[0] == key.shape[0] == value.shape[0]:
            raise ValueError(
                f"query, key and value have batches of {query.shape[0]}, {key.shape[0]} and "
                f"{value.shape[0]}; expected the same number. Use expand to repeat one."
            )
        if key.shape[1] != value.shape[1]:
            raise ValueError(_one_value_per_key(key, value))

    def _mask_for_heads(self, mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
        batch, n_queries, n_keys = query.shape[0], query.shape[1], key.shape[1]
        if isinstance(mask, Tensor) and mask.ndim == 4:
            _require_mask(mask, (batch, self.num_heads, n_queries, n_keys))
            return mask
        _require_mask(mask, (batch, n_queries, n_keys))
        return mask.unsqueeze(1) if mask.ndim == 3 else mask  # the same for every head


def split_heads(vectors: Tensor, num_heads: int) -> Tensor:
    """Cut every vector into ``num_heads`` equal parts, one sequence of parts per head.

    Args:
        vectors: ``(batch, positions, d_model)``.
        num_heads: how many heads; must divide ``d_model``.

    Returns:
        ``(batch, num_heads, positions, d_model / num_heads)``, a view where possible.

    Raises:
        TypeError: ``vectors`` is no tensor or ``num_heads`` no integer.
        ValueError: ``vectors`` has another rank or ``num_heads`` does not divide ``d_model``.
    """
    _require_tensor("vectors", vectors)
    if vectors.ndim != 3:
        raise ValueError(
            f"vectors has shape {tuple(vectors.shape)}; expected (batch, positions, d_model)."
        )
    _require_heads(vectors.shape[-1], num_heads)
    d_k = vectors.shape[-1] // num_heads
    parts = vectors.unflatten(-1, (num_heads, d_k))  # (batch, positions, heads, d_k)
    return parts.transpose(1, 2)  # (batch, heads, positions, d_k)


def merge_heads(vectors: Tensor) -> Tensor:
    """Put the parts of every head side by side again: the inverse of :func:`split_heads`.

    Args:
        vectors: ``(batch, heads, positions, d_k)``.

    Returns:
        ``(batch, positions, heads * d_k)``.

    Raises:
        TypeError: ``vectors`` is no tensor.
        ValueError: ``vectors`` has another rank.
    """
    _require_tensor("vectors", vectors)
    if vectors.ndim != 4:
        raise ValueError(
            f"vectors has shape {tuple(vectors.shape)}; expected (batch, heads, positions, d_k)."
        )
    parts = vectors.transpose(1, 2)  # (batch, positions, heads, d_k)
    return parts.flatten(2)  # (batch, positions, heads * d_k)


# --- masks --------------------------------------------------------------------------


def causal_mask(length: int, *, device: torch.device | None = None) -> Tensor:
    """Return the mask that lets every position see itself and what came before it.

    Args:
        length: number of positions, which are queries and keys at once.
        device: where the mask is to lie; pass that of your tensors.

    Returns:
        Boolean ``(length, length)``, ``True`` on and below the diagonal.

    Raises:
        TypeError: ``length`` is no integer.
        ValueError: ``length`` is negative, or too large for any computer.
    """
    require_integer("length", length, least=0)
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def padding_mask(attention_mask: Tensor) -> Tensor:
    """Turn a tokenizer's ``attention_mask`` into a mask that hides the padding.

    Args:
        attention_mask: 1 (or ``True``) for a token, 0 for padding, ``(batch, n_keys)``.

    Returns:
        Boolean ``(batch, 1, n_keys)``: it broadcasts over the queries. Join it with a causal
        mask by ``&``.

    Raises:
        TypeError: ``attention_mask`` is no tensor.
        ValueError: ``attention_mask`` has another rank or holds other numbers than 0 and 1.
    """
    _require_tensor("attention_mask", attention_mask)
    if attention_mask.ndim != 2:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}; expected (batch, n_keys), "
            "as a tokenizer returns it."
        )
    allowed = attention_mask == 1
    if not bool((allowed | (attention_mask == 0)).all()):
        raise ValueError(
            f"attention_mask of shape {tuple(attention_mask.shape)} holds other numbers than 0 "
            "and 1; expected 1 for a token and 0 for padding."
        )
    return allowed.unsqueeze(1)  # (batch, 1, n_keys)


# --- the same in little memory ------------------------------------------------------


def tiled_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, tile: int = 128
) -> Tensor:
    """Return the output of :func:`scaled_dot_product_attention`, one tile of keys at a time.

    A running maximum, a running sum and a running output per query are enough for an exact
    softmax, so no more than ``n_queries * tile`` scores exist at once. That holds without
    gradients; with them, autograd keeps every tile (FlashAttention recomputes them instead).

    Args:
        query: ``(…, n_queries, d_k)``.
        key: ``(…, n_keys, d_k)``.
        value: ``(…, n_keys, d_v)``.
        mask: boolean, ``True`` = may attend, broadcastable to ``(…, n_queries, n_keys)``.
        tile: how many keys at a time, at least 1.

    Returns:
        The output ``(…, n_queries, d_v)``. There are no weights to return: that is the point.

    Raises:
        TypeError: an argument is no tensor or has the wrong dtype, or ``tile`` is no integer.
        ValueError: the shapes do not fit each other, or ``tile`` is below 1.

    Source: Milakov and Gimelshein 2018 (https://arxiv.org/abs/1805.02867); Dao et al. 2022,
    FlashAttention, algorithm 1 (https://arxiv.org/abs/2205.14135).
    """
    shape = _require_fitting(query, key, value, mask)
    require_integer("tile", tile, least=1)
    # Sums over many tiles need more digits than bfloat16 has.
    precise = torch.promote_types(query.dtype, torch.float32)
    scaled = query.to(precise) / math.sqrt(query.shape[-1])
    maximum = scaled.new_full((*shape[:-1], 1), torch.finfo(precise).min)  # (…, n_queries, 1)
    total = torch.zeros_like(maximum)  # (…, n_queries, 1)
    output = scaled.new_zeros(*shape[:-1], value.shape[-1])  # (…, n_queries, d_v)
    allowed = None if mask is None else mask.expand(shape)  # a view, no memory
    for start in range(0, shape[-1], tile):
        part = slice(start, start + tile)
        scores = scaled @ key[..., part, :].to(precise).transpose(-2, -1)  # (…, n_queries, tile)
        here = None if allowed is None else allowed[..., part]
        if here is not None:
            scores = scores.masked_fill(~here, torch.finfo(precise).min)
        # The maximum cancels in the result, so no gradient needs to pass through it.
        new_maximum = torch.maximum(maximum, scores.detach().amax(dim=-1, keepdim=True))
        terms = torch.exp(scores - new_maximum)
        terms = terms if here is None else terms.masked_fill(~here, 0.0)
        correction = torch.exp(maximum - new_maximum)  # what the older terms were too large by
        total = total * correction + terms.sum(dim=-1, keepdim=True)
        output = output * correction + terms @ value[..., part, :].to(precise)
        maximum = new_maximum
    return (output / total.where(total > 0, 1.0)).to(query.dtype)


# --- what a wrong input is told -----------------------------------------------------


def _require_fitting(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[int, ...]:
    """Raise unless the arguments fit; return the shape of the scores."""
    for name, tensor in {"query": query, "key": key, "value": value}.items():
        _require_floating(name, tensor)
        if tensor.ndim < 2:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; expected at least two dimensions, "
                f"(…, positions, features). A single vector becomes one by {name}.unsqueeze(0)."
            )
    if not query.dtype == key.dtype == value.dtype:
        raise TypeError(
            f"query, key and value have dtypes {query.dtype}, {key.dtype} and {value.dtype}; "
            "expected the same. Convert them with .to(dtype)."
        )
    if query.shape[-1] != key.shape[-1] or query.shape[-1] == 0:
        raise ValueError(
            f"query has shape {tuple(query.shape)} and key {tuple(key.shape)}; expected the same "
            "last dimension d_k, at least 1, because each query is multiplied with each key."
        )
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(_one_value_per_key(key, value))
    try:
        leading = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    except RuntimeError:
        raise ValueError(
            f"query has shape {tuple(query.shape)}, key {tuple(key.shape)} and value "
            f"{tuple(value.shape)}; expected dimensions before the last two (batch, heads) that "
            "are equal or 1."
        ) from None
    shape = (*leading, query.shape[-2], key.shape[-2])
    if mask is not None:
        # The values may add leading dimensions that the scores do not have.
        scored = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        _require_mask(mask, (*scored, *shape[-2:]))
    return shape


def _require_mask(mask: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless ``mask`` is boolean and broadcasts to ``shape``."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask is a {type(mask).__name__}; expected a boolean tensor.")
    if mask.dtype != torch.bool:
        raise TypeError(
            f"mask has dtype {mask.dtype} and shape {tuple(mask.shape)}; expected torch.bool, "
            "True where a query may attend. A tokenizer's attention_mask becomes one by "
            "padding_mask(attention_mask), a mask of 0 and -inf by mask == 0."
        )
    try:
        fits = torch.broadcast_shapes(mask.shape, shape) == torch.Size(shape)
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}; expected one that broadcasts to "
            f"(…, n_queries, n_keys) = {tuple(shape)}. A tokenizer's attention_mask of shape "
            "(batch, n_keys) becomes one by padding_mask(attention_mask)."
        )


def require_integer(name: str, value: int, *, least: int, most: int = 2**31) -> None:
    """Say what is wrong unless ``value`` is an integer from ``least`` to ``most``.

    Raises:
        TypeError: it or a bound is no integer; True and 2.0 are none.
        ValueError: it is out of range.
    """
    if not isinstance(least, Integral) or not isinstance(most, Integral):
        raise TypeError(f"the bounds are {least!r} and {most!r}; expected integers.")
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}; expected an integer of at least {least}.")
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}; expected at least {least}, at most {most}.")


def require_dtype_of(weight: Tensor, name: str, tensor: Tensor) -> None:
    """Say what is wrong unless ``tensor`` can be multiplied with ``weight``.

    Their dtypes must be the same; under autocast PyTorch converts both.

    Raises:
        TypeError: one of them is no tensor, or the dtypes differ.
    """
    _require_tensor("weight", weight)
    _require_tensor(name, tensor)
    if tensor.dtype != weight.dtype and not torch.is_autocast_enabled(tensor.device.type):
        raise TypeError(
            f"{name} has dtype {tensor.dtype}, the weights have {weight.dtype}; expected the same. "
            "Convert one of them with .to(dtype)."
        )


def _require_share(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; expected a number of at least 0, below 1.")
    if not 0 <= value < 1:  # false for NaN too
        raise ValueError(f"{name} is {value}; expected at least 0 and below 1.")


def _require_tensor(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; expected a tensor.")


def _require_floating(name: str, tensor: Tensor) -> None:
    _require_tensor(name, tensor)
    if not tensor.is_floating_point():
        raise TypeError(
            f"{name} has dtype {tensor.dtype} and shape {tuple(tensor.shape)}; expected floating "
            "point, such as torch.float32. Token ids must go through an embedding first."
        )


def _require_heads(d_model: int, num_heads: int) -> None:
    require_integer("d_model", d_model, least=1)
    require_integer("num_heads", num_heads, least=1)
    if d_model % num_heads:
        raise ValueError(
            f"num_heads is {num_heads} and does not divide d_model = {d_model}; expected a "
            "divisor, because every head gets an equal part of each vector."
        )


def _one_value_per_key(key: Tensor, value: Tensor) -> str:
    return (
        f"key has shape {tuple(key.shape)} and value {tuple(value.shape)}; expected the same "
        "number of positions (second dimension from the end), one value for each key."
    )
