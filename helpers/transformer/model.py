"""The whole Transformer: embeddings, positions, encoder, decoder, and the output layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from helpers.attention import causal_mask
from helpers.shapes import checked
from helpers.transformer.blocks import (
    Decoder,
    Encoder,
    sinusoidal_positions,
)
from helpers.transformer.config import TransformerConfig
from helpers.transformer.decoding import beam_search


class Transformer(nn.Module):
    """Encoder and decoder with embeddings, positions and the output layer.

    Source: Vaswani et al. 2017, section 3 and figure 1.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make the model with fresh random weights."""
        super().__init__()
        self.config = config
        width, known = config.d_model, config.target_vocab_size
        self.source_embedding = nn.Embedding(
            config.source_vocab_size, width
        )
        self.target_embedding = nn.Embedding(known, width)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.output = nn.Linear(width, known, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        table = torch.zeros(config.max_length, width)
        if config.positions == "sinusoidal":
            table = sinusoidal_positions(*table.shape)
        # In the state, or to_empty and load_state_dict leave garbage in it.
        self.register_buffer("positions", table)
        self._initialize()
        if config.share_embeddings:
            self.target_embedding.weight = self.source_embedding.weight
            self.output.weight = self.source_embedding.weight

    @checked
    def encode(
        self,
        source: Int[Tensor, "batch n_source"],
        source_mask: Bool[Tensor, "batch n_source"] | None = None,
    ) -> Float[Tensor, "batch n_source {self.config.d_model}"]:
        """Turn a source sequence into the memory that the decoder reads.

        ``source_mask`` is ``True`` for a token; ``None`` hides ``pad_id``.

        Raises:
            ValueError: the sequence is longer than ``max_length``.
        """
        if source_mask is None:
            source_mask = source != self.config.pad_id
        # (batch, n_source, d_model), and the mask: (batch, 1, n_source)
        vectors = self._embed(source, self.source_embedding)
        return self.encoder(vectors, source_mask.unsqueeze(1))

    @checked
    def decode(
        self,
        target: Int[Tensor, "batch n_target"],
        memory: Float[Tensor, "batch n_source {self.config.d_model}"],
        source_mask: Bool[Tensor, "batch n_source"] | None,
    ) -> Float[Tensor, "batch n_target {self.config.target_vocab_size}"]:
        """Return the logits of every possible next id, at each position of ``target``.

        ``target`` begins with ``begin_id``, and its ``pad_id`` is hidden. ``memory`` is what
        :meth:`encode` returned, and ``source_mask`` the same as there; ``None`` says that there is
        no padding.

        Raises:
            ValueError: the sequence is longer than ``max_length``.
        """
        return self.output(self._states(target, memory, source_mask))

    @checked
    def forward(
        self,
        source: Int[Tensor, "batch n_source"],
        target: Int[Tensor, "batch n_target"],
        source_mask: Bool[Tensor, "batch n_source"] | None = None,
    ) -> Float[Tensor, "batch n_target {self.config.target_vocab_size}"]:
        """Return the logits for every position of ``target``: :meth:`encode`, :meth:`decode`."""
        if source_mask is None:
            source_mask = source != self.config.pad_id
        memory = self.encode(source, source_mask)
        return self.decode(target, memory, source_mask)

    @checked
    @torch.no_grad()
    def generate(
        self,
        source: Int[Tensor, "batch n_source"],
        max_length: int | None = None,
        num_beams: int = 1,
        length_penalty: float = 0.6,
    ) -> Int[Tensor, "batch n"]:
        """Write an answer for each source: greedy with one beam, beam search with more.

        Dropout is off meanwhile. At most ``max_length`` ids are written, ``config.max_length`` if
        it is ``None``; ``length_penalty``, from -10 to 10, is that of :func:`beam_search`. The ids
        come without ``begin_id``: the answer, ``end_id`` unless the length ran out, then
        ``pad_id``.

        Raises:
            ValueError: ``max_length`` or ``length_penalty`` is out of range.

        Source: Vaswani et al. 2017, section 6.1 (4 beams, penalty 0.6).
        """
        limit = self.config.max_length if max_length is None else max_length
        if not 1 <= limit <= self.config.max_length:
            raise ValueError(
                f"max_length is {limit}; expected 1 to "
                f"{self.config.max_length}, the number of positions in the "
                "config."
            )
        # Beyond, all scores are 0 or infinite, and none is best.
        if not abs(length_penalty) <= 10:
            raise ValueError(
                f"length_penalty is {length_penalty}; expected -10 to 10."
            )
        with _evaluating(self):
            source_mask = source != self.config.pad_id
            memory = self.encode(source, source_mask)
            memory = memory.repeat_interleave(num_beams, dim=0)
            mask = source_mask.repeat_interleave(num_beams, dim=0)
            start = (len(source), num_beams, 1)
            return beam_search(
                lambda ids: self.output(
                    self._states(ids, memory, mask)[:, -1]
                ),
                source.new_full(start, self.config.begin_id),
                self.config,
                max_length=limit,
                length_penalty=length_penalty,
            )

    @torch.no_grad()
    def cross_attention(
        self,
        source: Int[Tensor, "batch n_source"],
        target: Int[Tensor, "batch n_target"],
    ) -> Float[Tensor, "batch layers heads n_target n_source"]:
        """Return where each decoder position looks in the source, in every layer and head."""
        kept: list[Tensor] = []
        # An attention's second output are its weights; blocks drop them.
        hooks = [
            layer.cross_attention.register_forward_hook(
                lambda _, __, out: kept.append(out[1])
            )
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
        length, most = ids.shape[1], self.config.max_length
        if length > most:  # one position would be used for all, unnoticed
            raise ValueError(
                f"A sequence has {length} ids and max_length is {most}. "
                "Cut the sequence, or raise max_length in the config."
            )
        # (batch, positions, d_model)
        vectors = embedding(ids) * math.sqrt(self.config.d_model)
        return self.dropout(vectors + self.positions[:length])

    def _states(
        self, target: Tensor, memory: Tensor, source_mask: Tensor | None
    ) -> Tensor:
        """Return the decoder's last vectors, ``(batch, n_target, d_model)``; build its masks."""
        # (batch, 1, n_target), and what may be seen in the source
        mask = (target != self.config.pad_id).unsqueeze(1)
        if self.config.causal:
            mask = mask & causal_mask(target.shape[1], device=target.device)
        seen = None if source_mask is None else source_mask.unsqueeze(1)
        # (batch, n_target, d_model)
        vectors = self._embed(target, self.target_embedding)
        return self.decoder(vectors, memory, mask, seen)

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Multiplied by √d_model, embeddings enter with variance 1.
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=self.config.d_model**-0.5)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Switch dropout off, and each part back to what it was at the end."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training
