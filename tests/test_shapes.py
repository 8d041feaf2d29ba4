"""Shapes in signatures: what does not fit is refused, and compilers do not notice the checks."""

from __future__ import annotations

import copy
import gc
import inspect
import weakref
from dataclasses import dataclass
from typing import Literal

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


def test_a_dataclass_is_checked():
    @checked
    @dataclass(frozen=True)
    class Choice:
        norm: Literal["pre", "post"] = "pre"

    assert Choice("post").norm == "post"
    with pytest.raises(TypeError, match="norm"):
        Choice("middle")


def modules() -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8)
    ids = torch.randint(3, 9, (2, 5))
    return {
        "MultiHeadAttention": (MultiHeadAttention(8, 2), (x, x, x, causal_mask(5))),
        "Encoder": (Encoder(CONFIG), (x, causal_mask(5))),
        "Transformer": (Transformer(CONFIG), (ids, ids[:, :4])),
    }


def first(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    return result[0] if isinstance(result, tuple) else result


@pytest.fixture(params=modules())
def module(request) -> tuple[nn.Module, tuple[Tensor, ...], Tensor]:
    made, inputs = modules()[request.param]
    return made.eval(), inputs, first(made(*inputs))


def test_torch_compile_sees_one_whole_graph(module):
    made, inputs, expected = module
    whole = torch.compile(made, fullgraph=True, backend="eager")
    torch.testing.assert_close(first(whole(*inputs)), expected)


def test_torch_export_gives_the_same(module):
    made, inputs, expected = module
    torch.testing.assert_close(first(torch.export.export(made, inputs).module()(*inputs)), expected)


def test_vmap_adds_a_dimension(module):
    made, inputs, expected = module
    mapped = torch.func.vmap(made, in_dims=tuple(0 if one.ndim > 1 else None for one in inputs))
    stacked = tuple(torch.stack([one, one]) for one in inputs)
    result = first(mapped(*stacked))
    torch.testing.assert_close(result, torch.stack([expected, expected]))


def test_meta_tensors_pass_without_data(module):
    made, inputs, expected = module
    on_meta = first(made.to("meta")(*(one.to("meta") for one in inputs)))
    assert on_meta.shape == expected.shape


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*quantize_dynamic.*:DeprecationWarning")
def test_quantized_weights_give_nearly_the_same(module):
    made, inputs, expected = module
    small = torch.ao.quantization.quantize_dynamic(copy.deepcopy(made), {nn.Linear})
    assert not any(type(part) is nn.Linear for part in small.modules())
    assert float((first(small(*inputs)) - expected).detach().abs().max()) < 0.1
