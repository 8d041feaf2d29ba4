"""The attention explorer: choose a sentence, a layer, a head and a word, and see where it looks.

The weights are computed where the explorer is made, in the notebook. The book's script
``book/_static/attention-explorer.js`` puts controls around them. Wherever that script does not
run (Colab, JupyterLab, GitHub, a browser without scripts), the reader sees a figure of one head::

    read = {sentence: (tokens, weights)}  # weights: (layers, heads, tokens, tokens)
    explorer.AttentionExplorer(read, layer=3, head=1, word="it", alt="The word it looks at animal.")
"""

from __future__ import annotations

import base64
import html
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from helpers import plots

# What an explorer may add to a page, compressed as a web server does it.
LARGEST = 150_000


class AttentionExplorer:
    """Attention weights of a few sentences, shown as a figure and, in the book, with controls.

    Args:
        read: each sentence with its tokens and its weights, an array or tensor
            ``(layers, heads, tokens, tokens)``: row = the token that looks, column = the token
            that is looked at. The first sentence is the one that is shown at first.
        layer: the layer shown at first, counted from 0.
        head: the head shown at first, counted from 0.
        word: the token of the first sentence that is chosen at first.
        alt: a sentence that says what the figure of that head shows.

    Raises:
        TypeError: ``read`` is no mapping of sentences to pairs.
        ValueError: there is no sentence; weights have a wrong shape, or another number of layers
            or heads than those before; a weight is not from 0 to 1; layer, head or word is not
            there; ``alt`` says nothing; or all of it is too large for a page.
    """

    def __init__(
        self,
        read: Mapping[str, tuple[Sequence[str], Any]],
        *,
        layer: int,
        head: int,
        word: str,
        alt: str,
    ) -> None:
        """Check the input, round the weights, and draw the figure."""
        self._sentences = _checked(read)
        tokens, weights = next(iter(self._sentences.values()))
        self.layers, self.heads = weights.shape[:2]
        _require_index("layer", layer, self.layers)
        _require_index("head", head, self.heads)
        if word not in tokens:
            raise ValueError(f"word is {word!r}; expected one of {', '.join(map(repr, tokens))}.")
        self._start = {"layer": layer, "head": head, "word": tokens.index(word)}
        self._figure = _figure(tokens, weights[layer, head], f"layer {layer}, head {head}", alt)
        self._data = self._as_json()
        if (size := len(zlib.compress(self._data.encode()))) > LARGEST:
            raise ValueError(
                f"the explorer takes {size:,} bytes, compressed; a page has room for {LARGEST:,}. "
                "Take fewer or shorter sentences."
            )

    @property
    def data(self) -> dict[str, Any]:
        """The content of the page; weights are base64 of one byte each, their hundredths."""
        return json.loads(self._data)

    def _as_json(self) -> str:
        sentences = [
            {"text": text, "tokens": tokens, "weights": _written(weights)}
            for text, (tokens, weights) in self._sentences.items()
        ]
        content = {"layers": self.layers, "heads": self.heads, "start": self._start}
        text = json.dumps(content | {"sentences": sentences}, separators=(",", ":"))
        # Inside <script>, only these could end the data or begin a comment.
        for sign in "<>&":
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        return text

    def _repr_html_(self) -> str:
        number = len(self._sentences)
        note = (
            f"Layer {self._start['layer']}, head {self._start['head']}, of {self.layers} layers "
            f"with {self.heads} heads each, for the first of {number} sentences. In the book, "
            "with scripts, this figure has controls."
        )
        return (
            f'<div class="attention-explorer"><div class="attention-explorer-figure">{self._figure}'
            f"<p>{html.escape(note)}</p></div>"
            f'<script type="application/json">{self._data}</script></div>'
        )

    def __repr__(self) -> str:
        """Return how much there is to explore."""
        return (
            f"AttentionExplorer({len(self._sentences)} sentences, {self.layers} layers, "
            f"{self.heads} heads)"
        )


def _written(weights: np.ndarray) -> str:
    """Write one byte for each weight, its hundredths, as base64; a half is rounded up."""
    hundredths = np.floor(weights.astype(np.float64) * 100 + 0.5).astype(np.uint8)
    return base64.b64encode(hundredths.tobytes()).decode("ascii")


def _figure(tokens: list[str], weights: np.ndarray, title: str, alt: str) -> str:
    side = 2.2 + 0.26 * len(tokens)
    figure, axes = plots.new(width=side + 0.6, height=side)
    plots.heatmap(axes, weights, rows=tokens, columns=tokens)
    axes.set(title=title, xlabel="key: what is looked at", ylabel="query: what looks")
    return plots.as_svg(figure, alt)


def _checked(read: Any) -> dict[str, tuple[list[str], np.ndarray]]:
    """Raise unless ``read`` is as the class documents it; return it as lists and arrays."""
    if not isinstance(read, Mapping):
        raise TypeError(
            f"read is a {type(read).__name__}; expected a mapping of each sentence to its tokens "
            "and weights."
        )
    if not read:
        raise ValueError("read is empty; expected at least one sentence.")
    checked: dict[str, tuple[list[str], np.ndarray]] = {}
    for sentence, pair in read.items():
        if not isinstance(sentence, str) or not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f"{sentence!r} maps to a {type(pair).__name__}; expected a sentence that maps to "
                "a pair (tokens, weights)."
            )
        if not sentence.strip():
            raise ValueError("a sentence is empty; expected the text that was read.")
        tokens, weights = _tokens(sentence, pair[0]), _weights(sentence, pair[1])
        if weights.shape[2:] != (len(tokens), len(tokens)):
            raise ValueError(
                f"the weights of {sentence!r} have shape {weights.shape}; expected (layers, heads, "
                f"{len(tokens)}, {len(tokens)}), as it has {len(tokens)} tokens."
            )
        first = next(iter(checked.values()))[1] if checked else weights
        if weights.shape[:2] != first.shape[:2]:
            raise ValueError(
                f"{sentence!r} has {weights.shape[0]} layers with {weights.shape[1]} heads; those "
                f"before have {first.shape[0]} with {first.shape[1]}. Use one model for all."
            )
        checked[sentence] = tokens, weights
    return checked


def _tokens(sentence: str, tokens: Any) -> list[str]:
    if isinstance(tokens, str) or not isinstance(tokens, Sequence):
        raise TypeError(f"the tokens of {sentence!r} are {tokens!r}; expected a list of strings.")
    if not tokens or not all(isinstance(token, str) and token for token in tokens):
        raise ValueError(f"the tokens of {sentence!r} are {tokens!r}; expected words, none empty.")
    return list(tokens)


def _weights(sentence: str, weights: Any) -> np.ndarray:
    if hasattr(weights, "detach"):  # a tensor, perhaps on a GPU, perhaps bfloat16
        weights = weights.detach().cpu().float().numpy()
    array = np.asarray(weights)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"the weights of {sentence!r} are {array.dtype}; expected numbers.")
    if array.ndim != 4 or not array.size:
        raise ValueError(
            f"the weights of {sentence!r} have shape {array.shape}; expected (layers, heads, "
            "tokens, tokens). A single head becomes one by weights[None, None]."
        )
    # A softmax in float32 may exceed 1 by its last digit.
    if not bool(((array >= 0) & (array <= 1 + 1e-5)).all()):
        raise ValueError(f"a weight of {sentence!r} is not from 0 to 1. Take them after softmax.")
    return array


def _require_index(name: str, index: int, count: int) -> None:
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
        raise ValueError(f"{name} is {index!r}; expected a whole number from 0 to {count - 1}.")
