"""A check: assert a claim, show its figure in one line, and record it for the ledger.

Every claim of a chapter that can be measured ends in one of four calls::

    checks.begin("08-imdb")
    check_close("attention equals PyTorch's", ours, theirs, atol=1e-6)
    check_at_least("test accuracy", accuracy, 0.88, drift=0.02)

A check that fails raises :class:`CheckFailed` and so stops the notebook. One that holds
appends a record to ``_build/checks/<chapter>.json``. From these records the book makes its
ledger page, and continuous integration compares them with the committed baselines: ``drift``
says how far a figure may move from its baseline before that comparison fails. Two runs on one
machine give the same figures to the last digit; a figure that cannot, such as a ratio of two
durations, says why: ``varies="timing"``.

``needs`` says what a claim rests on that a rehearsal of the full profile is without (see
:mod:`helpers.profiles`): the real ``"weights"``, all the ``"data"``, or all the training
``"steps"``. There such a check shows and records what came, and the chapter goes on. Everywhere
else it changes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from helpers import assets, memory, profiles

VARIABLE = "HANDBOOK_CHECKS"
Needs = Literal["weights", "data", "steps"]
NOT_RECORDED = "this check could not be recorded in"
LIBRARIES = ("torch", "transformers", "datasets", "tokenizers", "accelerate", "numpy")


class CheckFailed(AssertionError):
    """A claim of the chapter does not hold; the message says what came and what was expected."""


class _Chapter:
    """The chapter being run: its name, its records, and when the last one was made."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.records: list[dict[str, Any]] = []
        self.last = time.perf_counter()


_chapter = _Chapter()


def begin(chapter: str) -> None:
    """Start the records of ``chapter`` (its file name without ``.ipynb``) anew.

    Raises:
        ValueError: the name is no string, is empty, or holds a path.
    """
    if (
        not isinstance(chapter, str)
        or not chapter.strip(". ")
        or "\0" in chapter
        or Path(chapter).name != chapter
    ):
        raise ValueError(f"expected a chapter's file name such as '08-imdb', got {chapter!r}")
    _chapter.__init__()
    _chapter.name = chapter
    _write()


def check_close(
    name: str,
    ours: Any,
    theirs: Any,
    *,
    atol: float,
    rtol: float = 0.0,
    unit: str = "",
    needs: Needs | None = None,
    varies: str = "",
) -> None:
    """Check that two numbers, arrays or tensors agree: ``|ours - theirs| <= atol + rtol |theirs|``.

    The recorded value is the largest absolute difference. ``varies`` says why two runs on one
    machine do not give the same one, if they do not.

    Raises:
        CheckFailed: they differ in shape or by more than the bound, or one has a NaN that the
            other does not have in the same place.
        TypeError: one of them holds something else than real numbers, or ``name``, ``unit`` or
            ``varies`` is no string.
        ValueError: ``name`` is empty, ``atol`` or ``rtol`` is negative or not a number, or
            ``needs`` is unknown.
    """
    _require_texts(name, unit=unit, varies=varies)
    _require_bound(atol), _require_bound(rtol)
    ours, theirs = _as_numbers(ours), _as_numbers(theirs)
    if ours.shape != theirs.shape:
        raise CheckFailed(f"{name}: the shapes differ, {ours.shape} and {theirs.shape}.")
    # Compared before they are rounded: above 2^53 two whole numbers can share one float.
    least = 1.0 if {ours.dtype.kind, theirs.dtype.kind} <= set("biu") else 0.0
    same = ours == theirs
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    same = same | (np.isnan(ours) & np.isnan(theirs))  # also equal infinities
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(same, 0.0, np.maximum(np.abs(ours - theirs), least))
        difference = np.where(np.isnan(difference), math.inf, difference)
        within = difference <= atol + rtol * np.abs(theirs)
    largest = float(difference.max(initial=0.0))
    # A share of an infinite value would allow anything: nothing is near infinity but itself.
    agrees = bool((same | (within & np.isfinite(difference))).all())
    allowed = f"{_figure(atol)}{f' + {_figure(rtol)} of the value' if rtol else ''}"
    where = "" if agrees or not ours.ndim else f" at index {_where(difference)}"
    _judge(
        agrees, name, "close", largest, atol,
        shown=f"largest difference {_figure(largest)}{unit}, allowed {allowed}{unit}",
        wrong=f"the largest difference is {_figure(largest)}{unit}{where}, allowed {allowed}{unit}",
        needs=needs,
        varies=varies,
    )  # fmt: skip


def check_equal(name: str, ours: Any, theirs: Any, *, needs: Needs | None = None) -> None:
    """Check that two values are equal; arrays and tensors must agree in shape and every element.

    Raises:
        CheckFailed: they are not equal.
        TypeError: their comparison gives neither true nor false, as for lists of arrays, or
            ``name`` is no string.
        ValueError: ``name`` is empty or ``needs`` unknown.
    """
    _require_texts(name)
    if _is_array(ours) or _is_array(theirs):
        left, right = _as_array(ours), _as_array(theirs)
        agrees = left.shape == right.shape and bool(np.all(left == right))
        value: Any = f"{left.size} elements" if left.size != 1 else left.item()
        came, expected = _short(left.tolist()), _short(right.tolist())
    else:
        agrees, value = _equal(ours, theirs), _plain(ours)
        came, expected = _short(ours), _short(theirs)
    _judge(
        agrees, name, "equal", value, value if agrees else expected,
        shown=f"both are {_short(value)}",
        wrong=f"{came} came, {expected} was expected",
        drift=0.0, needs=needs,
    )  # fmt: skip


def check_at_least(
    name: str,
    value: float,
    bound: float,
    *,
    drift: float | None = None,
    unit: str = "",
    needs: Needs | None = None,
    varies: str = "",
) -> None:
    """Check that ``value >= bound``; ``drift`` is how far it may move from its baseline.

    ``varies`` says why two runs on one machine do not give the same value, if they do not.

    Raises:
        CheckFailed: the value is below the bound or not a number.
        TypeError: the value or the bound is no number, or a text is no string.
        ValueError: ``name`` is empty; ``drift`` is negative, not a number, or given for a value
            that varies; the bound is not a number; or ``needs`` is unknown.
    """
    _require_texts(name, unit=unit, varies=varies)
    value, bound = _number(value), _number(bound)
    _require_drift(bound, drift, varies)
    _judge(
        value >= bound, name, "at least", value, bound,
        shown=f"{_figure(value)}{unit}, at least {_figure(bound)}{unit}",
        wrong=f"{_figure(value)}{unit} came, at least {_figure(bound)}{unit} was expected",
        drift=drift, needs=needs, varies=varies,
    )  # fmt: skip


def check_at_most(
    name: str,
    value: float,
    bound: float,
    *,
    drift: float | None = None,
    unit: str = "",
    needs: Needs | None = None,
    varies: str = "",
) -> None:
    """Check that ``value <= bound``; ``drift`` is how far it may move from its baseline.

    ``varies`` says why two runs on one machine do not give the same value, if they do not.

    Raises:
        CheckFailed: the value is above the bound or not a number.
        TypeError: the value or the bound is no number, or a text is no string.
        ValueError: ``name`` is empty; ``drift`` is negative, not a number, or given for a value
            that varies; the bound is not a number; or ``needs`` is unknown.
    """
    _require_texts(name, unit=unit, varies=varies)
    value, bound = _number(value), _number(bound)
    _require_drift(bound, drift, varies)
    _judge(
        value <= bound, name, "at most", value, bound,
        shown=f"{_figure(value)}{unit}, at most {_figure(bound)}{unit}",
        wrong=f"{_figure(value)}{unit} came, at most {_figure(bound)}{unit} was expected",
        drift=drift, needs=needs, varies=varies,
    )  # fmt: skip


def records_folder() -> Path:
    """Return where the records go: ``HANDBOOK_CHECKS``, else ``_build/checks`` of the checkout."""
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen:
        return Path(chosen)
    root = Path(__file__).resolve().parent.parent
    in_checkout = (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir()
    return (root if in_checkout else Path.cwd()) / "_build" / "checks"


# --- judging and recording ----------------------------------------------------------


def _judge(
    holds: bool,
    name: str,
    kind: str,
    value: Any,
    bound: Any,
    *,
    shown: str,
    wrong: str,
    drift: float | None = None,
    needs: Needs | None = None,
    varies: str = "",
) -> None:
    if needs not in (None, *get_args(Needs)):
        raise ValueError(f"{name}: needs must be one of {get_args(Needs)}, got {needs!r}")
    if not holds and not (needs and profiles.rehearsal()):
        raise CheckFailed(f"{name}: {wrong} (chapter {_chapter.name or 'not begun'}).")
    now = time.perf_counter()
    if any(record["name"] == name for record in _chapter.records):
        # Running a cell twice in JupyterLab replaces its record instead of adding one.
        _chapter.records[:] = [record for record in _chapter.records if record["name"] != name]
    _chapter.records.append(
        {
            "name": name,
            "kind": kind,
            "value": value,
            "bound": bound,
            "drift": drift,
            "shown": shown,
            "seconds": round(now - _chapter.last, 3),
            "needs": needs,
            "held": holds,
        }
        | ({"varies": varies} if varies else {})
    )
    _chapter.last = now
    if _chapter.name:
        _write()
    missed = f"✗ {name}: {wrong}; a rehearsal is without the real {needs}"
    _say(f"✓ {name}: {shown}" if holds else missed)


def _write() -> None:
    content = {
        "chapter": _chapter.name,
        "profile": profiles.current(),
        "rehearsal": profiles.rehearsal(),
        "versions": _versions(),
        "assets": assets.used(),
        "memory_gib": round(memory.peak() / memory.GIB, 1),
        "checks": _chapter.records,
    }
    folder = records_folder()
    beside = folder / f".{_chapter.name}-{os.getpid()}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside.write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        beside.replace(folder / f"{_chapter.name}.json")
    except OSError as problem:
        # The claim holds all the same; a reader on a read-only disk must be able to go on.
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        _say(f"({NOT_RECORDED} {folder}: {problem.strerror})")


def _say(line: str) -> None:
    # A terminal that knows only ASCII (LC_ALL=C) must not make a check fail that holds.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding))


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# --- values and how they are written ------------------------------------------------


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "detach")


def _as_array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor, perhaps on a GPU, perhaps bfloat16
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return value.numpy()
    return np.asarray(value)


def _as_numbers(value: Any) -> np.ndarray:
    try:
        array = _as_array(value)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"expected real numbers, one or an array, got {_short(repr(value))}")
    return array


def _equal(ours: Any, theirs: Any) -> bool:
    try:
        return bool(ours == theirs)
    except (ValueError, RuntimeError):  # NumPy's and PyTorch's word for "of many elements"
        raise TypeError(
            f"{type(ours).__name__} and {type(theirs).__name__} cannot be compared by ==; "
            "compare their elements"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, (bool, int, float, str)) else _short(value)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _short(value: Any) -> str:
    text = f"{value:,}" if type(value) is int else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _where(difference: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # a tensor of many numbers
        raise TypeError(f"expected one number, got {_short(repr(value))}") from None


def _require_texts(name: str, **others: str) -> None:
    for role, text in {"name": name, **others}.items():
        if not isinstance(text, str):
            raise TypeError(f"{role} must be a string, got {_short(repr(text))}")
    if not name.strip():
        raise ValueError("name must say in a few words what is checked, got an empty string")


def _require_bound(bound: float) -> None:
    if not (isinstance(bound, (int, float, np.number)) and bound >= 0):
        raise ValueError(f"a tolerance must be a number, zero or more, got {bound!r}")


def _require_drift(bound: float, drift: float | None, varies: str) -> None:
    if math.isnan(bound):
        raise ValueError("the bound must be a number, got NaN")
    if drift is not None:
        _require_bound(drift)
        if varies:
            raise ValueError(f"a value that varies ({varies}) has no drift, got {drift!r}")
