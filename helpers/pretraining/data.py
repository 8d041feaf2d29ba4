"""From reviews to what BERT is trained on: sentences, pairs of segments, masks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from helpers.shapes import checked

IGNORED = -100  # the label of a position that does not count in the loss

# White space after a full stop, question or exclamation mark (and a closing
# quotation mark or bracket), if what follows looks like a beginning.
_BETWEEN_SENTENCES = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"')]))\s+(?=[\"'(]?[A-Z0-9])"
)


class SentencePair(NamedTuple):
    """Two segments of token ids, and whether the second was drawn from another document."""

    first: list[int]
    second: list[int]
    is_random: bool
    document: int


def split_sentences(text: str) -> list[str]:
    """Cut a text where a sentence seems to end; wrong after "Mr." and before a small letter."""
    return _BETWEEN_SENTENCES.split(text.strip())


@checked
def next_sentence_pairs(
    documents: Sequence[Sequence[Sequence[int]]],
    *,
    room: int,
    generator: torch.Generator | None = None,
) -> list[SentencePair]:
    """Cut documents into segments; give each its own continuation, and that of another document.

    ``documents`` holds for each document its sentences, and for each sentence its token ids. A
    segment takes whole sentences until it has ``room`` tokens or more, and is then cut to exactly
    ``room``: the first keeps its end and the second its beginning, so that they meet where two
    sentences meet. What is left at the end of a document and does not fill two segments is left
    out.

    In random order, each right pair is followed by a wrong one with the same first segment, and the
    second segment of the next right pair of another document. So nearly every second segment occurs
    in a right pair and in a wrong one, and no length says which pairs are wrong. Do not shuffle the
    pairs again: those that share a segment are to meet in one batch.

    Raises:
        ValueError: a document has fewer than two sentences, or an empty one; fewer than two
            documents are long enough for a pair; or ``room`` is below 1.

    Source: Devlin et al. 2018, section 3.1, task 2, and appendix A.2. There each pair is right or
    wrong by the toss of a coin, and the length of the first segment is drawn at random.
    """
    if room < 1:
        raise ValueError(f"room is {room}; expected at least 1 token.")
    found = [
        SentencePair(first[-room:], second[:room], False, number)
        for number, document in enumerate(documents)
        for first, second in _neighbours(document, room, number)
    ]
    if not found or found[0].document == found[-1].document:
        raise ValueError(
            f"Fewer than two documents fill two segments of {room} tokens; "
            "expected two or more, to draw wrong pairs from."
        )
    order = torch.randperm(len(found), generator=generator).tolist()
    found = [found[i] for i in order]
    pairs = []
    for i, right in enumerate(found):
        j = i + 1
        while found[j % len(found)].document == right.document:
            j += 1
        other = found[j % len(found)]
        wrong = right._replace(second=other.second, is_random=True)
        pairs += [right, wrong]
    return pairs


def _neighbours(document, room, number):
    """Return pairs of segments that follow each other, each text once."""
    if len(document) < 2 or not all(document):
        raise ValueError(
            f"Document {number} has fewer than two sentences or an empty "
            "one; expected two or more, because a single sentence has no "
            "next one. Leave such documents out."
        )
    segments, segment = [], []
    for sentence in document:
        segment = [*segment, *sentence]
        if len(segment) >= room:
            segments.append(segment)
            segment = []
    return zip(segments[::2], segments[1::2], strict=False)


@checked
def pack_pairs(
    pairs: Sequence[SentencePair],
    *,
    length: int,
    cls_id: int,
    sep_id: int,
    pad_id: int,
) -> tuple[
    Int[Tensor, "pairs {length}"],
    Int[Tensor, "pairs {length}"],
    Int[Tensor, " pairs"],
]:
    """Lay out each pair as ``[CLS] first [SEP] second [SEP]`` and fill up with padding.

    Returns token ids; segments (0 up to the first ``[SEP]`` and for padding, 1 for the second
    segment); and labels, 0 for a pair that belongs together and 1 for a random one, as in
    transformers.

    Raises:
        ValueError: two of the three ids are the same.
        RuntimeError: a pair with its markers is longer than ``length``.
    """
    if len({cls_id, sep_id, pad_id}) < 3:
        raise ValueError(
            f"[CLS], [SEP] and [PAD] have the ids {cls_id}, {sep_id} and "
            f"{pad_id}; expected three different ones."
        )
    ids = torch.full((len(pairs), length), pad_id)
    segments = torch.zeros_like(ids)
    for row, pair in enumerate(pairs):
        start = len(pair.first) + 2  # of the second segment
        whole = [cls_id, *pair.first, sep_id, *pair.second, sep_id]
        ids[row, : len(whole)] = torch.tensor(whole)  # fails if too long
        segments[row, start : len(whole)] = 1
    labels = [int(pair.is_random) for pair in pairs]
    return ids, segments, torch.tensor(labels, dtype=torch.long)


@checked
def mask_tokens(
    input_ids: Int[Tensor, "batch positions"],
    *,
    mask_id: int,
    special_ids: Sequence[int],
    vocab_size: int,
    probability: float = 0.15,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "batch positions"], Int[Tensor, "batch positions"]]:
    """Choose tokens to be predicted; hide most of them, replace some, leave some as they are.

    Each token that is not special is chosen with ``probability``. A chosen one becomes ``[MASK]``
    in 80 percent of the cases, a random id of the whole vocabulary in 10, and stays in 10.
    ``special_ids`` are all of ``tokenizer.all_special_ids``: ``[UNK]`` too, which nobody could
    predict. ``generator`` is on the CPU.

    Returns what the model reads, and the labels: the right id where a token was chosen, elsewhere
    -100.

    Raises:
        ValueError: an id is outside the vocabulary, ``mask_id`` is not among ``special_ids``, or
            ``probability`` is not above 0 and at most 1.

    Source: Devlin et al. 2018, section 3.1, task 1, and appendix A.1.
    """
    if not 0 < probability <= 1:
        raise ValueError(
            f"probability is {probability}; expected above 0, at most 1."
        )
    if mask_id not in special_ids:
        raise ValueError(
            f"special_ids lack mask_id = {mask_id}; expected all special "
            "tokens, or the model learns to predict [MASK] and padding."
        )
    every = [*input_ids.flatten().aminmax(), *special_ids]
    lowest, highest = int(min(every)), int(max(every))
    if lowest < 0 or highest >= vocab_size:
        raise ValueError(
            f"Ids run from {lowest} to {highest}; expected 0 to "
            f"{vocab_size - 1}. Do text and vocabulary belong together?"
        )
    device = input_ids.device
    # Two random numbers a token: is it chosen, and what becomes of it?
    drawn = torch.rand(2, *input_ids.shape, generator=generator).to(device)
    special = torch.isin(input_ids, torch.tensor(special_ids).to(device))
    chosen = (drawn[0] < probability) & ~special
    labels = input_ids.where(chosen, IGNORED)
    hidden = chosen & (drawn[1] < 0.8)
    replaced = chosen & (drawn[1] >= 0.8) & (drawn[1] < 0.9)
    shape = {"size": input_ids.shape, "generator": generator}
    other = torch.randint(vocab_size, **shape).to(input_ids)
    inputs = input_ids.masked_fill(hidden, mask_id)
    return torch.where(replaced, other, inputs), labels
