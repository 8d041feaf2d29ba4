"""A vocabulary for a new translator, learned from its own texts."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast


def learn_vocabulary(
    texts: Sequence[str], size: int = 4_000
) -> PreTrainedTokenizerFast:
    """Learn byte-pair encoding; ids 0, 1 and 2 are padding, the end of a text, and unknown."""
    special = ["<pad>", "</s>", "<unk>"]
    learned = Tokenizer(models.BPE(unk_token="<unk>"))
    learned.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    learned.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, show_progress=False
    )
    learned.train_from_iterator(texts, trainer)
    learned.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    names = ("pad_token", "eos_token", "unk_token")
    marks = dict(zip(names, special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=learned, **marks)
