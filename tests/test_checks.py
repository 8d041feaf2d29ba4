"""A check passes, fails, says why, and is recorded."""

from __future__ import annotations

import json
import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import checks
from helpers.checks import CheckFailed, check_at_least, check_at_most, check_close, check_equal


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A chapter under way, recorded in a folder of its own."""
    monkeypatch.setenv(checks.VARIABLE, str(tmp_path / "checks"))
    monkeypatch.setenv("HANDBOOK_PROFILE", "small")
    checks.begin("01-test")
    yield tmp_path / "checks"
    checks._chapter.__init__()


def recorded(folder, chapter="01-test"):
    return json.loads((folder / f"{chapter}.json").read_text(encoding="utf-8"))


def message_of(call, *arguments, **keywords) -> str:
    with pytest.raises(CheckFailed) as raised:
        call(*arguments, **keywords)
    return str(raised.value)


# --- close --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "atol", "rtol"),
    [
        (1.0, 1.0, 0.0, 0.0),
        (1.0, 1.25, 0.25, 0.0),
        (100.0, 101.0, 0.0, 0.01),
        ([1, 2], np.array([1.0, 2.0]), 0.0, 0.0),
        (torch.ones(2, 3), np.ones((2, 3)), 0.0, 0.0),
        (torch.ones(2, requires_grad=True), torch.ones(2), 0.0, 0.0),
        (torch.tensor([0.1], dtype=torch.bfloat16), torch.tensor([0.1]), 1e-3, 0.0),
        (torch.tensor([0.1], dtype=torch.float16), torch.tensor([0.1]), 1e-3, 0.0),
        ([math.nan, 1.0], [math.nan, 1.0], 0.0, 0.0),
        ([math.inf, -math.inf], [math.inf, -math.inf], 0.0, 0.0),
        ([True, False], [True, False], 0.0, 0.0),
        ([], [], 0.0, 0.0),
    ],
)
def test_close_holds(ours, theirs, atol, rtol):
    check_close("they agree", ours, theirs, atol=atol, rtol=rtol)


@pytest.mark.parametrize(
    ("ours", "theirs", "atol", "rtol"),
    [
        (1.0, 1.2500001, 0.25, 0.0),
        (100.0, 101.1, 0.0, 0.01),
        (0.0, 1.0, 0.0, 0.99),
        (1.0, math.nan, 1e9, 0.0),
        (math.nan, 1.0, 1e9, 1e9),
        (math.inf, 1.0, 1e9, 0.0),
        (1.0, math.inf, 1e9, 0.0),
        (math.inf, -math.inf, 1e9, 1e9),
        (torch.tensor([0.1], dtype=torch.bfloat16), torch.tensor([0.1]), 1e-6, 0.0),
    ],
)
def test_close_fails(ours, theirs, atol, rtol):
    with pytest.raises(CheckFailed):
        check_close("they agree", ours, theirs, atol=atol, rtol=rtol)


def test_close_says_where_and_how_much():
    ours = np.zeros((2, 3))
    ours[1, 2] = 0.5
    said = message_of(check_close, "attention", ours, np.zeros((2, 3)), atol=0.1, unit=" nats")
    for part in ("attention", "0.5 nats", "(1, 2)", "0.1 nats", "01-test"):
        assert part in said


def test_close_refuses_another_shape_even_if_it_could_be_broadcast():
    said = message_of(check_close, "shapes", np.ones((2, 1)), np.ones((1, 2)), atol=1.0)
    assert "(2, 1)" in said
    assert "(1, 2)" in said


@pytest.mark.parametrize("bad", [{"atol": -1e-9}, {"atol": math.nan}, {"atol": 0.1, "rtol": -1.0}])
def test_a_tolerance_below_zero_is_refused(bad):
    with pytest.raises(ValueError, match="zero or more"):
        check_close("they agree", 1.0, 1.0, **bad)


SHAPES = arrays.array_shapes(max_dims=3, max_side=4)
NUMBERS = st.floats(width=64, min_value=-1e6, max_value=1e6) | st.sampled_from(
    [math.nan, math.inf, -math.inf, 0.0, -0.0]
)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.data())
def test_close_agrees_with_numpy(data):
    shape = data.draw(SHAPES)
    theirs = data.draw(arrays.arrays(np.float64, shape, elements=NUMBERS))
    noise = data.draw(arrays.arrays(np.float64, shape, elements=st.floats(-2e-3, 2e-3)))
    ours = data.draw(st.sampled_from([theirs + noise, theirs * (1 + noise), noise, theirs]))
    atol = data.draw(st.sampled_from([0.0, 1e-4, 1e-3, 1.0]))
    rtol = data.draw(st.sampled_from([0.0, 1e-4, 1e-3]))
    try:
        np.testing.assert_allclose(ours, theirs, atol=atol, rtol=rtol, equal_nan=True)
        expected = True
    except AssertionError:
        expected = False
    try:
        check_close("they agree", ours, theirs, atol=atol, rtol=rtol)
        holds = True
    except CheckFailed:
        holds = False
    assert holds == expected


# --- equal --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (3, 3),
        ("yes", "yes"),
        (["a", "b"], ["a", "b"]),
        ({"a": 1}, {"a": 1}),
        (torch.arange(6), np.arange(6)),
        (torch.tensor(2.5, dtype=torch.bfloat16), 2.5),
        (np.float64(0.5), 0.5),
    ],
)
def test_equal_holds(ours, theirs, folder):
    check_equal("they are equal", ours, theirs)
    assert recorded(folder)["checks"][0]["drift"] == 0.0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (3, 4),
        ("yes", "no"),
        (["a"], ["a", "b"]),
        (torch.arange(6), torch.arange(6).reshape(2, 3)),
        (torch.arange(6), torch.arange(5)),
        (torch.tensor([1, 2]), torch.tensor([1, 3])),
        (np.ones(3), 1.0),  # one number is not three
        (math.nan, math.nan),
    ],
)
def test_equal_fails(ours, theirs):
    with pytest.raises(CheckFailed):
        check_equal("they are equal", ours, theirs)


def test_equal_says_what_came_and_what_was_expected():
    said = message_of(check_equal, "the label", "negative", "positive")
    assert "negative came, positive was expected" in said
    said = message_of(check_equal, "ids", torch.tensor([1, 2]), torch.tensor([1, 3]))
    assert "[1, 2] came, [1, 3] was expected" in said


def test_a_long_value_is_shortened_in_the_message():
    assert len(message_of(check_equal, "text", "a" * 5_000, "b" * 5_000)) < 300


# --- at least, at most --------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "value", "bound", "holds"),
    [
        (check_at_least, 0.9, 0.9, True),
        (check_at_least, 0.9 - 1e-12, 0.9, False),
        (check_at_least, math.inf, 0.9, True),
        (check_at_least, math.nan, 0.9, False),
        (check_at_least, torch.tensor(0.95, dtype=torch.bfloat16), 0.9, True),
        (check_at_most, 0.9, 0.9, True),
        (check_at_most, 0.9 + 1e-12, 0.9, False),
        (check_at_most, -math.inf, 0.9, True),
        (check_at_most, math.nan, 0.9, False),
        (check_at_most, np.float32(0.5), 0.9, True),
    ],
)
def test_bounds(call, value, bound, holds):
    if holds:
        call("the figure", value, bound)
    else:
        with pytest.raises(CheckFailed):
            call("the figure", value, bound)


def test_bounds_say_what_came_and_what_was_expected():
    said = message_of(check_at_least, "accuracy", 0.5, 0.88, unit=" of the reviews")
    assert "0.5 of the reviews came, at least 0.88 of the reviews was expected" in said
    said = message_of(check_at_most, "loss", 1234567, 1000)
    assert "1,234,567 came, at most 1,000 was expected" in said


# --- records ------------------------------------------------------------------------


def test_begin_starts_anew(folder):
    assert recorded(folder)["checks"] == []
    check_equal("one", 1, 1)
    checks.begin("02-other")
    assert recorded(folder, "02-other")["checks"] == []
    assert [check["name"] for check in recorded(folder)["checks"]] == ["one"]
    checks.begin("01-test")
    assert recorded(folder)["checks"] == []


@pytest.mark.parametrize("name", ["", "a/b", "../up", "notebooks/01-test"])
def test_begin_refuses_a_path(name):
    with pytest.raises(ValueError, match="file name"):
        checks.begin(name)


def test_a_record_says_everything(folder, capsys):
    check_at_least("test accuracy", 0.9, 0.88, drift=0.02, unit=" of all")
    content = recorded(folder)
    assert content["chapter"] == "01-test"
    assert content["profile"] == "small"
    assert content["rehearsal"] is None
    assert content["versions"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    assert content["assets"] == checks.assets.used()
    (check,) = content["checks"]
    seconds = check.pop("seconds")
    assert seconds >= 0
    assert check == {
        "name": "test accuracy",
        "kind": "at least",
        "value": 0.9,
        "bound": 0.88,
        "drift": 0.02,
        "shown": "0.9 of all, at least 0.88 of all",
        "needs": None,
        "held": True,
    }
    assert capsys.readouterr().out == "✓ test accuracy: 0.9 of all, at least 0.88 of all\n"


def test_close_records_the_largest_difference(folder):
    check_close("they agree", [1.0, 2.0, 3.5], [1.0, 2.25, 3.5], atol=0.5)
    (check,) = recorded(folder)["checks"]
    assert (check["kind"], check["value"], check["bound"]) == ("close", 0.25, 0.5)


def test_running_a_cell_again_replaces_its_record(folder):
    check_at_most("loss", 0.5, 1.0)
    check_equal("other", 1, 1)
    check_at_most("loss", 0.25, 1.0)
    found = [(check["name"], check["value"]) for check in recorded(folder)["checks"]]
    assert found == [("other", 1), ("loss", 0.25)]


def test_a_check_that_fails_is_not_recorded(folder):
    with pytest.raises(CheckFailed):
        check_equal("wrong", 1, 2)
    assert recorded(folder)["checks"] == []


def test_records_are_valid_json_whatever_the_value(folder):
    check_equal("array", np.arange(3), np.arange(3))
    check_equal("numpy", np.int64(3), 3)
    check_equal("list", [1, 2], [1, 2])
    check_equal("flag", np.bool_(True), True)
    assert [check["value"] for check in recorded(folder)["checks"]] == [
        "3 elements", 3, "[1, 2]", True,
    ]  # fmt: skip
    assert [path.name for path in folder.iterdir()] == ["01-test.json"]


def test_a_check_without_a_chapter_holds_and_writes_nothing(folder):
    checks._chapter.__init__()
    before = sorted(folder.iterdir())
    check_equal("fine", 1, 1)
    assert sorted(folder.iterdir()) == before
    assert "not begun" in message_of(check_equal, "wrong", 1, 2)


def test_a_disk_that_cannot_be_written_does_not_stop_the_reader(tmp_path, monkeypatch, capsys):
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    monkeypatch.setenv(checks.VARIABLE, str(blocked / "checks"))
    checks.begin("03-read-only")
    check_equal("fine", 1, 1)
    assert "could not be recorded" in capsys.readouterr().out
    with pytest.raises(CheckFailed):
        check_equal("wrong", 1, 2)


def test_the_folder_of_a_checkout(monkeypatch, tmp_path):
    monkeypatch.delenv(checks.VARIABLE)
    monkeypatch.chdir(tmp_path)
    root = checks.Path(checks.__file__).resolve().parent.parent
    assert checks.records_folder() == root / "_build" / "checks"
    monkeypatch.setattr(checks, "__file__", str(tmp_path / "site-packages/helpers/checks.py"))
    assert checks.records_folder() == tmp_path / "_build" / "checks"


# --- what a check is told and needs ---------------------------------------------------

CALLS = {
    "close": lambda name="wrong", **needs: check_close(name, 1.0, 2.0, atol=0.1, **needs),
    "equal": lambda name="wrong", **needs: check_equal(name, 1, 2, **needs),
    "at least": lambda name="wrong", **needs: check_at_least(name, 1.0, 2.0, **needs),
    "at most": lambda name="wrong", **needs: check_at_most(name, 2.0, 1.0, **needs),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
def test_a_check_without_a_name_is_refused(folder, call):
    for name in ("", " "):
        with pytest.raises(ValueError, match="what is checked"):
            call(name)
    for name in (None, 3, torch.zeros(0)):
        with pytest.raises(TypeError, match="name must be a string"):
            call(name)
    with pytest.raises(TypeError, match="unit must be a string"):
        check_at_least("the figure", 2.0, 1.0, unit=3)
    assert recorded(folder)["checks"] == []


@pytest.fixture
def rehearsing(monkeypatch):
    monkeypatch.setenv("HANDBOOK_PROFILE", "full")
    monkeypatch.setenv("HANDBOOK_REHEARSAL", "2")


@every_call
def test_in_a_rehearsal_a_marked_check_shows_records_and_goes_on(rehearsing, folder, capsys, call):
    call(needs="weights")
    content = recorded(folder)
    assert (content["profile"], content["rehearsal"]) == ("full", 2)
    (check,) = content["checks"]
    assert (check["held"], check["needs"]) == (False, "weights")
    shown = capsys.readouterr().out
    assert shown.startswith("✗ wrong: ")
    assert shown.endswith("; a rehearsal is without the real weights\n")


@every_call
def test_in_a_rehearsal_an_unmarked_check_stops(rehearsing, folder, call):
    assert message_of(call).startswith("wrong: ")
    assert recorded(folder)["checks"] == []


@pytest.mark.parametrize("profile", ["small", "full"])
@every_call
def test_outside_a_rehearsal_a_mark_is_ignored(monkeypatch, folder, call, profile):
    monkeypatch.setenv("HANDBOOK_PROFILE", profile)
    assert message_of(call, needs="data").startswith("wrong: ")
    assert recorded(folder)["checks"] == []


@every_call
def test_an_unknown_need_is_refused(rehearsing, call):
    with pytest.raises(ValueError, match=r"needs must be one of .*'a GPU'"):
        call(needs="a GPU")
