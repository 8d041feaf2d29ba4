"""The Transformer of "Attention Is All You Need", encoder and decoder, from its parts (chapter 03).

Token ids have the shape ``(batch, positions)``, vectors ``(batch, positions, d_model)``. A mask
is boolean, ``True`` means *may attend*, as in :mod:`helpers.attention`, whose
:class:`~helpers.attention.MultiHeadAttention` is the only part that is not defined here.

Source: Vaswani et al. 2017, sections 3 and 5 (https://arxiv.org/abs/1706.03762).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.attention import (
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    require_dtype_of,
    require_integer,
)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}
NORMS = ("post", "pre")
POSITIONS = ("sinusoidal", "none")


@dataclass(frozen=True)
class TransformerConfig:
    """Every choice that makes one Transformer differ from another; the paper's are the defaults.

    Args:
        source_vocab_size: how many different ids the encoder reads.
        target_vocab_size: how many different ids the decoder reads and predicts.
        d_model: width of the vectors, even.
        num_heads: attention heads, a divisor of ``d_model``.
        encoder_layers: blocks in the encoder.
        decoder_layers: blocks in the decoder.
        d_ff: width inside the feed-forward network.
        dropout: share of the numbers dropped after each sublayer and after the embeddings.
        attention_dropout: share of the attention weights dropped.
        max_length: longest sequence that has positions.
        norm: ``"post"`` normalizes after the residual sum (the paper), ``"pre"`` before the
            sublayer (most models since).
        activation: ``"relu"`` (the paper) or ``"gelu"`` (BERT).
        norm_eps: added to the variance in the layer normalization.
        positions: ``"sinusoidal"``, or ``"none"`` to see what is lost without them.
        causal: whether the decoder may not see the future; ``False`` only to see it fail.
        share_embeddings: one matrix for both embeddings and the output (the paper, section 3.4).
        pad_id: fills up short sequences; hidden from attention.
        begin_id: first id of every decoder input.
        end_id: last id of every target.

    Raises:
        TypeError: a number or a choice of yes and no is something else.
        ValueError: a choice is out of range or does not fit another; the message names it.
    """

    source_vocab_size: int
    target_vocab_size: int
    d_model: int = 512
    num_heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    d_ff: int = 2048
    dropout: float = 0.1
    attention_dropout: float = 0.0
    max_length: int = 512
    norm: Literal["post", "pre"] = "post"
    activation: Literal["relu", "gelu"] = "relu"
    norm_eps: float = 1e-5
    positions: Literal["sinusoidal", "none"] = "sinusoidal"
    causal: bool = True
    share_embeddings: bool = False
    pad_id: int = 0
    begin_id: int = 1
    end_id: int = 2

    def __post_init__(self) -> None:
        """Refuse what cannot work before any weight is made."""
        self._require_sizes()
        for name, allowed in (
            ("norm", NORMS),
            ("activation", tuple(ACTIVATIONS)),
            ("positions", POSITIONS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}."
                )
        self._require_special_ids()
        if self.share_embeddings and self.source_vocab_size != self.target_vocab_size:
            raise ValueError(
                f"share_embeddings needs one vocabulary, but source_vocab_size is "
                f"{self.source_vocab_size} and target_vocab_size is {self.target_vocab_size}."
            )

    def _require_sizes(self) -> None:
        for name in (
            "source_vocab_size", "target_vocab_size", "d_model", "num_heads",
            "encoder_layers", "decoder_layers", "d_ff", "max_length",
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected an integer of at least 1.")
        if self.d_model % self.num_heads:
            raise ValueError(
                f"num_heads is {self.num_heads} and does not divide d_model = {self.d_model}; "
                "expected a divisor, because every head gets an equal part of each vector."
            )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(
                f"d_model is {self.d_model}; expected an even number, because sinusoidal "
                "positions come in pairs of a sine and a cosine."
            )
        for name in ("causal", "share_embeddings"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}; expected True or False.")
        for name in ("dropout", "attention_dropout", "norm_eps"):
            _require_number(name, getattr(self, name))
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 0, below 1.")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps is {self.norm_eps}; expected a number above 0.")

    def _require_special_ids(self) -> None:
        ids = {"pad_id": self.pad_id, "begin_id": self.begin_id, "end_id": self.end_id}
        for name, value in ids.items():
            require_integer(name, value, least=0)
            size = self.target_vocab_size
            if name == "pad_id":
                size = min(size, self.source_vocab_size)
            if not 0 <= value < size:
                raise ValueError(f"{name} is {value}; expected an id from 0 to {size - 1}.")
        if len(set(ids.values())) < len(ids):
            raise ValueError(
                f"pad_id, begin_id and end_id are {ids}; expected three different ids."
            )


# --- positions ----------------------------------------------------------------------


def sinusoidal_positions(length: int, d_model: int) -> Tensor:
    r"""Return one vector per position, sines and cosines of ``d_model / 2`` frequencies.

    ``PE(t, 2i) = sin(t / 10000^(2i / d_model))`` and ``PE(t, 2i + 1)`` the cosine of the same.

    Args:
        length: number of positions, at least 1.
        d_model: width of each vector, even.

    Returns:
        ``(length, d_model)`` in the default floating-point type, every number in [-1, 1].

    Raises:
        TypeError: an argument is no integer.
        ValueError: ``length`` is below 1, or ``d_model`` is odd or below 2.

    Source: Vaswani et al. 2017, section 3.5.
    """
    require_integer("length", length, least=1)
    require_integer("d_model", d_model, least=1)
    if d_model < 2 or d_model % 2:
        raise ValueError(f"d_model is {d_model}; expected an even number of at least 2.")
    # In double precision: at position 5,000 an angle in float32 is already off by 2e-4.
    position = torch.arange(length, dtype=torch.float64).unsqueeze(1)  # (length, 1)
    exponent = torch.arange(0, d_model, 2, dtype=torch.float64) / d_model  # (d_model / 2)
    angle = position / 10_000**exponent  # (length, d_model / 2)
    pairs = torch.stack((angle.sin(), angle.cos()), dim=-1)  # (length, d_model / 2, 2)
    return pairs.flatten(1).to(torch.get_default_dtype())  # (length, d_model)


# --- the parts of a block -----------------------------------------------------------


class LayerNorm(nn.Module):
    """Bring every vector to mean 0 and variance 1, then scale and shift each feature.

    ``weight * (x - mean) / sqrt(variance + eps) + bias``, where mean and variance are taken over
    the features of one position, and the variance divides by the number of features.

    Args:
        d_model: number of features.
        eps: keeps the division finite for a constant vector.

    Raises:
        TypeError: ``d_model`` is no integer or ``eps`` no number.
        ValueError: ``d_model`` is below 1 or ``eps`` not above 0.

    Source: Ba et al. 2016, section 3 (https://arxiv.org/abs/1607.06450).
    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        """Start with scale 1 and shift 0."""
        super().__init__()
        require_integer("d_model", d_model, least=1)
        _require_number("eps", eps)
        if not eps > 0:
            raise ValueError(f"eps is {eps}; expected a number above 0.")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` of shape ``(…, d_model)``; the shape stays.

        Raises:
            TypeError: ``x`` is no tensor or not floating point.
            ValueError: the last dimension is not ``d_model``.
        """
        _require_width("x", x, len(self.weight))
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        return self.weight * centred * torch.rsqrt(variance + self.eps) + self.bias


class FeedForward(nn.Module):
    """Two linear maps with a bend between them, the same for every position.

    Args:
        d_model: width of the vectors that go in and come out.
        d_ff: width between the two maps.
        activation: ``"relu"`` or ``"gelu"``.
        dropout: share of the inner numbers dropped in training.

    Raises:
        TypeError: a width is no integer or ``dropout`` no number.
        ValueError: an argument is out of range, or ``activation`` is unknown.

    Source: Vaswani et al. 2017, equation 2.
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "relu", dropout: float = 0.0
    ) -> None:
        """Make both maps."""
        super().__init__()
        require_integer("d_model", d_model, least=1)
        require_integer("d_ff", d_ff, least=1)
        _require_number("dropout", dropout)
        if activation not in tuple(ACTIVATIONS):
            raise ValueError(
                f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}."
            )
        self.widen = nn.Linear(d_model, d_ff)
        self.narrow = nn.Linear(d_ff, d_model)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` of shape ``(…, d_model)``; the shape stays.

        Raises:
            TypeError: ``x`` is no tensor or has another dtype than the weights.
            ValueError: the last dimension is not ``d_model``.
        """
        _require_width("x", x, self.widen.in_features)
        require_dtype_of(self.widen.weight, "x", x)
        inner = self.activation(self.widen(x))  # (…, d_ff)
        return self.narrow(self.dropout(inner))  # (…, d_model)


class Residual(nn.Module):
    """Add what a sublayer finds to what went into it, and normalize.

    After the sum (``"post"``, the paper): ``norm(x + sublayer(x))``. Before the sublayer
    (``"pre"``): ``x + sublayer(norm(x))``, which leaves an unbroken path from end to end.

    Raises:
        TypeError: ``config`` is no :class:`TransformerConfig`.

    Source: Vaswani et al. 2017, section 3.1; Xiong et al. 2020 (https://arxiv.org/abs/2002.04745).
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Take width, kind of norm and dropout from ``config``."""
        super().__init__()
        _require_config(config)
        self.norm = LayerNorm(config.d_model, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.norm_first = config.norm == "pre"

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Wrap ``sublayer`` around ``x`` of shape ``(batch, positions, d_model)``.

        Raises:
            TypeError: ``x`` is no tensor or ``sublayer`` cannot be called.
            ValueError: the last dimension is not ``d_model``.
        """
        _require_width("x", x, len(self.norm.weight))
        if self.norm_first:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))


# --- blocks and stacks --------------------------------------------------------------


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network, each inside a residual.

    Without a mask or with a padding mask it is a block of BERT; with a causal mask, of GPT.

    Raises:
        TypeError: ``config`` is no :class:`TransformerConfig`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make the parts that ``config`` describes."""
        super().__init__()
        _require_config(config)
        self.attention = _attention(config)
        self.around_attention = Residual(config)
        self.feed_forward = _feed_forward(config)
        self.around_feed_forward = Residual(config)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Transform a sequence; its shape stays.

        Args:
            x: ``(batch, positions, d_model)``.
            mask: boolean, broadcastable to ``(batch, positions, positions)``.

        Raises:
            TypeError: ``x`` or ``mask`` has the wrong dtype.
            ValueError: the shapes do not fit.
        """
        _require_vectors("x", x, self.attention.d_model)
        x = self.around_attention(x, lambda y: self.attention(y, y, y, mask)[0])
        return self.around_feed_forward(x, self.feed_forward)


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's memory, feed-forward, each inside a residual.

    Raises:
        TypeError: ``config`` is no :class:`TransformerConfig`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make the parts that ``config`` describes."""
        super().__init__()
        _require_config(config)
        self.self_attention = _attention(config)
        self.around_self_attention = Residual(config)
        self.cross_attention = _attention(config)
        self.around_cross_attention = Residual(config)
        self.feed_forward = _feed_forward(config)
        self.around_feed_forward = Residual(config)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Transform a sequence with a look at ``memory``; its shape stays.

        Args:
            x: ``(batch, n_target, d_model)``.
            memory: what the encoder gave, ``(batch, n_source, d_model)``.
            mask: boolean, broadcastable to ``(batch, n_target, n_target)``.
            memory_mask: boolean, broadcastable to ``(batch, n_target, n_source)``.

        Raises:
            TypeError: an argument has the wrong dtype.
            ValueError: the shapes do not fit.
        """
        _require_vectors("x", x, self.self_attention.d_model)
        _require_memory(memory, x, self.self_attention.d_model)
        x = self.around_self_attention(x, lambda y: self.self_attention(y, y, y, mask)[0])
        x = self.around_cross_attention(
            x, lambda y: self.cross_attention(y, memory, memory, memory_mask)[0]
        )
        return self.around_feed_forward(x, self.feed_forward)


class Encoder(nn.Module):
    """A stack of :class:`EncoderLayer`; with pre-norm, one more norm at the top.

    Raises:
        TypeError: ``config`` is no :class:`TransformerConfig`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make ``config.encoder_layers`` blocks."""
        super().__init__()
        _require_config(config)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.norm = _final_norm(config)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Transform ``x`` of shape ``(batch, positions, d_model)``, see :class:`EncoderLayer`.

        Raises:
            TypeError, ValueError: as :class:`EncoderLayer`.
        """
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class Decoder(nn.Module):
    """A stack of :class:`DecoderLayer`; with pre-norm, one more norm at the top.

    Raises:
        TypeError: ``config`` is no :class:`TransformerConfig`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make ``config.decoder_layers`` blocks."""
        super().__init__()
        _require_config(config)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = _final_norm(config)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Transform ``x`` of shape ``(batch, n_target, d_model)``, see :class:`DecoderLayer`.

        Raises:
            TypeError, ValueError: as :class:`DecoderLayer`.
        """
        for layer in self.layers:
            x = layer(x, memory, mask, memory_mask)
        return self.norm(x)


def _attention(config: TransformerConfig) -> MultiHeadAttention:
    return MultiHeadAttention(config.d_model, config.num_heads, config.attention_dropout)


def _feed_forward(config: TransformerConfig) -> FeedForward:
    return FeedForward(config.d_model, config.d_ff, config.activation)


def _final_norm(config: TransformerConfig) -> nn.Module:
    # With post-norm every block already ends in a norm.
    return LayerNorm(config.d_model, config.norm_eps) if config.norm == "pre" else nn.Identity()


# --- the whole model ----------------------------------------------------------------


class Transformer(nn.Module):
    """Encoder and decoder with embeddings, positions and the output layer.

    Raises:
        TypeError: ``config`` is no :class:`TransformerConfig`.

    Source: Vaswani et al. 2017, section 3 and figure 1.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make the model with fresh random weights."""
        super().__init__()
        _require_config(config)
        self.config = config
        self.source_embedding = nn.Embedding(config.source_vocab_size, config.d_model)
        self.target_embedding = nn.Embedding(config.target_vocab_size, config.d_model)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.output = nn.Linear(config.d_model, config.target_vocab_size, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("positions", _position_table(config), persistent=False)
        self._initialize()
        if config.share_embeddings:
            self.target_embedding.weight = self.source_embedding.weight
            self.output.weight = self.source_embedding.weight

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Turn a source sequence into the memory that the decoder reads.

        Args:
            source: token ids, ``(batch, n_source)``.
            source_mask: boolean, ``True`` for a token, ``False`` for padding,
                ``(batch, n_source)``; ``None`` takes everything but ``pad_id`` for a token.

        Returns:
            The memory, ``(batch, n_source, d_model)``.

        Raises:
            TypeError: ``source`` holds no integers or ``source_mask`` is not boolean.
            ValueError: a shape is wrong, an id is out of range or the sequence is too long.
        """
        self._require_ids("source", source, self.config.source_vocab_size)
        mask = self._token_mask(source, source_mask)
        vectors = self._embed(source, self.source_embedding)  # (batch, n_source, d_model)
        return self.encoder(vectors, padding_mask(mask))

    def decode(self, target: Tensor, memory: Tensor, source_mask: Tensor | None) -> Tensor:
        """Return the scores of every possible next id, at each position of ``target``.

        Args:
            target: ids so far, the first one ``begin_id``, ``(batch, n_target)``.
            memory: what :meth:`encode` returned, ``(batch, n_source, d_model)``.
            source_mask: the same as for :meth:`encode`, usually ``source != pad_id``; ``None``
                says that ``memory`` has no padding.

        Returns:
            Logits, ``(batch, n_target, target_vocab_size)``; those at position t belong to the
            id that follows position t.

        Raises:
            TypeError: ``target`` holds no integers or ``source_mask`` is not boolean.
            ValueError: a shape is wrong, an id is out of range or the sequence is too long.
        """
        return self.output(self._decoder_states(target, memory, source_mask))

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Return the logits for every position of ``target``: :meth:`encode`, :meth:`decode`.

        Args:
            source: token ids, ``(batch, n_source)``.
            target: the decoder's input, ``(batch, n_target)``: begin, then the answer.
            source_mask: boolean, ``True`` for a token; ``None`` hides ``pad_id``.

        Returns:
            Logits, ``(batch, n_target, target_vocab_size)``.

        Raises:
            TypeError: ids are no integers or ``source_mask`` is not boolean.
            ValueError: a shape is wrong, an id is out of range or a sequence is too long.
        """
        memory = self.encode(source, source_mask)
        return self.decode(target, memory, self._token_mask(source, source_mask))

    @torch.no_grad()
    def generate(
        self,
        source: Tensor,
        max_length: int | None = None,
        num_beams: int = 1,
        length_penalty: float = 0.6,
    ) -> Tensor:
        """Write an answer for each source: greedy with one beam, beam search with more.

        A sequence of n ids scores ``log p / ((5 + n) / 6) ** length_penalty``. ``pad_id`` and
        ``begin_id`` are never chosen. Dropout is off meanwhile.

        Args:
            source: token ids, ``(batch, n_source)``.
            max_length: how many ids to write at most; ``None`` for ``config.max_length``.
            num_beams: how many unfinished answers to follow at once, at least 1.
            length_penalty: 0 prefers short answers, more of it long ones; -10 to 10.

        Returns:
            Ids without ``begin_id``, ``(batch, n)``, n at most ``max_length``: the answer,
            ``end_id`` unless the length ran out, then ``pad_id``.

        Raises:
            TypeError: ``source`` holds no integers, or an argument is no number.
            ValueError: an argument is out of range or has the wrong shape.

        Source: Vaswani et al. 2017, section 6.1 (4 beams, penalty 0.6); Wu et al. 2016,
        equation 14 (https://arxiv.org/abs/1609.08144).
        """
        limit = self.config.max_length if max_length is None else max_length
        require_integer("max_length", limit, least=1)
        if limit > self.config.max_length:
            raise ValueError(
                f"max_length is {limit}; expected 1 to {self.config.max_length}, the number of "
                "positions in the config."
            )
        require_integer("num_beams", num_beams, least=1, most=10_000)
        _require_number("length_penalty", length_penalty)
        if abs(length_penalty) > 10:  # far beyond, all scores are 0 or infinite and none is best
            raise ValueError(f"length_penalty is {length_penalty}; expected -10 to 10.")
        with _evaluating(self):
            return self._search(source, limit, num_beams, length_penalty)

    @torch.no_grad()
    def cross_attention(self, source: Tensor, target: Tensor) -> Tensor:
        """Return where each decoder position looks in the source, in every layer and head.

        Args:
            source: token ids, ``(batch, n_source)``.
            target: the decoder's input, ``(batch, n_target)``.

        Returns:
            Weights, ``(batch, layers, heads, n_target, n_source)``.

        Raises:
            TypeError, ValueError: as :meth:`forward`.
        """
        kept: list[Tensor] = []
        hooks = [
            # The attention's second output are its weights; the block itself drops them.
            layer.cross_attention.register_forward_hook(lambda _, __, out: kept.append(out[1]))
            for layer in self.decoder.layers
        ]
        try:
            with _evaluating(self):
                self(source, target)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(kept, dim=1)

    def _embed(self, ids: Tensor, embedding: nn.Embedding) -> Tensor:
        vectors = embedding(ids) * math.sqrt(self.config.d_model)
        return self.dropout(vectors + self.positions[: ids.shape[1]])

    def _decoder_states(self, target: Tensor, memory: Tensor, source_mask: Tensor | None) -> Tensor:
        self._require_ids("target", target, self.config.target_vocab_size)
        _require_memory(memory, target, self.config.d_model)
        if source_mask is not None:
            _require_token_mask(source_mask, memory.shape[:2])
            source_mask = padding_mask(source_mask)  # (batch, 1, n_source)
        mask = padding_mask(target != self.config.pad_id)  # (batch, 1, n_target)
        if self.config.causal:
            mask = mask & causal_mask(target.shape[1], device=target.device)
        vectors = self._embed(target, self.target_embedding)  # (batch, n_target, d_model)
        return self.decoder(vectors, memory, mask, source_mask)

    def _search(self, source: Tensor, limit: int, beams: int, penalty: float) -> Tensor:
        config, batch = self.config, len(source)
        memory = self.encode(source).repeat_interleave(beams, dim=0)
        mask = self._token_mask(source, None).repeat_interleave(beams, dim=0)
        ids = source.new_full((batch, beams, 1), config.begin_id)
        # All beams begin alike, so all but the first are switched off for the first step.
        log_p = memory.new_full((batch, beams), -math.inf)
        log_p[:, 0] = 0.0
        for _ in range(limit):
            step = self._next_log_p(ids.flatten(0, 1), memory, mask).unflatten(0, (batch, beams))
            done = (ids[..., -1] == config.end_id) | (ids[..., -1] == config.pad_id)
            frozen = torch.full_like(step[0, 0], -math.inf)
            frozen[config.pad_id] = 0.0  # a finished answer goes on with padding, for free
            total = log_p.unsqueeze(-1) + torch.where(done.unsqueeze(-1), frozen, step)
            # (batch, beams, vocabulary); the length counts the id that is about to be added.
            length = (ids != config.pad_id).sum(-1) - done.long()
            scores = total / ((5 + length.unsqueeze(-1)) / 6) ** penalty
            best = scores.flatten(1).topk(beams).indices  # (batch, beams), the best one first
            log_p = total.flatten(1).gather(1, best)
            parent, chosen = best // step.shape[-1], best % step.shape[-1]
            ids = ids.gather(1, parent.unsqueeze(-1).expand(-1, -1, ids.shape[-1]))
            ids = torch.cat((ids, chosen.unsqueeze(-1)), dim=-1)
            ended = (chosen == config.end_id) | (chosen == config.pad_id) | log_p.isneginf()
            if bool(ended.all()):
                break
        return ids[:, 0, 1:]

    def _next_log_p(self, ids: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        states = self._decoder_states(ids, memory, mask)
        logits = self.output(states[:, -1])  # (rows, vocabulary)
        logits[:, [self.config.pad_id, self.config.begin_id]] = -math.inf
        return logits.log_softmax(dim=-1)

    def _token_mask(self, source: Tensor, source_mask: Tensor | None) -> Tensor:
        if source_mask is None:
            return source != self.config.pad_id
        _require_token_mask(source_mask, source.shape)
        return source_mask

    def _require_ids(self, name: str, ids: Tensor, vocab_size: int) -> None:
        _require_id_tensor(name, ids)
        if ids.shape[1] > self.config.max_length:
            raise ValueError(
                f"{name} has shape {tuple(ids.shape)}; expected at most max_length = "
                f"{self.config.max_length} positions. Cut it, or raise max_length in the config."
            )
        _require_id_range(name, ids, vocab_size)

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Embeddings are multiplied by √d_model, so that they enter with variance 1.
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=self.config.d_model**-0.5)


def _position_table(config: TransformerConfig) -> Tensor:
    if config.positions == "none":
        return torch.zeros(config.max_length, config.d_model)
    return sinusoidal_positions(config.max_length, config.d_model)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Switch dropout off, and back to what it was at the end."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


# --- how it is trained --------------------------------------------------------------


def label_smoothed_loss(
    logits: Tensor, target: Tensor, smoothing: float = 0.1, ignore_id: int | None = None
) -> Tensor:
    """Return the mean cross-entropy against a target that leaves some probability to all ids.

    The right id is to get ``1 - smoothing`` and all V ids together share ``smoothing`` evenly.

    Args:
        logits: ``(…, V)``.
        target: the right ids, ``(…)``.
        smoothing: at least 0, below 1; 0 is the plain cross-entropy.
        ignore_id: positions whose target is this id (padding) do not count.

    Returns:
        The mean over the positions that count, in nats; NaN if there are none.

    Raises:
        TypeError: ``logits`` is not floating point, ``target`` holds no integers, or
            ``smoothing`` is no number.
        ValueError: the shapes do not fit, ``smoothing`` or an id is out of range.

    Source: Vaswani et al. 2017, section 5.4; Szegedy et al. 2016, section 7
    (https://arxiv.org/abs/1512.00567).
    """
    for name, value in (("logits", logits), ("target", target)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is a {type(value).__name__}; expected a tensor.")
    if not logits.is_floating_point():
        raise TypeError(f"logits has dtype {logits.dtype}; expected floating point.")
    if ignore_id is not None:
        require_integer("ignore_id", ignore_id, least=-(2**31))
    _require_number("smoothing", smoothing)
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}; expected at least 0 and below 1.")
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(f"target has dtype {target.dtype}; expected integers, the right ids.")
    if logits.shape[:-1] != target.shape:
        raise ValueError(
            f"logits has shape {tuple(logits.shape)} and target {tuple(target.shape)}; expected "
            "the same but for the last dimension of logits, which is the vocabulary."
        )
    counts = torch.ones_like(target, dtype=torch.bool) if ignore_id is None else target != ignore_id
    log_p, target = logits[counts].log_softmax(dim=-1), target[counts]  # (counted, V), (counted)
    _require_id_range("target", target, logits.shape[-1])
    right = log_p.gather(-1, target.long().unsqueeze(-1)).squeeze(-1)
    if smoothing == 0:  # not zero times the mean: an id that is ruled out has log p = -inf
        return -right.mean()
    return -((1 - smoothing) * right + smoothing * log_p.mean(dim=-1)).mean()


def warmup_learning_rate(step: int, d_model: int, warmup_steps: int = 4000) -> float:
    """Return the paper's learning rate: a straight rise, then a fall with the root of the step.

    ``d_model^-0.5 * min(step^-0.5, step * warmup_steps^-1.5)``

    Args:
        step: number of the update, the first one is 1.
        d_model: width of the model; a wider one learns more slowly.
        warmup_steps: the update at which the rate is highest.

    Raises:
        TypeError: an argument is no integer.
        ValueError: an argument is below 1.

    Source: Vaswani et al. 2017, equation 3.
    """
    for name, value in (("step", step), ("d_model", d_model), ("warmup_steps", warmup_steps)):
        require_integer(name, value, least=1)
    return d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


# --- weights of other implementations -----------------------------------------------

_FROM_TORCH = (
    (r"\bmultihead_attn\b", "cross_attention"),
    (r"\bout_proj\b", "output"),
    (r"\blinear1\b", "feed_forward.widen"),
    (r"\blinear2\b", "feed_forward.narrow"),
)
_FROM_BERT = (
    (r"\battention\.self\.", "attention."),
    (r"\battention\.output\.dense\b", "attention.output"),
    (r"\battention\.output\.LayerNorm\b", "around_attention.norm"),
    (r"\bintermediate\.dense\b", "feed_forward.widen"),
    (r"(?<!attention\.)\boutput\.dense\b", "feed_forward.narrow"),
    (r"(?<!attention\.)\boutput\.LayerNorm\b", "around_feed_forward.norm"),
)


def state_from_torch(stack: nn.TransformerEncoder | nn.TransformerDecoder) -> dict[str, Tensor]:
    """Return the weights of PyTorch's stack under our names, for ``load_state_dict``.

    Args:
        stack: ``nn.Transformer(…).encoder`` or ``.decoder``, or one made by itself.

    Returns:
        What ``Encoder(…).load_state_dict`` or ``Decoder(…).load_state_dict`` takes.

    Raises:
        TypeError: ``stack`` is something else.
    """
    if isinstance(stack, nn.TransformerEncoder):
        names = ("attention", "feed_forward")
    elif isinstance(stack, nn.TransformerDecoder):
        names = ("self_attention", "cross_attention", "feed_forward")
    else:
        raise TypeError(
            f"stack is a {type(stack).__name__}; expected the encoder or the decoder of an "
            "nn.Transformer."
        )
    norms = [(rf"\bnorm{i}\b", f"around_{name}.norm") for i, name in enumerate(names, start=1)]
    rules = [(r"\bself_attn\b", names[0]), *norms, *_FROM_TORCH]
    state: dict[str, Tensor] = {}
    for name, tensor in stack.state_dict().items():
        ours = _renamed(name, rules)
        if "in_proj_" in ours:  # one matrix for three projections, one above the other
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                state[ours.replace("in_proj_", f"{part}.")] = third
        else:
            state[ours] = tensor
    return state


def state_from_bert(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a ``BertLayer`` or ``BertEncoder`` of transformers under our names.

    Args:
        module: one block (for :class:`EncoderLayer`) or the stack (for :class:`Encoder`).

    Raises:
        TypeError: ``module`` is no module.
        ValueError: ``module`` has weights that a block of BERT does not have, or none.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module is a {type(module).__name__}; expected a BertLayer or BertEncoder."
        )
    if not module.state_dict():
        raise ValueError(f"module is a {type(module).__name__} without weights.")
    state = {}
    for name, tensor in module.state_dict().items():
        name = name.replace("layer.", "layers.", 1) if name.startswith("layer.") else name
        ours = _renamed(name, _FROM_BERT)
        if not re.search(r"\b(attention|feed_forward|norm)\.", ours) or "LayerNorm" in ours:
            raise ValueError(
                f"module is a {type(module).__name__} with a weight {name!r}; expected a "
                "BertLayer or a BertEncoder."
            )
        state[ours] = tensor
    return state


def _renamed(name: str, rules: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    for pattern, ours in rules:
        name = re.sub(pattern, ours, name)
    return name


# --- what a wrong input is told -----------------------------------------------------


def _require_config(config: TransformerConfig) -> None:
    if not isinstance(config, TransformerConfig):
        raise TypeError(f"config is a {type(config).__name__}; expected a TransformerConfig.")


def _require_number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; expected a number.")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; expected a finite number.")


def _require_width(name: str, tensor: Tensor, width: int) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; expected a tensor.")
    if not tensor.is_floating_point():
        raise TypeError(
            f"{name} has dtype {tensor.dtype} and shape {tuple(tensor.shape)}; expected floating "
            "point. Token ids must go through an embedding first."
        )
    if tensor.ndim < 1 or tensor.shape[-1] != width:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}; expected {width} numbers (d_model) in the "
            "last dimension."
        )


def _require_vectors(name: str, tensor: Tensor, d_model: int) -> None:
    _require_width(name, tensor, d_model)
    if tensor.ndim != 3:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}; expected (batch, positions, {d_model}). A "
            f"single sequence becomes a batch of one by {name}.unsqueeze(0)."
        )


def _require_memory(memory: Tensor, target: Tensor, d_model: int) -> None:
    _require_vectors("memory", memory, d_model)
    if len(memory) != len(target):
        raise ValueError(
            f"memory has shape {tuple(memory.shape)} and belongs to {len(memory)} sequences, but "
            f"the decoder's input has shape {tuple(target.shape)}; expected the same batch."
        )


def _require_id_tensor(name: str, ids: Tensor) -> None:
    if not isinstance(ids, Tensor):
        raise TypeError(f"{name} is a {type(ids).__name__}; expected a tensor of token ids.")
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(
            f"{name} has dtype {ids.dtype} and shape {tuple(ids.shape)}; expected integers "
            "(torch.int64), the ids of tokens."
        )
    if ids.ndim != 2 or 0 in ids.shape:
        raise ValueError(
            f"{name} has shape {tuple(ids.shape)}; expected (batch, positions), both at least 1. "
            f"A single sequence becomes a batch of one by {name}.unsqueeze(0)."
        )


def _require_id_range(name: str, ids: Tensor, vocab_size: int) -> None:
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= vocab_size):
        raise ValueError(
            f"{name} of shape {tuple(ids.shape)} holds ids from {int(ids.min())} to "
            f"{int(ids.max())}; expected 0 to {vocab_size - 1}, the ids of the vocabulary."
        )


def _require_token_mask(mask: Tensor, shape: torch.Size) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(f"source_mask is a {type(mask).__name__}; expected a boolean tensor.")
    if mask.dtype != torch.bool:
        raise TypeError(
            f"source_mask has dtype {mask.dtype} and shape {tuple(mask.shape)}; expected "
            "torch.bool, True for a token and False for padding. A tokenizer's attention_mask "
            "becomes one by attention_mask == 1."
        )
    if mask.shape != shape:
        raise ValueError(
            f"source_mask has shape {tuple(mask.shape)}; expected (batch, n_source) = "
            f"{tuple(shape)}, one entry for each token of source."
        )
