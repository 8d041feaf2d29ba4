"""The translator of chapter 13: its file, its decoder, and how it writes."""

from __future__ import annotations

import itertools
import json
import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import assets, marian
from tools.cache import ROOT


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(assets.model("translator"))


@pytest.fixture(scope="module")
def translator(folder) -> marian.Translator:
    return marian.Translator(marian.read(folder / "model.bin")).eval()


@pytest.fixture(scope="module")
def tokenizer(folder):
    return marian.tokenizer(folder)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda whole: struct.pack("<Q", 2) + whole[8:], "no model file of Marian, version 1"),
        (lambda whole: b"PK\3\4" + bytes(100), "no model file of Marian, version 1"),
        (lambda whole: whole[:-1], "header expects"),
        (lambda whole: whole[:7_000], "cut off within its header"),
        (lambda whole: b"short", "cut off within its header"),
        # The first header: how long the name is, and of what type the numbers are.
        (lambda whole: whole[:24] + struct.pack("<Q", 0x202) + whole[32:], "of the type 0x202"),
    ],
)
def test_a_file_that_is_no_model_is_refused(folder, tmp_path, changed, said):
    path = tmp_path / "model.bin"
    path.write_bytes(changed((folder / "model.bin").read_bytes()))
    with pytest.raises(ValueError, match=said):
        marian.read(path)


def test_positions_are_sines_then_cosines_down_to_one_ten_thousandth():
    table = marian.marian_positions(30, 8)
    for t, i in itertools.product((0, 1, 29), range(4)):
        angle = t * math.exp(-i * math.log(10_000) / 3)
        assert table[t, i] == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[t, 4 + i] == pytest.approx(math.cos(angle), abs=1e-6)


def test_the_unit_follows_its_equation_number_by_number():
    torch.manual_seed(0)
    unit = marian.SSRU(2).requires_grad_(False)
    x, cell = torch.randn(1, 5, 2), torch.randn(1, 2)
    outputs, last = unit(x, cell)
    c = cell[0].tolist()
    for t in range(5):
        for k in range(2):
            row = x[0, t].tolist()
            gate = sum(w * v for w, v in zip(unit.forget.weight[k].tolist(), row, strict=True))
            f = 1 / (1 + math.exp(-gate - float(unit.forget.bias[k])))
            rows = zip(unit.candidate.weight[k].tolist(), row, strict=True)
            c[k] = f * c[k] + (1 - f) * sum(w * v for w, v in rows)
            assert float(outputs[0, t, k]) == pytest.approx(max(0.0, c[k]), abs=1e-6)
    assert last[0].tolist() == pytest.approx(c, abs=1e-6)


TEXTS = [
    "Turn off the lights in the living room.",
    "Rain.",
    "The device did not answer in time, so try again tomorrow.",
]


def test_one_go_step_by_step_and_a_batch_with_padding_agree(translator, tokenizer):
    pairs = list(
        zip(marian.encode(tokenizer, TEXTS), [[5, 9, 0], [7, 0], [8, 8, 6, 0]], strict=True)
    )
    source, source_mask, target, target_mask = marian.collate(pairs)
    with torch.no_grad():
        together = translator(source, source_mask, target)
        for row, (one, answer) in enumerate(pairs):
            alone = torch.tensor([one])
            state = translator.encode(alone, torch.ones_like(alone, dtype=torch.bool))
            last = None
            for t, token in enumerate(answer):
                logits, state = translator.step(last, state)
                assert torch.allclose(logits[0], together[row, t], atol=2e-4)
                last = torch.tensor([token])
    assert target_mask.sum() == 9


def test_it_writes_what_the_engine_of_its_package_writes(translator, tokenizer):
    """The engine is a program of its own, in Rust; benchmarks/translation_engine.py ran it."""
    found = json.loads((ROOT / "benchmarks/translation_engine.json").read_text("utf-8"))
    theirs = found["everyday"]["engine"]
    ours = marian.translate(translator, tokenizer, [row[0] for row in marian.EVERYDAY])
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) == found["everyday"]["equal"]
    assert found["everyday"]["equal"] >= 0.9 * len(theirs)


@pytest.mark.parametrize("beams", [1, 3])
def test_texts_come_back_in_their_order_whatever_the_batches(translator, tokenizer, beams):
    def written(texts: list[str], batch_size: int = 32) -> list[str]:
        return marian.translate(translator, tokenizer, texts, beams=beams, batch_size=batch_size)

    at_once = written(TEXTS)
    assert at_once == [written([text])[0] for text in TEXTS]
    assert at_once == written(TEXTS, batch_size=2)
    assert written([]) == []


def test_a_sequence_longer_than_the_positions_is_refused(translator):
    source = torch.full((1, 513), 5)
    with pytest.raises(ValueError, match="positions for 512"):
        translator.encode(source, torch.ones_like(source, dtype=torch.bool))


@dataclass(frozen=True)
class FakeState:
    """The row of the table that belongs to the tokens written so far."""

    cells: tuple[Tensor, ...]
    keys_and_values: tuple
    source_mask: Tensor

    def take(self, rows: Tensor) -> FakeState:
        return replace(self, cells=(self.cells[0][rows],))


class Fake:
    """A translator whose logits depend on all that it wrote; ids 2 and 3 are words."""

    def __init__(self, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.table = torch.randn(100, 4, generator=random)
        self.table[:, 1] = 9.0  # <unk> would win everywhere

    def encode(self, source, mask):
        return FakeState((torch.zeros(len(source), dtype=torch.long),), (), mask)

    def step(self, last, state):
        (history,) = state.cells
        if last is not None:  # a number for each sequence of ids
            history = 4 * history + 1 + last
        return self.table[history % 100].clone(), replace(state, cells=(history,))

    def score(self, ids: list[int], penalty: float) -> float:
        log_p, history = 0.0, 0
        for token in ids:
            row = self.table[history % 100].clone()
            row[1] = -math.inf
            log_p += float(row.log_softmax(0)[token])
            history = 4 * history + 1 + token
        return log_p / ((5 + len(ids)) / 6) ** penalty


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(12))
def test_a_wide_beam_finds_the_best_of_all_sequences(seed, penalty):
    fake = Fake(seed)
    source = torch.tensor([[2]])
    found = marian.beam_search(fake, source, source > 0, 30, penalty)[0].tolist()
    found = found[: found.index(0) + 1] if 0 in found else found
    longest = 3  # 2.5 times the length of the source, rounded up
    ended = (words for n in range(longest) for words in itertools.product((2, 3), repeat=n))
    every = [[*words, 0] for words in ended]
    every += map(list, itertools.product((2, 3), repeat=longest))
    best = max(every, key=lambda ids: fake.score(ids, penalty))
    assert fake.score(found, penalty) == pytest.approx(fake.score(best, penalty), abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_one_beam_is_greedy(seed):
    fake, source = Fake(seed), torch.tensor([[2, 3, 2]])
    greedy = marian.greedy_search(fake, source, source > 0)
    assert greedy.tolist() == marian.beam_search(fake, source, source > 0, 1, 0.6).tolist()
    assert 1 not in greedy


def test_batches_hold_similar_lengths_and_each_row_at_most_once_in_a_pass():
    random = np.random.default_rng(0)
    pairs = [([1] * n, [1] * n) for n in random.integers(1, 30, 100)]
    batches = marian.in_batches(pairs, size=8, steps=12, seed=0)
    rows = [row for batch in batches for row in batch]
    assert [len(batch) for batch in batches] == [8] * 12
    assert len(set(rows)) == 96
    spread = [np.ptp([len(pairs[row][0]) for row in batch]) for batch in batches]
    assert np.mean(spread) < 5
    assert marian.in_batches(pairs, 8, 12, seed=0) == batches
    assert marian.in_batches(pairs, 8, 12, seed=1) != batches
    assert len(marian.in_batches(pairs, 8, 30, seed=0)) == 30  # goes on after a pass
