"""Chapter 08's BERT pretrained for longer than the chapter may take, with and without NSP.

    python benchmarks/pretraining.py with-nsp without-nsp --folder runs/pretraining

The chapter's own cells make data, model and loop; only batch, rate and number of steps differ:

* ``with-nsp``: both exercises, on all training reviews;
* ``without-nsp``: the same pairs and steps, masked words only (Liu et al. 2019, section 4.2).

Along the way the held-out pairs are judged as in the chapter. Results are added to
``pretraining.json`` beside this file; weights stay in the folder, for ``pretraining_pays.py``,
and so does the tokenizer: one trained again on the same text numbers some tokens differently.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from results import Results
from safetensors.torch import save_file
from tokenizers import Tokenizer

from helpers import sealed

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Results(Path(__file__).with_suffix(".json"), ("torch", "transformers", "tokenizers"))
PARTS = ("with-nsp", "without-nsp")
SETTINGS = {"batch": 32, "part": 32, "rate": 5e-4, "seed": 0}
LOOKS = (0.0, 0.05, 0.2, 0.5, 1.0)  # shares of all steps
PASSES = 8


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--folder", type=Path, required=True, help="for weights")
    parser.add_argument("--steps", type=int, default=2_500)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    book = chapter("def interval(", options.folder)
    _, book["train_data"] = book["make_data"](book["train_docs"], PASSES)
    for part in options.parts:
        if not RESULTS.is_there(part, steps=options.steps):
            pretrain(book, part, options.folder, options.steps)


def code_cells() -> Iterator[tuple[str, str]]:
    """Yield the id and the source of the chapter's code cells, but the set-up for Colab."""
    text = (ROOT / "notebooks/08-bert-pretraining.ipynb").read_text(encoding="utf-8")
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "%pip" not in source:
            yield cell["id"], source


def chapter(last: str, folder: Path) -> dict[str, Any]:
    """Run the chapter's cells up to the one that holds ``last``; return what they define.

    The tokenizer is the one in the folder; if there is none yet, the chapter's is kept there.
    """
    mpl.use("agg")
    book: dict[str, Any] = {"__name__": "chapter"}
    for name, source in code_cells():
        if "curves" not in source:  # not the chapter's own, shorter run
            exec(compile(source, name, "exec"), book)
            if "train_from_iterator" in source:
                path = folder / "tokenizer.json"
                if not path.is_file():
                    sealed.write(path, book["tokenizer"].to_str())
                book["tokenizer"] = Tokenizer.from_file(str(path))
            if last in source:
                return book
    raise ValueError(f"chapter 08 has no cell with {last!r}")


def pretrain(book: dict[str, Any], part: str, folder: Path, steps: int) -> None:
    """Pretrain from the counted start; look at held-out pairs, and keep the weights, at times."""
    if part == "without-nsp":
        both = book["loss_of"]
        book = {**book, "loss_of": lambda *rows: _only_words(both, rows)}
        for name in ("train_step", "pretrain"):  # these look up names in what they came from
            book[name] = type(both)(book[name].__code__, book, name, book[name].__defaults__)
    settings = {**SETTINGS, "steps": steps}
    path, curve, begin = folder / f"{part}.checkpoint.safetensors", [], time.process_time()
    model = book["fresh"]()
    for share in LOOKS:
        stop = round(share * steps)
        if stop:
            model = book["fresh"]()
            book["pretrain"](model, book["train_data"], path, settings, stop)
        seen = {"step": stop, "tokens": stop * settings["batch"] * book["LENGTH"]}
        curve.append(seen | look(book, model.eval()))
        curve[-1]["seconds"] = round(time.process_time() - begin)
        print(part, curve[-1], flush=True)
        save_file(model.state_dict(), folder / f"{part}-{stop}.safetensors")
    RESULTS.record(part, {"steps": steps, **SETTINGS, "copying": book["copying"], "curve": curve})


def _only_words(both, rows):
    words, pairs = both(*rows)
    return words, 0.0 * pairs


def look(book: dict[str, Any], model: torch.nn.Module) -> dict[str, list[float]]:
    """Return the chapter's three figures, each with its interval over reviews."""
    scores = book["evaluate"](model, book["held_out"], book["masked"], book["answers"])
    review = [pair.document for pair in book["held_out_pairs"]]
    gain = scores["unigrams, hidden"] - scores["model, hidden"]
    ones = np.ones(len(review))
    return {
        name: [round(float(x), 4) for x in book["interval"](values, count, review)]
        for name, values, count in (
            ("MLM loss", scores["model"], scores["masks"]),
            ("hidden: below unigrams", gain, scores["hidden"]),
            ("NSP accuracy", scores["right"], ones),
        )
    }


if __name__ == "__main__":
    main()
