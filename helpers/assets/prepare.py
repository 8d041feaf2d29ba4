"""From packaged files to what the libraries load."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from helpers import memory


def keep_reviews(source: str, folder: Path) -> None:
    """Keep one source of ``combined.csv``, in its order, one JSON object a line."""
    combined = folder / "combined.csv"
    limit = csv.field_size_limit(10_000_000)
    try:
        with (
            combined.open(encoding="utf-8", newline="") as rows,
            (folder / "train.jsonl").open("w", encoding="utf-8", newline="\n") as out,
        ):
            for row in csv.DictReader(rows):
                if row["source"] == source:
                    review = {"text": row["text"], "label": int(row["label"])}
                    out.write(json.dumps(review, ensure_ascii=False) + "\n")
    finally:
        csv.field_size_limit(limit)
    combined.unlink()


def join_translations(folder: Path) -> None:
    """Join the wheel's files of one language each by the key of a string, one JSON object a line.

    A row holds the ``key`` and, by language, its ``translation``. Rows are sorted by key, and
    those that say the same as an earlier one in every language are left out.
    """
    (wheel,) = folder.glob("*.whl")
    strings: dict[str, dict[str, str]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for member in sorted(archive.namelist()):
            found = re.fullmatch(r".*/components/([^/]+)/translations/([\w-]+)\.json", member)
            if found:
                component, language = found.groups()
                for key, text in _leaves(component, json.loads(archive.read(member))):
                    strings.setdefault(key, {})[language] = text
    rows = {}
    for key, translation in sorted(strings.items()):
        if "en" in translation:
            rows.setdefault(json.dumps(translation, ensure_ascii=False, sort_keys=True), key)
    with (folder / "train.jsonl").open("w", encoding="utf-8", newline="\n") as out:
        for translation, key in rows.items():
            out.write(f'{{"key": {json.dumps(key)}, "translation": {translation}}}\n')


def _leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Walk nested objects down to their strings; a key is the path, joined by dots."""
    if isinstance(value, str):
        yield key, value
    else:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)


def dequantize(folder: Path) -> None:
    """Turn ``model.gguf`` into safetensors, which load in a second instead of twenty."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = "model.gguf"
    # 4 bits become 32, and for a moment the numbers are there twice.
    memory.require(16 * (folder / gguf).stat().st_size, "unpacking the generator")
    with _quiet_transformers():
        packed = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf)
        # transformers does not save a model that came from GGUF: a plain one takes its numbers.
        config = packed.config
        vars(config).pop("quantization_config", None)
        model = AutoModelForCausalLM.from_config(config, dtype="float32")
        model.load_state_dict(packed.state_dict())
        model.generation_config = packed.generation_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (folder / gguf).unlink()


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep progress bars and warnings of transformers out of the reader's sight."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with redirect_stderr(io.StringIO()):  # not every bar heeds transformers' own switch
            yield
    finally:
        logging.set_verbosity(verbosity)
