"""Shapes in signatures: what does not fit is refused, and compilers do not notice the checks."""

from __future__ import annotations

import gc
import inspect
import weakref

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from helpers.attention import MultiHeadAttention
from helpers.shapes import checked
from helpers.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(
    9, 9, d_model=8, num_heads=2, encoder_layers=2, decoder_layers=1, d_ff=8, dropout=0.0
)


@checked
def outer(
    left: Float[Tensor, "n 1"], right: Float[Tensor, "1 m"], share: float = 1.0
) -> Float[Tensor, "n m"]:
    """Return all products."""
    return share * left * right if left.sum() >= 0 else left


def test_a_function_is_checked_at_both_ends_and_keeps_its_source():
    assert outer(torch.ones(2, 1), torch.ones(1, 3), share=2).shape == (2, 3)  # an int for a float
    with pytest.raises(TypeError, match="parameter 'right'"):
        outer(torch.ones(2, 1), torch.ones(3))
    with pytest.raises(TypeError, match="return value"):
        outer(-torch.ones(2, 1), torch.ones(1, 3))
    assert inspect.getsource(outer).startswith("@checked\ndef outer(")
    assert outer.__doc__ == "Return all products."


def test_a_call_like_one_that_passed_is_not_checked_again_and_no_other_is_spared():
    left, right, x = torch.ones(2, 1), torch.ones(1, 3), torch.ones(4, 2, 8)
    assert outer(left, right).shape == outer(left, right).shape == (2, 3)
    assert outer(-left, right).shape == (2, 1)  # what it would be told is known from above
    for other in (torch.ones(3), right.long(), right.numpy(), [1.0], None):
        for _ in range(2):  # nor is what did not pass remembered
            with pytest.raises(TypeError, match="parameter 'right'"):
                outer(left, other)
    one, two = MultiHeadAttention(8, 2), MultiHeadAttention(4, 2)
    assert one(x, x, x)[0].shape == (4, 2, 8)
    with pytest.raises(TypeError, match="parameter 'query'"):
        two(x, x, x)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None  # what is remembered of a module does not keep it in memory


def compiled(made: nn.Module, inputs: tuple[Tensor, ...]):
    return torch.compile(made, fullgraph=True, backend="eager")(*inputs)


def exported(made: nn.Module, inputs: tuple[Tensor, ...]):
    return torch.export.export(made, inputs).module()(*inputs)


def mapped(made: nn.Module, inputs: tuple[Tensor, ...]):
    return torch.func.vmap(made)(*(torch.stack([one, one]) for one in inputs))[1]


def on_meta(made: nn.Module, inputs: tuple[Tensor, ...]):
    return made.to("meta")(*(one.to("meta") for one in inputs))


@pytest.mark.parametrize("way", [compiled, exported, mapped, on_meta])
def test_compilers_do_not_notice_the_checks(way):
    torch.manual_seed(0)
    ids = torch.randint(3, 9, (2, 5))
    made, inputs = Transformer(CONFIG).eval(), (ids, ids[:, :4])
    expected = made(*inputs)
    result = way(made, inputs)
    assert result.shape == expected.shape
    if way is not on_meta:
        torch.testing.assert_close(result, expected)
