"""Every public function of ``helpers`` under wrong types, shapes, sizes, NaN, empty and huge input.

The functions are found here by themselves. Each needs an entry in :data:`CASES`: for each
argument a strategy that gives sensible values, and ``right``, which asserts that what was returned
is right for what was given, found out some other way. Hypothesis draws the arguments, and spoils
up to two of them with a value of :data:`WRONG`. The function must then return what is right, or
raise an error that its docstring names under ``Raises``: never a silent wrong answer, never an
error from somewhere within.

The cases are the same in every run of ``make test``. ``make bad-input`` draws many more, others
each time; one that fails is printed, and belongs into the test of the function that it broke.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import io
import json
import math
import os
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from torch import nn
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    EvalPrediction,
)

import helpers
from helpers import assets, attention, checks, finetuning, memory, plots, transformer
from helpers.finetuning import Recipe
from helpers.transformer import TransformerConfig
from tools import faults

pytestmark = pytest.mark.faults

EXAMPLES = 200  # for each function; a slow one says its own number
TIMES = int(os.environ.get("BAD_INPUT", "1"))  # so many times as many


# --- what there is ------------------------------------------------------------------


def modules() -> list[str]:
    found = pkgutil.walk_packages(helpers.__path__, "helpers.")
    return sorted(module.name for module in found)


def public(module_name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each public function, class, and method defined in a module, by its name in it."""
    module = importlib.import_module(module_name)
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module_name:
            continue
        if inspect.isfunction(thing):
            yield name, thing
        elif inspect.isclass(thing) and not issubclass(thing, BaseException):
            yield name, thing
            for method, function in vars(thing).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{name}.{method}", function


def documented(function: Callable[..., Any]) -> set[str]:
    """The names of the errors that a docstring lists under Raises."""
    texts = [inspect.getdoc(function) or ""]
    if inspect.isclass(function):
        texts.append(inspect.getdoc(function.__init__) or "")
    found = set()
    for text in texts:
        section = re.search(r"(?ms)^Raises:\n(.*?)(?=^\S|\Z)", text)
        for line in re.findall(r"(?m)^    (\w+(?:, \w+)*):", section[1] if section else ""):
            found |= set(line.split(", "))
    return found


# --- values -------------------------------------------------------------------------

PLAIN = (
    None, True, -1, 0, 3, 10**30, -0.5, 1.5, math.nan, math.inf, "", "three", b"x", 2 + 1j,
    [], [1, [2]], {}, ("a", None), object(),
)  # fmt: skip
WRONG: tuple[Callable[[], Any], ...] = (
    *((lambda value=value: value) for value in PLAIN),
    lambda: torch.zeros(0),
    lambda: torch.zeros(()),
    lambda: torch.zeros(2, 3),
    lambda: torch.zeros(2, 3, 4),
    lambda: torch.zeros(1, 1, 1, 1, 1),
    lambda: torch.zeros(2, 3, dtype=torch.long),
    lambda: torch.full((2, 3), 10**9),
    lambda: torch.full((2, 3), -1),
    lambda: torch.full((2, 3), 7, dtype=torch.int8),
    lambda: torch.full((2, 3, 4), math.nan),
    lambda: torch.full((2, 3, 4), math.inf),
    lambda: torch.full((2, 3, 4), 1e38),
    lambda: torch.zeros(2, 0, 4),
    lambda: torch.zeros(2, 3, 4, dtype=torch.float16),
    lambda: torch.zeros(2, 3, 4, dtype=torch.complex64),
    lambda: torch.tensor([True, False]),
    lambda: np.zeros((2, 3)),
    lambda: np.array(["a", None], dtype=object),
)  # fmt: skip

integers = st.integers(1, 6)
shares = st.sampled_from([0.0, 0.0, 0.1, 0.5])
# Most floats are of no use to a recipe; with these alone it would hardly ever be answered.
likely = st.floats(0.01, 3.0) | st.floats()
words = st.sampled_from(["a", "film", "Ünï", "<br />", "", " ", "\0", "李"])
texts = st.lists(words, max_size=8).map(" ".join)
paths = st.sampled_from(["there", "not there", ""])
anything = st.sampled_from(WRONG).map(lambda make: make())


@st.composite
def vectors(draw, *shape: int, spoil: bool = True) -> torch.Tensor:
    """A tensor of that shape, or with one more or one less in some dimension."""
    sizes = list(shape)
    if spoil and draw(st.integers(0, 3)) == 0:
        sizes[draw(st.integers(0, len(sizes) - 1))] += draw(st.sampled_from([-1, 1]))
    seed = draw(st.integers(0, 50))
    made = torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))
    if spoil and made.numel() and draw(st.integers(0, 5)) == 0:
        worst = draw(st.sampled_from([math.nan, math.inf, -math.inf, 3e38, 1e-40]))
        made.view(-1)[draw(st.integers(0, made.numel() - 1))] = worst
    return made


@st.composite
def ids(draw, batch: int = 2, length: int = 4, size: int = 11) -> torch.Tensor:
    number = st.integers(-1, size) if draw(st.integers(0, 4)) == 0 else st.integers(0, size - 1)
    rows = draw(st.lists(st.lists(number, min_size=length, max_size=length),
                         min_size=batch, max_size=batch))  # fmt: skip
    return torch.tensor(rows)


masks = st.sampled_from(
    [
        None, torch.ones(3, 5, dtype=torch.bool), torch.ones(3, 5, dtype=torch.bool).tril(),
        torch.zeros(3, 5, dtype=torch.bool), torch.ones(2, 1, 5, dtype=torch.bool),
        torch.tensor([[[1, 1, 1, 0, 0]], [[1, 1, 1, 1, 1]]]).bool(),
        torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 5),
    ]
)  # fmt: skip
square_masks = st.sampled_from([None, torch.ones(3, 3, dtype=torch.bool).tril(), torch.ones(3, 3)])

SMALL = TransformerConfig(
    11, 11, d_model=4, num_heads=2, encoder_layers=1, decoder_layers=1, d_ff=8, dropout=0.0,
    max_length=6,
)  # fmt: skip
configs = st.sampled_from([SMALL, TransformerConfig(**{**vars(SMALL), "norm": "pre"})])


def finite(*values: Any) -> bool:
    return all(
        bool(torch.isfinite(value).all()) and bool((value.abs() < 1e6).all())
        for value in values
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    )


# --- what is right ------------------------------------------------------------------


def reference(query, key, value, mask) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention in double precision, one query at a time."""
    query, key, value = (one.double() for one in (query, key, value))
    scores = torch.einsum("...qd,...kd->...qk", query, key) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = torch.nan_to_num(scores.softmax(-1), nan=0.0)
    return torch.einsum("...qk,...kd->...qd", weights, value), weights


def right_attention(result, query, key, value, mask, dropout=0.0) -> None:
    output, weights = result
    expected, expected_weights = reference(query, key, value, mask)
    assert weights.shape == expected_weights.shape
    assert output.shape == expected.shape
    tolerance = {"atol": 1e-2, "rtol": 1e-2} if query.dtype == torch.float16 else {"atol": 1e-4}
    if finite(query, key, value):
        assert np.allclose(weights.double(), expected_weights, **tolerance)
        if not dropout:
            assert np.allclose(output.double(), expected, **tolerance)
    elif not torch.isfinite(value).all() and not dropout and mask is None and output.numel():
        assert not torch.isfinite(output).all(), "a NaN went in and none came out"


def right_tiled(result, query, key, value, mask, tile) -> None:
    expected, _ = reference(query, key, value, mask)
    assert result.shape == expected.shape
    if finite(query, key, value):
        assert np.allclose(
            result.double(), expected, atol=1e-2 if query.dtype.itemsize < 4 else 1e-4
        )


def right_softmax(result, scores, mask) -> None:
    assert result.shape == scores.shape
    if finite(scores) and scores.ndim:
        sums = result.sum(-1)
        assert bool(((sums - 1).abs() < 1e-2).logical_or(sums == 0).all())
        if mask is not None:
            assert bool((result.masked_select(~mask.expand(scores.shape)) == 0).all())
    elif bool(scores.isnan().any()) and mask is None:
        assert bool(result.isnan().any())


def right_heads(result, query, key, value, mask) -> None:
    given = (query, key, value)
    output, weights = PYTORCH_HEADS(
        *(one.double() for one in given),
        attn_mask=hidden(mask, query, key),
        average_attn_weights=False,
    )
    assert result[1].shape == (query.shape[0], 2, query.shape[1], key.shape[1])
    as_pytorch(result[0], given, output)
    as_pytorch(result[1], (query, key), weights)


def right_positions(result, length, d_model) -> None:
    for p in range(length):
        for i in range(d_model):
            angle = p / 10_000 ** ((i - i % 2) / d_model)
            assert result[p, i] == pytest.approx((math.cos if i % 2 else math.sin)(angle), abs=1e-6)


def right_norm(result, x) -> None:
    assert result.shape == x.shape
    if finite(x) and x.numel():
        variance = x.double().var(-1, unbiased=False, keepdim=True)
        expected = (x.double() - x.double().mean(-1, keepdim=True)) / (variance + 1e-5).sqrt()
        assert np.allclose(result.detach().double(), expected, atol=2e-3, rtol=1e-3)
    elif bool(x.isnan().any()):
        assert bool(result.isnan().any())


def as_pytorch(result, given: tuple[torch.Tensor, ...], expected: torch.Tensor) -> None:
    """What PyTorch answers in double precision, but for queries that may see nothing: NaN there."""
    if finite(*given):
        assert result.shape == expected.shape
        assert bool(torch.isfinite(result).all())
        answered = expected.isfinite()
        assert np.allclose(
            result[answered].detach().double(), expected[answered].detach(), atol=1e-3, rtol=1e-3
        )
    elif any(bool(one.isnan().all()) and one.numel() for one in given):
        assert bool(result.isnan().any()), "only NaN went in and none came out"


def hidden(mask, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor | None:
    """Ours says what may be seen, PyTorch's what may not, for each of the two heads."""
    if mask is None:
        return None
    mask = mask.unsqueeze(1) if mask.ndim == 3 else mask  # the same for every head
    return (~mask).expand(len(queries), 2, queries.shape[1], keys.shape[1]).flatten(0, 1)


def right_feed_forward(result, x) -> None:
    layer = PYTORCH.encoder.layers[0]
    as_pytorch(result, (x,), layer.linear2(layer.linear1(x.double()).relu()))


def right_residual(result, x, sublayer) -> None:
    summed = x.double() + sublayer(x.double())
    as_pytorch(result, (x,), nn.functional.layer_norm(summed, summed.shape[-1:]))


def right_encoding(result, x, mask) -> None:
    as_pytorch(result, (x,), PYTORCH.encoder(x.double(), mask=hidden(mask, x, x)))


def right_decoding(result, x, memory, mask, memory_mask) -> None:
    masks = {"tgt_mask": hidden(mask, x, x), "memory_mask": hidden(memory_mask, x, memory)}
    as_pytorch(result, (x, memory), PYTORCH.decoder(x.double(), memory.double(), **masks))


def embedded(table: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    positions = transformer.sinusoidal_positions(ids.shape[1], 4)
    return (table.weight[ids] * 4**0.5 + positions).double()


def right_states(result, source, source_mask) -> None:
    unseen = source == SMALL.pad_id if source_mask is None else ~source_mask
    x = embedded(MODEL.source_embedding, source)
    as_pytorch(result, (x,), PYTORCH.encoder(x, src_key_padding_mask=unseen))


def right_logits(result, target, memory, source_mask) -> None:
    x = embedded(MODEL.target_embedding, target)
    unseen = None if source_mask is None else ~source_mask
    later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    states = PYTORCH.decoder(
        x, memory.double(), tgt_mask=later, memory_key_padding_mask=unseen,
        tgt_key_padding_mask=target == SMALL.pad_id,
    )  # fmt: skip
    as_pytorch(result, (x, memory), states @ MODEL.output.weight.double().T)


def right_looks(result, source, target) -> None:
    """Shares of what is no padding; of nothing where there is only padding."""
    assert result.shape == (len(source), 1, 2, target.shape[1], source.shape[1])
    seen = (source != SMALL.pad_id)[:, None, None, None].expand(result.shape)
    assert bool((result.masked_select(~seen) == 0).all())
    assert np.allclose(result.sum(-1), seen.any(-1), atol=1e-5)


def right_loss(result, logits, target, smoothing, ignore_id) -> None:
    if not target.numel():
        assert bool(result.isnan())
        return
    rows, answers = logits.reshape(-1, logits.shape[-1]), target.reshape(-1)
    if finite(logits):  # else the sums overflow, where PyTorch's do so too
        rows = rows.double()
    if ignore_id is not None:
        rows, answers = rows[answers != ignore_id], answers[answers != ignore_id]
    expected = nn.functional.cross_entropy(rows, answers.long(), label_smoothing=smoothing)
    assert np.allclose(result.double(), expected, rtol=1e-3, atol=1e-3, equal_nan=True)


def right_rate(result, step, d_model, warmup_steps) -> None:
    low = min(1 / math.sqrt(step), step / warmup_steps**1.5)
    assert result == pytest.approx(low / math.sqrt(d_model))


def right_generation(result, source, max_length, num_beams, length_penalty) -> None:
    assert len(result) == len(source)
    assert 1 <= result.shape[1] <= (max_length or 6)
    assert int(result.min()) >= 0
    assert int(result.max()) < 11
    assert not bool((result == SMALL.begin_id).any())
    if num_beams > 1:
        return
    # Greedy: at each step, no other id that may be written has a higher score.
    written = torch.cat((torch.full_like(result[:, :1], SMALL.begin_id), result), dim=1)
    for step in range(result.shape[1]):
        scores = MODEL(source, written[:, : step + 1])[:, -1]
        scores[:, [SMALL.pad_id, SMALL.begin_id]] = -math.inf
        best, taken = scores.amax(-1), scores.gather(1, result[:, step : step + 1]).squeeze(1)
        ended = (written[:, : step + 1] == SMALL.end_id).any(1)
        assert bool((ended | (taken > best - 1e-4)).all())


def right_split(result, reviews, test, validation, stretches) -> None:
    rows = {name: set(part["position"]) for name, part in result.items()}
    assert sum(map(len, rows.values())) == len(set().union(*rows.values()))
    assert len(rows.get("test", ())) == test // (2 * stretches) * 2 * stretches
    assert len(rows.get("validation", ())) == validation // (2 * stretches) * 2 * stretches
    for held in ("test", "validation"):
        for other in ("train", "test", "validation"):
            if other != held and rows.get(held) and rows.get(other):
                for label in (0, 1):
                    half = [{p for p in rows[n] if (p >= 400) == label} for n in (held, other)]
                    assert min(abs(a - b) for a in half[0] for b in half[1]) > finetuning.FILM_GAP


def right_shortened(result, ids, length, head) -> None:
    assert len(result) == min(len(ids), length)
    assert result[:head] == list(ids)[: min(head, len(result))]
    tail = len(result) - min(head, len(result))
    assert result[len(result) - tail :] == list(ids)[len(ids) - tail :]


def right_tokens(result, reviews, tokenizer, max_length, head_share) -> None:
    assert len(result) == len(reviews)
    for row in result:
        assert len(row["input_ids"]) == row["length"] == len(row["attention_mask"]) <= max_length


def right_links(result, names, shared) -> None:
    dense = (names.toarray() @ names.toarray().T).astype(float)
    expected = [(i, j) for i in range(len(dense)) for j in range(i) if dense[i, j] >= shared]
    assert sorted((int(b), int(a)) for a, b in result) == sorted(expected)


def right_names(result, texts, least, most) -> None:
    found = [set(re.findall(r"\b[A-Z][a-z]{2,}\b", text)) for text in texts]
    counts = Counter(name for names in found for name in names)
    rare = {name for name, count in counts.items() if least <= count <= most}
    assert result.shape == (len(texts), len(rare))
    assert result.sum(axis=1).A1.tolist() == [len(names & rare) for names in found]


def right_drop(result, splits, links) -> None:
    kept = {name: set(result[name]["position"]) for name in result}
    assert kept["test"] == set(splits["test"]["position"])
    for left, right in np.asarray(links).tolist():
        for a, b in ((left, right), (right, left)):
            assert not (a in kept["test"] and b in kept["train"] | kept["validation"])
            assert not (a in kept["validation"] and b in kept["train"])


def right_close(_, name, ours, theirs, atol, rtol, **__: Any) -> None:
    assert np.allclose(
        checks._as_array(ours),
        checks._as_array(theirs),
        atol=float(atol),
        rtol=float(rtol),
        equal_nan=True,
    )


def right_equal(_, name, ours, theirs) -> None:
    if isinstance(ours, (torch.Tensor, np.ndarray)) or isinstance(
        theirs, (torch.Tensor, np.ndarray)
    ):
        assert np.array_equal(checks._as_array(ours), checks._as_array(theirs))
    else:
        assert ours == theirs


def right_accuracy(result, predictions) -> None:
    chosen = [max(range(len(row)), key=row.__getitem__) for row in predictions.predictions.tolist()]
    right = sum(a == b for a, b in zip(chosen, predictions.label_ids.tolist(), strict=True))
    assert result == {"accuracy": pytest.approx(right / len(chosen))}


def right_svg(result, figure, alt) -> None:
    assert result.startswith("<figure")
    assert 'role="img"' in result
    assert "</svg>" in result


def right_frozen(result, model, which) -> None:
    changing = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert changing
    assert any("embeddings" in name for name in changing) == (which == "all")


def right_main(result, arguments) -> None:
    assert result in (0, 1)


def exists(result, *_: Any, **__: Any) -> None:
    assert result is not None


def right_records(result, chapter) -> None:
    (written,) = checks.records_folder().glob(f"{chapter}.*")
    assert json.loads(written.read_text(encoding="utf-8"))["checks"] == []


def right_seal(result, folder) -> None:
    manifest = json.loads((Path(folder) / assets.MANIFEST).read_text(encoding="utf-8"))
    expected = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).rglob("*")
        if path.is_file() and path != Path(folder) / assets.MANIFEST
    }
    assert manifest["sha256"] == expected


def shown(figure, alt) -> str:
    """What plots.show hands to the notebook."""
    with mock.patch("IPython.display.display") as display:
        plots.show(figure, alt)
    return display.call_args.args[0].data


def printed(args) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        finetuning.PlainProgress().on_log(args)
    return out.getvalue()


def added(model, bias) -> torch.Tensor | None:
    """The biases before they were changed; if they are refused, none is."""
    layer = getattr(model, "classifier", None)
    before = layer.bias.detach().clone() if layer else None
    try:
        finetuning.add_to_bias(model, bias)
    except Exception:
        assert before is None or torch.equal(before, layer.bias)
        raise
    return before


def right_sum(before, model, bias) -> None:
    after = model.classifier.bias.detach()
    assert bool(torch.isfinite(after).all())
    assert np.allclose(after - before, np.asarray(bias, dtype=float), atol=1e-6)


def right_files(result, trainer, folder) -> None:
    folder = Path(folder).absolute()  # to transformers an empty name is none
    saved = BertForSequenceClassification.from_pretrained(folder).state_dict()
    assert all(torch.equal(one, saved[name]) for name, one in trainer.model.state_dict().items())
    assert not list(folder.glob("*.bin"))


def unchanged(result, **arguments: Any) -> None:
    for name, value in arguments.items():
        assert getattr(result, name) is value


# --- things to pass -----------------------------------------------------------------


def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(assets.model("encoder"))


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(vocab_size=30522, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                   intermediate_size=8)
    )  # fmt: skip


def reviews(labels: list[int], **more: list[Any]) -> Dataset:
    rows = [f"Anna Bert {i} film" for i in range(len(labels))]
    return Dataset.from_dict({"text": rows, "label": labels, **more})


# One layer each, so a layer alone answers as the stack does.
PYTORCH = nn.Transformer(4, 2, 1, 1, 8, dropout=0.0, batch_first=True).eval()
PYTORCH.encoder.norm = PYTORCH.decoder.norm = None
MODEL = transformer.Transformer(SMALL).eval()
MODEL.encoder.load_state_dict(transformer.state_from_torch(PYTORCH.encoder))
MODEL.decoder.load_state_dict(transformer.state_from_torch(PYTORCH.decoder))
LAYER, DECODER_LAYER = MODEL.encoder.layers[0], MODEL.decoder.layers[0]
PYTORCH.double()
HEADS = DECODER_LAYER.cross_attention
PYTORCH_HEADS = PYTORCH.decoder.layers[0].multihead_attn
ONCE: dict[str, Any] = {}


def once(name: str, make: Callable[[], Any]) -> Any:
    if name not in ONCE:
        ONCE[name] = make()
    return ONCE[name]


@st.composite
def split_sets(draw) -> DatasetDict:
    labels = draw(st.sampled_from([
        [0] * 400 + [1] * 400, [0] * 400 + [1] * 400, [1] * 4 + [0] * 4, [0, 0, 1, 1, 2, 2], [0] * 8
    ]))  # fmt: skip
    return DatasetDict(train=reviews(labels))


@st.composite
def positioned(draw) -> DatasetDict:
    names = draw(st.sampled_from([("train", "validation", "test")] * 4 + [("train", "test")]))
    size = draw(st.integers(1, 4))
    return DatasetDict({
        name: reviews([0] * size, position=[10 * n + i for i in range(size)])
        for n, name in enumerate(names)
    })  # fmt: skip


small_recipes = st.just(Recipe(max_length=8, read_length=8))
models = st.builds(bert)
axes_given = st.builds(lambda: plots.new()[1])
figures = st.builds(lambda: plots.new()[0])


def arguments_for(folder: Path) -> finetuning.TrainingArguments:
    return finetuning.training_arguments(Recipe(), folder, validate=False, bf16=False)


def trainer() -> finetuning.Trainer:
    return once(
        "trainer",
        lambda: finetuning.build_trainer(
            bert(), once("tokenizer", tokenizer), arguments_for(Path("runs"))
        ),
    )


def sealed(folder: str) -> Any:
    return Path("sealed") if folder == "there" else Path(folder or ".") / "x"


def explorable(sentences: int) -> dict[str, tuple[list[str], np.ndarray]]:
    """Sentences of two tokens, read by two layers of three heads that look at themselves."""
    weights = np.broadcast_to(np.eye(2), (2, 3, 2, 2))
    return {f"a <b> {number}": (["a", "<b>"], weights) for number in range(sentences)}


def right_bias(result: np.ndarray, logits: Any, labels: Any) -> None:
    """At the optimum the average probability of each label is its share."""
    logs = torch.as_tensor(np.asarray(logits, dtype=float) + result).log_softmax(-1)
    shares = np.bincount(np.asarray(labels, dtype=int)) / len(labels)
    assert abs(result.sum()) < 1e-6
    np.testing.assert_allclose(logs.exp().mean(0).numpy(), shares, atol=1e-3)


# --- the cases ----------------------------------------------------------------------


@dataclass
class Case:
    """How to call a function, and how to tell whether its answer is right."""

    arguments: dict[str, st.SearchStrategy] = field(default_factory=dict)
    right: Callable[..., None] = exists
    call: Callable[..., Any] | None = None  # for a method: the bound one
    also: tuple[type[BaseException], ...] = ()  # documented elsewhere; say where
    examples: int = EXAMPLES
    spoil: bool = True  # False for commands: whatever is typed is a string


qkv = {"query": vectors(2, 3, 4), "key": vectors(2, 5, 4), "value": vectors(2, 5, 4)}
numbers = st.one_of(st.floats(), st.integers(), vectors(2, 2), st.just([1, 2**60]), anything)
bounds = {"drift": st.sampled_from([None, None, 0.1]), "unit": st.just(""),
          "varies": st.sampled_from(["", "", "timing"])}  # fmt: skip
x_given = {"x": vectors(2, 3, 4)}
decoder_given = {"x": vectors(2, 3, 4), "memory": vectors(2, 5, 4), "mask": square_masks,
                 "memory_mask": masks}  # fmt: skip
config_given = {"config": configs}
file_names = st.sampled_from(["encoder", "imdb", "accuracy", "nothing"])

CASES: dict[str, Case] = {
    "profiles.current": Case(right=lambda result: _one_of(result, "small", "full")),
    "profiles.pick": Case(
        {"small": anything, "full": anything}, lambda result, small, full: _same(result, small)
    ),
    "profiles.rehearsal": Case(right=lambda result: _same(result, None)),
    "profiles.steps": Case(
        {"planned": st.integers(-2, 2**70)}, lambda result, planned: _same(result, planned)
    ),
    "explorer.AttentionExplorer": Case(
        {
            "read": st.integers(0, 2).map(explorable),
            "layer": st.integers(-1, 2),
            "head": st.integers(-1, 3),
            "word": st.sampled_from(["a", "<b>", "none"]),
            "alt": st.sampled_from(["Each word looks at itself.", ""]),
        },
        lambda result, read, **given: _same(result.data["start"]["layer"], given["layer"]),
        examples=25,
    ),
    "explorer.read_weights": Case(
        {
            "written": st.sampled_from(["AAAA", "ZAAy", "", "?", "AAA"]),
            "shape": st.sampled_from([(3,), (1, 3, 1), (2,), (0,), (-1,)]),
        },
        lambda result, written, shape: _same(result.shape, tuple(shape)),
    ),
    "memory.available": Case(right=lambda result: _between(result, 0, 2**60)),
    "memory.peak": Case(right=lambda result: _between(result, 2**20, 2**50)),
    "memory.require": Case(
        {"needed": st.integers(-5, 2**60), "purpose": texts},
        lambda result, needed, purpose: _between(needed, 0, memory.available() * 1.1),
    ),
    "assets.Wheel": Case(
        dict.fromkeys(("package", "version", "sha256", "megabytes"), anything), unchanged
    ),
    "assets.Asset": Case(
        dict.fromkeys(
            ("name", "kind", "about", "licence", "wheel", "files", "hub_id", "hub_revision"),
            anything,
        ),
        unchanged,
    ),
    "assets.model": Case({"name": file_names}, lambda result, name: _same(name, "encoder")),
    "assets.dataset": Case({"name": file_names}, lambda result, name: _same(name, "imdb")),
    "assets.fetch": Case({"name": file_names}, lambda result, name: _same(result.name, name)),
    "assets.problems": Case({"name": file_names}, lambda result, name: _same(result, [])),
    "assets.used": Case(right=exists),
    "assets.cache_folder": Case(right=exists),
    "assets.seal": Case({"folder": paths.map(sealed)}, right_seal),
    "assets.damage": Case(
        {"folder": paths.map(sealed), "pinned": st.sampled_from([None, {}])},
        lambda result, folder, pinned: _damage(result, folder),
    ),
    "assets.main": Case(
        {
            "arguments": st.lists(
                st.sampled_from(["list", "verify", "imdb", "no"]), min_size=1, max_size=2
            )
        },
        right_main,
        also=(SystemExit,),
        spoil=False,
    ),  # argparse's own
    "checks.begin": Case(
        {"chapter": st.sampled_from(["01-a", "", "a/b", "..", "x\0y", "李"])}, right_records
    ),
    "checks.check_close": Case(
        {
            "name": texts,
            "ours": numbers,
            "theirs": numbers,
            "atol": st.sampled_from([0.0, 1e-3, 1e30]),
            "rtol": st.sampled_from([0.0, 0.1]),
        },
        right_close,
    ),
    "checks.check_equal": Case({"name": texts, "ours": numbers, "theirs": numbers}, right_equal),
    "checks.check_at_least": Case(
        {"name": texts, "value": st.floats(), "bound": st.floats(), **bounds},
        lambda result, name, value, bound, **_: _between(float(bound), -math.inf, float(value)),
    ),
    "checks.check_at_most": Case(
        {"name": texts, "value": st.floats(), "bound": st.floats(), **bounds},
        lambda result, name, value, bound, **_: _between(float(value), -math.inf, float(bound)),
    ),
    "checks.records_folder": Case(right=exists),
    "plots.new": Case(
        {
            "rows": integers,
            "columns": integers,
            "width": st.floats(0.5, 9),
            "height": st.floats(0.5, 9),
        },
        exists,
        examples=12,
    ),
    "plots.heatmap": Case(
        {
            "axes": axes_given,
            "values": vectors(2, 3),
            "rows": st.just(["a", "b"]),
            "columns": st.just(["c", "d", "e"]),
        },
        lambda result, axes, values, rows, columns: _same(
            np.asarray(result.get_array()).shape, (len(rows), len(columns))
        ),
        examples=15,
    ),
    "plots.as_svg": Case(
        {"figure": figures, "alt": st.just("It says what it shows.")}, right_svg, examples=12
    ),
    "plots.show": Case(
        {"figure": figures, "alt": st.just("It says what it shows.")},
        right_svg,
        shown,
        examples=8,
    ),
    "metrics.path": Case({"name": file_names}, lambda result, name: _same(name, "accuracy")),
    "metrics.accuracy.Accuracy": Case(right=exists, examples=1),
    "attention.scaled_dot_product_attention": Case(
        {**qkv, "mask": masks, "dropout": shares}, right_attention, examples=120
    ),
    "attention.masked_softmax": Case({"scores": vectors(2, 3, 5), "mask": masks}, right_softmax),
    "attention.tiled_attention": Case(
        {**qkv, "mask": masks, "tile": integers}, right_tiled, examples=80
    ),
    "attention.MultiHeadAttention": Case(
        {"d_model": integers, "num_heads": integers, "dropout": shares}
    ),
    "attention.MultiHeadAttention.forward": Case({**qkv, "mask": masks}, right_heads, HEADS),
    "attention.MultiHeadAttention.extra_repr": Case(
        call=attention.MultiHeadAttention(4, 2).extra_repr
    ),
    "attention.split_heads": Case(
        {"vectors": vectors(2, 3, 4), "num_heads": integers},
        lambda result, vectors, num_heads: _equal(attention.merge_heads(result), vectors),
    ),
    "attention.merge_heads": Case(
        {"vectors": vectors(2, 2, 3, 4)},
        lambda result, vectors: (
            _equal(attention.split_heads(result, vectors.shape[1]), vectors)
            if vectors.numel()
            else None
        ),
    ),
    "attention.causal_mask": Case(
        {"length": st.integers(0, 9)},
        lambda result, length: _same(
            result.tolist(), [[j <= i for j in range(length)] for i in range(length)]
        ),
    ),
    "attention.padding_mask": Case(
        {"attention_mask": st.sampled_from([torch.ones(2, 3), torch.tensor([[1, 0], [2, 1]])])},
        lambda result, attention_mask: _same(result[:, 0].tolist(), attention_mask.bool().tolist()),
    ),
    "attention.require_dtype_of": Case(
        {"weight": vectors(2, 2), "name": texts, "tensor": vectors(2, 2)},
        lambda result, weight, name, tensor: _same(tensor.dtype, weight.dtype),
    ),
    "attention.require_integer": Case(
        {"name": texts, "value": st.integers(-5, 5), "least": st.integers(-2, 2)},
        lambda result, name, value, least: _between(value, least, 2**31),
    ),
    "transformer.TransformerConfig": Case(
        {
            "source_vocab_size": st.just(11),
            "target_vocab_size": st.sampled_from([11, 12]),
            "d_model": st.sampled_from([4, 6, 7]),
            "num_heads": st.sampled_from([1, 2, 3]),
            "dropout": shares,
            "norm": st.sampled_from(["pre", "post"]),
            "pad_id": st.integers(-1, 3),
            "norm_eps": st.just(1e-5),
            "causal": st.booleans(),
            "share_embeddings": st.booleans(),
        },
        lambda result, **given: _same({name: getattr(result, name) for name in given}, given),
    ),
    "transformer.sinusoidal_positions": Case(
        {"length": integers, "d_model": integers}, right_positions
    ),
    "transformer.LayerNorm": Case({"d_model": integers, "eps": st.just(1e-5)}),
    "transformer.LayerNorm.forward": Case(x_given, right_norm, transformer.LayerNorm(4)),
    "transformer.FeedForward": Case(
        {
            "d_model": integers,
            "d_ff": integers,
            "dropout": shares,
            "activation": st.sampled_from(["relu", "gelu"]),
        }
    ),
    "transformer.FeedForward.forward": Case(x_given, right_feed_forward, LAYER.feed_forward),
    "transformer.Residual": Case(config_given),
    "transformer.Residual.forward": Case(
        {**x_given, "sublayer": st.just(torch.tanh)},
        right_residual,
        transformer.Residual(SMALL),
    ),
    "transformer.EncoderLayer": Case(config_given, examples=20),
    "transformer.EncoderLayer.forward": Case(
        {**x_given, "mask": square_masks}, right_encoding, LAYER
    ),
    "transformer.DecoderLayer": Case(config_given, examples=20),
    "transformer.DecoderLayer.forward": Case(decoder_given, right_decoding, DECODER_LAYER),
    "transformer.Encoder": Case(config_given, examples=20),
    "transformer.Encoder.forward": Case(
        {**x_given, "mask": square_masks}, right_encoding, MODEL.encoder
    ),
    "transformer.Decoder": Case(config_given, examples=20),
    "transformer.Decoder.forward": Case(decoder_given, right_decoding, MODEL.decoder),
    "transformer.Transformer": Case(config_given, examples=20),
    "transformer.Transformer.encode": Case(
        {"source": ids(), "source_mask": st.sampled_from([None, torch.ones(2, 4).bool()])},
        right_states,
        MODEL.encode,
    ),
    "transformer.Transformer.decode": Case(
        {
            "target": ids(),
            "memory": vectors(2, 5, 4),
            "source_mask": st.sampled_from([None, torch.ones(2, 5).bool()]),
        },
        right_logits,
        MODEL.decode,
    ),
    "transformer.Transformer.forward": Case(
        {
            "source": ids(),
            "target": ids(length=3),
            "source_mask": st.sampled_from([None, torch.ones(2, 4).bool()]),
        },
        lambda result, source, target, source_mask: right_logits(
            result,
            target,
            MODEL.encode(source, source_mask),
            source != SMALL.pad_id if source_mask is None else source_mask,
        ),
        MODEL,
    ),
    "transformer.Transformer.generate": Case(
        {
            "source": ids(),
            "max_length": st.sampled_from([None, 1, 6, 7]),
            "num_beams": integers,
            "length_penalty": st.sampled_from([0.0, 0.6, 2.0]),
        },
        right_generation,
        MODEL.generate,
    ),
    "transformer.Transformer.cross_attention": Case(
        {"source": ids(), "target": ids(length=3)},
        right_looks,
        MODEL.cross_attention,
    ),
    "transformer.label_smoothed_loss": Case(
        {
            "logits": vectors(2, 3, 5),
            "target": ids(2, 3, 5),
            "smoothing": shares,
            "ignore_id": st.sampled_from([None, 0]),
        },
        right_loss,
    ),
    "transformer.warmup_learning_rate": Case(
        {"step": integers, "d_model": integers, "warmup_steps": integers}, right_rate
    ),
    "transformer.state_from_torch": Case(
        {
            "stack": st.builds(
                lambda: nn.TransformerEncoder(
                    nn.TransformerEncoderLayer(4, 2, 8), 1, enable_nested_tensor=False
                )
            )
        },
        lambda result, stack: _same(
            sum(one.numel() for one in result.values()),
            sum(one.numel() for one in stack.parameters()),
        ),
        examples=20,
    ),
    "transformer.state_from_bert": Case(
        {
            "module": st.sampled_from([nn.Linear(2, 2), nn.Identity(), LAYER])
            | models.map(lambda model: model.bert.encoder)
        },
        lambda result, module: _same(
            sum(one.numel() for one in result.values()),
            sum(one.numel() for one in module.parameters()),
        ),
        examples=20,
    ),
    "finetuning.Recipe": Case(
        {
            "max_length": st.integers(2, 9),
            "head_share": shares,
            "epochs": likely,
            "learning_rate": likely,
            "weight_decay": likely,
            "seed": st.integers(-1, 2**33),
            "trainable": st.sampled_from(["all", "head", "none"]),
        },
        lambda result, **given: _between(given["learning_rate"] * given["epochs"], 0, math.inf),
    ),
    "finetuning.split_by_film": Case(
        {
            "reviews": split_sets(),
            "test": st.sampled_from([0, 48, 100]),
            "validation": st.sampled_from([0, 48]),
            "stretches": st.sampled_from([1, 2]),
        },
        right_split,
    ),
    "finetuning.rare_names": Case(
        {
            "texts": st.lists(
                st.sampled_from(["Anna met Bert", "Anna", "no", "Ärger Öl Zoe"]),
                min_size=0,
                max_size=6,
            ),
            "least": st.integers(1, 2),
            "most": st.integers(1, 4),
        },
        right_names,
    ),
    "finetuning.linked_reviews": Case(
        {
            "names": st.integers(0, 9).map(
                lambda seed: csr_matrix(np.random.default_rng(seed).integers(0, 2, (4, 5)))
            ),
            "shared": integers,
        },
        right_links,
    ),
    "finetuning.drop_linked": Case(
        {
            "splits": positioned(),
            "links": st.lists(
                st.tuples(st.sampled_from([0, 1, 10, 11, 20, 21]), st.sampled_from([1, 11, 20])),
                max_size=4,
            ).map(lambda pairs: np.array(pairs, dtype=int).reshape(-1, 2)),
        },
        right_drop,
    ),
    "finetuning.clean": Case(
        {"text": texts}, lambda result, text: _same("<br" in result.lower(), False)
    ),
    "finetuning.head_and_tail": Case(
        {
            "ids": st.lists(st.integers(0, 9), max_size=9),
            "length": st.integers(0, 7),
            "head": st.integers(-1, 7),
        },
        right_shortened,
    ),
    "finetuning.tokenize": Case(
        {
            "reviews": st.integers(0, 3).map(lambda n: reviews([1] * n)),
            "tokenizer": st.builds(lambda: once("tokenizer", tokenizer)),
            "max_length": st.integers(1, 8),
            "head_share": shares,
        },
        right_tokens,
        examples=25,
    ),
    "finetuning.build_classifier": Case(
        {
            "name": st.just("no such folder"),
            "recipe": small_recipes,
            "labels": st.just(["bad", "good"]),
        },
        exists,
        examples=15,
    ),
    "finetuning.choose_trainable": Case(
        {"model": models, "which": st.sampled_from(["all", "upper half", "head", "tail"])},
        right_frozen,
        examples=15,
    ),
    "finetuning.computes_bf16_fast": Case(right=lambda result: _one_of(result, True, False)),
    "finetuning.training_arguments": Case(
        {"recipe": small_recipes, "output": paths, "validate": st.booleans()},
        lambda result, recipe, output, validate: _same(result.output_dir, str(output)),
        examples=15,
    ),
    "finetuning.compute_accuracy": Case(
        {
            "predictions": st.builds(
                EvalPrediction, vectors(3, 2).map(torch.Tensor.numpy), st.just(np.array([0, 1, 1]))
            )
        },
        right_accuracy,
        examples=25,
    ),
    "finetuning.training_memory": Case(
        {"model": models, "batch_size": integers, "length": integers},
        lambda result, model, batch_size, length: _between(
            result, 12 * sum(w.numel() for w in model.parameters()), math.inf
        ),
        examples=15,
    ),
    "finetuning.build_trainer": Case(
        {
            "model": models,
            "tokenizer": st.builds(lambda: once("tokenizer", tokenizer)),
            "arguments": st.builds(lambda: arguments_for(Path("runs"))),
            "train": st.none(),
            "validation": st.none(),
        },
        exists,
        examples=12,
    ),
    "finetuning.PlainProgress": Case(examples=1),
    "finetuning.PlainProgress.on_log": Case(
        {"args": anything},
        lambda result, args: _same(result, ""),
        printed,
    ),
    "finetuning.SealCheckpoints": Case(examples=1),
    "finetuning.SealCheckpoints.on_save": Case(
        examples=1, right=exists, call=lambda: "tests/test_faults.py kills and damages it"
    ),
    "finetuning.SealCheckpoints.on_train_end": Case(
        examples=1, right=exists, call=lambda: "tests/test_faults.py kills what it sweeps up"
    ),
    "finetuning.uses_accelerator": Case(right=lambda result: _one_of(result, True, False)),
    "finetuning.fit_bias": Case(
        {
            "logits": vectors(4, 2).map(torch.Tensor.numpy),
            "labels": st.sampled_from([[0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 2, 1]]),
        },
        right_bias,
    ),
    "finetuning.add_to_bias": Case(
        {
            "model": models,
            "bias": st.sampled_from([[0.5, -0.5], [1.0], [math.nan, 0.0], [1e300, 0.0]]),
        },
        right_sum,
        added,
        examples=25,
    ),
    "finetuning.newest_checkpoint": Case(
        {"output": st.sampled_from(["trained", "sealed", "not there", ""])},
        lambda result, output: _same(
            result, Path(output, "checkpoint-2") if output == "trained" else None
        ),
    ),
    "finetuning.save_classifier": Case(
        {"trainer": st.builds(trainer), "folder": st.just("saved")}, right_files, examples=10
    ),
    "finetuning.predict_logits": Case(
        {
            "trainer": st.builds(trainer),
            "reviews": st.builds(lambda: reviews([1, 0]).remove_columns("text")),
        },
        exists,
        examples=12,
    ),
    # Always with a share above 1: a command that is right would train for hours.
    "finetuning.main": Case(
        {
            "arguments": st.lists(
                st.sampled_from(["--max-length", "2", "x", "--seed", "-1"]), max_size=2
            ).map(lambda words: [*words, "--head-share", "7"])
        },
        right_main,
        also=(SystemExit,),
        spoil=False,
    ),
    "finetuning.run": Case(
        {
            "recipe": small_recipes,
            "model": st.just("no"),
            "dataset": st.just("no"),
            "output": st.just(Path("out")),
            "count": st.sampled_from([None, 3, 64]),
        },
        exists,
        examples=15,
    ),
    "finetuning.prepare": Case(
        {"dataset": st.sampled_from(["no", "encoder"])}, exists, examples=10
    ),
}

# No answer can be had cheaply or at all: here only the refusals are tried, answers elsewhere.
ONLY_REFUSALS = {
    "finetuning.build_classifier", "finetuning.run", "finetuning.prepare", "finetuning.main",
    "finetuning.predict_logits",
}  # fmt: skip


def _one_of(value: Any, *allowed: Any) -> None:
    assert value in allowed


def _same(value: Any, expected: Any) -> None:
    assert value is expected or value == expected, (value, expected)


def _equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert torch.equal(torch.nan_to_num(ours), torch.nan_to_num(theirs))


def _between(value: Any, low: Any, high: Any) -> None:
    assert low <= value <= high, (low, value, high)


def _damage(result: list[str], folder: Any) -> None:
    sound = (Path(folder) / assets.MANIFEST).is_file()
    assert bool(result) != sound


# --- the test -----------------------------------------------------------------------


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing is written into the checkout, and no record of a check is kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HANDBOOK_PROFILE", "small")
    monkeypatch.setenv("HANDBOOK_CHECKS", str(tmp_path / "records"))
    monkeypatch.setattr(checks, "_chapter", checks._Chapter())
    (tmp_path / "sealed").mkdir()
    (tmp_path / "sealed/file").write_text("x")
    assets.seal(tmp_path / "sealed")
    for step in (1, 2):
        (tmp_path / f"trained/checkpoint-{step}").mkdir(parents=True)
        (tmp_path / f"trained/checkpoint-{step}/optimizer.pt").write_text("x")
        assets.seal(tmp_path / f"trained/checkpoint-{step}")
    yield
    ONCE.pop("trainer", None)


def calls(case: Case) -> st.SearchStrategy:
    @st.composite
    def drawn(draw) -> dict[str, Any]:
        given = {name: draw(strategy) for name, strategy in case.arguments.items()}
        names = sorted(given)
        if not names or not case.spoil:
            return given
        spoilt = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
        return given | {name: draw(anything) for name in spoilt}

    return drawn()


def outcome(function: Callable[..., Any], case: Case, given: dict[str, Any]) -> str:
    """Call it; return "answered" or "refused"; fail on anything else."""
    allowed = documented(function)
    try:
        result = (case.call or function)(**given)
    except case.also:
        return "refused"
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        if not names & allowed or not str(error).strip():
            raise AssertionError(
                f"{type(error).__name__} is not among the documented {sorted(allowed)}, or it has "
                f"no words: {error}; arguments {given}"
            ) from error
        return "refused"
    case.right(result, **given)
    return "answered"


def tried(function: Callable[..., Any], case: Case) -> Counter[str]:
    """Call it with whatever hypothesis draws; count how often it answered and refused."""
    seen: Counter[str] = Counter()

    @settings(
        max_examples=TIMES * case.examples if case.arguments else 1,
        derandomize=TIMES == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(calls(case))
    def every(arguments: dict[str, Any]) -> None:
        seen[outcome(function, case, arguments)] += 1

    every()
    return seen


@pytest.mark.parametrize("module", modules())
@pytest.mark.filterwarnings("ignore")
def test_wrong_input_is_refused_or_answered_rightly(module, capsys):
    short = module.removeprefix("helpers.")
    found = dict(public(module))
    missing = sorted(f"{short}.{name}" for name in found if f"{short}.{name}" not in CASES)
    assert missing == [], (
        f"no strategies for {', '.join(missing)}: add them to CASES in tests/test_bad_input.py, "
        "with a strategy for each argument and a function that tells whether the answer is right"
    )
    total: Counter[str] = Counter()
    asked = 0
    for name, function in found.items():
        case = CASES[f"{short}.{name}"]
        try:
            seen = tried(function, case)
        except AssertionError as error:
            error.add_note(f"in {short}.{name}")
            raise
        if f"{short}.{name}" not in ONLY_REFUSALS:
            assert seen["answered"], f"{short}.{name} was never answered, so nothing was compared"
        total += seen
        asked += min(case.examples if case.arguments else 1, seen.total())
    if not found or TIMES != 1:
        return
    print(f"{module}: {len(found)} functions and classes, {dict(total)}")
    faults.record(
        "Bad input",
        f"Wrong types, shapes, sizes, NaN, empty and huge input to helpers.{short}",
        "Each call was answered rightly or refused with a documented error.",
        cases=asked,
    )


def test_every_case_belongs_to_a_function():
    known = {f"{m.removeprefix('helpers.')}.{name}" for m in modules() for name, _ in public(m)}
    assert set(CASES) <= known, f"not in helpers any more: {sorted(set(CASES) - known)}"


def test_a_silent_wrong_answer_and_an_undocumented_error_are_found():
    def wrong(length: int) -> int:
        """Return the length, or so it says."""
        return 0 if length == 3 else len([0] * length)

    case = Case({"length": st.integers(0, 5)}, lambda result, length: _same(result, length))
    assert outcome(wrong, case, {"length": 2}) == "answered"
    with pytest.raises(AssertionError):
        outcome(wrong, case, {"length": 3})
    with pytest.raises(AssertionError, match="TypeError is not among the documented"):
        outcome(wrong, case, {"length": "three"})
