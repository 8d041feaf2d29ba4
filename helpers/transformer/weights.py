"""Weights of other implementations under our names: PyTorch's stacks, and BERT's."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor, nn

from helpers.shapes import checked

_FROM_TORCH = (
    (r"\bmultihead_attn\b", "cross_attention"),
    (r"\bout_proj\b", "output"),
    (r"\blinear1\b", "feed_forward.widen"),
    (r"\blinear2\b", "feed_forward.narrow"),
)
_FROM_BERT = (
    (r"^layer\.", "layers."),
    (r"\battention\.self\.", "attention."),
    (r"\battention\.output\.dense\b", "attention.output"),
    (r"\battention\.output\.LayerNorm\b", "around_attention.norm"),
    (r"\bintermediate\.dense\b", "feed_forward.widen"),
    (r"(?<!attention\.)\boutput\.dense\b", "feed_forward.narrow"),
    (r"(?<!attention\.)\boutput\.LayerNorm\b", "around_feed_forward.norm"),
)


@checked
def state_from_torch(
    stack: nn.TransformerEncoder | nn.TransformerDecoder,
) -> dict[str, Tensor]:
    """Return the weights of PyTorch's stack under our names, for ``load_state_dict``.

    With post-norm, set ``stack.norm = None``: ``nn.Transformer`` puts one more norm at the top,
    which the paper and :class:`Encoder` do not have.

    Raises:
        ValueError: a post-norm stack has a norm at the top.
    """
    if stack.norm is not None and not stack.layers[0].norm_first:
        raise ValueError(
            "The stack is post-norm and has one more norm at the top; "
            "expected stack.norm = None: each layer ends in a norm."
        )
    if isinstance(stack, nn.TransformerEncoder):
        names = ("attention", "feed_forward")
    else:
        names = ("self_attention", "cross_attention", "feed_forward")
    norms = [
        (rf"\bnorm{i}\b", f"around_{name}.norm")
        for i, name in enumerate(names, start=1)
    ]
    rules = [(r"\bself_attn\b", names[0]), *norms, *_FROM_TORCH]
    state: dict[str, Tensor] = {}
    for name, tensor in stack.state_dict().items():
        ours = _renamed(name, rules)
        if "in_proj_" in ours:  # one matrix for three projections
            parts = ("query", "key", "value")
            for part, third in zip(parts, tensor.chunk(3), strict=True):
                state[ours.replace("in_proj_", f"{part}.")] = third
        else:
            state[ours] = tensor
    return state


def state_from_bert(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a ``BertLayer`` or ``BertEncoder`` of transformers under our names."""
    state = module.state_dict()
    return {_renamed(name, _FROM_BERT): state[name] for name in state}


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, ours in rules:
        name = re.sub(pattern, ours, name)
    return name
