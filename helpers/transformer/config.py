"""The choices of a Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from helpers.shapes import checked


@checked
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
        """Refuse choices that do not fit each other before any weight is made."""
        for name, value in tuple(vars(self).items()):
            if isinstance(value, np.integer):  # JSON takes Python's only
                object.__setattr__(self, name, int(value))
        for name in (
            "source_vocab_size", "target_vocab_size", "d_model", "d_ff",
            "num_heads", "encoder_layers", "decoder_layers", "max_length",
        ):  # fmt: skip
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("dropout", "attention_dropout"):
            in_range = 0 <= getattr(self, name) < 1
            self._require(name, in_range, "at least 0 and below 1")
        self._require("norm_eps", self.norm_eps > 0, "a number above 0")
        self._require(
            "num_heads",
            self.d_model % self.num_heads == 0,
            f"a divisor of d_model = {self.d_model}, because every head "
            "gets an equal part",
        )
        self._require(
            "d_model",
            self.positions == "none" or self.d_model % 2 == 0,
            "an even number, because sinusoidal positions are pairs of a "
            "sine and a cosine",
        )
        most = self.target_vocab_size - 1
        both = min(most, self.source_vocab_size - 1)
        ends = {"pad_id": both, "begin_id": most, "end_id": most}
        for name, last in ends.items():
            in_range = 0 <= getattr(self, name) <= last
            self._require(name, in_range, f"an id from 0 to {last}")
        ids = {name: getattr(self, name) for name in ends}
        if len(set(ids.values())) < len(ids):
            raise ValueError(f"The ids are {ids}; expected different ones.")
        self._require(
            "target_vocab_size",
            self.source_vocab_size == self.target_vocab_size
            or not self.share_embeddings,
            f"source_vocab_size = {self.source_vocab_size}, because "
            "share_embeddings is set",
        )

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:  # NaN fails every comparison, so it is refused too
            value = getattr(self, name)
            raise ValueError(f"{name} is {value}; expected {expected}.")
