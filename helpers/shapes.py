"""Shapes stand in signatures, and are checked there at each call.

``@checked`` joins jaxtyping, which reads shapes such as ``Float[Tensor, "*batch n_keys d_v"]``, and
beartype, which checks types. A name in a shape means the same number wherever it occurs in one
signature, in what is returned too. An argument that does not fit raises jaxtyping's
``TypeCheckError``, a ``TypeError`` that names it, what came, and what was expected.

A check costs about 50 µs, so a call like one that passed (the same function or module, types,
shapes, dtypes) is not checked again. ``JAXTYPING_DISABLE=1`` switches all checks off.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import jaxtyped
from torch import Tensor, nn

Checked = TypeVar("Checked", bound=Callable[..., Any])

# NumPy's integers are taken for Python's (not the short ones, which overflow without an error),
# and an integer where a float is expected, as in `dropout=0`.
_WHOLE = int | np.int32 | np.int64
_WIDER = FrozenDict({int: _WHOLE, float: float | _WHOLE})
_TYPECHECKER = beartype(conf=BeartypeConf(hint_overrides=_WIDER))


def checked(thing: Checked) -> Checked:
    """Check the annotated arguments and results of a function, or the fields of a dataclass.

    ``inspect.getsource`` still shows the source, and compilers (``torch.compile``,
    ``torch.export``) see the bare function.
    """
    checking = jaxtyped(thing, typechecker=_TYPECHECKER)
    if inspect.isclass(thing):
        return checking

    passed: WeakKeyDictionary[Any, set[tuple[Any, ...]]] = WeakKeyDictionary()

    @functools.wraps(thing)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return thing(*args, **kwargs)
        is_method = bool(args) and isinstance(args[0], nn.Module)
        forms = (*map(_form, args[is_method:]), *kwargs, *map(_form, kwargs.values()))
        known = passed.setdefault(args[0] if is_method else thing, set())
        if forms in known:
            return thing(*args, **kwargs)
        result = checking(*args, **kwargs)
        if _UNKNOWN not in forms and len(known) < _MOST:
            known.add(forms)
        return result

    return call


_UNKNOWN = object()
_MOST = 1_000  # calls remembered for each function and module


def _form(value: Any) -> Any:
    """Return what a check sees of an argument, where that can be told without looking inside."""
    if isinstance(value, Tensor):
        return type(value), value.dtype, value.shape
    if value is None or isinstance(value, bool | int | float | str):
        return type(value), value
    return _UNKNOWN


def at_least_float32(function: Checked) -> Checked:
    """Let a function compute in float32 what comes in float16 or bfloat16, also under autocast.

    Sums and squares in float16 overflow from 65,504 on. The results have the dtype of the first
    tensor. Stands above ``@checked``; nothing changes for float32 and float64.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        wide = {name: _widened(one) for name, one in kwargs.items()}
        tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
        if not tensors:
            return function(*args, **kwargs)  # which says what it expected
        first = tensors[0]
        with _no_autocast(first.device.type):
            result = function(*map(_widened, args), **wide)
        if isinstance(result, tuple):
            return tuple(one.to(first.dtype) for one in result)
        return result.to(first.dtype)

    return call


def _widened(value: Any) -> Any:
    is_half = isinstance(value, Tensor) and value.is_floating_point() and value.itemsize < 4
    return value.float() if is_half else value


def _no_autocast(device: str) -> contextlib.AbstractContextManager[Any]:
    if device == "meta" or not torch.is_autocast_enabled(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)
