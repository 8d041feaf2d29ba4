"""The attention explorer: choose a sentence, a layer, a head and a word, and see where it looks.

The weights are computed in the notebook, and the book's script
``book/_static/attention-explorer.js`` puts controls around them. Wherever that script does not
run (Colab, JupyterLab, GitHub, a browser without scripts), the reader sees a figure of one head.
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

    ``read`` maps each sentence to its tokens and its weights, an array or tensor ``(layers, heads,
    tokens, tokens)``: row = the token that looks, column = the token that is looked at. Shown at
    first are ``layer`` and ``head``, counted from 0, and the token ``word`` of the first sentence;
    ``alt`` says what the figure of that head shows.

    Raises:
        ValueError: weights have a wrong shape, or another number of layers or heads than the
            others; a weight is not from 0 to 1; layer, head or word is not there; ``alt`` says
            nothing; or all of it is too large for a page.
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
        self._sentences = {
            text: (list(tokens), _weights(text, len(tokens), weights))
            for text, (tokens, weights) in read.items()
        }
        sizes = {weights.shape[:2] for _, weights in self._sentences.values()}
        if len(sizes) != 1:
            raise ValueError(f"layers and heads are {sizes}; expected sentences read by one model.")
        ((self.layers, self.heads),) = sizes
        if layer not in range(self.layers) or head not in range(self.heads):
            raise ValueError(
                f"layer {layer}, head {head} is not there; expected one of {self.layers} layers "
                f"with {self.heads} heads each, counted from 0."
            )
        tokens, weights = next(iter(self._sentences.values()))
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


def _weights(sentence: str, count: int, weights: Any) -> np.ndarray:
    """Return weights as an array; raise if they would be shown wrongly."""
    if hasattr(weights, "detach"):  # a tensor, perhaps on a GPU, perhaps bfloat16
        weights = weights.detach().cpu().float().numpy()
    array = np.asarray(weights)
    if array.ndim != 4 or array.shape[2:] != (count, count):
        raise ValueError(
            f"the weights of {sentence!r} have shape {array.shape}; expected (layers, heads, "
            f"{count}, {count}), as it has {count} tokens."
        )
    # A softmax in float32 may exceed 1 by its last digit.
    if not bool(((array >= 0) & (array <= 1 + 1e-5)).all()):
        raise ValueError(f"a weight of {sentence!r} is not from 0 to 1. Take them after softmax.")
    return array
