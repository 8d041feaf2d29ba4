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


def message_of(call, *arguments, **keywords) -> str | None:
    """What a check that fails says; None if it holds."""
    try:
        call("the claim", *arguments, **keywords)
    except CheckFailed as failed:
        return str(failed)


BF16 = torch.tensor([0.1], dtype=torch.bfloat16)
EXACT, NEAR, WIDE = ({"atol": atol} for atol in (0.0, 0.5, 1.0))


@pytest.mark.parametrize(
    ("call", "ours", "theirs", "keywords", "expected"),
    [
        (check_close, torch.ones(2, requires_grad=True), torch.ones(2), EXACT, True),
        (check_close, BF16, torch.tensor([0.1]), {"atol": 1e-6}, False),
        (check_close, 2**53 + 1, 2**53, NEAR, False),  # the same number as floats
        (check_close, 1.0, math.inf, {"atol": 1e9, "rtol": 1e9}, False),
        (check_close, np.ones((2, 1)), np.ones((1, 2)), WIDE, False),  # NumPy would broadcast
        (check_close, [True, False], [True, True], NEAR, False),
        (check_equal, "yes", "no", {}, False),
        (check_equal, ["a"], ["a", "b"], {}, False),
        (check_equal, torch.arange(6), np.arange(6), {}, True),
        (check_equal, torch.arange(6), torch.arange(6).reshape(2, 3), {}, False),
        (check_equal, BF16[0], float(BF16[0]), {}, True),
        (check_equal, np.ones(3), 1.0, {}, False),  # one number is not three
        (check_equal, math.nan, math.nan, {}, False),
        (check_at_least, 0.9, 0.9, {}, True),
        (check_at_least, 0.9 - 1e-12, 0.9, {}, False),
        (check_at_least, torch.tensor(0.95, dtype=torch.bfloat16), 0.9, {}, True),
        (check_at_least, math.nan, 0.9, {}, False),
        (check_at_most, 0.9, 0.9, {}, True),
        (check_at_most, 0.9 + 1e-12, 0.9, {}, False),
        (check_at_most, math.nan, 0.9, {}, False),
    ],
)
def test_what_holds(call, ours, theirs, keywords, expected):
    assert (message_of(call, ours, theirs, **keywords) is None) is expected


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
    assert (message_of(check_close, ours, theirs, atol=atol, rtol=rtol) is None) == expected


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
def test_a_message_says_what_came_and_what_was_expected(folder, call, values, keywords, said):
    whole = message_of(call, *values, **keywords)
    assert whole.startswith("the claim: ")
    assert said in whole
    assert len(whole) < 300
    assert recorded(folder)["checks"] == []


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


def test_values_of_any_kind_are_recorded_and_one_that_is_run_again_is_replaced(folder, capsys):
    check_at_most("run again", 0.5, 1.0)
    check_equal("lists", [1, 2], [1, 2])
    check_close("tolerance", [1.0, 3.5], [1.25, 3.5], atol=np.float32(0.5))
    check_close("two numbers", torch.tensor(1.5), 2, atol=0.5, rtol=0.1, unit=" s")
    check_at_most("run again", torch.tensor(0.25), np.float32(1), varies="timing")
    assert capsys.readouterr().out.splitlines()[1:4] == [
        "✓ lists: [1, 2], as expected",
        "✓ tolerance: largest difference 0.25, allowed 0.5",
        "✓ two numbers: 1.5 and 2 s differ by 0.5 s, allowed 0.5 + 0.1 of the value s",
    ]
    found = recorded(folder)["checks"]
    names = ("name", "value", "bound", "drift", "varies")
    assert [tuple(one.get(name) for name in names) for one in found] == [
        ("lists", "[1, 2]", "[1, 2]", 0.0, None),
        ("tolerance", 0.25, 0.5, None, None),
        ("two numbers", 0.5, 0.5, None, None),
        ("run again", 0.25, 1.0, None, "timing"),
    ]
    checks.begin("02-other")
    assert recorded(folder, "02-other")["checks"] == []
    assert recorded(folder)["checks"] == found


def test_a_check_without_a_chapter_holds_and_writes_nothing(folder):
    checks._chapter.__init__()
    before = (folder / "01-test.json").read_bytes()
    check_equal("fine", 1, 1)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"01-test.json": before}
    assert "not begun" in message_of(check_equal, 1, 2)


def test_the_folder_of_a_checkout(monkeypatch, tmp_path):
    monkeypatch.delenv(checks.VARIABLE)
    monkeypatch.chdir(tmp_path)
    root = checks.Path(checks.__file__).resolve().parent.parent
    assert checks.records_folder() == root / "_build" / "checks"
    monkeypatch.setattr(checks, "__file__", str(tmp_path / "site-packages/helpers/checks.py"))
    assert checks.records_folder() == tmp_path / "_build" / "checks"


@pytest.mark.parametrize(
    ("call", "values", "keywords", "error", "said"),
    [
        (check_close, ("name", 1, 1), {"atol": math.nan}, ValueError, "zero or more"),
        (check_close, ("name", 1j, 1), {"atol": 0.1}, TypeError, "expected real numbers"),
        (check_at_least, ("name", 1, math.nan), {}, ValueError, "must be a number, got NaN"),
        (check_at_most, ("name", 1, 2), {"drift": -0.1}, ValueError, "zero or more"),
        (check_at_most, ("name", 1, 2), {"drift": 0.1, "varies": "timing"}, ValueError, "no drift"),
        (check_equal, ("name", 1, 1), {"needs": "a GPU"}, ValueError, "needs must be .*'a GPU'"),
        (check_equal, (" ", 1, 1), {}, ValueError, "what is checked"),
        (checks.begin, ("..",), {}, ValueError, "file name"),
        (checks.begin, ("a/b",), {}, ValueError, "file name"),
    ],
)
def test_what_would_pass_without_meaning_anything_is_refused(
    folder, call, values, keywords, error, said
):
    with pytest.raises(error, match=said):
        call(*values, **keywords)
    assert recorded(folder)["checks"] == []


@pytest.mark.parametrize(
    ("call", "keywords"),
    [(check_close, NEAR), (check_equal, {}), (check_at_least, {}), (check_at_most, {})],
)
def test_a_mark_counts_only_in_a_rehearsal(monkeypatch, folder, capsys, call, keywords):
    values = (2, 1) if call is check_at_most else (1, 2)
    assert message_of(call, *values, **keywords, needs="weights").startswith("the claim: ")
    monkeypatch.setenv("HANDBOOK_PROFILE", "full")
    monkeypatch.setenv("HANDBOOK_REHEARSAL", "2")
    assert message_of(call, *values, **keywords).startswith("the claim: ")
    call("the claim", *values, **keywords, needs="weights")
    content = recorded(folder)
    assert (content["profile"], content["rehearsal"]) == ("full", 2)
    (check,) = content["checks"]
    assert (check["held"], check["needs"]) == (False, "weights")
    shown = capsys.readouterr().out
    assert shown.startswith("✗ the claim: ")
    assert shown.endswith("; a rehearsal is without the real weights\n")
