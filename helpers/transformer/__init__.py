"""The Transformer of "Attention Is All You Need", encoder and decoder, from its parts (chapter 04).

Token ids have the shape ``(batch, positions)``, vectors ``(batch, positions, d_model)``. A mask is
boolean, ``True`` means *may attend*, as in :mod:`helpers.attention`.

Source: Vaswani et al. 2017, sections 3 and 5 (https://arxiv.org/abs/1706.03762).
"""

from helpers.transformer.blocks import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    FeedForward,
    LayerNorm,
    Residual,
    sinusoidal_positions,
)
from helpers.transformer.config import TransformerConfig
from helpers.transformer.decoding import beam_search
from helpers.transformer.model import Transformer
from helpers.transformer.training import (
    label_smoothed_loss,
    warmup_learning_rate,
)
from helpers.transformer.weights import state_from_bert, state_from_torch

__all__ = [
    "Decoder",
    "DecoderLayer",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "LayerNorm",
    "Residual",
    "Transformer",
    "TransformerConfig",
    "beam_search",
    "label_smoothed_loss",
    "sinusoidal_positions",
    "state_from_bert",
    "state_from_torch",
    "warmup_learning_rate",
]
