"""Our Transformer against PyTorch's and transformers', and against brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from transformers.models.bert.modeling_bert import BertConfig, BertEncoder

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

property_test = settings(deadline=None, derandomize=True, max_examples=50)
writing_test = settings(property_test, max_examples=20)  # each case runs a model dozens of times
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


def equal_stacks(config: TransformerConfig) -> tuple[nn.Transformer, Encoder, Decoder]:
    """PyTorch's stacks, and our encoder and decoder with their weights."""
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
    encoder, decoder = Encoder(config).eval(), Decoder(config).eval()
    encoder.load_state_dict(state_from_torch(reference.encoder))
    decoder.load_state_dict(state_from_torch(reference.decoder))
    return reference.eval(), encoder, decoder


def for_torch(mask: torch.Tensor, heads: int) -> torch.Tensor:
    """Ours says may attend, once for all heads; PyTorch's may not, for each head."""
    return (~mask).repeat_interleave(heads, dim=0)


def assert_close(ours, theirs, atol=1e-9, rtol=1e-7):
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=rtol)


def assert_same_with_gradients(ours, theirs, *inputs):
    assert_close(ours, theirs)
    direction = torch.randn_like(theirs)
    mine, other = (torch.autograd.grad(out, inputs, direction) for out in (ours, theirs))
    assert_close(mine, other)


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
    assert_same_with_gradients(ours(x), theirs(x), x)


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


@property_test
@given(
    config=configs(), rows=st.integers(1, 3), n=st.integers(1, 6), m=st.integers(1, 5), seed=seeds
)
def test_stacks_are_pytorchs_under_any_masks(config, rows, n, m, seed):
    torch.manual_seed(seed)
    reference, encoder, decoder = equal_stacks(config)
    x = torch.randn(rows, n, config.d_model, requires_grad=True)
    memory = torch.randn(rows, m, config.d_model, requires_grad=True)
    mask, across = random_mask(rows, n, n), random_mask(rows, n, m)
    theirs = [for_torch(one, config.num_heads) for one in (mask, across)]
    assert_same_with_gradients(encoder(x, mask), reference.encoder(x, theirs[0]), x)
    decoded = reference.decoder(x, memory, *theirs)
    assert_same_with_gradients(decoder(x, memory, mask, across), decoded, x, memory)


@property_test
@given(config=configs(), n=st.integers(1, 6), m=st.integers(1, 6), seed=seeds)
def test_whole_model_is_pytorchs(config, n, m, seed):
    """Embeddings, positions, padding, the causal mask and the output, computed apart."""
    torch.manual_seed(seed)
    model = Transformer(config).eval()
    reference, model.encoder, model.decoder = equal_stacks(config)
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


@property_test
@given(
    heads=st.sampled_from([1, 2, 3]), d_k=st.sampled_from([2, 4]), layers=st.integers(1, 3),
    rows=st.integers(1, 3), n=st.integers(1, 6), seed=seeds,
)  # fmt: skip
def test_encoder_is_berts(heads, d_k, layers, rows, n, seed):
    torch.manual_seed(seed)
    theirs = BertConfig(
        vocab_size=9, hidden_size=heads * d_k, num_attention_heads=heads, num_hidden_layers=layers,
        intermediate_size=13, attn_implementation="eager",
    )  # fmt: skip
    bert = BertEncoder(theirs).eval()
    for parameter in bert.parameters():
        nn.init.normal_(parameter, std=0.5)
    sizes = {"d_model": heads * d_k, "num_heads": heads, "encoder_layers": layers, "d_ff": 13}
    config = TransformerConfig(9, 9, **sizes, activation="gelu", norm_eps=theirs.layer_norm_eps)
    ours = Encoder(config).eval()
    ours.load_state_dict(state_from_bert(bert))
    x, mask = torch.randn(rows, n, heads * d_k), padding_mask(random_ids(9, rows, n) != 0)
    added = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(x.dtype).min).unsqueeze(1)
    assert_close(ours(x, mask), bert(x, added).last_hidden_state)


def test_an_explicit_mask_hides_tokens_too():
    model = make(Transformer, small(), 1)
    source, target = torch.randint(3, 9, (2, 5)), torch.randint(3, 9, (2, 4))
    mask = torch.tensor([[True, True, True, False, False]] * 2)
    assert_close(model(source, target, mask), model(source[:, :3], target))


@property_test
@given(config=configs(), n=st.integers(1, 6), m=st.integers(1, 6), seed=seeds)
def test_cross_attention_shows_the_weights_that_were_used(config, n, m, seed):
    model = make(Transformer, config, seed).train()
    source = random_ids(config.source_vocab_size, 2, n)
    target = torch.randint(1, config.target_vocab_size, (2, m))
    weights = model.cross_attention(source, target)
    assert weights.shape == (2, config.decoder_layers, config.num_heads, m, n)
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


def best_of_few(next_logits, beams: int, longest: int, penalty: float) -> tuple[float, dict]:
    """Beam search with lists, in float64: the best score, and the score of each last answer."""

    def score(answer):
        return answer[1] / ((5 + len(answer[0])) / 6) ** penalty

    kept = [((), 0.0)]
    for _ in range(longest):
        longer = [(ids, log_p) for ids, log_p in kept if 2 in ids]
        for ids, log_p in kept:
            if 2 not in ids:
                row = next_logits((1, *ids)).double()[2:].log_softmax(-1).tolist()
                longer += [((*ids, i), log_p + one) for i, one in enumerate(row, start=2)]
        kept = sorted(longer, key=score, reverse=True)[:beams]
    return score(kept[0]), {ids: score((ids, log_p)) for ids, log_p in kept}


@property_test
@given(
    seed=seeds,
    beams=st.sampled_from([1, 2, 20]),  # of at most 15 answers: with 20 beams all are compared
    penalty=st.sampled_from([0.0, 0.6, 1.5]),
    longest=st.integers(1, 3),
)
@torch.no_grad()
def test_the_model_writes_the_best_of_all_answers_or_of_those_that_it_keeps(
    seed, beams, penalty, longest
):
    model = make(Transformer, small(source_vocab_size=6, target_vocab_size=5), seed)
    model.output.weight.mul_(3)  # so that answers differ clearly
    source = torch.randint(3, 6, (1, 3))
    found = model.generate(source, max_length=longest, num_beams=beams, length_penalty=penalty)
    best, scores = best_of_few(
        lambda ids: model(source, torch.tensor([ids]))[0, -1], beams, longest, penalty
    )
    answer = tuple(i for i in found[0].tolist() if i)
    assert scores[answer] == pytest.approx(best, abs=1e-4)


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
    best, scores = best_of_few(lambda ids: tables[len(ids) - 1][ids[-1]], beams, 6, penalty)
    assert scores[tuple(i for i in found[0].tolist() if i)] == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize(("share", "answer"), [(0.99, [3, 2]), (1.01, [2])])
def test_the_length_in_a_score_is_five_and_that_of_the_answer_with_its_end(share, answer):
    """With the penalty 1, log p of two ids may be 7/6 of that of one id, and not more."""
    ends = math.exp(share * 7 / 6 * math.log(0.3)) / 0.7  # the probability of 2 after 3
    first, second = torch.zeros(24), torch.full((24,), (1 - ends) / 20)
    first[2], first[3], second[:4] = 0.3, 0.7, 0.0
    second[2] = ends
    found = beam_search(
        lambda ids: (first, second)[ids.shape[1] - 1].log().expand(len(ids), -1).clone(),
        torch.ones(1, 2, 1).long(), small(), max_length=2, length_penalty=1.0,
    )  # fmt: skip
    assert [i for i in found[0].tolist() if i] == answer


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
    assert_same_with_gradients(ours, theirs, logits)


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


def test_shared_embeddings_are_one_matrix():
    model = Transformer(small(share_embeddings=True))
    assert model.output.weight is model.source_embedding.weight
    assert model.target_embedding.weight is model.source_embedding.weight


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
        ({"num_heads": 3}, "num_heads is 3; expected a divisor of d_model = 8"),
        ({"d_model": 7, "num_heads": 1}, "d_model is 7; expected an even number"),
        ({"norm": "middle"}, "norm"),
        ({"d_model": 8.5}, "d_model"),
    ],
)
def test_choices_that_do_not_fit_are_refused(choices, named):
    with pytest.raises((TypeError, ValueError), match=named):
        small(**choices)


def test_numbers_of_numpy_are_taken():
    config = small(source_vocab_size=np.int64(20), max_length=np.arange(9).max())
    assert config == small(source_vocab_size=20, max_length=8)
    assert {type(config.source_vocab_size), type(config.max_length)} == {int}  # JSON takes no other
    assert sinusoidal_positions(np.int32(3), np.int64(8)).shape == (3, 8)


IDS = torch.full((2, 5), 3)
MEMORY = torch.zeros(2, 5, 8, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.encode(IDS[0]), "source"),
        (lambda m: m.encode(IDS.double()), "source"),
        (lambda m: m.encode(IDS, IDS[:, :4] > 0), "source_mask"),
        (lambda m: m(IDS, IDS[:1]), "target"),
        (lambda m: m.decode(IDS, MEMORY[..., :7], None), "memory"),
        (lambda m: m.decode(IDS, MEMORY, IDS[:1] > 0), "source_mask"),
        (lambda m: m.encoder(MEMORY, torch.ones(5, 5)), "mask"),
        (lambda m: LayerNorm(4)(MEMORY), "x"),
        (lambda m: LayerNorm(4, torch.zeros(())), "eps"),
        (lambda m: sinusoidal_positions(3, 5), "the return value"),
        (lambda m: label_smoothed_loss(MEMORY, IDS[:, :4]), "target"),
        (lambda m: state_from_torch(nn.Linear(2, 2)), "stack"),
        (lambda m: state_from_torch(nn.Transformer(8, 2, 1, 1).encoder), r"stack\.norm = None"),
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
