"""The recipe: splits without shared films, shortening, freezing, prediction order, command."""

import functools
import json
import os
import re
import shutil
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Value
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.sparse import csr_matrix
from sklearn.metrics import accuracy_score
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    EvalPrediction,
    LlamaConfig,
    TrainerCallback,
)

from helpers import assets, finetuning, memory, sealed
from helpers.finetuning import Recipe, checkpoints, command


def imdb_like(films: int = 120, each: int = 20) -> DatasetDict:
    """Reviews in IMDB's order: label by label, film by film."""
    half = films * each
    texts = [f"review of Film{chr(65 + i % 26)}x number {i // each}" for i in range(2 * half)]
    return DatasetDict(train=Dataset.from_dict({"text": texts, "label": [0] * half + [1] * half}))


# --- splits -------------------------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    films=st.integers(60, 150),
    each=st.integers(1, finetuning.FILM_GAP),
    stretches=st.integers(1, 4),
    kind=st.sampled_from(["int64", "float64"]),  # floats: once a column with gaps
)
def test_no_film_is_on_two_sides(films: int, each: int, stretches: int, kind: str) -> None:
    """And both labels are in equal parts in splits of the sizes asked for."""
    reviews = imdb_like(films, each).cast_column("label", Value(kind))
    film = np.arange(2 * films * each) // each
    try:
        splits = finetuning.split_by_film(reviews, test=120, validation=60, stretches=stretches)
    except ValueError:
        assert films * each // stretches < 120 // 2 + 60 // 2 + 3 * finetuning.FILM_GAP + 1
        return
    for one, other in combinations(splits.values(), 2):
        assert not set(film[one["position"]]) & set(film[other["position"]])
    gaps = 2 * stretches * 3 * finetuning.FILM_GAP  # before, between and after
    held = {"validation": 60 - 60 % (2 * stretches), "test": 120}
    expected = held | {"train": len(film) - sum(held.values()) - gaps}
    assert {name: len(part) for name, part in splits.items()} == expected
    assert all(np.mean(part["label"]) == 0.5 for part in splits.values())


@pytest.mark.parametrize(
    ("films", "each", "stretches", "held"),
    [(10, 5, 6, 600), (120, 20, 10_000, 0), (120, 20, 10**30, 0), (10, 30, 1, 480)],
)
def test_too_few_and_shuffled_reviews_are_refused(films, each, stretches, held) -> None:
    reviews = imdb_like(films, each)
    with pytest.raises(ValueError, match=r"fewer held-out reviews or fewer stretches"):
        finetuning.split_by_film(reviews, test=held, validation=0, stretches=stretches)
    shuffled = DatasetDict(train=reviews["train"].shuffle(seed=0))
    with pytest.raises(ValueError, match="IMDB's own order"):
        finetuning.split_by_film(shuffled)


def test_a_rare_name_is_capitalized_and_occurs_in_few_reviews() -> None:
    texts = ["Zelda met Ann", "Ann saw zelda", "Ann, Zelda and Bob", "Ann Zelda", "Ann Bob Bob"]
    names = finetuning.rare_names(texts, least=2, most=3)
    assert names.toarray().tolist() == [[0, 1], [0, 0], [1, 1], [0, 1], [1, 0]]  # Bob, Zelda


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    held=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=9),
    shared=st.integers(1, 4),
    kind=st.sampled_from([bool, np.int8, np.uint8, np.float64]),
)
@example(held=[[True] * 256] * 2, shared=2, kind=np.uint8)  # 256 is 0 in eight bits
@example(held=[[True] * 5] * 2, shared=2, kind=bool)  # a sum of booleans is at most 1
def test_linked_reviews_equal_a_count_of_each_pair(held, shared: int, kind: type) -> None:
    links = finetuning.linked_reviews(csr_matrix(np.array(held, dtype=kind)), shared=shared)
    pairs = combinations(range(len(held)), 2)
    expected = [(a, b) for a, b in pairs if (np.array(held[a]) & held[b]).sum() >= shared]
    assert sorted(map(tuple, links.tolist())) == expected


def test_linked_reviews_leave_train_and_validation_but_never_test() -> None:
    part = {"text": "t", "label": 0}

    def rows(positions: list[int]) -> Dataset:
        return Dataset.from_list([part | {"position": p} for p in positions])

    splits = DatasetDict(train=rows([0, 1, 2, 3]), validation=rows([4, 5]), test=rows([6, 7]))
    links = np.array([[0, 6], [1, 5], [2, 3], [4, 7]])
    kept = finetuning.drop_linked(splits, links)
    assert kept["test"]["position"] == [6, 7]
    assert kept["validation"]["position"] == [5]  # 4 is linked to test
    assert kept["train"]["position"] == [2, 3]  # 0 is linked to test, 1 to validation
    with pytest.raises(TypeCheckError, match="links"):
        finetuning.drop_linked(splits, links[:, [0, 1, 1]])


def test_positions_are_rows_of_train_and_then_of_the_official_test(monkeypatch) -> None:
    """A training review that shares names with an official test review is dropped."""
    rows, official = imdb_like()["train"].to_list(), {"text": "Zelda Quux is good", "label": 1}
    rows[7]["text"] = official["text"]
    reviews = DatasetDict(train=Dataset.from_list(rows), test=Dataset.from_list([official]))
    monkeypatch.setattr(finetuning.splits, "load_dataset", lambda **_: reviews)
    monkeypatch.setattr(assets, "dataset", lambda _: {})
    whole, splits = finetuning.split_by_film(reviews), finetuning.prepare()
    assert set(whole["train"]["position"]) - set(splits["train"]["position"]) == {7}
    assert splits["test"]["position"] == [len(rows)]
    texts = finetuning.review_texts(reviews)
    for part in splits.values():
        assert list(part["text"]) == [texts[p] for p in part["position"]]


# --- text to tokens -----------------------------------------------------------------


def test_clean_takes_out_markup_only() -> None:
    assert finetuning.clean("a<br /><br />b <br/> c<BR>d") == "a b c<BR>d"
    for other in ("1 < 2 and 3 > 2", " " * 10**6, "<br" + " " * 10**6):  # no quadratic search
        assert finetuning.clean(other) == other


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.lists(st.sampled_from(["<br />", "<br", " ", "\n", "/>", ">", "a"])).map("".join))
def test_clean_answers_as_its_rule_says(text: str) -> None:
    assert finetuning.clean(text) == re.sub(r"(\s*<br\s*/?>\s*)+", " ", text)


@functools.cache
def encoders_tokenizer():
    return AutoTokenizer.from_pretrained(assets.model("encoder"))


@pytest.fixture
def tokenizer():
    return encoders_tokenizer()


@pytest.mark.parametrize(
    ("single", "markers"),
    [("[CLS] $A", 1), ("$A [SEP] [CLS]", 2), ("[CLS] [SEP] $A", 2), ("$A", 0),
     ("[CLS] [CLS] $A [SEP]", 3)],
)  # fmt: skip
def test_markers_stay_on_their_side(single: str, markers: int) -> None:
    """Llama puts one before a text, XLNet two after it."""
    other = AutoTokenizer.from_pretrained(assets.model("encoder"))
    special = [("[CLS]", other.cls_token_id), ("[SEP]", other.sep_token_id)]
    other.backend_tokenizer.post_processor = TemplateProcessing(single, special_tokens=special)
    reviews = Dataset.from_dict({"text": ["b dull dull fine a film", "a"], "label": [1, 0]})
    for room, kept in ((9, "b dull dull fine a film"), (4, "b fine a film")):
        ours = finetuning.tokenize(reviews, other, max_length=room + markers, head_share=0.25)
        assert ours["input_ids"] == other([kept, "a"])["input_ids"]
        assert ours["labels"] == [1, 0]
    with pytest.raises(ValueError, match=f"max_length must exceed the {markers} markers"):
        finetuning.tokenize(reviews, other, max_length=markers, head_share=0.25)


def test_rows_of_older_code_do_not_come_back(tokenizer, tmp_path, monkeypatch) -> None:
    """The cache of datasets knows the function that it maps, not the libraries that it calls."""
    Dataset.from_dict({"text": ["one two"], "label": [1]}).save_to_disk(tmp_path)
    shorten = {"max_length": 9, "head_share": 0.25}
    finetuning.tokenize(Dataset.load_from_disk(tmp_path), tokenizer, **shorten)
    expected, before = tokenizer("three")["input_ids"], type(tokenizer).__call__

    def later(self, text, **more):
        return before(self, text if text == "a" else ["three"], **more)

    monkeypatch.setattr(type(tokenizer), "__call__", later)
    again = finetuning.tokenize(Dataset.load_from_disk(tmp_path), tokenizer, **shorten)
    assert again["input_ids"] == [expected]


# --- model --------------------------------------------------------------------------


def tiny_classifier() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=30522, hidden_size=16, num_hidden_layers=4, num_attention_heads=2,
            intermediate_size=32, num_labels=2, initializer_range=0.5,
        )
    )  # fmt: skip


def test_freezing_is_what_the_name_says() -> None:
    model = tiny_classifier()
    everything = sum(weight.numel() for weight in model.parameters())
    assert finetuning.choose_trainable(model, "all") == everything
    embeddings = sum(weight.numel() for weight in model.bert.embeddings.parameters())
    assert finetuning.choose_trainable(model, "without embeddings") == everything - embeddings
    finetuning.choose_trainable(model, "upper half")
    layers = [
        any(w.requires_grad for w in layer.parameters()) for layer in model.bert.encoder.layer
    ]
    assert layers == [False, False, True, True]
    finetuning.choose_trainable(model, "head")
    left = {name.rsplit(".", 1)[0] for name, w in model.named_parameters() if w.requires_grad}
    assert left == {"bert.pooler.dense", "classifier"}


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("max_length", 2), ("max_length", 12.5), ("read_length", 0), ("head_share", 1.5),
     ("trainable", "some"), ("learning_rate", 0.0), ("epochs", float("nan")), ("warmup", 1.0),
     ("weight_decay", float("inf")), ("batch_size", 0), ("dropout", -0.1), ("seed", 2**32),
     ("evaluations", np.float64(2)), ("seed", None)],
)  # fmt: skip
def test_a_recipe_that_is_inconsistent_is_refused(field: str, wrong: object) -> None:
    with pytest.raises((ValueError, TypeCheckError), match=field):
        Recipe(**{field: wrong})


def test_a_recipe_takes_numbers_of_numpy() -> None:
    recipe = Recipe(seed=np.int64(7), dropout=np.float64(0.5), epochs=np.int32(2))
    plain = asdict(Recipe(seed=7, dropout=0.5, epochs=2))
    assert json.loads(json.dumps(asdict(recipe))) == plain  # as it is saved


# --- training and prediction --------------------------------------------------------


def test_training_that_would_not_fit_into_memory_is_refused(tokenizer, tmp_path, monkeypatch):
    """Going by the longest review and the weights that change: a lower bound, counted here."""
    arguments = finetuning.training_arguments(Recipe(batch_size=3), tmp_path, validate=False)
    arguments.use_cpu = True
    model = tiny_classifier()
    finetuning.choose_trainable(model, "upper half")
    changing = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    needed = 4 * (3 * changing + 16 * 3 * 30 * 16 * 2)  # 3 reviews, 30 tokens, 16 wide, 2 layers
    rows = {"input_ids": [[2] * 30] * 9, "labels": [0] * 9, "length": [30] + [4] * 8}
    train = Dataset.from_dict(rows)
    monkeypatch.setattr(memory, "available", lambda: needed)
    finetuning.build_trainer(model, tokenizer, arguments, train)
    monkeypatch.setattr(memory, "available", lambda: needed - 1)
    with pytest.raises(memory.NotEnoughMemory, match="training with batches of 3 reviews"):
        finetuning.build_trainer(model, tokenizer, arguments, train)


def test_accuracy_equals_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(200, 3)), generator.integers(0, 3, 200)
    ours = finetuning.compute_accuracy(EvalPrediction(logits, labels))
    assert ours["accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(-1)), abs=1e-12)
    logits[7, 1] = np.inf
    with pytest.raises(ValueError, match="the training has diverged"):
        finetuning.compute_accuracy(EvalPrediction(logits, labels))


def test_predictions_come_back_in_the_order_of_the_reviews(tokenizer, tmp_path) -> None:
    """Trainer.predict reorders when training groups by length; predict_logits must not."""
    words = ["good", "bad", "fine", "dull", "long", "short", "film", "plot"]
    generator = np.random.default_rng(1)
    texts = [" ".join(generator.choice(words, size=n)) for n in generator.integers(1, 40, 150)]
    rows = Dataset.from_dict({"text": texts, "label": [0] * len(texts)})
    reviews = finetuning.tokenize(rows, tokenizer, max_length=48, head_share=0.25)
    model = tiny_classifier().eval()
    arguments = finetuning.training_arguments(Recipe(), tmp_path, validate=False, bf16=False)
    trainer = finetuning.build_trainer(model, tokenizer, arguments)
    with torch.no_grad():
        one_by_one = np.stack(
            [model(torch.tensor([ids])).logits[0].numpy() for ids in reviews["input_ids"]]
        )
    before = asdict(trainer.args)
    np.testing.assert_allclose(finetuning.predict_logits(trainer, reviews), one_by_one, atol=1e-5)
    none = finetuning.predict_logits(trainer, reviews.select([]))
    assert (none.shape, none.dtype) == ((0, 2), one_by_one.dtype)
    assert asdict(trainer.args) == before
    assert np.abs(trainer.predict(reviews).predictions - one_by_one).max() > 0.01  # the trap


class WrongClock(TrainerCallback):
    """Date each checkpoint as if the clock had been set back a day since the one before it."""

    def on_save(self, args, state, control, **_) -> None:
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if saved.exists():
            os.utime(saved, (4e9 - 86_400 * state.global_step,) * 2)


def train_a_little(output: Path, recipe: Recipe, callback: type, best=1, max_steps=5) -> None:
    """Train on eight reviews; the accuracy is highest at the evaluation ``best``."""
    rows = {"input_ids": [[2, 5, 3]] * 8, "attention_mask": [[1, 1, 1]] * 8}
    part = Dataset.from_dict(rows | {"labels": [0, 1] * 4, "length": [3] * 8})
    accuracies = iter([0.9 if number == best else 0.5 for number in range(1, 10)])
    limits = {"max_steps": max_steps, "bf16": False, "disable_tqdm": True}
    arguments = finetuning.training_arguments(recipe, output, **limits)
    trainer = finetuning.build_trainer(
        tiny_classifier(), encoders_tokenizer(), arguments, part, part
    )
    trainer.compute_metrics = lambda _: {"accuracy": next(accuracies)}
    trainer.add_callback(callback)
    trainer.train()


@pytest.mark.parametrize(
    ("epochs", "evaluations", "steps"),
    [(1, 1, [4]), (1, 2, [2, 4]), (0.5, 1, [2]), (0.5, 2, [2]), (0.4, 2, [2]), (2, 1, [4, 8]),
     (2, 2, [2, 4, 6, 8]), (1.5, 1, [4, 6])],
)  # fmt: skip
def test_the_validation_split_is_read_as_often_as_the_recipe_says(
    tmp_path, epochs, evaluations, steps
) -> None:
    """And each time a checkpoint is saved; an epoch has four steps."""
    seen = {"on_evaluate": [], "on_save": []}

    class Seen(TrainerCallback):
        def on_evaluate(self, args, state, control, **_) -> None:
            seen["on_evaluate"].append(state.global_step)

        def on_save(self, args, state, control, **_) -> None:
            seen["on_save"].append(state.global_step)

    recipe = Recipe(batch_size=2, evaluations=evaluations, epochs=epochs)
    train_a_little(tmp_path, recipe, Seen, max_steps=-1)
    assert seen == {"on_evaluate": steps, "on_save": steps}


@pytest.mark.parametrize(
    ("evaluations", "best", "kept"),
    [(5, 5, [4, 5]), (5, 2, [2, 5]), (2, 1, [3, 5]), (1, 1, [5])],
)
def test_old_checkpoints_are_deleted_by_steps_not_by_dates(
    tmp_path, evaluations, best, kept
) -> None:
    """One with more steps than this training has is not older, and is left alone."""
    (tmp_path / "checkpoint-9").mkdir()
    train_a_little(tmp_path, Recipe(batch_size=2, evaluations=evaluations), WrongClock, best)
    (tmp_path / "checkpoint-9").rmdir()
    left = [path.name for path in sorted(tmp_path.glob("checkpoint-*"))]
    assert left == [f"checkpoint-{step}" for step in kept]
    assert all(sealed.damage(tmp_path / name) == [] for name in left)
    assert finetuning.newest_checkpoint(tmp_path) == tmp_path / "checkpoint-5"


def test_a_half_deleted_checkpoint_is_not_whole(tmp_path, monkeypatch) -> None:
    """Also not once the reader has deleted the newer ones, say because a byte in them changed."""

    def interrupted(folder: Path, **_: object) -> None:
        (folder / "model.safetensors").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_a_little(tmp_path, Recipe(batch_size=2, evaluations=5), WrongClock)
    monkeypatch.undo()
    # The first is the best so far, the second half deleted, and the third the newest.
    assert (tmp_path / "checkpoint-2" / "optimizer.pt").is_file()
    assert finetuning.newest_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    shutil.rmtree(tmp_path / "checkpoint-3")
    assert finetuning.newest_checkpoint(tmp_path) == tmp_path / "checkpoint-1"


def test_nobody_else_trains_in_a_folder_until_the_training_there_ends(
    tmp_path, monkeypatch
) -> None:
    """What an earlier training left there is asked about in test_distributed.py."""
    same = {"model": "encoder", "output": tmp_path}

    def begun_while_this_one_runs(*_: object) -> None:
        for resume in (False, True):
            with pytest.raises(ValueError, match=r"another training is at work in"):
                finetuning.run(Recipe(), **same, resume=resume)
        raise ZeroDivisionError

    monkeypatch.setattr(command, "build_classifier", begun_while_this_one_runs)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            finetuning.run(Recipe(), **same)


def test_a_bias_that_was_taken_away_is_found_again() -> None:
    generator = np.random.default_rng(4)
    logits = generator.normal(size=(20_000, 3))
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(-1)  # drawn from the softmax
    taken = np.array([1.0, -0.5, -0.5])
    np.testing.assert_allclose(finetuning.fit_bias(logits - taken, labels), taken, atol=0.06)


def test_a_bias_is_added_to_the_logits_and_one_that_the_model_cannot_hold_changes_nothing() -> None:
    model, ids = tiny_classifier().eval(), torch.tensor([[2, 5, 7, 3]])
    with torch.no_grad():
        before = model(ids).logits
        for wrong in ([1.0], [np.nan, 0.0], [0.0, np.inf], [1e300, 0.0]):
            with pytest.raises(
                ValueError, match=r"finite in torch\.float32|2 numbers, one for each"
            ):
                finetuning.add_to_bias(model, wrong)
            assert torch.equal(model(ids).logits, before)
        finetuning.add_to_bias(model, [-0.25, 0.25])
        torch.testing.assert_close(model(ids).logits, before + torch.tensor([-0.25, 0.25]))


def test_a_save_that_fails_at_any_move_leaves_the_model_before(
    monkeypatch, tokenizer, tmp_path
) -> None:
    """And nothing beside the folder, which may be a disk of its own."""
    folder = tmp_path / "model"
    arguments = finetuning.training_arguments(Recipe(), tmp_path, validate=False, bf16=False)
    trainer = finetuning.build_trainer(tiny_classifier(), tokenizer, arguments)
    finetuning.save_classifier(trainer, folder)
    (folder / "mine.txt").write_text("of the reader")
    (folder / "tokenizer_config.json").unlink()  # the new model has a file that this one lacks

    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    before, move = content(), Path.replace
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {*before}
    assert not [name for name in before if name.endswith(".bin")]  # a pickle
    finetuning.add_to_bias(trainer.model, [0.5, -0.5])
    moves = 2 * len(before) - 1
    for failing in range(moves):
        left = iter(range(moves))

        def fails(path: Path, to: Path, failing: int = failing, left=left) -> Path:
            if next(left, None) == failing:
                raise [OSError, KeyboardInterrupt][failing % 2]
            return move(path, to)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", fails)
            with pytest.raises((OSError, KeyboardInterrupt)):
                finetuning.save_classifier(trainer, folder)
        assert content() == before, failing
    assert os.listdir(tmp_path) == ["model"]
    finetuning.save_classifier(trainer, folder)
    assert {*content()} == {*before, "tokenizer_config.json"}
    assert content()["model.safetensors"] != before["model.safetensors"]
    assert {path.name for path in folder.iterdir()} == {*content()}


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("--max-length 2", 2, "max_length must be at least 3, got 2"),
        ("--train-reviews 3", 1, "--train-reviews must be at least one batch, got 3"),
        ("--max-steps 0", 1, "--max-steps must be at least 1, got 0"),
        ("--model none", 1, "no model .*none.*encoder"),
        ("--model generator", 1, "the recipe fine-tunes a BERT, but .* is a 'llama'"),
        ("--read-length 600", 1, "at most 512 tokens, but .* read_length 600"),
        ("--output {}/file", 1, "File exists: .*file"),
    ],
)
def test_the_command_names_what_is_wrong(
    monkeypatch, capsys, tmp_path, words: str, status: int, said: str
) -> None:
    (tmp_path / "file").touch()
    LlamaConfig().save_pretrained(tmp_path / "llama")
    known = assets.model
    ours = {"generator": str(tmp_path / "llama")}  # to unpack the real one takes long
    monkeypatch.setattr(assets, "model", lambda name: ours.get(name) or known(name))
    monkeypatch.setattr(command, "prepare", lambda: pytest.fail("work was begun"))
    out = ["--output", str(tmp_path / "out")]
    try:
        ended = finetuning.main([*out, *words.format(tmp_path).split()])
    except SystemExit as end:
        ended = end.code
    last = capsys.readouterr().err.splitlines()[-1]
    assert (ended, bool(re.search(f"error: .*{said}", last))) == (status, True), last
