"""BERT with its two pretraining heads, from the parts of :mod:`helpers.transformer`.

Source: Devlin et al. 2018, section 3 and figure 2; the heads as in the authors' code and in
``transformers``, whose numbers they give.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertForPreTraining

from helpers.shapes import checked
from helpers.transformer import (
    Encoder,
    LayerNorm,
    TransformerConfig,
    state_from_bert,
)


def bert_config(vocab_size: int, **choices: Any) -> TransformerConfig:
    """Return the config of a BERT: post-norm, GELU, epsilon 1e-12, dropout 0.1 in both places.

    ``choices`` are fields of :class:`~helpers.transformer.TransformerConfig`; those of the decoder
    mean nothing here.
    """
    bert = {
        "activation": "gelu",
        "norm_eps": 1e-12,
        "dropout": 0.1,
        "attention_dropout": 0.1,
    }
    return TransformerConfig(vocab_size, vocab_size, **(bert | choices))


class BertEmbeddings(nn.Module):
    """The sum of a learned vector for the token, its position and its segment, normalized.

    Source: Devlin et al. 2018, figure 2. The norm and the dropout are in the code, not the figure.
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make the three tables."""
        super().__init__()
        width = config.d_model
        self.token = nn.Embedding(config.source_vocab_size, width)
        self.position = nn.Embedding(config.max_length, width)
        self.segment = nn.Embedding(2, width)
        self.norm = LayerNorm(width, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    @checked
    def forward(
        self,
        input_ids: Int[Tensor, "batch positions"],
        segments: Int[Tensor, "batch positions"],
    ) -> Float[Tensor, "batch positions d_model"]:
        """Look up and add; a sequence longer than ``max_length`` is an ``IndexError``."""
        length = input_ids.shape[1]
        places = torch.arange(length, device=input_ids.device)
        x = self.token(input_ids) + self.segment(segments)
        return self.dropout(self.norm(x + self.position(places)))


class BertPretraining(nn.Module):
    """An encoder with a head that predicts masked tokens and one that judges sentence pairs.

    The first head scores each id of the vocabulary by the rows of the token embedding, the same
    matrix in both places. The second reads the vector of ``[CLS]`` alone.

    Source: Devlin et al. 2018, section 3.1; Press and Wolf 2017 for the shared matrix
    (https://arxiv.org/abs/1608.05859).
    """

    def __init__(self, config: TransformerConfig) -> None:
        """Make the model with fresh weights: embeddings normal, the rest as PyTorch makes it.

        BERT draws all weights with the standard deviation 0.02. PyTorch's own for a linear map is
        1 / √(3 d_model): at BERT's width of 768 the same, in a narrow model larger.
        """
        super().__init__()
        width = config.d_model
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.encoder = Encoder(config)
        # The head for masked tokens, and its bias for each id
        self.transform = nn.Linear(width, width)
        self.norm = LayerNorm(width, config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.source_vocab_size))
        # The head for sentence pairs
        self.pooler = nn.Linear(width, width)
        self.next_sentence = nn.Linear(width, 2)
        for part in self.modules():
            if isinstance(part, nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)

    @checked
    def forward(
        self,
        input_ids: Int[Tensor, "batch positions"],
        segments: Int[Tensor, "batch positions"],
        mask: Bool[Tensor, "batch positions"] | None = None,
        where: Bool[Tensor, "batch positions"] | None = None,
    ) -> tuple[
        Float[Tensor, "*places vocabulary"], Float[Tensor, "batch 2"]
    ]:
        """Return a logit of each id for each position, and of "follows" and "random" for each pair.

        ``segments`` are 0 for the first segment, 1 for the second. ``mask`` is ``True`` for a
        token, and ``None`` takes everything but ``config.pad_id`` for one: after
        :func:`mask_tokens` pass the mask of the original ids, because a random id may be that of
        padding. ``where`` chooses the positions to be predicted, 15 percent in training: their
        logits are the costly part of a small model.

        Raises:
            ValueError: ``where`` chooses padding, which would teach the model to predict it.
        """
        if mask is None:
            mask = input_ids != self.config.pad_id
        x = self.encode(input_ids, segments, mask)
        pooled = torch.tanh(self.pooler(x[:, 0]))  # (batch, d_model)
        if where is not None:
            if (where & ~mask).any():
                raise ValueError(
                    "A position of padding has a label; expected -100 "
                    "there, because nobody wrote it."
                )
            x = x[where]  # (chosen positions, d_model)
        x = self.norm(F.gelu(self.transform(x)))
        table = self.embeddings.token.weight  # (vocabulary, d_model)
        return F.linear(x, table, self.bias), self.next_sentence(pooled)

    @checked
    def encode(
        self,
        input_ids: Int[Tensor, "batch positions"],
        segments: Int[Tensor, "batch positions"],
        mask: Bool[Tensor, "batch positions"],
    ) -> Float[Tensor, "batch positions d_model"]:
        """Return the vector of each position, what fine-tuning builds on."""
        x = self.embeddings(input_ids, segments)
        return self.encoder(x, mask.unsqueeze(1))


_NAMES = {
    "embeddings.token": "bert.embeddings.word_embeddings",
    "embeddings.position": "bert.embeddings.position_embeddings",
    "embeddings.segment": "bert.embeddings.token_type_embeddings",
    "embeddings.norm": "bert.embeddings.LayerNorm",
    "transform": "cls.predictions.transform.dense",
    "norm": "cls.predictions.transform.LayerNorm",
    "pooler": "bert.pooler.dense",
    "next_sentence": "cls.seq_relationship",
}


def state_from_pretraining(model: BertForPreTraining) -> dict[str, Tensor]:
    """Return the weights of transformers' model under our names, not copied."""
    theirs = model.state_dict()
    encoder = state_from_bert(model.bert.encoder)
    state = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    for ours, name in _NAMES.items():
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" in theirs:
                state[f"{ours}.{kind}"] = theirs[f"{name}.{kind}"]
    return state | {"bias": theirs["cls.predictions.bias"]}


@torch.no_grad()
def to_transformers(model: BertPretraining) -> BertForPreTraining:
    """Return the same model as one of transformers, to be fine-tuned, saved and shared."""
    config = model.config
    theirs = BertForPreTraining(
        BertConfig(
            vocab_size=config.source_vocab_size,
            hidden_size=config.d_model,
            num_hidden_layers=config.encoder_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.d_ff,
            hidden_act=config.activation,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.attention_dropout,
            max_position_embeddings=config.max_length,
            layer_norm_eps=config.norm_eps,
            pad_token_id=config.pad_id,
        )
    )
    ours = model.state_dict()
    for name, tensor in state_from_pretraining(theirs).items():
        tensor.copy_(ours[name])
    return theirs.eval()
