"""The recipe: splits without shared films, shortening, freezing, prediction order, command."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.optimize import brentq
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.metrics import accuracy_score
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    EvalPrediction,
    TrainerCallback,
)

from helpers import assets, finetuning, profiles, sealed
from helpers.finetuning import Recipe, checkpoints, classifier, command, texts


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
)
def test_no_film_is_on_two_sides(films: int, each: int, stretches: int) -> None:
    reviews = imdb_like(films, each)
    film = np.arange(2 * films * each) // each
    try:
        splits = finetuning.split_by_film(reviews, test=120, validation=60, stretches=stretches)
    except ValueError:
        assert films * each // stretches < 120 // 2 + 60 // 2 + 3 * finetuning.FILM_GAP + 1
        return
    seen = [set(film[splits[name]["position"]]) for name in ("train", "validation", "test")]
    shared = (seen[0] & seen[1]) | (seen[0] & seen[2]) | (seen[1] & seen[2])
    assert shared == set()


@pytest.mark.parametrize("kind", ["int64", "float64"])  # floats: once a column with gaps
def test_split_sizes_and_balance(kind: str) -> None:
    reviews = imdb_like()["train"].cast_column("label", Value(kind))
    sizes = {"test": 240, "validation": 120, "stretches": 3}
    splits = finetuning.split_by_film(DatasetDict(train=reviews), **sizes)
    held_out = 360 + 2 * 3 * 3 * finetuning.FILM_GAP  # with a gap before, between and after
    expected = {"train": 4_800 - held_out, "validation": 120, "test": 240}
    assert {name: len(part) for name, part in splits.items()} == expected
    assert all(np.mean(part["label"]) == 0.5 for part in splits.values())


def test_shuffled_reviews_are_refused() -> None:
    shuffled = DatasetDict(train=imdb_like()["train"].shuffle(seed=0))
    with pytest.raises(ValueError, match="IMDB's own order"):
        finetuning.split_by_film(shuffled)


@pytest.mark.parametrize(
    ("films", "each", "stretches", "held"),
    [(10, 5, 6, 600), (120, 20, 10_000, 0), (120, 20, 10**30, 0), (10, 30, 1, 480)],
)
def test_too_few_reviews_are_refused(films, each, stretches, held) -> None:
    reviews = imdb_like(films, each)
    with pytest.raises(ValueError, match=r"fewer held-out reviews or fewer stretches"):
        finetuning.split_by_film(reviews, test=held, validation=0, stretches=stretches)


def test_a_rare_name_is_capitalized_and_occurs_in_few_reviews() -> None:
    texts = ["Zelda met Ann", "Ann saw zelda", "Ann, Zelda and Bob", "Ann Zelda", "Ann Bob Bob"]
    names = finetuning.rare_names(texts, least=2, most=3)
    assert names.toarray().tolist() == [[0, 1], [0, 0], [1, 1], [0, 1], [1, 0]]  # Bob, Zelda


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    held=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=9),
    shared=st.integers(1, 4),
    kind=st.sampled_from([bool, np.int8, np.int64]),
)
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
    whole, splits = finetuning.split_by_film(reviews), finetuning.prepare("any")
    assert set(whole["train"]["position"]) - set(splits["train"]["position"]) == {7}
    assert splits["test"]["position"] == [len(rows)]
    texts = finetuning.review_texts(reviews)
    for part in splits.values():
        assert list(part["text"]) == [texts[p] for p in part["position"]]


# --- text to tokens -----------------------------------------------------------------


def test_clean_takes_out_markup_only() -> None:
    assert finetuning.clean("a<br /><br />b <br/> c<BR>d") == "a b c<BR>d"
    assert finetuning.clean("1 < 2 and 3 > 2") == "1 < 2 and 3 > 2"


@settings(deadline=None, derandomize=True, max_examples=200)
@given(ids=st.lists(st.integers(0, 9), max_size=50), length=st.integers(0, 30), data=st.data())
def test_head_and_tail_keeps_both_ends(ids: list[int], length: int, data: st.DataObject) -> None:
    head = data.draw(st.integers(0, length))
    kept = finetuning.head_and_tail(ids, length, head)
    assert len(kept) == min(len(ids), length)
    if len(ids) > length:
        assert kept[:head] == ids[:head]
        assert kept[head:] == ids[len(ids) - (length - head) :]
    else:
        assert kept == ids


@pytest.mark.parametrize("head", [-1, 11])
def test_head_outside_the_length_is_refused(head: int) -> None:
    with pytest.raises(ValueError, match="head must lie between"):
        finetuning.head_and_tail([1], 10, head)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(assets.model("encoder"))


def test_tokens_are_those_of_the_tokenizer(tokenizer) -> None:
    """Where nothing is cut off, and where truncation is the special case without a tail."""
    rows = {"text": ["A fine film.", "", "Dull! " * 9], "label": [1, 1, 0]}
    for limit in (64, 7):
        theirs = tokenizer(rows["text"], truncation=True, max_length=limit)
        ours = finetuning.tokenize(
            Dataset.from_dict(rows), tokenizer, max_length=limit, head_share=1.0
        )
        assert ours["input_ids"] == theirs["input_ids"]
        assert ours["attention_mask"] == theirs["attention_mask"]
        assert ours["length"] == list(map(len, theirs["input_ids"]))
        assert ours["labels"] == rows["label"]


def test_markers_stay_on_their_side() -> None:
    """BERT puts one on each side of a text, other tokenizers one before it."""
    other = AutoTokenizer.from_pretrained(assets.model("encoder"))
    other.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", other.cls_token_id)]
    )
    reviews = Dataset.from_dict({"text": ["a fine film"], "label": [1]})
    ours = finetuning.tokenize(reviews, other, max_length=16, head_share=0.25)
    assert ours["input_ids"][0] == other("a fine film")["input_ids"]
    assert len(ours["input_ids"][0]) == 4


def test_a_length_without_room_is_refused(tokenizer) -> None:
    reviews = Dataset.from_dict({"text": ["fine"], "label": [1]})
    with pytest.raises(ValueError, match="max_length must exceed the 2 markers"):
        finetuning.tokenize(reviews, tokenizer, max_length=2, head_share=0.25)


def test_rows_of_an_older_helper_do_not_come_back(tokenizer, tmp_path, monkeypatch) -> None:
    """The cache of datasets knows the function that it maps, not those that it calls."""
    Dataset.from_dict({"text": ["one two"], "label": [1]}).save_to_disk(tmp_path)
    shorten = {"max_length": 9, "head_share": 0.25}
    finetuning.tokenize(Dataset.load_from_disk(tmp_path), tokenizer, **shorten)
    monkeypatch.setattr(texts, "clean", lambda _: "three")
    again = finetuning.tokenize(Dataset.load_from_disk(tmp_path), tokenizer, **shorten)
    assert again["input_ids"][0] == tokenizer("three")["input_ids"]


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
    names = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert names == {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_length": 2}, "max_length must be at least 3, got 2"),
        ({"read_length": 0}, "read_length"),
        ({"head_share": 1.5}, "head_share must be between 0 and 1"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"epochs": float("nan")}, "epochs"),
        ({"weight_decay": float("inf")}, "weight_decay"),
        ({"batch_size": 0}, "batch_size"),
        ({"warmup": 1.0}, "warmup"),
        ({"dropout": -0.1}, "dropout"),
        ({"seed": 2**32}, "seed"),
        ({"max_length": 12.5}, "max_length"),
        ({"trainable": "some"}, "trainable"),
    ],
)
def test_a_recipe_that_is_inconsistent_is_refused(wrong: dict, named: str) -> None:
    with pytest.raises((ValueError, TypeCheckError), match=named):
        Recipe(**wrong)


# --- training and prediction --------------------------------------------------------


@pytest.mark.parametrize(("told", "on_cpu"), [(None, False), ("false", False), ("true", True)])
def test_accelerate_decides_whether_a_gpu_is_used(monkeypatch, tmp_path, told, on_cpu) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    if told is not None:
        monkeypatch.setenv("ACCELERATE_USE_CPU", told)
    asked = {}
    monkeypatch.setattr(classifier, "TrainingArguments", lambda **given: asked.update(given))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    finetuning.training_arguments(Recipe(), tmp_path)
    assert (asked["use_cpu"], asked["dataloader_pin_memory"]) == (on_cpu, not on_cpu)


@pytest.mark.parametrize(("limit", "steps"), [("", -1), ("3", 3)])
def test_a_rehearsal_limits_the_trainer_s_steps(monkeypatch, tmp_path, limit, steps) -> None:
    monkeypatch.setenv("HANDBOOK_PROFILE", "full")
    monkeypatch.setenv("HANDBOOK_REHEARSAL", limit)
    assert finetuning.training_arguments(Recipe(), tmp_path, bf16=False).max_steps == steps


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
    assert asdict(trainer.args) == before
    assert np.abs(trainer.predict(reviews).predictions - one_by_one).max() > 0.01  # the trap


class WrongClock(TrainerCallback):
    """Date each checkpoint as if the clock had been set back a day since the one before it."""

    def on_save(self, args, state, control, **_) -> None:
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if saved.exists():
            os.utime(saved, (4e9 - 86_400 * state.global_step,) * 2)


def train_with_checkpoints(output: Path, best: int, recipe: Recipe | None = None) -> None:
    """Train five steps; the accuracy is highest after ``best``.

    There is a checkpoint after each step, or as often as the recipe says.
    """
    rows = {"input_ids": [[2, 5, 3]] * 8, "attention_mask": [[1, 1, 1]] * 8}
    rows |= {"labels": [0, 1] * 4, "length": [3] * 8}
    part = Dataset.from_dict(rows)
    accuracies = iter([0.9 if step == best else 0.5 for step in range(1, 6)])
    each = {} if recipe else {"eval_steps": 1, "save_steps": 1}
    arguments = finetuning.training_arguments(
        recipe or Recipe(batch_size=2), output, max_steps=5, bf16=False, disable_tqdm=True, **each
    )
    tokenizer = AutoTokenizer.from_pretrained(assets.model("encoder"))
    trainer = finetuning.build_trainer(tiny_classifier(), tokenizer, arguments, part, part)
    trainer.compute_metrics = lambda _: {"accuracy": next(accuracies)}
    trainer.add_callback(WrongClock)
    trainer.train()


@pytest.mark.parametrize(("best", "kept"), [(5, [4, 5]), (4, [4, 5]), (2, [2, 5])])
def test_old_checkpoints_are_told_by_their_steps_not_by_their_dates(tmp_path, best, kept) -> None:
    """One with more steps than this training has is not older, and is left alone."""
    (tmp_path / "checkpoint-9").mkdir()
    train_with_checkpoints(tmp_path, best)
    (tmp_path / "checkpoint-9").rmdir()
    left = [path.name for path in sorted(tmp_path.glob("checkpoint-*"))]
    assert left == [f"checkpoint-{step}" for step in kept]
    assert all(sealed.damage(tmp_path / name) == [] for name in left)
    assert finetuning.newest_checkpoint(tmp_path) == tmp_path / "checkpoint-5"


@pytest.mark.parametrize(
    ("evaluations", "epochs", "steps"), [(1, 1.0, [5]), (2, 1.0, [3, 5]), (1, 0.5, [5])]
)
def test_validation_is_read_as_often_as_the_recipe_says(
    tmp_path, evaluations, epochs, steps
) -> None:
    recipe = Recipe(batch_size=2, evaluations=evaluations, epochs=epochs)
    train_with_checkpoints(tmp_path, 1, recipe)
    assert [f"checkpoint-{step}" for step in steps] == sorted(os.listdir(tmp_path))


def test_a_half_deleted_checkpoint_is_not_whole(tmp_path, monkeypatch) -> None:
    """Also not once the reader has deleted the newer ones, say because a byte in them changed."""
    deleted = []

    def interrupted(folder: Path, **_: object) -> None:
        deleted.append(folder)
        (folder / "model.safetensors").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_with_checkpoints(tmp_path, best=5)
    monkeypatch.undo()
    # The first is the best so far, and the third the newest.
    assert [folder.name for folder in deleted] == ["checkpoint-2"]
    assert (tmp_path / "checkpoint-2" / "optimizer.pt").is_file()
    assert finetuning.newest_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    shutil.rmtree(tmp_path / "checkpoint-3")
    assert finetuning.newest_checkpoint(tmp_path) == tmp_path / "checkpoint-1"


def test_two_trainings_are_not_mixed_in_one_folder(tmp_path, monkeypatch) -> None:
    """The checkpoints of an earlier one would be taken for the end of this one."""
    monkeypatch.setattr(command, "prepare", lambda _: pytest.fail("it was begun"))
    (tmp_path / "checkpoint-3").mkdir()
    same = {"model": "encoder", "dataset": "imdb", "output": tmp_path}
    with pytest.raises(ValueError, match=r"an earlier training\. Go on from them with --resume"):
        finetuning.run(Recipe(), **same)
    with pytest.raises(ValueError, match=r"training\.json is missing or unreadable"):
        finetuning.run(Recipe(), **same, resume=True)
    begun = asdict(Recipe()) | {"model": "encoder", "dataset": "imdb", "train_reviews": None}
    begun |= {"max_steps": -1, "profile": profiles.current()}
    (tmp_path / "training.json").write_text(json.dumps(begun))
    with pytest.raises(ValueError, match=r"another training: seed was 0, now 1; max_steps was -1"):
        finetuning.run(Recipe(seed=1), **same, max_steps=4, resume=True)
    monkeypatch.setattr(command, "prepare", lambda _: {"train": 1 / 0})
    with pytest.raises(ZeroDivisionError):  # the same training goes on
        finetuning.run(Recipe(), **same, resume=True)


def test_the_bias_for_two_labels_is_the_root_of_the_slope() -> None:
    """An independent way to the same number: average probability = share, solved by bisection."""
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(400, 2)) * 2
    labels = (logits[:, 1] - logits[:, 0] + 1.3 + generator.logistic(size=400) > 0).astype(int)
    root = brentq(lambda b: expit(logits[:, 1] - logits[:, 0] + b).mean() - labels.mean(), -9, 9)
    bias = finetuning.fit_bias(logits, labels)
    assert bias[1] - bias[0] == pytest.approx(root, abs=1e-3)
    assert bias.sum() == pytest.approx(0, abs=1e-9)


def test_a_bias_that_was_taken_away_is_found_again() -> None:
    generator = np.random.default_rng(4)
    logits = generator.normal(size=(20_000, 3))
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(-1)  # drawn from the softmax
    taken = np.array([1.0, -0.5, -0.5])
    np.testing.assert_allclose(finetuning.fit_bias(logits - taken, labels), taken, atol=0.06)


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        (np.zeros((3, 2)), [0, 1], "reviews"),
        (np.zeros(3), [0, 1, 0], "logits"),
        (np.full((2, 2), np.nan), [0, 1], "finite"),
        (np.zeros((2, 2)), [1, 1], "at least one review of each"),
        (np.zeros((3, 2)), [0, 1, 2], "at least one review of each"),
        (np.diag([3e38, 0]), [1, 0], "no biases balance the labels"),
    ],
)
def test_a_bias_that_cannot_be_fitted_is_refused(logits, labels, said) -> None:
    with pytest.raises((ValueError, TypeCheckError), match=said):
        finetuning.fit_bias(logits, np.array(labels))


def test_a_bias_added_to_the_model_is_added_to_its_logits() -> None:
    model, ids = tiny_classifier().eval(), torch.tensor([[2, 5, 7, 3]])
    with torch.no_grad():
        before = model(ids).logits
        finetuning.add_to_bias(model, [-0.25, 0.25])
        torch.testing.assert_close(model(ids).logits, before + torch.tensor([-0.25, 0.25]))


@pytest.mark.parametrize("bias", [[1.0], [np.nan, 0.0], [0.0, np.inf], [1e300, 0.0]])
def test_a_bias_that_the_model_cannot_hold_changes_nothing(bias) -> None:
    model = tiny_classifier()
    before = model.classifier.bias.clone()
    with pytest.raises(ValueError, match=r"finite in torch\.float32|2 numbers, one for each label"):
        finetuning.add_to_bias(model, bias)
    assert torch.equal(model.classifier.bias, before)


def test_an_interrupted_save_leaves_nothing_that_can_be_loaded(monkeypatch, tmp_path) -> None:
    """And nothing beside the folder, which may be a disk of its own."""
    folder = tmp_path / "model"
    arguments = finetuning.training_arguments(Recipe(), tmp_path, validate=False, bf16=False)
    tokenizer = AutoTokenizer.from_pretrained(assets.model("encoder"))
    trainer = finetuning.build_trainer(tiny_classifier(), tokenizer, arguments)
    finetuning.save_classifier(trainer, folder)
    whole = sorted(os.listdir(folder))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {*whole}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            finetuning.save_classifier(trainer, folder)
    assert not (folder / "config.json").exists()
    assert os.listdir(tmp_path) == ["model"]
    finetuning.save_classifier(trainer, folder)
    assert sorted(os.listdir(folder)) == whole


def test_the_command_trains_saves_and_reports(tmp_path) -> None:
    command = [sys.executable, "-m", "accelerate.commands.launch", "-m", "helpers.finetuning"]
    command += ["--train-reviews", "64", "--max-length", "16", "--read-length", "16"]
    command += ["--max-steps", "2", "--trainable", "head", "--output", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    measured = json.loads((tmp_path / "metrics.json").read_text())
    assert measured["test_reviews"] == 3000
    assert 0.3 < measured["test_accuracy"] < 1
    assert (tmp_path / "model.safetensors").exists()
    assert not list(tmp_path.glob("*.bin"))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("--max-length 2", 2, "max_length must be at least 3, got 2"),
        ("--epochs nan", 2, "epochs must be finite"),
        ("--trainable some", 2, "invalid choice: 'some'"),
        ("--train-reviews 3", 1, "error: --train-reviews must be at least one batch, got 3"),
        ("--max-steps 0", 1, "error: --max-steps must be at least 1, got 0"),
        ("--model none", 1, "error: .*'?none'?.*encoder"),
        ("--read-length 600", 1, "at most 512 tokens, but .* read_length 600"),
        ("--max-length 600", 1, "at most 512 tokens, but max_length is 600"),
    ],
)
def test_the_command_names_what_is_wrong(
    monkeypatch, capsys, tmp_path, words: str, status: int, said: str
) -> None:
    monkeypatch.setattr(command, "prepare", lambda _: pytest.fail("work was begun"))
    try:
        ended = finetuning.main([*words.split(), "--output", str(tmp_path)])
    except SystemExit as end:
        ended = end.code
    assert ended == status
    assert re.search(said, capsys.readouterr().err)


def test_the_command_explains_itself_without_a_warning() -> None:
    words = [sys.executable, "-m", "helpers.finetuning", "--help"]
    run = subprocess.run(words, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert "accelerate launch -m helpers.finetuning" in run.stdout
