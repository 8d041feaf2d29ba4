"""A check: assert a claim, show its figure in one line, and record it for the ledger.

Every claim of a chapter that can be measured ends in one of four calls::

    checks.begin("10-imdb")
    check_close("attention equals PyTorch's", ours, theirs, atol=1e-6)
    check_at_least("test accuracy", accuracy, 0.88, drift=0.02)

A check that fails raises :class:`CheckFailed` and so stops the notebook. One that holds is
recorded in ``_build/checks/<chapter>.json``, for the book's ledger and to be compared with the
committed baselines. ``drift`` says how far a figure may move from its baseline. One that differs
between two runs on one machine, such as a ratio of durations, says why: ``varies="timing"``.

``needs`` says what a claim rests on that a rehearsal (see :mod:`helpers.profiles`) is without: the
real ``"weights"``, all the ``"data"``, or all the training ``"steps"``. There a check that does not
hold is shown and recorded, and the chapter goes on.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from helpers import assets, memory, profiles, sealed

VARIABLE = "HANDBOOK_CHECKS"
Needs = Literal["weights", "data", "steps"]
NOT_RECORDED = "this check could not be recorded in"
LIBRARIES = ("torch", "transformers", "datasets", "tokenizers", "accelerate", "numpy")
_VERSIONS = {library: importlib.metadata.version(library) for library in LIBRARIES}


class CheckFailed(AssertionError):
    """A claim of the chapter does not hold; the message says what came and what was expected."""


@dataclass
class _Chapter:
    """The chapter being run: its name, its records, and when the last one was made."""

    name: str | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    last: float = field(default_factory=time.perf_counter)


_chapter = _Chapter()


def begin(chapter: str) -> None:
    """Start the records of ``chapter``, its file name without ``.ipynb`` and folder, anew."""
    if not chapter.strip(". ") or Path(chapter).name != chapter:
        raise ValueError(f"expected a chapter's file name such as '10-imdb', got {chapter!r}")
    _chapter.__init__(chapter)
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

    Their shapes must agree too, and NaN stand in the same places. The recorded value is the
    largest absolute difference.
    """
    atol, rtol = _tolerance(atol), _tolerance(rtol)
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
    # A share of an infinite value would allow anything: nothing is near infinity but itself.
    agrees = bool((same | (within & np.isfinite(difference))).all())
    largest, where = float(difference.max(initial=0.0)), ""
    if ours.ndim and not agrees:
        index = np.unravel_index(int(difference.argmax()), difference.shape)
        where = f" at index {tuple(map(int, index))}"
    figure, share = f"{_figure(largest)}{unit}", f" + {_figure(rtol)} of the value" if rtol else ""
    allowed = f"allowed {_figure(atol)}{share}{unit}"
    shown = f"largest difference {figure}, {allowed}"
    if not ours.ndim:  # two single numbers can be shown themselves
        both = f"{_figure(float(ours))} and {_figure(float(theirs))}{unit}"
        shown = f"{both} differ by {figure}, {allowed}"
    wrong = f"the largest difference is {figure}{where}, {allowed}"
    _judge(agrees, name, "close", largest, atol, shown, wrong, None, needs, varies)


def check_equal(name: str, ours: Any, theirs: Any, *, needs: Needs | None = None) -> None:
    """Check that two values are equal; arrays and tensors must agree in shape and every element."""
    if _is_array(ours) or _is_array(theirs):
        left, right = _as_array(ours), _as_array(theirs)
        agrees = left.shape == right.shape and bool(np.all(left == right))
        value: Any = f"{left.size} elements" if left.size != 1 else left.item()
        came, expected = _short(left.tolist()), _short(right.tolist())
    else:
        agrees, came, expected = bool(ours == theirs), _short(ours), _short(theirs)
        plain = ours.item() if isinstance(ours, np.generic) else ours
        value = plain if isinstance(plain, (bool, int, float, str)) else came
    bound, shown = value if agrees else expected, f"{_short(value)}, as expected"
    wrong = f"{came} came, {expected} was expected"
    _judge(agrees, name, "equal", value, bound, shown, wrong, 0.0, needs)


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
    """Check that ``value >= bound``; ``drift`` is how far it may move from its baseline."""
    value, bound = float(value), float(bound)
    said = _compared("at least", value, bound, unit)
    _judge(value >= bound, name, "at least", value, bound, *said, drift, needs, varies)


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
    """Check that ``value <= bound``; everything else is as in :func:`check_at_least`."""
    value, bound = float(value), float(bound)
    said = _compared("at most", value, bound, unit)
    _judge(value <= bound, name, "at most", value, bound, *said, drift, needs, varies)


def records_folder() -> Path:
    """Return where the records go: ``HANDBOOK_CHECKS``, else ``_build/checks`` of the checkout."""
    if chosen := os.environ.get(VARIABLE, "").strip():
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
    shown: str,
    wrong: str,
    drift: float | None,
    needs: Needs | None,
    varies: str = "",
) -> None:
    if not name.strip():
        raise ValueError("name must say in a few words what is checked, got an empty string")
    if needs not in (None, *get_args(Needs)):
        raise ValueError(f"{name}: needs must be one of {get_args(Needs)}, got {needs!r}")
    if drift is not None:
        drift = _tolerance(drift)
        if varies:
            raise ValueError(f"{name}: a value that varies ({varies}) has no drift, got {drift!r}")
    if not holds and not (needs and profiles.rehearsal()):
        raise CheckFailed(f"{name}: {wrong} (chapter {_chapter.name or 'not begun'}).")
    now = time.perf_counter()
    record = {
        "name": name,
        "kind": kind,
        "value": value,
        "bound": bound,
        "drift": drift,
        "shown": shown,
        "seconds": round(now - _chapter.last, 3),
        "needs": needs,
        "held": holds,
    } | ({"varies": varies} if varies else {})
    # Running a cell twice in JupyterLab replaces its record instead of adding one.
    others = [other for other in _chapter.records if other["name"] != name]
    _chapter.records = [*others, record]
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
        "versions": {"python": platform.python_version()} | _VERSIONS,
        "assets": assets.used(),
        "memory_gib": round(memory.peak() / memory.GIB, 1),
        "checks": _chapter.records,
    }
    folder, text = records_folder(), json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sealed.write(folder / f"{_chapter.name}.json", text)
    except OSError as problem:
        # The claim holds all the same; a reader on a read-only disk must be able to go on.
        _say(f"({NOT_RECORDED} {folder}: {problem.strerror})")


def _say(line: str) -> None:
    # A terminal that knows only ASCII (LC_ALL=C) must not make a check fail that holds.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding))


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "detach")


def _as_array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor, perhaps on a GPU, perhaps bfloat16
        value = value.detach().cpu()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return np.asarray(value)


def _as_numbers(value: Any) -> np.ndarray:
    array = _as_array(value)
    if array.dtype.kind not in "biuf":  # texts would be read as numbers, complex ones cut in half
        raise TypeError(f"expected real numbers, one or an array, got {_short(repr(value))}")
    return array


def _figure(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _short(value: Any) -> str:
    text = f"{value:,}" if type(value) is int else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _compared(kind: str, value: float, bound: float, unit: str) -> tuple[str, str]:
    if math.isnan(bound):
        raise ValueError("the bound must be a number, got NaN")
    figure, limit = f"{_figure(value)}{unit}", f"{kind} {_figure(bound)}{unit}"
    return f"{figure}, {limit}", f"{figure} came, {limit} was expected"


def _tolerance(value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"a tolerance must be a finite number, zero or more, got {value!r}")
    return float(value)
