"""The model: the encoder of chapter 04, and a decoder that remembers instead of looking back."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from helpers.attention import (
    MultiHeadAttention,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from helpers.marian.reading import config_of, state_of
from helpers.shapes import checked
from helpers.transformer import (
    Encoder,
    FeedForward,
    Residual,
    TransformerConfig,
)


@checked
def marian_positions(
    length: int, d_model: int
) -> Float[Tensor, "{length} {d_model}"]:
    """Return one vector per position as Marian computes them: all sines, then all cosines.

    The rates fall from 1 to 1 / 10,000 in even ratios, the last one included; in the paper they
    stop just short of it, and sines and cosines take turns.
    """
    double = torch.float64
    half = d_model // 2
    position = torch.arange(length, dtype=double)[:, None]
    exponent = torch.arange(half, dtype=double) / (half - 1)
    angle = position / 10_000**exponent  # (length, d_model / 2)
    waves = torch.cat((angle.sin(), angle.cos()), dim=-1)
    return waves.to(torch.get_default_dtype())


class SSRU(nn.Module):
    """The simpler simple recurrent unit: one vector that is partly kept, partly replaced.

    ``f_t = σ(W_f x_t + b_f)``, ``c_t = f_t c_{t-1} + (1 - f_t) W x_t``, and out comes
    ``relu(c_t)``. Before the first position, c is zero. Source: Kim et al. 2019.
    """

    def __init__(self, d_model: int) -> None:
        """Make both maps; the candidate has no bias."""
        super().__init__()
        self.forget = nn.Linear(d_model, d_model)
        self.candidate = nn.Linear(d_model, d_model, bias=False)

    @checked
    def forward(
        self,
        x: Float[Tensor, "batch n d_model"],
        cell: Float[Tensor, "batch d_model"],
    ) -> tuple[
        Float[Tensor, "batch n d_model"], Float[Tensor, "batch d_model"]
    ]:
        """Read ``x`` position by position, and return the outputs and the last cell."""
        f = self.forget(x).sigmoid()  # both maps for all positions at once
        new = (1 - f) * self.candidate(x)
        cells = []
        for t in range(x.shape[1]):
            cell = f[:, t] * cell + new[:, t]
            cells.append(cell)
        return torch.stack(cells, dim=1).relu(), cell


class DecoderLayer(nn.Module):
    """Recurrence, attention to the encoder's memory, feed-forward, each inside a residual."""

    def __init__(self, config: TransformerConfig) -> None:
        """Make the parts that ``config`` describes."""
        super().__init__()
        width = config.d_model
        self.recurrence = SSRU(width)
        self.around_recurrence = Residual(config)
        self.cross_attention = MultiHeadAttention(width, config.num_heads)
        self.around_cross_attention = Residual(config)
        self.feed_forward = FeedForward(width, config.d_ff)
        self.around_feed_forward = Residual(config)

    @checked
    def keys_and_values(
        self, memory: Float[Tensor, "batch n_source d_model"]
    ) -> tuple[
        Float[Tensor, "batch heads n_source d_k"],
        Float[Tensor, "batch heads n_source d_k"],
    ]:
        """Return what cross-attention needs of ``memory``; it is the same at every step."""
        cross = self.cross_attention
        keys = split_heads(cross.key(memory), cross.num_heads)
        return keys, split_heads(cross.value(memory), cross.num_heads)

    @checked
    def forward(
        self,
        x: Float[Tensor, "batch n_target d_model"],
        cell: Float[Tensor, "batch d_model"],
        keys: Float[Tensor, "batch heads n_source d_k"],
        values: Float[Tensor, "batch heads n_source d_k"],
        source_mask: Bool[Tensor, "batch n_source"],
    ) -> tuple[
        Float[Tensor, "batch n_target d_model"],
        Float[Tensor, "batch d_model"],
        Float[Tensor, "batch heads n_target n_source"],
    ]:
        """Transform some positions; return them, the last cell, and the weights of attention."""
        mixed, cell = self.recurrence(x, cell)
        x = self.around_recurrence(x, lambda _: mixed)
        cross = self.cross_attention
        queries = split_heads(cross.query(x), cross.num_heads)
        mixed, weights = scaled_dot_product_attention(
            queries, keys, values, source_mask[:, None, None]
        )
        found = cross.output(merge_heads(mixed))
        x = self.around_cross_attention(x, lambda _: found)
        x = self.around_feed_forward(x, self.feed_forward)
        return x, cell, weights


@dataclass(frozen=True)
class State:
    """What the decoder carries from one step to the next, for a batch of unfinished sentences.

    There is a cell for each layer and sentence, whatever the length of the text so far. Keys and
    values belong to the source and never change.
    """

    position: int
    cells: tuple[Tensor, ...]
    keys_and_values: tuple[tuple[Tensor, Tensor], ...]
    source_mask: Tensor

    def take(self, rows: Tensor) -> State:
        """Let each sentence go on from the cells of another one of the same source."""
        return replace(self, cells=tuple(cell[rows] for cell in self.cells))


class Translator(nn.Module):
    """Encoder, decoder, and one matrix for both embeddings and the output.

    ``tensors`` is what :func:`helpers.marian.read` found in a file, and ``dropout`` the share of
    the numbers dropped in training after each sublayer and embedding.
    """

    def __init__(
        self, tensors: dict[str, Any], dropout: float = 0.0
    ) -> None:
        """Make the modules and load the weights."""
        super().__init__()
        config = replace(config_of(tensors), dropout=dropout)
        self.config = config
        known, width = config.target_vocab_size, config.d_model
        self.embedding = nn.Embedding(known, width)
        self.encoder = Encoder(config)
        layers = (
            DecoderLayer(config) for _ in range(config.decoder_layers)
        )
        self.decoder = nn.ModuleList(layers)
        self.output = nn.Linear(width, known)
        self.output.weight = self.embedding.weight  # a row for each token
        self.dropout = nn.Dropout(dropout)
        table = marian_positions(config.max_length, width)
        self.register_buffer("positions", table, persistent=False)
        self.load_state_dict(state_of(tensors))

    @checked
    def encode(
        self,
        source: Int[Tensor, "batch n_source"],
        source_mask: Bool[Tensor, "batch n_source"],
    ) -> State:
        """Read the sources, and return the state from which decoding starts."""
        x = self._place(self._embed(source))
        memory = self.encoder(x, source_mask[:, None])
        zeros = memory.new_zeros(len(source), self.config.d_model)
        return State(
            position=0,
            cells=(zeros,) * len(self.decoder),
            keys_and_values=tuple(
                layer.keys_and_values(memory) for layer in self.decoder
            ),
            source_mask=source_mask,
        )

    @checked
    def decode(
        self, inputs: Float[Tensor, "batch n_target d_model"], state: State
    ) -> tuple[
        Float[Tensor, "batch n_target vocabulary"],
        State,
        Float[Tensor, "batch layers heads n_target n_source"],
    ]:
        """Go on by one or more positions; return logits, the new state, and attention weights.

        ``inputs`` are embeddings without positions, see :meth:`shifted` and :meth:`step`.
        """
        x = self._place(inputs, state.position)
        cells, weights = [], []
        for layer, cell, pair in zip(
            self.decoder, state.cells, state.keys_and_values, strict=True
        ):
            x, cell, looks = layer(x, cell, *pair, state.source_mask)
            cells.append(cell)
            weights.append(looks)
        after = state.position + inputs.shape[1]
        state = replace(state, position=after, cells=tuple(cells))
        return self.output(x), state, torch.stack(weights, dim=1)

    @checked
    def shifted(
        self, target: Int[Tensor, "batch n_target"]
    ) -> Float[Tensor, "batch n_target {self.config.d_model}"]:
        """Return the decoder's inputs in training: zeros, then the target without its end."""
        right = self._embed(target[:, :-1])
        zeros = right.new_zeros(len(target), 1, self.config.d_model)
        return torch.cat((zeros, right), dim=1)

    @checked
    def step(
        self, last: Int[Tensor, " batch"] | None, state: State
    ) -> tuple[Float[Tensor, "batch vocabulary"], State]:
        """Return the logits of the next token, and the state after it; ``last`` may be None."""
        if last is None:  # the first step
            cell = state.cells[0]
            inputs = torch.zeros_like(cell).unsqueeze(1)
        else:
            inputs = self._embed(last).unsqueeze(1)
        logits, state, _ = self.decode(inputs, state)
        return logits[:, 0], state

    @checked
    def forward(
        self,
        source: Int[Tensor, "batch n_source"],
        source_mask: Bool[Tensor, "batch n_source"],
        target: Int[Tensor, "batch n_target"],
    ) -> Float[Tensor, "batch n_target vocabulary"]:
        """Return, at each position of ``target``, the logits of the token that stands there."""
        state = self.encode(source, source_mask)
        return self.decode(self.shifted(target), state)[0]

    def _embed(self, ids: Tensor) -> Tensor:
        return self.embedding(ids) * math.sqrt(self.config.d_model)

    def _place(self, vectors: Tensor, start: int = 0) -> Tensor:
        end, most = start + vectors.shape[1], self.config.max_length
        if end > most:
            raise ValueError(
                f"A sequence has {end} ids, and there are positions for "
                f"{most}. Split the text into sentences."
            )
        return self.dropout(vectors + self.positions[start:end])
