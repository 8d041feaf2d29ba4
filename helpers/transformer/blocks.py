"""The parts of an encoder and of a decoder, and the stacks that are made of them.

A mask goes to :class:`~helpers.attention.MultiHeadAttention` as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.attention import MultiHeadAttention
from helpers.shapes import at_least_float32, checked
from helpers.transformer.config import TransformerConfig


@checked
def sinusoidal_positions(
    length: int, d_model: int
) -> Float[Tensor, "{length} {d_model}"]:
    r"""Return one vector per position, sines and cosines of ``d_model / 2`` frequencies.

    ``PE(t, 2i) = sin(t / 10000^(2i / d_model))`` and ``PE(t, 2i + 1)`` the cosine of the same, in
    the default floating-point type; ``d_model`` is even.

    Source: Vaswani et al. 2017, section 3.5.
    """
    # In double precision: at position 5,000 an angle in float32 is already
    # off by 2e-4.
    double = torch.float64
    position = torch.arange(length, dtype=double)[:, None]  # (length, 1)
    exponent = torch.arange(0, d_model, 2, dtype=double) / d_model
    angle = position / 10_000**exponent  # (length, d_model / 2)
    # (length, d_model / 2, 2), then (length, d_model)
    pairs = torch.stack((angle.sin(), angle.cos()), dim=-1)
    return pairs.flatten(1).to(torch.get_default_dtype())


class LayerNorm(nn.Module):
    """Bring every vector to mean 0 and variance 1, then scale and shift each feature.

    ``weight * (x - mean) / sqrt(variance + eps) + bias``, where mean and variance are taken over
    the features of one position, and the variance divides by the number of features.

    Source: Ba et al. 2016, section 3 (https://arxiv.org/abs/1607.06450).
    """

    @checked  # a tensor for eps would be added to each number, unnoticed
    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        """Start with scale 1 and shift 0."""
        super().__init__()
        self.d_model = d_model
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    @at_least_float32
    @checked
    def forward(
        self, x: Float[Tensor, "*batch {self.d_model}"]
    ) -> Float[Tensor, "*batch d_model"]:
        """Normalize the vectors of ``x``."""
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        scaled = self.weight * centred * torch.rsqrt(variance + self.eps)
        return scaled + self.bias


class FeedForward(nn.Module):
    """Two linear maps, the same for every position, and a ``"relu"`` or ``"gelu"`` between them.

    Source: Vaswani et al. 2017, equation 2.
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "relu"
    ) -> None:
        """Make both maps."""
        super().__init__()
        self.widen = nn.Linear(d_model, d_ff)
        self.narrow = nn.Linear(d_ff, d_model)
        self.activation = {"relu": F.relu, "gelu": F.gelu}[activation]

    @checked
    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        """Map each vector of ``x``."""
        inner = self.activation(self.widen(x))  # (…, d_ff)
        return self.narrow(inner)  # (…, d_model)


class Residual(nn.Module):
    """Add what a sublayer finds to what went into it, and normalize.

    After the sum (``"post"``, the paper): ``norm(x + sublayer(x))``. Before the sublayer
    (``"pre"``): ``x + sublayer(norm(x))``, which leaves an unbroken path from end to end.

    Source: Vaswani et al. 2017, section 3.1; Xiong et al. 2020 (https://arxiv.org/abs/2002.04745).
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Take width, kind of norm and dropout from ``config``."""
        super().__init__()
        self.norm = LayerNorm(config.d_model, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.norm_first = config.norm == "pre"

    @checked
    def forward(
        self,
        x: Float[Tensor, "batch positions d_model"],
        sublayer: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "batch positions d_model"]:
        """Wrap ``sublayer`` around ``x``."""
        if self.norm_first:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network, each inside a residual.

    Without a mask or with a padding mask it is a block of BERT; with a causal mask, of GPT.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make the parts that ``config`` describes."""
        super().__init__()
        self.attention = _attention(config)
        self.around_attention = Residual(config)
        self.feed_forward = _feed_forward(config)
        self.around_feed_forward = Residual(config)

    @checked
    def forward(
        self,
        x: Float[Tensor, "batch positions d_model"],
        mask: Bool[Tensor, "*#heads #positions #positions"] | None = None,
    ) -> Float[Tensor, "batch positions d_model"]:
        """Transform a sequence; ``mask`` says which position may attend to which."""
        attend = self.attention
        x = self.around_attention(x, lambda y: attend(y, y, y, mask)[0])
        return self.around_feed_forward(x, self.feed_forward)


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's memory, feed-forward, each inside a residual."""

    def __init__(self, config: TransformerConfig) -> None:
        """Make the parts that ``config`` describes."""
        super().__init__()
        self.self_attention = _attention(config)
        self.around_self_attention = Residual(config)
        self.cross_attention = _attention(config)
        self.around_cross_attention = Residual(config)
        self.feed_forward = _feed_forward(config)
        self.around_feed_forward = Residual(config)

    @checked
    def forward(
        self,
        x: Float[Tensor, "batch n_target d_model"],
        memory: Float[Tensor, "batch n_source d_model"],
        mask: Bool[Tensor, "*#heads #n_target #n_target"] | None = None,
        memory_mask: Bool[Tensor, "*#heads #n_target #n_source"]
        | None = None,
    ) -> Float[Tensor, "batch n_target d_model"]:
        """Transform a sequence with a look at ``memory``, what the encoder gave."""
        attend, cross = self.self_attention, self.cross_attention
        x = self.around_self_attention(
            x, lambda y: attend(y, y, y, mask)[0]
        )
        x = self.around_cross_attention(
            x, lambda y: cross(y, memory, memory, memory_mask)[0]
        )
        return self.around_feed_forward(x, self.feed_forward)


class Encoder(nn.Module):
    """A stack of :class:`EncoderLayer`; with pre-norm, one more norm at the top."""

    def __init__(self, config: TransformerConfig) -> None:
        """Make ``config.encoder_layers`` blocks."""
        super().__init__()
        layers = (
            EncoderLayer(config) for _ in range(config.encoder_layers)
        )
        self.layers = nn.ModuleList(layers)
        self.norm = _final_norm(config)

    @checked
    def forward(
        self,
        x: Float[Tensor, "batch positions d_model"],
        mask: Bool[Tensor, "*#heads #positions #positions"] | None = None,
    ) -> Float[Tensor, "batch positions d_model"]:
        """Transform a sequence, see :class:`EncoderLayer`."""
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class Decoder(nn.Module):
    """A stack of :class:`DecoderLayer`; with pre-norm, one more norm at the top."""

    def __init__(self, config: TransformerConfig) -> None:
        """Make ``config.decoder_layers`` blocks."""
        super().__init__()
        layers = (
            DecoderLayer(config) for _ in range(config.decoder_layers)
        )
        self.layers = nn.ModuleList(layers)
        self.norm = _final_norm(config)

    @checked
    def forward(
        self,
        x: Float[Tensor, "batch n_target d_model"],
        memory: Float[Tensor, "batch n_source d_model"],
        mask: Bool[Tensor, "*#heads #n_target #n_target"] | None = None,
        memory_mask: Bool[Tensor, "*#heads #n_target #n_source"]
        | None = None,
    ) -> Float[Tensor, "batch n_target d_model"]:
        """Transform a sequence with a look at ``memory``, see :class:`DecoderLayer`."""
        for layer in self.layers:
            x = layer(x, memory, mask, memory_mask)
        return self.norm(x)


def _attention(config: TransformerConfig) -> MultiHeadAttention:
    dropout = config.attention_dropout
    return MultiHeadAttention(config.d_model, config.num_heads, dropout)


def _feed_forward(config: TransformerConfig) -> FeedForward:
    return FeedForward(config.d_model, config.d_ff, config.activation)


def _final_norm(config: TransformerConfig) -> nn.Module:
    if config.norm == "post":
        return nn.Identity()  # every block already ends in a norm
    return LayerNorm(config.d_model, config.norm_eps)
