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

from helpers import assets, checks
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


def holds(call, *arguments, **keywords) -> bool:
    try:
        call("they agree", *arguments, **keywords)
    except CheckFailed:
        return False
    return True


# --- what holds and what does not -----------------------------------------------------

BF16 = torch.tensor([0.1], dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("ours", "theirs", "atol", "rtol", "expected"),
    [
        ([1, 2], np.array([1.0, 2.25]), 0.25, 0.0, True),
        (torch.ones(2, requires_grad=True), torch.ones(2), 0.0, 0.0, True),
        (BF16, torch.tensor([0.1]), 1e-6, 0.0, False),
        (2**53 + 1, 2**53, 0.5, 0.0, False),  # the same number as floats
        (1.0, math.inf, 1e9, 1e9, False),
        (np.ones((2, 1)), np.ones((1, 2)), 1.0, 0.0, False),  # NumPy would broadcast them
        ([True, False], [True, True], 0.5, 0.0, False),
        ([], [], 0.0, 0.0, True),
    ],
)
def test_close(ours, theirs, atol, rtol, expected):
    assert holds(check_close, ours, theirs, atol=atol, rtol=rtol) is expected


NUMBERS = st.floats(width=64, min_value=-1e6, max_value=1e6) | st.sampled_from(
    [math.nan, math.inf, -math.inf, 0.0, -0.0]
)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.data())
def test_close_agrees_with_numpy(data):
    shape = data.draw(arrays.array_shapes(max_dims=3, max_side=4))
    theirs = data.draw(arrays.arrays(np.float64, shape, elements=NUMBERS))
    noise = data.draw(arrays.arrays(np.float64, shape, elements=st.floats(-2e-3, 2e-3)))
    ours = data.draw(st.sampled_from([theirs + noise, theirs * (1 + noise), noise, theirs]))
    atol = data.draw(st.sampled_from([0.0, 1e-4, 1e-3, 1.0]))
    rtol = data.draw(st.sampled_from([0.0, 1e-4, 1e-3]))
    expected = np.allclose(ours, theirs, atol=atol, rtol=rtol, equal_nan=True)
    assert holds(check_close, ours, theirs, atol=atol, rtol=rtol) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ("yes", "no", False),
        (["a", "b"], ["a", "b"], True),
        (["a"], ["a", "b"], False),
        (torch.arange(6), np.arange(6), True),
        (torch.arange(6), torch.arange(6).reshape(2, 3), False),
        (torch.tensor(2.5, dtype=torch.bfloat16), 2.5, True),
        (np.float64(0.5), 0.5, True),
        (np.ones(3), 1.0, False),  # one number is not three
        (math.nan, math.nan, False),
    ],
)
def test_equal(ours, theirs, expected):
    assert holds(check_equal, ours, theirs) is expected


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (0.9, True, True),
        (0.9 - 1e-12, False, True),
        (0.9 + 1e-12, True, False),
        (math.inf, True, False),
        (math.nan, False, False),
        (torch.tensor(0.95, dtype=torch.bfloat16), True, False),
        (np.float32(0.5), False, True),
    ],
)
def test_bounds(value, least, most):
    assert holds(check_at_least, value, 0.9) is least
    assert holds(check_at_most, value, 0.9) is most


# --- what a reader sees, and what is recorded -------------------------------------------


@pytest.mark.parametrize(
    ("call", "values", "keywords", "said"),
    [
        (check_close, ([0.0, 0.5], [0.0, 0.0]), {"atol": 0.1, "rtol": 0.25, "unit": " nats"},
         "difference is 0.5 nats at index (1,), allowed 0.1 + 0.25 of the value nats"),
        (check_close, (np.ones((2, 1)), np.ones(2)), {"atol": 1.0}, "differ, (2, 1) and (2,)."),
        (check_equal, (np.arange(2), np.ones(2)), {}, "[0, 1] came, [1.0, 1.0] was expected"),
        (check_equal, ("a" * 5_000, "b"), {}, "aaa… came, b was expected"),
        (check_at_least, (0.5, 0.88), {"unit": " s"}, "0.5 s came, at least 0.88 s was expected"),
        (check_at_most, (1234567, 1000), {}, "1,234,567 came, at most 1,000 was expected"),
    ],
)  # fmt: skip
def test_a_message_says_what_came_and_what_was_expected(call, values, keywords, said):
    whole = message_of(call, "the claim", *values, **keywords)
    assert whole.startswith("the claim: ")
    assert said in whole
    assert len(whole) < 300


def test_a_record_says_everything(folder, capsys):
    check_at_least("test accuracy", 0.9, 0.88, drift=0.02, unit=" of all")
    content = recorded(folder)
    assert (content["chapter"], content["profile"]) == ("01-test", "small")
    assert content["rehearsal"] is None
    assert content["versions"]["numpy"] == np.__version__
    assert content["assets"] == assets.used()
    (check,) = content["checks"]
    assert check.pop("seconds") >= 0
    assert check == {
        "name": "test accuracy", "kind": "at least", "value": 0.9, "bound": 0.88, "drift": 0.02,
        "shown": "0.9 of all, at least 0.88 of all", "needs": None, "held": True,
    }  # fmt: skip
    assert capsys.readouterr().out == "✓ test accuracy: 0.9 of all, at least 0.88 of all\n"
    assert [path.name for path in folder.iterdir()] == ["01-test.json"]


@pytest.mark.parametrize(
    ("call", "values", "keywords", "expected"),
    [
        (check_close, ([1.0, 3.5], [1.25, 3.5]), {"atol": np.float32(0.5)}, (0.25, 0.5, None)),
        (check_equal, (np.arange(3), np.arange(3)), {}, ("3 elements", "3 elements", 0.0)),
        (check_equal, (np.int64(3), 3), {}, (3, 3, 0.0)),
        (check_equal, ([1, 2], [1, 2]), {}, ("[1, 2]", "[1, 2]", 0.0)),
        (check_at_most, (torch.tensor(0.5), np.float32(1)), {"varies": "time"}, (0.5, 1.0, None)),
    ],
)
def test_a_check_is_recorded_whatever_its_values(folder, call, values, keywords, expected):
    call("name", *values, **keywords)
    (found,) = recorded(folder)["checks"]
    assert (found["value"], found["bound"], found["drift"]) == expected
    assert found.get("varies") == keywords.get("varies")


def test_a_chapter_or_a_cell_that_is_run_again_replaces_its_records(folder):
    for name, value in (("loss", 0.5), ("other", 0.75), ("loss", 0.25)):
        check_at_most(name, value, 1.0)
    found = [(check["name"], check["value"]) for check in recorded(folder)["checks"]]
    assert found == [("other", 0.75), ("loss", 0.25)]
    checks.begin("02-other")
    assert recorded(folder, "02-other")["checks"] == []
    assert len(recorded(folder)["checks"]) == 2
    checks.begin("01-test")
    assert recorded(folder)["checks"] == []


def test_a_check_without_a_chapter_holds_and_writes_nothing(folder):
    checks._chapter.__init__()
    before = (folder / "01-test.json").read_bytes()
    check_equal("fine", 1, 1)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"01-test.json": before}
    assert "not begun" in message_of(check_equal, "wrong", 1, 2)


def test_the_folder_of_a_checkout(monkeypatch, tmp_path):
    monkeypatch.delenv(checks.VARIABLE)
    monkeypatch.chdir(tmp_path)
    root = checks.Path(checks.__file__).resolve().parent.parent
    assert checks.records_folder() == root / "_build" / "checks"
    monkeypatch.setattr(checks, "__file__", str(tmp_path / "site-packages/helpers/checks.py"))
    assert checks.records_folder() == tmp_path / "_build" / "checks"


# --- never silently wrong, and what a rehearsal is without --------------------------------

WRONG = {
    "close": lambda name="wrong", **more: check_close(name, 1.0, 2.0, atol=0.1, **more),
    "equal": lambda name="wrong", **more: check_equal(name, 1, 2, **more),
    "at least": lambda name="wrong", **more: check_at_least(name, 1.0, 2.0, **more),
    "at most": lambda name="wrong", **more: check_at_most(name, 2.0, 1.0, **more),
}
every_call = pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)


@pytest.mark.parametrize(
    ("call", "values", "keywords", "error", "said"),
    [
        (check_close, (1, 1), {"atol": math.nan}, ValueError, "zero or more"),
        (check_close, (1, 1), {"atol": 0.1, "rtol": math.inf}, ValueError, "zero or more"),
        (check_close, (1j, 1), {"atol": 0.1}, TypeError, "expected real numbers"),
        (check_at_least, (1, math.nan), {}, ValueError, "must be a number, got NaN"),
        (check_at_most, (1, 2), {"drift": -0.1}, ValueError, "zero or more"),
        (check_at_most, (1, 2), {"drift": 0.1, "varies": "timing"}, ValueError, "has no drift"),
    ],
)
def test_what_would_pass_without_meaning_anything_is_refused(
    folder, call, values, keywords, error, said
):
    with pytest.raises(error, match=said):
        call("the claim", *values, **keywords)
    assert recorded(folder)["checks"] == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "../up"])
def test_begin_refuses_what_is_no_file_name(name):
    with pytest.raises(ValueError, match="file name"):
        checks.begin(name)


@every_call
@pytest.mark.parametrize("rehearsal", ["", "2"])
def test_a_mark_counts_only_in_a_rehearsal(monkeypatch, folder, capsys, call, rehearsal):
    monkeypatch.setenv("HANDBOOK_PROFILE", "full")
    monkeypatch.setenv("HANDBOOK_REHEARSAL", rehearsal)
    with pytest.raises(ValueError, match="what is checked"):
        call(" ")
    with pytest.raises(ValueError, match=r"needs must be one of .*'a GPU'"):
        call(needs="a GPU")
    assert message_of(call).startswith("wrong: ")
    if not rehearsal:
        assert message_of(call, needs="data").startswith("wrong: ")
        assert recorded(folder)["checks"] == []
        return
    call(needs="weights")
    content = recorded(folder)
    assert (content["profile"], content["rehearsal"]) == ("full", 2)
    (check,) = content["checks"]
    assert (check["held"], check["needs"]) == (False, "weights")
    shown = capsys.readouterr().out
    assert shown.startswith("✗ wrong: ")
    assert shown.endswith("; a rehearsal is without the real weights\n")
