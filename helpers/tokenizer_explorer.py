"""The tokenizer explorer: type a text and see its tokens and their ids.

The tokens of one text are written in the notebook, as boxes that every page can show. The book's
script ``book/_static/tokenizer-explorer.js`` adds a field to type into; it reads the vocabulary
and the library's own tables of characters from the page.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
import re
import sys
import unicodedata
import zlib
from typing import Any

# The script knows this normalization and no other. ``None`` stands for: as ``lowercase`` does.
NORMALIZER = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
OTHERWISE = ("normalized", "single_word", "lstrip", "rstrip")  # how added tokens may be found
PREFIX = "##"
LONGEST_TEXT = 2_000  # characters that the field reads
SURROGATES = range(0xD800, 0xE000)  # no characters; a browser may hold half a pair of them
LAST_CHINESE = 0x2FFFF
_LIST = "display:flex;flex-wrap:wrap;gap:.35rem;margin:1rem 0;padding:0;list-style:none"
_ITEM = "margin:0;padding:.1rem .4rem;border:1px {};border-radius:.3rem;text-align:center"


class TokenizerExplorer:
    """The tokens of a text, shown as boxes and, in the book, with a field for a text of one's own.

    ``tokenizer`` is a fast one of BERT that lowers the case, from ``transformers``; ``text`` is
    shown at first, and everywhere that the script does not run.

    Raises:
        ValueError: ``tokenizer`` works in another way than BERT's, so that the script would show
            other tokens than it; or ``text`` is too long for the field.
    """

    def __init__(self, tokenizer: Any, *, text: str) -> None:
        """Check the input, tokenize ``text``, and pack what the script needs."""
        settings = json.loads(tokenizer.backend_tokenizer.to_str())
        _require_bert(tokenizer, settings)
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"text has {len(text):,} characters; expected at most {LONGEST_TEXT}.")
        self.text = text
        self.ids: list[int] = tokenizer(text)["input_ids"]
        self.tokens: list[str] = tokenizer.convert_ids_to_tokens(self.ids)
        self._unknown = settings["model"]["unk_token"]
        self._packed = _packed(tokenizer, settings)

    def _repr_html_(self) -> str:
        items = "".join(
            f'<li style="{_ITEM.format("dashed" if token == self._unknown else "solid")}">'
            f'<bdi dir="ltr">{html.escape(token)}</bdi> '
            f'<span style="font-size:.8em">{number}</span></li>'
            for token, number in zip(self.tokens, self.ids, strict=True)
        )
        text = html.escape(self.text)
        return (
            f'<div class="tokenizer-explorer" data-text="{text}">'
            f"<p>The {len(self.ids)} tokens of “{text}”, each with its id."
            "<span> In the book, with scripts, you can type a text of your own.</span></p>"
            f'<ol aria-label="Tokens and their ids" translate="no" style="{_LIST}">{items}</ol>'
            f'<script type="text/plain">{self._packed}</script></div>'
        )

    def __repr__(self) -> str:
        """Return what is shown at first."""
        return f"TokenizerExplorer({self.text!r}: {len(self.ids)} tokens)"


def _require_bert(tokenizer: Any, settings: dict[str, Any]) -> None:
    """Raise unless the tokenizer works as BERT's does."""
    model = settings["model"]
    odd = [
        each["content"]
        for each in settings["added_tokens"]
        if each["content"] not in model["vocab"] or any(each[how] for how in OTHERWISE)
    ]
    wanted = {
        "model": (model.get("type"), "WordPiece"),
        "prefix within a word": (model.get("continuing_subword_prefix"), PREFIX),
        "normalizer": (settings["normalizer"], NORMALIZER),
        "pre-tokenizer": (settings["pre_tokenizer"], {"type": "BertPreTokenizer"}),
        "number of special tokens around a text": (len(tokenizer("")["input_ids"]), 2),
        "added tokens outside the vocabulary, or found otherwise than as they are": (odd, []),
    }
    for name, (found, expected) in wanted.items():
        if found != expected:
            raise ValueError(
                f"{name}: {found!r}; expected {expected!r}. The explorer reads text as BERT's "
                "uncased tokenizer does, and would show wrong tokens for this one."
            )


def _packed(tokenizer: Any, settings: dict[str, Any]) -> str:
    """Return what the script needs as base64 of compressed JSON: as plain text it is twice as long.

    The book moves it from the page into a file that is asked for when the field is entered.
    """
    model, (first, last) = settings["model"], tokenizer("")["input_ids"]
    pieces = "\n".join(sorted(model["vocab"], key=model["vocab"].__getitem__))
    if {piece: place for place, piece in enumerate(pieces.split("\n"))} != model["vocab"]:
        raise ValueError("the ids of the vocabulary have gaps, or a piece holds a line break.")
    added = "|".join(re.escape(each["content"]) for each in settings["added_tokens"])
    dropped, alone = _tables(tokenizer.backend_tokenizer)
    content = {
        "pieces": pieces,
        "first": tokenizer.convert_ids_to_tokens(first),
        "last": tokenizer.convert_ids_to_tokens(last),
        "unknown": model["unk_token"],
        "prefix": PREFIX,
        "longestWord": model["max_input_chars_per_word"],
        "longestText": LONGEST_TEXT,
        "added": f"({added})",
        "dropped": dropped,
        "alone": alone,
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def _tables(backend: Any) -> tuple[str, str]:
    """Ask the library about every character: which it drops, and which stand alone.

    Dropped are control characters and accents; alone stand punctuation and Chinese characters.
    To the library, accents and signs that came after Unicode 8 are letters. A browser knows them
    better, and by its own tables it would show other tokens. What is left to the browser are
    decomposition and lower case. They differ for 21 characters (tokenizers 0.23, Chromium 156),
    all of scripts that the vocabulary lacks, so that their words are unknown either way.
    """
    normalize, cut = backend.normalizer.normalize_str, backend.pre_tokenizer.pre_tokenize_str
    dropped, alone = list(SURROGATES), []
    for code in range(sys.maxunicode + 1):
        kind = unicodedata.category(letter := chr(code))
        # Beyond the last Chinese characters, what is unassigned is a letter to the library.
        if kind == "Cs" or (kind == "Cn" and code > LAST_CHINESE):
            continue
        form = normalize(letter)
        if not form:
            dropped.append(code)
        elif form.strip() != form:
            alone += [code] if form.strip() else []  # a Chinese character, not a space
        elif kind[0] not in "LN" and len(cut("a" + letter)) == 2:
            alone.append(code)
    return _as_class(dropped), _as_class(alone)


def _as_class(codes: list[int]) -> str:
    """Return the regular expression, as JavaScript writes it, for one of these characters."""
    parts = []
    # Codes in a row keep their distance from their place in the list.
    for _, row in itertools.groupby(enumerate(sorted(codes)), lambda pair: pair[1] - pair[0]):
        run = [code for _, code in row]
        parts.append(f"\\u{{{run[0]:x}}}-\\u{{{run[-1]:x}}}")
    return f"[{''.join(parts)}]"
