"""Attention against PyTorch, and its errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from helpers import attention

many = settings(deadline=None, derandomize=True, max_examples=100)
HALVES = [torch.float16, torch.bfloat16]
DTYPES = [torch.float64, torch.float32, *HALVES]


def tolerance(dtype: torch.dtype) -> float:
    # Halves are computed in float32, so that only the result is rounded.
    return {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, torch.finfo(dtype).eps)


def assert_near(ours, theirs, dtype):
    bound = tolerance(dtype)
    torch.testing.assert_close(ours.double(), theirs.double(), atol=bound, rtol=bound)


def tensors_of(seed, *shapes, dtype=torch.float32, spread=1.0):
    random = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=random, dtype=torch.float64) * spread for shape in shapes]
    return [tensor.to(dtype) for tensor in made]


@st.composite
def cases(draw):
    """Random query, key, value and mask; some masks allow a row nothing."""
    leading = draw(st.sampled_from([(), (1,), (2,), (2, 3), (1, 2, 1)]))
    n_queries, n_keys = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    d_k, d_v = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    dtype, seed = draw(st.sampled_from(DTYPES)), draw(st.integers(0, 2**31))
    spread = draw(st.sampled_from([0.1, 1.0, 3.0]))
    query, key, value = tensors_of(
        seed, (*leading, n_queries, d_k), (*leading, n_keys, d_k), (*leading, n_keys, d_v),
        dtype=dtype, spread=spread,
    )  # fmt: skip
    random = torch.Generator().manual_seed(seed + 1)
    full = (*leading, n_queries, n_keys)
    shape = draw(st.sampled_from([None, full, (n_queries, n_keys), (n_queries, 1), (1, n_keys)]))
    share = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    mask = None if shape is None else torch.rand(shape, generator=random) < share
    return query, key, value, mask


@many
@given(cases(), st.integers(1, 12))
def test_whole_and_tiled_attention_are_pytorchs_with_gradients(case, tile):
    *tensors, mask = case
    for tensor in tensors:
        tensor.requires_grad_()
    # The reference starts from the same rounded numbers, so only our own rounding is compared.
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    theirs = F.scaled_dot_product_attention(*exact, attn_mask=mask)
    query, key, value = tensors
    upstream = torch.randn(
        theirs.shape, dtype=theirs.dtype, generator=torch.Generator().manual_seed(3)
    ).to(query.dtype)
    expected = torch.autograd.grad(theirs, exact, upstream.double())
    whole, weights = attention.scaled_dot_product_attention(query, key, value, mask)
    # What attention makes of an identity matrix are its weights.
    identity = torch.eye(key.shape[-2]).expand(*key.shape[:-1], -1).double()
    assert_near(weights, F.scaled_dot_product_attention(*exact[:2], identity, mask), query.dtype)
    for ours in (whole, attention.tiled_attention(query, key, value, mask, tile=tile)):
        assert ours.dtype == weights.dtype == query.dtype
        assert_near(ours, theirs, query.dtype)
        for mine, other in zip(torch.autograd.grad(ours, tensors, upstream), expected, strict=True):
            scale = max(1.0, float(other.abs().max()))
            assert_near(mine / scale, other / scale, query.dtype)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_query_that_may_attend_to_nothing_gets_zeros_and_finite_gradients(dtype):
    tensors = tensors_of(0, (3, 4), (5, 4), (5, 2), dtype=dtype)
    for tensor in tensors:
        tensor.requires_grad_()
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    for output in (
        attention.scaled_dot_product_attention(*tensors, mask)[0],
        attention.tiled_attention(*tensors, mask, tile=2),
    ):
        assert (output[1] == 0).all()
        assert (output[0] != 0).any()
        with torch.autograd.detect_anomaly(check_nan=True):  # no NaN even in between
            gradients = torch.autograd.grad(output.square().sum(), tensors)
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert (gradients[0][1] == 0).all()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [33, -33, 2000])
def test_scores_too_large_for_float16_do_not_overflow(size, dtype, autocast):
    """33 · 33 · 64 is beyond float16, and so is 2,000 · 2,000 even when √d_k has divided it."""
    query, key = torch.full((2, 64), abs(size)), size * torch.ones(3, 64)
    key[1] *= 0.999
    (value,) = tensors_of(0, (3, 4))
    query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    mask = torch.tensor([[True, False, True], [True, True, True]])
    expected = F.scaled_dot_product_attention(query.double(), key.double(), value.double(), mask)
    if autocast:
        query, key, value = query.float(), key.float(), value.float()
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        whole, weights = attention.scaled_dot_product_attention(query, key, value, mask)
        tiled = attention.tiled_attention(query, key, value, mask, tile=2)
    assert_near(whole, expected, dtype)
    assert_near(tiled, expected, dtype)
    assert whole.dtype == weights.dtype == tiled.dtype == query.dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_lowest_finite_score_counts_where_the_mask_allows_it(dtype):
    lowest = torch.finfo(dtype).min  # what transformers add to scores to hide them
    scores = torch.tensor([[lowest, 1.0, 2.0], [lowest, lowest, 2.0], [lowest] * 3], dtype=dtype)
    mask = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0]]).bool()
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
    assert torch.equal(attention.masked_softmax(scores, mask), expected)


def test_no_keys_at_all_give_zeros():
    query, key, value = torch.randn(2, 3, 4), torch.randn(2, 0, 4), torch.randn(2, 0, 5)
    output, weights = attention.scaled_dot_product_attention(query, key, value)
    assert weights.shape == (2, 3, 0)
    assert torch.equal(output, torch.zeros(2, 3, 5))
    assert torch.equal(attention.tiled_attention(query, key, value), torch.zeros(2, 3, 5))


def pytorch_twin(ours):
    """nn.MultiheadAttention with the parameters of ours."""
    projections = (ours.query, ours.key, ours.value)
    twin = nn.MultiheadAttention(
        ours.d_model, ours.num_heads, batch_first=True, dtype=ours.query.weight.dtype
    )
    twin.load_state_dict(
        {
            "in_proj_weight": torch.cat([p.weight.detach() for p in projections]),
            "in_proj_bias": torch.cat([p.bias.detach() for p in projections]),
            "out_proj.weight": ours.output.weight.detach(),
            "out_proj.bias": ours.output.bias.detach(),
        }
    )
    return twin


@st.composite
def multi_head_cases(draw):
    heads, d_k = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    batch, n_queries, n_keys = (draw(st.integers(1, top)) for top in (3, 6, 7))
    dtype, seed = draw(st.sampled_from([torch.float64, torch.float32])), draw(st.integers(0, 2**31))
    torch.manual_seed(seed)
    ours = attention.MultiHeadAttention(heads * d_k, heads).to(dtype)
    query, key, value = tensors_of(
        seed, (batch, n_queries, heads * d_k), *[(batch, n_keys, heads * d_k)] * 2, dtype=dtype
    )
    shapes = [
        None, (n_queries, n_keys), (batch, n_queries, n_keys), (batch, 1, n_keys), (1, n_keys),
        (batch, 1, 1, n_keys), (batch, heads, n_queries, n_keys), (1, heads, 1, n_keys),
    ]  # fmt: skip
    shape = draw(st.sampled_from(shapes))
    mask = None if shape is None else torch.rand(shape) < draw(st.sampled_from([0.2, 0.7]))
    if mask is not None:  # where nothing is allowed, PyTorch gives NaN
        mask[..., 0] = True
    return ours, query, key, value, mask


@many
@given(multi_head_cases())
def test_many_heads_equal_pytorch_in_outputs_weights_and_gradients(case):
    ours, query, key, value, mask = case
    twin = pytorch_twin(ours)
    hidden = None
    if mask is not None:  # PyTorch's says may not, and is written out for every head
        wide = mask.unsqueeze(1) if mask.ndim == 3 else mask
        shape = (len(query), ours.num_heads, query.shape[1], key.shape[1])
        hidden = ~wide.expand(shape).flatten(0, 1)
    inputs = [tensor.requires_grad_() for tensor in (query, key, value)]
    mine = ours(*inputs, mask)
    other = twin(*inputs, attn_mask=hidden, average_attn_weights=False)
    for a, b in zip(mine, other, strict=True):
        assert_near(a, b, query.dtype)
    of_mine = torch.autograd.grad(mine[0].square().sum(), inputs)
    of_other = torch.autograd.grad(other[0].square().sum(), inputs)
    for a, b in zip(of_mine, of_other, strict=True):
        scale = max(1.0, float(b.abs().max()))
        assert_near(a / scale, b / scale, query.dtype)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    module = attention.MultiHeadAttention(16, 4, dropout=0.5)
    x = torch.randn(2, 6, 16)
    twin = pytorch_twin(module)
    assert (module(x, x, x)[0] - twin(x, x, x)[0]).abs().max() > 1e-2
    module.eval()
    torch.testing.assert_close(module(x, x, x)[0], twin(x, x, x)[0])


@many
@given(st.integers(0, 40))
def test_causal_mask_allows_what_came_before(length):
    place = torch.arange(length)
    mask = attention.causal_mask(length)
    assert mask.dtype == torch.bool
    assert torch.equal(mask, place[:, None] >= place[None, :])


@pytest.mark.parametrize("dtype", [torch.long, torch.bool])
def test_padding_mask_hides_the_padding(dtype):
    mask = attention.padding_mask(torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]]).to(dtype))
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[[True, True, False]], [[True] * 3], [[False] * 3]]


X = torch.zeros(2, 5, 32)
TRUE = torch.ones(3, 5, 5, dtype=torch.bool)
# For one attention and for many heads: what is wrong, and the argument that the error names.
WRONG = {
    "a vector": ((X[0, 0], X, X), "query"),
    "ids": ((X.long(), X, X), "query"),
    "another width": ((X, X[..., :16], X), "key"),
    "fewer values": ((X, X, X[:, :3]), "value"),
    "another batch": ((X, X[:1], X), "key"),
    "a mask of floats": ((X, X, X, torch.ones(5, 5)), "mask"),
    "a mask of another length": ((X, X, X, TRUE[0, :4, :4]), "mask"),
    "a mask of another batch": ((X, X, X, TRUE), "mask"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize(
    "function",
    [
        attention.scaled_dot_product_attention,
        attention.tiled_attention,
        attention.MultiHeadAttention(32, 4),
    ],
    ids=["one", "tiled", "many"],
)
def test_an_argument_that_does_not_fit_is_named(function, name):
    arguments, named = WRONG[name]
    with pytest.raises(TypeError, match=f"parameter '{named}'"):
        function(*arguments)


def test_a_mask_that_would_add_dimensions_is_refused():
    for function in (attention.scaled_dot_product_attention, attention.tiled_attention):
        with pytest.raises((TypeError, RuntimeError)):
            function(X[0], X[0], X[0], TRUE)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: attention.MultiHeadAttention(32, 5), ValueError, "num_heads is 5"),
        (lambda: attention.MultiHeadAttention(32, 0), ValueError, "num_heads is 0"),
        (lambda: attention.tiled_attention(X, X, X, tile=-1), ValueError, "tile is -1"),
        (lambda: attention.padding_mask(torch.tensor([[0.0, -1e9]])), ValueError, "0 and 1"),
        (lambda: attention.padding_mask(torch.ones(5)), TypeError, "attention_mask"),
        (lambda: attention.split_heads(X, 5), RuntimeError, "unflatten"),
        (lambda: attention.causal_mask(-1), RuntimeError, "negative"),
    ],
)
def test_what_would_be_silently_wrong_is_refused(call, error, said):
    with pytest.raises(error, match=said):
        call()
