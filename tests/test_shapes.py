"""Shapes in signatures: what does not fit is refused, and compilers do not notice the checks."""

from __future__ import annotations

import gc
import inspect
import weakref

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from helpers.attention import MultiHeadAttention, causal_mask
from helpers.shapes import checked
from helpers.transformer import Encoder, Transformer, TransformerConfig

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
    dims = tuple(0 if one.ndim > 1 else None for one in inputs)
    result = torch.func.vmap(made, in_dims=dims)(*(torch.stack([one, one]) for one in inputs))
    return torch.utils._pytree.tree_map(lambda both: both[1], result)


def on_meta(made: nn.Module, inputs: tuple[Tensor, ...]):
    return made.to("meta")(*(one.to("meta") for one in inputs))


def quantized(made: nn.Module, inputs: tuple[Tensor, ...]):
    small = torch.ao.quantization.quantize_dynamic(made, {nn.Linear})
    assert not any(type(part) is nn.Linear for part in small.modules())
    return small(*inputs)


X, IDS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([[3, 8]])
MODULES = {
    "MultiHeadAttention": (lambda: MultiHeadAttention(8, 2), (X, X, X, causal_mask(5))),
    "Encoder": (lambda: Encoder(CONFIG), (X, causal_mask(5))),
    "Transformer": (lambda: Transformer(CONFIG), (IDS, IDS)),
}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*quantize_dynamic.*:DeprecationWarning")
@pytest.mark.parametrize("way", [compiled, exported, mapped, on_meta, quantized])
@pytest.mark.parametrize("name", MODULES)
def test_compilers_do_not_notice_the_checks(name, way):
    torch.manual_seed(0)
    make, inputs = MODULES[name]
    made = make().eval()
    expected, result = made(*inputs), way(made, inputs)
    expected, result = (x[0] if isinstance(x, tuple) else x for x in (expected, result))
    assert result.shape == expected.shape
    if way is not on_meta:
        atol = 0.1 if way is quantized else 1e-5
        torch.testing.assert_close(result, expected, atol=atol, rtol=1e-5)
