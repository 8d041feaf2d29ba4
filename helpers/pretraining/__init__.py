"""Pretraining BERT: sentence pairs, masks, the model with its two heads, checkpoints (chapter 08).

A label of -100 says that a position does not count in the loss, as in PyTorch and transformers.

Source: Devlin et al. 2018, section 3.1 and appendix A (https://arxiv.org/abs/1810.04805).
"""

from helpers.pretraining.checkpoints import load_checkpoint, save_checkpoint
from helpers.pretraining.data import (
    IGNORED,
    SentencePair,
    mask_tokens,
    next_sentence_pairs,
    pack_pairs,
    split_sentences,
)
from helpers.pretraining.model import (
    BertEmbeddings,
    BertPretraining,
    bert_config,
    state_from_pretraining,
    to_transformers,
)

__all__ = [
    "IGNORED",
    "BertEmbeddings",
    "BertPretraining",
    "SentencePair",
    "bert_config",
    "load_checkpoint",
    "mask_tokens",
    "next_sentence_pairs",
    "pack_pairs",
    "save_checkpoint",
    "split_sentences",
    "state_from_pretraining",
    "to_transformers",
]
