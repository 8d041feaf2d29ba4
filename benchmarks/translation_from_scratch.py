"""Chapter 13's translators from scratch, trained for longer than the chapter may take.

    python benchmarks/translation_from_scratch.py --folder runs/translation --hours 8

Four trainings take turns: English to French and to Chinese, each by a small Marian model whose
weights are all new, and by an encoder-decoder whose encoder is the packaged BERT (the BERT2RND of
Rothe et al. 2020, but with vectors of its own for the new vocabulary). After so many seconds of
processor time, 500 strings of the programs they train on and 500 of another program are translated
greedily and judged by BLEU, with intervals by bootstrap. The translation memory is judged on the
same strings.

A training that was stopped goes on from its checkpoint in the folder: run the same command
again. Results are added to ``translation_from_scratch.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from results import Results
from sacrebleu.metrics import BLEU
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    DataCollatorForSeq2Seq,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
)

from helpers import assets, marian
from helpers.parallel_corpus import Language, nearest, split_corpus
from helpers.pretraining.checkpoints import save_checkpoint

RESULTS = Results(
    Path(__file__).with_suffix(".json"), ("torch", "transformers", "tokenizers", "sacrebleu")
)
LOOKS = (60, 300, 900, 1800, 3600, 7200, 14400, 28800, 57600)  # seconds of processor time
TRAININGS = [(code, kind) for kind in ("marian", "bert") for code in ("fr", "zh-Hans")]
SETTINGS = {"vocabulary": 4_000, "batch": 32, "rate": 1e-3, "warmup": 400, "smoothing": 0.1}
TOKENS = 96  # no string, and no translation, is longer
JUDGED = ("test", "other program")
SAVE_EVERY = 120  # seconds


def main() -> None:
    """Let the trainings take turns until their processor time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for checkpoints")
    parser.add_argument("--hours", type=float, default=1.0, help="of each training, in all")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    data = {code: split_corpus(code) for code in ("fr", "zh-Hans")}
    for code, parts in data.items():
        remember(code, parts)
    for look in LOOKS:
        if look <= 3600 * options.hours:
            for code, kind in TRAININGS:
                Training(code, kind, data[code], options.folder).go_on_until(look)


def small_marian(source: PreTrainedTokenizerFast, target: PreTrainedTokenizerFast) -> MarianMTModel:
    """Return three layers of encoder and of decoder, each new; 128 wide."""
    config = MarianConfig(
        vocab_size=len(source),
        decoder_vocab_size=len(target),
        share_encoder_decoder_embeddings=False,
        d_model=128,
        encoder_layers=3,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=512,
        decoder_ffn_dim=512,
        activation_function="relu",
        dropout=0.1,
        scale_embedding=True,
        max_position_embeddings=TOKENS,
        pad_token_id=target.pad_token_id,
        eos_token_id=target.eos_token_id,
        decoder_start_token_id=target.pad_token_id,
        forced_eos_token_id=None,
    )
    return MarianMTModel(config)


def bert_to_random(target: PreTrainedTokenizerFast) -> EncoderDecoderModel:
    """Return the packaged BERT as encoder, and a new decoder of two layers as wide."""
    encoder = AutoModel.from_pretrained(assets.model("encoder"), add_pooling_layer=False)
    encoder.embeddings.requires_grad_(False)
    config = BertConfig(
        vocab_size=len(target),
        hidden_size=encoder.config.hidden_size,
        num_hidden_layers=2,
        num_attention_heads=encoder.config.num_attention_heads,
        intermediate_size=encoder.config.intermediate_size,
        max_position_embeddings=TOKENS,
        pad_token_id=target.pad_token_id,
        is_decoder=True,
        add_cross_attention=True,
    )
    both = EncoderDecoderConfig.from_encoder_decoder_configs(
        encoder.config,
        config,
        pad_token_id=target.pad_token_id,
        eos_token_id=target.eos_token_id,
        decoder_start_token_id=target.pad_token_id,
    )
    return EncoderDecoderModel(config=both, encoder=encoder, decoder=BertLMHeadModel(config))


class Training:
    """One of the four: model, optimizer and how far they have come."""

    def __init__(self, code: Language, kind: str, parts: dict[str, Dataset], folder: Path) -> None:
        """Begin anew, or from the checkpoint in the folder."""
        torch.manual_seed(0)
        self.code, self.name, self.parts = code, f"{code} {kind}", parts
        size = SETTINGS["vocabulary"]
        target = marian.learn_vocabulary(parts["train"]["target"][:], size)
        if kind == "bert":
            self.source = AutoTokenizer.from_pretrained(assets.model("encoder"))
            self.model = bert_to_random(target)
            old = [one for one in self.model.encoder.parameters() if one.requires_grad]
        else:
            self.source = marian.learn_vocabulary(
                parts["train"]["source"][:], SETTINGS["vocabulary"]
            )
            self.model = small_marian(self.source, target)
            old = []
        ids = {id(parameter) for parameter in old}
        new = [one for one in self.model.parameters() if one.requires_grad and id(one) not in ids]
        # What was pretrained learns at a tenth of the rate.
        groups = [{"params": new, "share": 1.0}, {"params": old, "share": 0.1}]
        self.optimizer = torch.optim.AdamW(groups[: 2 if old else 1], betas=(0.9, 0.98))
        self.target, self.step, self.seconds = target, 0, 0.0
        self.path = folder / f"{code}-{kind}.safetensors"
        if self.path.is_file():
            self.resume()

    def go_on_until(self, seconds: float) -> None:
        """Train until this much processor time went into training; then judge, once."""
        if RESULTS.is_there(self.name, seconds=seconds):
            return
        self.model.train()
        rows, losses, saved = self.batches(), [], self.seconds
        begin = time.process_time() - self.seconds
        while self.seconds < seconds:
            losses.append(self.train_step(next(rows)))
            self.seconds = time.process_time() - begin
            if self.seconds - saved > SAVE_EVERY:
                self.save()
                saved = self.seconds
        self.save()
        found = {
            "seconds": seconds,
            "step": self.step,
            "loss": round(float(np.mean(losses[-200:])), 3),
        }
        RESULTS.record(self.name, found | SETTINGS | self.judge())

    def batches(self):
        """Yield batches without end, from the step on that is next; alike whenever resumed."""
        tokens = self.tokenized(self.parts["train"])
        lengths = np.array([len(row["labels"]) for row in tokens])
        collate = DataCollatorForSeq2Seq(self.source, label_pad_token_id=-100)
        size = SETTINGS["batch"]
        each = -(-len(tokens) // size)
        while True:
            turn, done = divmod(self.step, each)
            random = np.random.default_rng(turn)
            order = random.permutation(len(tokens))
            pools = np.array_split(order, max(1, len(order) // (size * 20)))
            order = np.concatenate([pool[np.argsort(lengths[pool])] for pool in pools])
            for first in random.permutation(each)[done:]:
                yield collate([tokens[i] for i in order[first * size : (first + 1) * size]])

    def tokenized(self, rows: Dataset) -> list[dict[str, list[int]]]:
        """Return the ids of source and target."""
        source = self.source(rows["source"][:], truncation=True, max_length=TOKENS)["input_ids"]
        target = self.target(rows["target"][:], truncation=True, max_length=TOKENS)["input_ids"]
        return [
            {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
            for ids, labels in zip(source, target, strict=True)
        ]

    def train_step(self, batch: dict[str, torch.Tensor]) -> float:
        """Take one step; return the loss, without the smoothing's part."""
        torch.manual_seed(self.step)  # dropout is alike whether or not it was stopped before
        labels = batch.pop("labels")
        start = labels.new_full((len(labels), 1), self.target.pad_token_id)
        shifted = torch.cat([start, labels[:, :-1].clamp(min=0)], dim=1)
        shifted[:, 1:][labels[:, :-1] < 0] = self.target.pad_token_id
        logits = self.model(**batch, decoder_input_ids=shifted).logits
        losses = [
            torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing
            )
            for smoothing in (SETTINGS["smoothing"], 0.0)
        ]
        losses[0].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.step += 1
        rise, fall = self.step / SETTINGS["warmup"], (SETTINGS["warmup"] / self.step) ** 0.5
        for group in self.optimizer.param_groups:
            group["lr"] = SETTINGS["rate"] * group["share"] * min(rise, fall)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return losses[1].item()

    def judge(self) -> dict[str, Any]:
        """Return BLEU with its interval, and the first translations, of each part."""
        self.model.eval()
        found = {}
        for part in JUDGED:
            rows = self.parts[part]
            said = self.translate(rows["source"][:])
            found[part] = bleu(said, rows["target"][:], self.code) | {
                "examples": [one[:80] for one in said[:3]]
            }
        return found

    @torch.no_grad()
    def translate(self, sources: list[str]) -> list[str]:
        """Translate greedily."""
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        said = [""] * len(sources)
        for start in range(0, len(order), 50):
            rows = order[start : start + 50]
            batch = self.source(
                [sources[i] for i in rows], padding=True, truncation=True, max_length=TOKENS,
                return_tensors="pt", return_token_type_ids=False,
            )  # fmt: skip
            longest = min(TOKENS - 1, 10 + 2 * batch["input_ids"].shape[1])
            ids = self.model.generate(**batch, max_new_tokens=longest, num_beams=1)
            for i, text in zip(rows, self.target.batch_decode(ids, True), strict=True):
                said[i] = text
        return said

    def save(self) -> None:
        """Write the checkpoint, in one step."""
        about = {"step": self.step, "seconds": self.seconds, **SETTINGS}
        save_checkpoint(self.path, self.model, self.optimizer, [], about)

    def resume(self) -> None:
        """Go on from the checkpoint, which must be one of these settings."""
        with safe_open(self.path, framework="pt") as file:
            about = json.loads(file.metadata()["training"])["about"]
        if not SETTINGS.items() <= about.items():
            raise SystemExit(f"{self.path} was trained with {about}; choose another folder")
        tensors, running = load_file(self.path), {}
        weights = {name[6:]: tensors[name] for name in tensors if name.startswith("model.")}
        # What is missing is tied to what is there, or constant.
        if unknown := self.model.load_state_dict(weights, strict=False).unexpected_keys:
            raise SystemExit(f"{self.path} holds another model: {unknown[0]} is unknown")
        for name in tensors.keys() - {f"model.{name}" for name in weights}:
            _, number, key = name.split(".")
            running.setdefault(int(number), {})[key] = tensors[name]
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": running})
        self.step, self.seconds = about["step"], about["seconds"]


def bleu(said: list[str], references: list[str], code: Language) -> dict[str, Any]:
    """Return BLEU, and its interval over 1,000 draws of strings (95 %)."""
    metric = BLEU(tokenize="zh" if code == "zh-Hans" else "13a")
    score = metric.corpus_score(said, [references], n_bootstrap=1_000)
    return {"bleu": round(score.score, 2), "half": round(score._ci, 2)}


def remember(code: Language, parts: dict[str, Dataset]) -> None:
    """Judge the translation memory: the translation of the nearest string that is known."""
    name = f"{code} memory"
    if RESULTS.is_there(name):
        return
    train, found = parts["train"], {"pairs": len(parts["train"])}
    for part in JUDGED:
        rows, _ = nearest(parts[part]["source"][:], train["source"][:])
        targets = train["target"][:]
        found[part] = bleu([targets[row] for row in rows], parts[part]["target"][:], code)
    RESULTS.record(name, found)


if __name__ == "__main__":
    main()
