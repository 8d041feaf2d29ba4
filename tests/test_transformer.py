"""Our Transformer against PyTorch's and transformers', and against brute force."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from transformers.models.bert.modeling_bert import BertConfig, BertEncoder, BertLayer

from helpers.attention import causal_mask, padding_mask
from helpers.transformer import (
    Decoder,
    Encoder,
    EncoderLayer,
    LayerNorm,
    Transformer,
    TransformerConfig,
    beam_search,
    label_smoothed_loss,
    sinusoidal_positions,
    state_from_bert,
    state_from_torch,
    warmup_learning_rate,
)

property_test = settings(deadline=None, derandomize=True, max_examples=100)
writing_test = settings(property_test, max_examples=40)  # each case runs a model dozens of times
seeds = st.integers(0, 2**31)
norms = st.sampled_from(["post", "pre"])


@pytest.fixture(autouse=True)
def _one_seed_and_many_digits():
    """In double precision a difference of 1e-9 is a mistake, not rounding."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@st.composite
def configs(draw, **fixed) -> TransformerConfig:
    heads = draw(st.sampled_from([1, 2, 4]))
    choices = {
        "source_vocab_size": draw(st.integers(4, 12)),
        "target_vocab_size": draw(st.integers(4, 12)),
        "num_heads": heads,
        "d_model": 2 * heads * draw(st.integers(1, 3)),
        "encoder_layers": draw(st.integers(1, 2)),
        "decoder_layers": draw(st.integers(1, 2)),
        "d_ff": draw(st.integers(1, 16)),
        "dropout": 0.0,
        "max_length": 10,
        "norm": draw(norms),
        "activation": draw(st.sampled_from(["relu", "gelu"])),
    }
    return TransformerConfig(**(choices | fixed))


def small(**choices) -> TransformerConfig:
    sizes = {"d_model": 8, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2, "d_ff": 16}
    vocabulary = {"source_vocab_size": 9, "target_vocab_size": 9}
    return TransformerConfig(**(vocabulary | sizes | {"dropout": 0.0, "max_length": 8} | choices))


def make(kind, config: TransformerConfig, seed: int):
    """A module with random weights everywhere: fresh norms and biases would hide mistakes."""
    torch.manual_seed(seed)
    module = kind(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module


def random_ids(vocab_size: int, rows: int, columns: int, pad_id: int = 0) -> torch.Tensor:
    """Ids with padding at the right; every row keeps at least one token."""
    ids = torch.randint(1, vocab_size, (rows, columns))
    length = torch.randint(1, columns + 1, (rows, 1))
    return ids.masked_fill(torch.arange(columns) >= length, pad_id)


def random_mask(rows: int, queries: int, keys: int) -> torch.Tensor:
    """A random mask in which every query may attend to something."""
    mask = torch.rand(rows, queries, keys) < 0.6
    first = torch.randint(keys, (rows, queries, 1))
    return mask | (torch.arange(keys) == first)


def torch_stacks(config: TransformerConfig) -> nn.Transformer:
    reference = nn.Transformer(
        config.d_model, config.num_heads, config.encoder_layers, config.decoder_layers,
        config.d_ff, dropout=0.0, activation=config.activation, batch_first=True,
        norm_first=config.norm == "pre",
    )  # fmt: skip
    if config.norm == "post":
        reference.encoder.norm = reference.decoder.norm = None
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return reference.eval()


def for_torch(mask: torch.Tensor, heads: int) -> torch.Tensor:
    """Ours says may attend, once for all heads; PyTorch's may not, for each head."""
    return (~mask).repeat_interleave(heads, dim=0)


def assert_close(ours, theirs, atol=1e-9, rtol=1e-7):
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=rtol)


@property_test
@given(length=st.integers(1, 60), half=st.integers(1, 20))
def test_positions_are_the_papers_formula(length, half):
    table = sinusoidal_positions(length, 2 * half)
    assert table.shape == (length, 2 * half)
    for p, i in itertools.product({0, length // 2, length - 1}, {0, half // 2, half - 1}):
        angle = p / 10_000 ** (2 * i / (2 * half))
        assert table[p, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[p, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


# --- the parts ----------------------------------------------------------------------


@property_test
@given(
    shape=st.lists(st.integers(1, 5), min_size=0, max_size=3),
    d_model=st.integers(2, 20),
    eps=st.sampled_from([1e-12, 1e-5, 1e-2]),
    scale=st.sampled_from([1e-3, 1.0, 100.0]),
    seed=seeds,
)
def test_layer_norm_is_pytorchs(shape, d_model, eps, scale, seed):
    torch.manual_seed(seed)
    ours, theirs = LayerNorm(d_model, eps), nn.LayerNorm(d_model, eps)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    x = (scale * torch.randn(*shape, d_model) + 1).requires_grad_()
    assert_close(ours(x), theirs(x))
    direction = torch.randn_like(x)
    (mine,) = torch.autograd.grad((ours(x) * direction).sum(), x)
    (other,) = torch.autograd.grad((theirs(x) * direction).sum(), x)
    assert_close(mine, other)


HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


@HALVES
@pytest.mark.parametrize("eps", [1e-5, 1e-12])
def test_layer_norm_in_half_precision_is_pytorchs(dtype, eps):
    """Squares beyond 65,504, and an eps that float16 takes for 0."""
    x = torch.cat([1000 * torch.randn(5, 64), torch.full((1, 64), 7.0)]).to(dtype)
    ours, theirs = (kind(64, eps).to(dtype) for kind in (LayerNorm, nn.LayerNorm))
    assert ours(x).dtype == dtype
    assert_close(ours(x), theirs(x), atol=1e-3, rtol=torch.finfo(dtype).eps)
    assert_close(ours(x).double(), F.layer_norm(x.double(), (64,), eps=eps), atol=1e-3, rtol=1e-2)


@HALVES
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_stacks_in_half_precision_are_as_near_as_pytorchs(dtype, norm):
    config = small(d_model=32, norm=norm)
    reference = torch_stacks(config)
    encoder, decoder = make(Encoder, config, 0), make(Decoder, config, 0)
    encoder.load_state_dict(state_from_torch(reference.encoder))
    decoder.load_state_dict(state_from_torch(reference.decoder))
    x, y, causal = torch.randn(40, 5, 32), torch.randn(40, 4, 32), causal_mask(4)
    exact = reference(x, y, tgt_mask=~causal)
    x, y = x.to(dtype), y.to(dtype)
    theirs = reference.to(dtype)(x, y, tgt_mask=~causal)
    ours = decoder.to(dtype)(y, encoder.to(dtype)(x), causal)
    assert ours.dtype == dtype
    assert (ours - exact).abs().mean() <= 1.2 * (theirs - exact).abs().mean()


def test_dropout_acts_in_training_only():
    layer, x = EncoderLayer(small(dropout=0.5)), torch.randn(2, 3, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_autocast_converts_what_the_layers_need():
    layer, x = EncoderLayer(small()).float(), torch.randn(2, 3, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halves = layer(x)
    assert_close(halves.float(), layer(x.float()), atol=0.1, rtol=0.05)


# --- equal to PyTorch's stacks ------------------------------------------------------


@property_test
@given(config=configs(), rows=st.integers(1, 3), n=st.integers(1, 6), seed=seeds)
def test_encoder_is_pytorchs_under_any_mask(config, rows, n, seed):
    torch.manual_seed(seed)
    reference = torch_stacks(config).encoder
    ours = Encoder(config).eval()
    ours.load_state_dict(state_from_torch(reference))
    x, mask = torch.randn(rows, n, config.d_model), random_mask(rows, n, n)
    theirs = reference(x, mask=for_torch(mask, config.num_heads))
    assert_close(ours(x, mask), theirs)
    # One layer alone, and the stack as its layers one after the other.
    first = reference.layers[0](x, src_mask=for_torch(mask, config.num_heads))
    assert_close(ours.layers[0](x, mask), first)


@property_test
@given(
    config=configs(), rows=st.integers(1, 3), n=st.integers(1, 5), m=st.integers(1, 5), seed=seeds
)
def test_decoder_is_pytorchs_under_any_masks(config, rows, n, m, seed):
    torch.manual_seed(seed)
    reference = torch_stacks(config).decoder
    ours = Decoder(config).eval()
    ours.load_state_dict(state_from_torch(reference))
    x, memory = torch.randn(rows, n, config.d_model), torch.randn(rows, m, config.d_model)
    mask, memory_mask = random_mask(rows, n, n), random_mask(rows, n, m)
    masks = {
        "tgt_mask": for_torch(mask, config.num_heads),
        "memory_mask": for_torch(memory_mask, config.num_heads),
    }
    assert_close(ours(x, memory, mask, memory_mask), reference(x, memory, **masks))
    first = reference.layers[0](x, memory, **masks)
    assert_close(ours.layers[0](x, memory, mask, memory_mask), first)


@pytest.mark.parametrize("kind", [nn.TransformerEncoder, nn.TransformerDecoder])
def test_a_norm_that_a_post_norm_stack_has_too_many_is_refused(kind):
    """PyTorch's nn.Transformer has one, and without it the stack would say something else."""
    stacks = nn.Transformer(8, 2, 1, 1, 8, batch_first=True)
    stack = stacks.encoder if kind is nn.TransformerEncoder else stacks.decoder
    with pytest.raises(ValueError, match=r"expected stack\.norm = None"):
        state_from_torch(stack)


@property_test
@given(config=configs(), n=st.integers(1, 6), m=st.integers(1, 6), seed=seeds)
def test_whole_model_is_pytorchs(config, n, m, seed):
    """Embeddings, positions, padding, the causal mask and the output, computed apart."""
    torch.manual_seed(seed)
    reference = torch_stacks(config)
    model = Transformer(config).eval()
    model.encoder.load_state_dict(state_from_torch(reference.encoder))
    model.decoder.load_state_dict(state_from_torch(reference.decoder))
    source = random_ids(config.source_vocab_size, 3, n)
    target = random_ids(config.target_vocab_size, 3, m)
    table = torch.tensor(
        [
            [
                (math.cos if j % 2 else math.sin)(p / 10_000 ** ((j - j % 2) / config.d_model))
                for j in range(config.d_model)
            ]
            for p in range(max(n, m))
        ]
    )
    root = config.d_model**0.5
    states = reference(
        model.source_embedding.weight[source] * root + table[:n],
        model.target_embedding.weight[target] * root + table[:m],
        tgt_mask=torch.ones(m, m, dtype=torch.bool).triu(1),
        src_key_padding_mask=source == 0,
        memory_key_padding_mask=source == 0,
        tgt_key_padding_mask=target == 0,
    )
    expected = states @ model.output.weight.T
    assert_close(model(source, target), expected)
    memory = model.encode(source)
    assert_close(model.decode(target, memory, source != 0), expected)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_gradients_are_pytorchs(norm):
    config = TransformerConfig(
        9, 9, d_model=8, num_heads=2, encoder_layers=2, decoder_layers=2, d_ff=12, norm=norm
    )
    reference = torch_stacks(config)
    encoder, decoder = Encoder(config).eval(), Decoder(config).eval()
    encoder.load_state_dict(state_from_torch(reference.encoder))
    decoder.load_state_dict(state_from_torch(reference.decoder))
    x, y = torch.randn(2, 5, 8, requires_grad=True), torch.randn(2, 4, 8, requires_grad=True)
    direction = torch.randn(2, 4, 8)
    ours = (decoder(y, encoder(x), causal_mask(4)) * direction).sum()
    theirs = (reference(x, y, tgt_mask=~causal_mask(4)) * direction).sum()
    for mine, other in zip(
        torch.autograd.grad(ours, (x, y)), torch.autograd.grad(theirs, (x, y)), strict=True
    ):
        assert_close(mine, other)


# --- equal to BERT ------------------------------------------------------------------


@property_test
@given(
    heads=st.sampled_from([1, 2, 3]),
    d_k=st.sampled_from([2, 4]),
    layers=st.integers(1, 3),
    rows=st.integers(1, 3),
    n=st.integers(1, 6),
    seed=seeds,
)
def test_encoder_is_berts(heads, d_k, layers, rows, n, seed):
    torch.manual_seed(seed)
    theirs = BertConfig(
        vocab_size=9, hidden_size=heads * d_k, num_attention_heads=heads, num_hidden_layers=layers,
        intermediate_size=13, attn_implementation="eager",
    )  # fmt: skip
    config = TransformerConfig(
        9, 9, d_model=heads * d_k, num_heads=heads, encoder_layers=layers, d_ff=13,
        activation="gelu", norm_eps=theirs.layer_norm_eps,
    )  # fmt: skip
    bert = BertEncoder(theirs).eval()
    for parameter in bert.parameters():
        nn.init.normal_(parameter, std=0.5)
    ours = Encoder(config).eval()
    ours.load_state_dict(state_from_bert(bert))
    x, mask = torch.randn(rows, n, heads * d_k), padding_mask(random_ids(9, rows, n) != 0)
    lowest = torch.finfo(x.dtype).min
    added = torch.zeros(mask.shape).masked_fill(~mask, lowest).unsqueeze(1)
    assert_close(ours(x, mask), bert(x, added).last_hidden_state)
    layer: BertLayer = bert.layer[0]
    first = EncoderLayer(config).eval()
    first.load_state_dict(state_from_bert(layer))
    assert_close(first(x, mask), layer(x, added))


# --- what the model may and may not see ---------------------------------------------


def test_an_explicit_mask_hides_tokens_too():
    model = make(Transformer, small(), 1)
    source, target = torch.randint(3, 9, (2, 5)), torch.randint(3, 9, (2, 4))
    mask = torch.tensor([[True, True, True, False, False]] * 2)
    assert_close(model(source, target, mask), model(source[:, :3], target))


def test_without_the_causal_mask_the_future_leaks():
    model = make(Transformer, small(causal=False), 0)
    source, target = torch.randint(3, 9, (1, 4)), torch.tensor([[1, 5, 6]])
    other = torch.tensor([[1, 5, 7]])
    assert (model(source, target) - model(source, other))[:, 0].abs().max() > 1e-4


def test_without_positions_the_order_of_the_source_is_lost():
    target, source = torch.tensor([[1, 5, 6]]), torch.tensor([[3, 4, 5, 6]])
    without = make(Transformer, small(positions="none"), 0)
    assert_close(without(source, target), without(source.flip(1), target))
    with_them = make(Transformer, small(), 0)
    assert (with_them(source, target) - with_them(source.flip(1), target)).abs().max() > 1e-3


@property_test
@given(config=configs(), n=st.integers(1, 6), m=st.integers(1, 6), seed=seeds)
def test_cross_attention_shows_the_weights_that_were_used(config, n, m, seed):
    model = make(Transformer, config, seed).train()
    source = random_ids(config.source_vocab_size, 2, n)
    target = torch.randint(1, config.target_vocab_size, (2, m))
    weights = model.cross_attention(source, target)
    assert weights.shape == (2, config.decoder_layers, config.num_heads, m, n)
    assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert not weights.masked_select((source == 0)[:, None, None, None]).any()
    assert model.training
    assert not any(layer.cross_attention._forward_hooks for layer in model.decoder.layers)
    # Recomputed for the first layer from the definition.
    layer, width = model.decoder.layers[0], config.d_model
    root, table = width**0.5, sinusoidal_positions(m, width)
    y = model.target_embedding(target) * root + table
    y = layer.around_self_attention(y, lambda z: layer.self_attention(z, z, z, causal_mask(m))[0])
    y = layer.around_cross_attention.norm(y) if config.norm == "pre" else y
    q = layer.cross_attention.query(y)[..., : width // config.num_heads]
    k = layer.cross_attention.key(model.encode(source))[..., : width // config.num_heads]
    scores = q @ k.transpose(1, 2) / (width // config.num_heads) ** 0.5
    expected = scores.masked_fill((source == 0).unsqueeze(1), -math.inf).softmax(-1)
    assert_close(weights[:, 0, 0], expected)


def test_a_model_made_without_memory_takes_all_it_needs_from_a_state():
    made = make(Transformer, small(), 0)
    with torch.device("meta"):
        other = Transformer(small())
    other = other.to_empty(device="cpu").eval()
    other.positions.fill_(math.nan)  # what lies in memory that nobody has written
    other.load_state_dict(made.state_dict())
    source, target = torch.randint(3, 9, (2, 4)), torch.randint(3, 9, (2, 3))
    assert torch.equal(other(source, target), made(source, target))


# --- writing ------------------------------------------------------------------------


def all_answers(vocab_size: int, longest: int):
    """Every answer of at most ``longest`` ids: letters, then end unless the length ran out."""
    letters = range(3, vocab_size)
    for n in range(longest):
        for beginning in itertools.product(letters, repeat=n):
            yield (*beginning, 2)
    yield from itertools.product(letters, repeat=longest)


def log_p(model: Transformer, source: torch.Tensor, answers: list[tuple[int, ...]]) -> list[float]:
    """The log-probability of each answer, from one pass with the whole answers given."""
    target = nn.utils.rnn.pad_sequence([torch.tensor(a) for a in answers], batch_first=True)
    inputs = F.pad(target[:, :-1], (1, 0), value=1)
    logits = model(source.expand(len(answers), -1), inputs)
    logits[..., [0, 1]] = -math.inf
    chosen = logits.log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return chosen.masked_fill(target == 0, 0.0).sum(-1).tolist()


@property_test
@given(seed=seeds, penalty=st.sampled_from([0.0, 0.6, 1.5]), longest=st.integers(1, 3))
def test_beam_search_with_all_beams_finds_the_best_answer(seed, penalty, longest):
    model = make(Transformer, small(source_vocab_size=6, target_vocab_size=5), seed)
    with torch.no_grad():
        model.output.weight.mul_(3)  # so that answers differ clearly
        source = torch.randint(3, 6, (1, 3))
        answers = list(all_answers(5, longest))
        scores = {
            answer: total / ((5 + len(answer)) / 6) ** penalty
            for answer, total in zip(answers, log_p(model, source, answers), strict=True)
        }
    found = model.generate(source, max_length=longest, num_beams=20, length_penalty=penalty)
    answer = tuple(i for i in found[0].tolist() if i != 0)
    assert scores[answer] == pytest.approx(max(scores.values()), abs=1e-4)


@writing_test
@given(config=configs(target_vocab_size=6), n=st.integers(1, 5), rows=st.integers(1, 4), seed=seeds)
def test_greedy_search_takes_the_best_id_at_each_step(config, n, rows, seed):
    model = make(Transformer, config, seed)
    source = random_ids(config.source_vocab_size, rows, n)
    written = model.generate(source, max_length=6)
    assert written.shape[1] <= 6
    for row, ids in zip(source, written.tolist(), strict=True):
        so_far = [1]
        while len(so_far) <= 6 and so_far[-1] != 2:
            with torch.no_grad():
                logits = model(row.unsqueeze(0), torch.tensor([so_far]))[0, -1]
            logits[[0, 1]] = -math.inf
            so_far.append(int(logits.argmax()))
        assert so_far[1:] == ids[: len(so_far) - 1]
        assert not any(ids[len(so_far) - 1 :])


def best_of_few(tables, beams: int, penalty: float) -> tuple[float, dict]:
    """Beam search with lists, in float64: the best score, and the score of each last answer."""

    def score(answer):
        return answer[1] / ((5 + len(answer[0])) / 6) ** penalty

    kept = [((), 0.0)]
    for table in tables:
        longer = [(ids, log_p) for ids, log_p in kept if 2 in ids]
        for ids, log_p in kept:
            if 2 not in ids:
                row = table[ids[-1] if ids else 1].double()[2:].log_softmax(-1).tolist()
                longer += [((*ids, i), log_p + one) for i, one in enumerate(row, start=2)]
        kept = sorted(longer, key=score, reverse=True)[:beams]
    return score(kept[0]), {ids: score((ids, log_p)) for ids, log_p in kept}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("seed", range(20))
def test_few_beams_keep_the_best_answers_finished_or_not_in_every_format(seed, penalty, dtype):
    """Ids are nearly alike, so that sums of bfloat16 would lead to others."""
    beams = 1 + seed % 5
    torch.manual_seed(seed)
    tables = 0.1 * torch.randn(6, 12, 12)  # for each length: last id, next id
    tables[..., 2] -= 2
    tables = tables.to(dtype)
    found = beam_search(
        lambda ids: tables[ids.shape[1] - 1][ids[:, -1]], torch.ones(1, beams, 1).long(),
        small(), max_length=6, length_penalty=penalty,
    )  # fmt: skip
    best, scores = best_of_few(tables, beams, penalty)
    assert scores[tuple(i for i in found[0].tolist() if i)] == pytest.approx(best, abs=1e-5)


@writing_test
@given(config=configs(target_vocab_size=7), beams=st.integers(1, 5), seed=seeds)
def test_rows_of_a_batch_do_not_meet(config, beams, seed):
    """What is written for a source does not depend on the others, nor on padding."""
    model = make(Transformer, config, seed)
    source = random_ids(config.source_vocab_size, 3, 5)
    together = model.generate(source, max_length=5, num_beams=beams)
    for row, ids in zip(source, together, strict=True):
        alone = model.generate(row[row != 0].unsqueeze(0), max_length=5, num_beams=beams)[0]
        assert ids[ids != 0].tolist() == alone[alone != 0].tolist()


def test_generate_drops_nothing_and_leaves_every_part_in_its_mode():
    model = make(Transformer, small(dropout=0.5), 0).train()
    model.encoder.eval()  # as when only the decoder is trained
    before = [part.training for part in model.modules()]
    source = torch.randint(3, 9, (2, 4))
    first, second = (model.generate(source, max_length=5) for _ in range(2))
    assert torch.equal(first, second)
    assert [part.training for part in model.modules()] == before


# --- the loss -----------------------------------------------------------


@property_test
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    classes=st.integers(2, 12),
    smoothing=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    ignored=st.sampled_from([None, 0, -100]),
    seed=seeds,
)
def test_label_smoothing_is_pytorchs(shape, classes, smoothing, ignored, seed):
    torch.manual_seed(seed)
    logits = (5 * torch.randn(*shape, classes)).requires_grad_()
    target = torch.randint(0, classes, shape)
    target.view(-1)[0] = 1  # one position counts in any case
    if ignored == -100:
        target.view(-1)[1:2] = ignored  # outside the vocabulary
    ours = label_smoothed_loss(logits, target, smoothing, ignored)
    theirs = F.cross_entropy(
        logits.reshape(-1, classes), target.reshape(-1), label_smoothing=smoothing,
        ignore_index=-100 if ignored is None else ignored,
    )  # fmt: skip
    assert_close(ours, theirs)
    assert_close(torch.autograd.grad(ours, logits)[0], torch.autograd.grad(theirs, logits)[0])


@HALVES
def test_label_smoothing_in_half_precision_is_pytorchs(dtype):
    logits, target = (8 * torch.randn(50, 1000)).to(dtype), torch.randint(0, 1000, (50,))
    expected = F.cross_entropy(logits.double(), target, label_smoothing=0.1)
    ours = label_smoothed_loss(logits, target)
    assert ours.dtype == dtype
    assert_close(ours.double(), expected, rtol=torch.finfo(dtype).eps)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_id_that_is_ruled_out_makes_no_nan(smoothing):
    """Its log p is minus infinity: no matter without smoothing, infinite loss with it."""
    logits, target = torch.randn(3, 4), torch.tensor([1, 0, 2])
    logits[:, 3] = -math.inf
    expected = F.cross_entropy(logits, target, label_smoothing=smoothing)
    assert_close(label_smoothed_loss(logits, target, smoothing), expected)


@property_test
@given(step=st.integers(1, 100_000), d_model=st.integers(1, 2048), warmup=st.integers(1, 10_000))
def test_learning_rate_rises_then_falls(step, d_model, warmup):
    rate = warmup_learning_rate(step, d_model, warmup)
    highest = 1 / math.sqrt(d_model * warmup)
    expected = highest * (step / warmup if step <= warmup else math.sqrt(warmup / step))
    assert rate == pytest.approx(expected)


# --- the config and the count -------------------------------------------------------


def test_base_model_has_the_number_of_parameters_that_was_derived():
    model = Transformer(TransformerConfig(1000, 1000, share_embeddings=True))
    assert sum(p.numel() for p in model.parameters()) == 44_138_496 + 1000 * 512


def test_shared_embeddings_are_one_matrix():
    model = Transformer(small(share_embeddings=True))
    assert model.output.weight is model.source_embedding.weight
    assert model.target_embedding.weight is model.source_embedding.weight


# --- what would be silently wrong is refused ----------------------------------------


@pytest.mark.parametrize(
    ("choices", "named"),
    [
        ({"num_heads": 0}, "num_heads is 0; expected at least 1"),
        ({"encoder_layers": 0}, "encoder_layers is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"attention_dropout": -0.1}, "attention_dropout is -0.1"),
        ({"norm_eps": math.nan}, "norm_eps is nan"),
        ({"end_id": 9}, "end_id is 9; expected an id from 0 to 8"),
        ({"pad_id": 8, "source_vocab_size": 8}, "pad_id is 8; expected an id from 0 to 7"),
        ({"begin_id": 2}, "expected different"),
        ({"share_embeddings": True, "source_vocab_size": 10}, "target_vocab_size is 9"),
    ],
)
def test_choices_that_do_not_fit_are_refused(choices, named):
    with pytest.raises(ValueError, match=named):
        small(**choices)


def test_numbers_of_numpy_are_taken():
    config = small(source_vocab_size=np.int64(20), max_length=np.arange(9).max())
    assert config == small(source_vocab_size=20, max_length=8)
    assert sinusoidal_positions(np.int32(3), np.int64(8)).shape == (3, 8)


@pytest.mark.parametrize(
    ("name", "value"), [("norm", "middle"), ("causal", "no"), ("d_model", 8.5), ("dropout", "0")]
)
def test_choices_of_another_kind_are_refused(name, value):
    with pytest.raises(TypeError, match=name):
        small(**{name: value})


IDS = torch.full((2, 5), 3)
MEMORY = torch.zeros(2, 5, 8, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.encode(IDS[0]), "source"),
        (lambda m: m.encode(IDS.double()), "source"),
        (lambda m: m.encode(IDS, IDS), "source_mask"),
        (lambda m: m.encode(IDS, IDS[:, :4] > 0), "source_mask"),
        (lambda m: m(IDS, IDS[:1]), "target"),
        (lambda m: m.decode(IDS, MEMORY[..., :7], None), "memory"),
        (lambda m: m.decode(IDS, MEMORY, IDS[:1] > 0), "source_mask"),
        (lambda m: m.encoder(MEMORY, torch.ones(5, 5)), "mask"),
        (lambda m: LayerNorm(4)(MEMORY), "x"),
        (lambda m: sinusoidal_positions(3, 5), "the return value"),
        (lambda m: label_smoothed_loss(MEMORY, IDS[:, :4]), "target"),
        (lambda m: label_smoothed_loss(MEMORY, IDS.double()), "target"),
        (lambda m: state_from_torch(nn.Linear(2, 2)), "stack"),
        (lambda m: m.encode(IDS.repeat(1, 2)), "10 ids and max_length is 8"),
        (lambda m: m.generate(IDS, max_length=9), "max_length is 9; expected 1 to 8"),
        (lambda m: m.generate(IDS, num_beams=2, length_penalty=1e30), "expected -10 to 10"),
        (lambda m: label_smoothed_loss(MEMORY, IDS, 1.0), "smoothing is 1.0"),
        (lambda m: m.encode(IDS + 6), "index out of range"),
        (lambda m: label_smoothed_loss(MEMORY, IDS + 5), "out of bounds"),
    ],
)
def test_what_would_be_silently_wrong_is_refused(call, said):
    with pytest.raises((TypeError, ValueError, IndexError, RuntimeError), match=said):
        call(Transformer(small()))
