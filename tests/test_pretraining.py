"""Sentence pairs, masks, BERT's two heads and checkpoints, against transformers and by counting."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.stats import binomtest, chisquare
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from torch import nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForPreTraining,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
)

from helpers.pretraining import (
    IGNORED,
    BertPretraining,
    SentencePair,
    bert_config,
    load_checkpoint,
    mask_tokens,
    next_sentence_pairs,
    pack_pairs,
    save_checkpoint,
    split_sentences,
    state_from_pretraining,
    to_transformers,
)

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = 50
SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
MASKS = {"mask_id": 4, "special_ids": list(SPECIAL.values()), "vocab_size": VOCABULARY}
IDS = {"cls_id": 2, "sep_id": 3, "pad_id": 0}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unlikely(count: int, of: int, rate: float) -> bool:
    """Whether a share would come by chance in less than one of a million trials."""
    return binomtest(count, of, rate).pvalue < 1e-6


def masked(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return mask_tokens(ids, **MASKS, generator=seeded(1))


def by_transformers(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    vocabulary = SPECIAL | {f"w{n}": n for n in range(5, VOCABULARY)}
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names |= {"mask_token": "[MASK]", "pad_token": "[PAD]"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordPiece(vocabulary, unk_token="[UNK]")), **names
    )
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, seed=1)
    batch = collator([{"input_ids": row} for row in ids.tolist()])
    return batch["input_ids"], batch["labels"]


@pytest.mark.parametrize("mask", [masked, by_transformers])
def test_both_mask_with_the_papers_rates_and_never_a_special_token(mask):
    ids = torch.randint(0, VOCABULARY, (2000, 60), generator=seeded(0))
    special = ids < 5
    inputs, labels = mask(ids)
    chosen = labels != IGNORED
    assert not chosen[special].any()
    assert (labels[chosen] == ids[chosen]).all()
    assert (inputs[~chosen] == ids[~chosen]).all()
    count, ordinary = int(chosen.sum()), int((~special).sum())
    assert not unlikely(count, ordinary, 0.15)
    hidden = int((inputs[chosen] == 4).sum())
    # A random id is [MASK] once in 50, and the id that was there once in 50.
    assert not unlikely(hidden, count, 0.8 + 0.1 / VOCABULARY)
    same = int((inputs[chosen] == ids[chosen]).sum())
    assert not unlikely(same, count, 0.1 + 0.1 / VOCABULARY)
    other = inputs[chosen][(inputs[chosen] != 4) & (inputs[chosen] != ids[chosen])]
    found = Counter(other.tolist())
    # The special ids come as often as the others; an ordinary id is itself in one case of 45.
    expected = [len(other) * (1 if n < 5 else 44 / 45) for n in range(VOCABULARY) if n != 4]
    total = sum(expected)
    counts = [found[n] for n in range(VOCABULARY) if n != 4]
    assert chisquare(counts, [len(other) * one / total for one in expected]).pvalue > 1e-6


def test_each_position_and_each_id_is_chosen_equally_often_and_independently():
    ids = torch.randint(5, VOCABULARY, (4000, 40), generator=seeded(0))
    chosen = masked(ids)[1] != IGNORED
    for position in range(40):
        assert not unlikely(int(chosen[:, position].sum()), 4000, 0.15)
    for one in range(5, VOCABULARY):
        assert not unlikely(int(chosen[ids == one].sum()), int((ids == one).sum()), 0.15)
    both = int((chosen[:, 1:] & chosen[:, :-1]).sum())
    assert not unlikely(both, chosen[:, 1:].numel(), 0.15**2)


def test_masking_follows_its_generator_and_leaves_its_input_alone():
    ids = torch.randint(0, VOCABULARY, (8, 20), generator=seeded(0))
    before = ids.clone()
    first, again, other = (mask_tokens(ids, **MASKS, generator=seeded(n)) for n in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert torch.equal(ids, before)
    everything = mask_tokens(ids, **MASKS, probability=1.0)[1]
    assert torch.equal(everything != IGNORED, ids >= 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": torch.tensor([[7, VOCABULARY]])}, "Ids run from 0 to 50"),
        ({"input_ids": torch.tensor([[7, -1]])}, "Ids run from -1"),
        ({"special_ids": [0, 1, 2, 3]}, "lack mask_id"),
        ({"special_ids": [0, 1, 2, 3, 4, 99]}, "to 99"),
        ({"probability": 0.0}, "probability is 0"),
        ({"probability": float("nan")}, "probability is nan"),
        ({"probability": 15}, "probability is 15"),
        ({"mask_id": None}, "mask_id"),  # that of a tokenizer without [MASK]
    ],
)
def test_what_would_silently_spoil_the_masks_is_refused(change, message):
    arguments = {"input_ids": torch.tensor([[2, 7, 8, 3]])} | MASKS | change
    with pytest.raises((TypeError, ValueError), match=message):
        mask_tokens(**arguments)


def test_sentences_are_cut_where_they_seem_to_end():
    text = 'It is bad! Is it? "Yes." (Really.) I saw 3 of 5 films... twice. Dr. Who'
    assert split_sentences(text) == [
        "It is bad!", "Is it?", '"Yes."', "(Really.)", "I saw 3 of 5 films... twice.", "Dr.", "Who",
    ]  # fmt: skip
    assert split_sentences("  no end  ") == ["no end"]


@st.composite
def libraries(draw) -> list[list[list[int]]]:
    """Documents whose tokens say where they stand: document * 1000 + place."""
    documents = []
    for number in range(draw(st.integers(2, 6))):
        lengths = draw(st.lists(st.integers(1, 7), min_size=2, max_size=9))
        places = iter(range(number * 1000, number * 1000 + 999))
        documents.append([[next(places) for _ in range(length)] for length in lengths])
    return documents


@settings(deadline=None, derandomize=True, max_examples=60)
@given(libraries(), st.integers(1, 6), st.integers(0, 2**31))
def test_right_pairs_follow_each_other_and_wrong_ones_come_from_elsewhere(documents, room, seed):
    # Two documents that surely give a pair, whatever the others are like
    numbers = (len(documents), len(documents) + 1)
    longer = [[[n * 1000 + k] for k in range(2 * room)] for n in numbers]
    documents = [*documents, *longer]
    pairs = next_sentence_pairs(documents, room=room, generator=seeded(seed))
    starts = {one[0] for document in documents for one in document}
    assert [pair.is_random for pair in pairs] == [False, True] * (len(pairs) // 2)
    for pair in pairs:
        assert len(pair.first) == len(pair.second) == room
        assert pair.second[0] in starts  # a segment begins where a sentence does
        assert pair.first[-1] + 1 in starts
        home, away = pair.first[0] // 1000, pair.second[0] // 1000
        assert pair.document == home
        assert (home != away) == pair.is_random
        assert pair.is_random or pair.second[0] == pair.first[-1] + 1
    right, wrong = pairs[::2], pairs[1::2]
    assert [pair.first for pair in right] == [pair.first for pair in wrong]
    used = [token for pair in right for token in (*pair.first, *pair.second)]
    assert len(used) == len(set(used))  # no text twice
    seconds = {tuple(pair.second) for pair in right}
    assert all(tuple(pair.second) in seconds for pair in wrong)


def test_every_segment_is_as_often_right_as_wrong():
    documents = [[[n * 100 + k] for k in range(12)] for n in range(200)]
    pairs = next_sentence_pairs(documents, room=2, generator=seeded(0))
    assert len(pairs) == 2 * 200 * 3
    wrong = Counter(pair.second[0] for pair in pairs if pair.is_random)
    # Now and then the next pair is of the same document and is passed over.
    assert sum(count == 1 for count in wrong.values()) > 0.95 * 600
    assert pairs == next_sentence_pairs(documents, room=2, generator=seeded(0))
    assert pairs != next_sentence_pairs(documents, room=2, generator=seeded(1))


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([[[5, 6]], [[7], [8]]], "Document 0 has fewer than two sentences"),
        ([[[5], [6]], [[7], []]], "Document 1"),
        ([[[5], [6]], []], "Document 1"),
        ([[[5], [6]]], "Fewer than two documents"),
    ],
)
def test_documents_that_give_no_pairs_are_refused(documents, message):
    with pytest.raises(ValueError, match=message):
        next_sentence_pairs(documents, room=1)


def test_pairs_are_laid_out_as_a_bert_tokenizer_does():
    pairs = [SentencePair([5, 6], [7], False, 0), SentencePair([5, 6], [9, 10], True, 0)]
    ids, segments, labels = pack_pairs(pairs, length=8, **IDS)
    assert ids[0].tolist() == [2, 5, 6, 3, 7, 3, 0, 0]
    assert segments[0].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
    assert segments[1].tolist() == [0, 0, 0, 0, 1, 1, 1, 0]
    assert labels.tolist() == [0, 1]
    with pytest.raises(RuntimeError, match="size"):
        pack_pairs(pairs, length=6, **IDS)
    with pytest.raises(ValueError, match="three different"):
        pack_pairs(pairs, length=8, cls_id=2, sep_id=2, pad_id=0)


def tiny() -> BertPretraining:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_heads": 2, "encoder_layers": 2, "d_ff": 32, "max_length": 24}
    return BertPretraining(bert_config(VOCABULARY, **sizes)).eval()


@pytest.fixture
def batch() -> tuple[torch.Tensor, ...]:
    ids = torch.randint(5, VOCABULARY, (6, 20), generator=seeded(0))
    lengths = torch.tensor([20, 19, 12, 7, 3, 20])
    real = torch.arange(20) < lengths[:, None]
    segments = ((torch.arange(20) >= lengths[:, None] // 2) & real).long()
    return ids.masked_fill(~real, 0), segments, real


def test_weights_logits_and_loss_are_those_of_transformers(batch):
    ids, segments, real = batch
    torch.manual_seed(1)
    theirs = BertForPreTraining(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=24, initializer_range=0.5,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():  # biases of zero would hide one that is left out
        for parameter in theirs.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    ours = tiny()
    ours.load_state_dict(state_from_pretraining(theirs))
    # One matrix reads and writes the vocabulary, here as there.
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    answers = [m(ids, real.long(), segments).to_tuple() for m in (theirs, to_transformers(ours))]
    assert all(map(torch.equal, *answers))
    theirs.double()  # where a difference of 1e-9 is a mistake, not rounding
    ours.double()
    labels = ids.where(torch.rand(ids.shape, generator=seeded(2)) < 0.3, IGNORED)
    labels = labels.where(real, IGNORED)
    random_pairs = torch.tensor([0, 1, 1, 0, 1, 0])
    with torch.no_grad():
        there = theirs(ids, real.long(), segments, labels=labels, next_sentence_label=random_pairs)
        words, pairs = ours(ids, segments)
        chosen, _ = ours(ids, segments, real, labels != IGNORED)
    torch.testing.assert_close(words[real], there.prediction_logits[real], atol=1e-9, rtol=0)
    torch.testing.assert_close(pairs, there.seq_relationship_logits, atol=1e-9, rtol=0)
    wanted = labels[labels != IGNORED]
    loss = F.cross_entropy(chosen, wanted) + F.cross_entropy(pairs, random_pairs)
    torch.testing.assert_close(loss, there.loss, atol=1e-9, rtol=0)


def test_a_label_on_padding_is_refused(batch):
    ids, segments, real = batch
    model = tiny()
    with pytest.raises(ValueError, match="padding has a label"):
        model(ids, segments, where=torch.ones_like(real))
    with pytest.raises(ValueError, match="padding has a label"):
        model(ids, segments, real, ~real)
    # A random id may be that of padding; with the mask of the original it is a token like others.
    replaced = ids.clone()
    replaced[0, 5] = 0
    there = torch.zeros_like(real)
    there[0, 5] = True
    assert model(replaced, segments, real, there)[0].shape == (1, VOCABULARY)
    with pytest.raises(ValueError, match="padding has a label"):
        model(replaced, segments, where=there)


def test_a_sequence_longer_than_the_positions_is_refused(batch):
    ids, segments, _ = batch
    with pytest.raises(IndexError):
        tiny()(ids.repeat(1, 2), segments.repeat(1, 2))


def fresh(width: int = 5):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    save_checkpoint(path, *fresh(), [1.0], {"batch": 32, "rate": 0.1})
    with pytest.raises(ValueError, match="batch was 32, now 64"):
        load_checkpoint(path, *fresh(), {"batch": 64, "rate": 0.1})
    with pytest.raises(ValueError, match="seed was None, now 1"):
        load_checkpoint(path, *fresh(), {"batch": 32, "rate": 0.1, "seed": 1})
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_checkpoint(path, *fresh(width=6), {"batch": 32, "rate": 0.1})


def test_a_write_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    save_checkpoint(path, *fresh(), [1.0], {})
    before = path.read_bytes()

    def fail(_, file, **__):
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("helpers.pretraining.checkpoints.save_file", fail)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, *fresh(), [2.0], {})
    assert path.read_bytes() == before
    assert load_checkpoint(path, *fresh(), {}) == [1.0]


AROUND = """
import itertools, json, multiprocessing, time
from pathlib import Path
import torch
from accelerate import Accelerator
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from tqdm.auto import tqdm
from helpers import pretraining, profiles
from helpers.pretraining import BertPretraining, mask_tokens

torch.set_num_threads(1)
PAD = 0
masks = {"mask_id": 4, "special_ids": [0, 1, 2, 3, 4], "vocab_size": 50}
"""
# Each run is a child of the script, so that PyTorch is imported once.
RUN = """
def run(name):
    seeded = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (1200, 20), generator=seeded)
    data = ids, (ids > 25).long(), torch.randint(0, 2, (1200,), generator=seeded)
    settings = {"batch": 6, "part": 4, "rate": 1e-3, "steps": 200, "seed": 0}
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_heads": 2, "encoder_layers": 1, "d_ff": 32, "max_length": 20}
    model = BertPretraining(pretraining.bert_config(50, **sizes))
    losses = pretrain(model, data, Path(f"{name}.safetensors"), settings, every=3)
    Path(f"{name}.json").write_text(json.dumps(losses))

def begun(name):
    child = multiprocessing.get_context("fork").Process(target=run, args=[name])
    child.start()
    return child

file, written = Path("killed.safetensors"), 0.0
for delay in (0.1, 0.25):
    child = begun("killed")
    while child.is_alive() and not (file.is_file() and file.stat().st_mtime > written):
        time.sleep(0.01)
    time.sleep(delay)
    child.kill()
    child.join()
    assert child.exitcode == -9, "it was not killed: it had ended"
    assert not Path("killed.json").exists()
    written = file.stat().st_mtime
for name in ("killed", "unbroken"):
    child = begun(name)
    child.join()
    assert child.exitcode == 0
"""


def loop_of_the_chapter() -> str:
    notebook = json.loads((ROOT / "notebooks/08-bert-pretraining.ipynb").read_text("utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    names = ("loss_of", "rate_at", "train_step", "pretrain")
    cells = [next(s for s in sources if f"def {name}(" in s) for name in names]
    # Beside a function, a cell may hold what only the chapter can run.
    kept = [cell[cell.index("def ") :].split("\n\n\n")[0] for cell in cells]
    return "\n\n\n".join([AROUND, 'precision = "no"', *kept, RUN])


def test_the_loop_of_the_chapter_survives_sigkill(tmp_path):
    (tmp_path / "run.py").write_text(loop_of_the_chapter(), encoding="utf-8")
    subprocess.run(
        [sys.executable, "run.py"], cwd=tmp_path, check=True, timeout=300,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    resumed, unbroken = ((tmp_path / f"{name}.json").read_text() for name in ("killed", "unbroken"))
    assert len(json.loads(unbroken)) == 200
    assert resumed == unbroken  # as text: to the last digit
    weights = [load_file(tmp_path / f"{name}.safetensors") for name in ("killed", "unbroken")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
