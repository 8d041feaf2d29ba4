"""A translation model of Marian, read from its own file and run in plain PyTorch (chapter 13).

The model is of the kind that browsers run on a reader's own machine: an encoder of the Transformer,
and a decoder in which a recurrence, the SSRU, stands in place of self-attention.

Source: Kim et al. 2019, "From Research to Production and Back: Ludicrously Fast Neural Machine
Translation" (https://aclanthology.org/D19-5632/).
"""

from helpers.marian.batches import collate, encode, in_batches
from helpers.marian.everyday import EVERYDAY
from helpers.marian.model import (
    SSRU,
    DecoderLayer,
    State,
    Translator,
    marian_positions,
)
from helpers.marian.reading import config_of, read, state_of, tokenizer
from helpers.marian.vocabulary import learn_vocabulary
from helpers.marian.writing import (
    UNKNOWN_ID,
    beam_search,
    greedy_search,
    translate,
)

__all__ = [
    "EVERYDAY",
    "SSRU",
    "UNKNOWN_ID",
    "DecoderLayer",
    "State",
    "Translator",
    "beam_search",
    "collate",
    "config_of",
    "encode",
    "greedy_search",
    "in_batches",
    "learn_vocabulary",
    "marian_positions",
    "read",
    "state_of",
    "tokenizer",
    "translate",
]
