"""Reading the file: names, shapes, numbers, and under which names our modules hold them."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from itertools import accumulate
from math import prod
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from helpers.shapes import checked
from helpers.transformer import TransformerConfig

TEXT, FLOAT, INT8 = 0x101, 0x404, 0x4101


def read(path: Path | str) -> dict[str, Tensor | str]:
    """Return what a binary model file of Marian holds, by name: tensors, and the configuration.

    Integers of 8 bits become float32, each divided by the multiplier that follows them. Every
    matrix comes as the weight of an ``nn.Linear``, that is transposed, and the embeddings come
    with a row for each token. Scales of activations (``…_QuantMultA``) are left out.

    Raises:
        ValueError: the file is no model file of version 1, is cut off, or holds a type of
            numbers that these models do not have.
    """
    content = Path(path).read_bytes()
    try:
        headers, names, shapes, start = _table(content)
    except struct.error:
        raise ValueError(f"{path} is cut off within its header.") from None
    ends = list(accumulate((size for *_, size in headers), initial=start))
    if ends[-1] > len(content):
        raise ValueError(
            f"{path} has {len(content)} bytes; its header expects "
            f"{ends[-1]}. Was it cut off?"
        )
    found: dict[str, Tensor | str] = {}
    for name, shape, (_, kind, _, size), begin in zip(
        names, shapes, headers, ends, strict=False
    ):
        data = content[begin : begin + size]
        if kind == TEXT:
            found[name] = data.split(b"\0")[0].decode()
        elif not name.endswith("_QuantMultA"):
            found[name] = _numbers(name, kind, shape, data)
    return found


def _table(content: bytes) -> tuple[list, list[str], list, int]:
    """The header: four numbers for each tensor, names, shapes, and where the numbers begin."""
    version, count = struct.unpack_from("<QQ", content)
    if version != 1 or 32 * count > len(content):
        raise ValueError("This is no model file of Marian, version 1.")
    at = 16 + 32 * count
    headers = list(struct.iter_unpack("<QQQQ", content[16:at]))
    names, shapes = [], []
    for length, *_ in headers:
        names.append(content[at : at + length - 1].decode())  # NUL at end
        at += length
    for _, _, dimensions, _ in headers:
        shapes.append(struct.unpack_from(f"<{dimensions}i", content, at))
        at += 4 * dimensions
    (padding,) = struct.unpack_from("<Q", content, at)
    return headers, names, shapes, at + 8 + padding


def _numbers(
    name: str, kind: int, shape: tuple[int, ...], data: bytes
) -> Tensor:
    count = prod(shape)
    if kind == FLOAT:
        numbers = np.frombuffer(data, "<f4", count).reshape(shape)
    elif kind == INT8:
        (multiplier,) = struct.unpack_from("<f", data, count)
        whole = np.frombuffer(data, np.int8, count).astype(np.float32)
        shape = shape if name == "Wemb" else shape[::-1]
        numbers = (whole / np.float32(multiplier)).reshape(shape)
    else:
        raise ValueError(f"{name} has numbers of the type {kind:#x}.")
    return torch.from_numpy(numbers.copy())


@checked
def config_of(tensors: Mapping[str, Tensor | str]) -> TransformerConfig:
    """Return the sizes of a model, as the Transformer of chapter 04 says them.

    The ids of Marian: ``</s>`` is 0, which ends a sequence and fills it up. This decoder begins
    with a vector of zeros, so ``begin_id`` belongs to no token: it is that of ``<unk>``, which is
    never written either.
    """
    known, width = tensors["Wemb"].shape
    lines = tensors["special:model.yml"].splitlines()
    config = dict(line.split(": ", 1) for line in lines if ": " in line)
    return TransformerConfig(
        source_vocab_size=known,
        target_vocab_size=known,
        d_model=width,
        num_heads=int(config["transformer-heads"]),
        encoder_layers=int(config["enc-depth"]),
        decoder_layers=int(config["dec-depth"]),
        d_ff=int(config["transformer-dim-ffn"]),
        dropout=0.0,
        norm_eps=1e-6,
        share_embeddings=True,
    )


# Marian's names, in the order in which the rules are tried.
_RULES = (
    (r"^(en|de)coder_l(\d+)_", lambda m: f"{m[1]}coder.{int(m[2]) - 1}."),
    (r"\.self_Wo_ln_", ".around_attention.norm."),
    (r"\.context_Wo_ln_", ".around_cross_attention.norm."),
    (r"\.rnn_ffn_ln_", ".around_recurrence.norm."),
    (r"\.ffn_ffn_ln_", ".around_feed_forward.norm."),
    (r"\.self_([Wb])(.)$", r".attention.\2.\1"),
    (r"\.context_([Wb])(.)$", r".cross_attention.\2.\1"),
    (r"\.rnn_W$", ".recurrence.candidate.W"),
    (r"\.rnn_([Wb])f$", r".recurrence.forget.\1"),
    (r"\.ffn_([Wb])1$", r".feed_forward.widen.\1"),
    (r"\.ffn_([Wb])2$", r".feed_forward.narrow.\1"),
    (r"\.q\.", ".query."),
    (r"\.k\.", ".key."),
    (r"\.v\.", ".value."),
    (r"\.o\.", ".output."),
    (r"\.(W|scale)$", ".weight"),
    (r"\.b$", ".bias"),
    (r"^encoder\.", "encoder.layers."),
    (r"^Wemb$", "embedding.weight"),
    (r"^decoder_ff_logit_out_b$", "output.bias"),
)


@checked
def state_of(tensors: Mapping[str, Tensor | str]) -> dict[str, Tensor]:
    """Return the tensors of a file under the names of :class:`Translator`."""
    state = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, str) or name == "none_QuantMultA":
            continue
        ours = name
        for pattern, replacement in _RULES:
            ours = re.sub(pattern, replacement, ours)
        # Biases lie in the file as matrices of one row.
        is_vector = tensor.ndim == 2 and len(tensor) == 1
        state[ours] = tensor[0] if is_vector else tensor
    return state | {"output.weight": state["embedding.weight"]}


def tokenizer(folder: Path | str) -> Tokenizer:
    """Return the tokenizer of a model, whose encodings end in ``</s>``."""
    loaded = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    loaded.post_processor = TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 0)]
    )
    return loaded
