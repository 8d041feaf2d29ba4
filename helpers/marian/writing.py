"""Writing a translation token by token: greedy search, and beam search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor
from tqdm.auto import tqdm

from helpers.marian.batches import encode, fill_up
from helpers.shapes import checked

END_ID, UNKNOWN_ID = 0, 1
# At most so many target tokens for each source token, as Marian is set for this model.
LONGEST = 2.5


@checked
@torch.no_grad()
def greedy_search(
    translator: Any,
    source: Int[Tensor, "batch n_source"],
    source_mask: Bool[Tensor, "batch n_source"],
) -> Int[Tensor, "batch n"]:
    """Write the most probable token again and again; after its end, a sentence stays at 0."""
    state, last = translator.encode(source, source_mask), None
    done = torch.zeros_like(source_mask[:, 0])
    written = []
    for _ in range(math.ceil(LONGEST * source.shape[1])):
        logits, state = translator.step(last, state)
        logits[:, UNKNOWN_ID] = -math.inf  # has no text of its own
        last = logits.argmax(dim=-1).masked_fill(done, END_ID)
        written.append(last)
        done = done | (last == END_ID)
        if bool(done.all()):
            break
    return torch.stack(written, dim=1)


@checked
@torch.no_grad()
def beam_search(
    translator: Any,
    source: Int[Tensor, "batch n_source"],
    source_mask: Bool[Tensor, "batch n_source"],
    beams: int = 4,
    length_penalty: float = 0.6,
) -> Int[Tensor, "batch n"]:
    """Follow the best ``beams`` translations of each source, and return the very best.

    A sequence of n ids, its end counted, scores ``log p / ((5 + n) / 6) ** length_penalty`` (Wu et
    al. 2016, equation 14, https://arxiv.org/abs/1609.08144), as in chapter 05.
    """
    state = translator.encode(source, source_mask)
    batch, last = len(source), None
    # A row for each beam
    rows = torch.arange(batch, device=source.device)
    rows = rows.repeat_interleave(beams)
    pairs = ((k[rows], v[rows]) for k, v in state.keys_and_values)
    state = replace(
        state.take(rows),
        keys_and_values=tuple(pairs),
        source_mask=source_mask[rows],
    )
    log_p = torch.full((batch, beams), -math.inf, device=source.device)
    log_p[:, 0] = 0.0  # all beams begin alike: only the first counts
    length = torch.zeros_like(log_p)
    ids = source.new_zeros(batch, beams, 0)
    done = torch.zeros_like(log_p, dtype=torch.bool)
    first = beams * torch.arange(batch, device=source.device)[:, None]
    for _ in range(math.ceil(LONGEST * source.shape[1])):
        logits, state = translator.step(last, state)
        logits[:, UNKNOWN_ID] = -math.inf
        step = logits.log_softmax(dim=-1).unflatten(0, (batch, beams))
        stay = torch.full_like(step[0, 0], -math.inf)
        stay[END_ID] = 0.0  # a finished one goes on for free
        step = torch.where(done.unsqueeze(-1), stay, step)
        total = log_p.unsqueeze(-1) + step  # (batch, beams, vocabulary)
        longer = length + (~done).float()
        scores = total / ((5 + longer) / 6).unsqueeze(-1) ** length_penalty
        best = scores.flatten(1).topk(beams).indices  # best one first
        log_p = total.flatten(1).gather(1, best)
        parent, chosen = best // step.shape[-1], best % step.shape[-1]
        length = longer.gather(1, parent)
        ids = ids.gather(1, parent.unsqueeze(-1).expand_as(ids))
        ids = torch.cat((ids, chosen.unsqueeze(-1)), dim=-1)
        done = chosen == END_ID
        state = state.take((first + parent).flatten())
        last = chosen.flatten()
        if bool((done | log_p.isneginf()).all()):
            break
    return ids[:, 0]


def translate(
    translator: Any,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    beams: int = 1,
    length_penalty: float = 0.6,
    progress: str = "",
) -> list[str]:
    """Translate texts in batches of similar length; with one beam, the search is greedy.

    The translations come back in the order of the texts. ``translator`` is put into evaluation
    mode; ``progress`` is the label of a progress bar, and without one there is no bar.
    """
    translator.eval()
    device = translator.embedding.weight.device
    encoded = encode(tokenizer, texts)
    order = sorted(range(len(texts)), key=lambda i: -len(encoded[i]))
    result = [""] * len(texts)
    starts = range(0, len(order), batch_size)
    for start in tqdm(starts, progress, disable=not progress):
        rows = order[start : start + batch_size]
        source, mask = fill_up([encoded[i] for i in rows])
        inputs = source.to(device), mask.to(device)
        if beams == 1:
            ids = greedy_search(translator, *inputs)
        else:
            ids = beam_search(translator, *inputs, beams, length_penalty)
        for i, row in zip(rows, ids.tolist(), strict=True):
            end = row.index(END_ID) if END_ID in row else len(row)
            result[i] = tokenizer.decode(row[:end])
    return result
