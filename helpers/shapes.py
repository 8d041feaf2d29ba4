"""Shapes stand in signatures, and are checked there at each call.

``@checked`` joins jaxtyping, which reads shapes such as ``Float[Tensor, "*batch n_keys d_v"]``, and
beartype, which checks types. A name in a shape means the same number wherever it occurs in one
signature, in what is returned too. An argument that does not fit raises jaxtyping's
``TypeCheckError``, a ``TypeError`` that names it, what came, and what was expected.

A check looks at shapes and dtypes, never at the numbers, so no GPU has to wait for it. It costs
about 50 µs a call; ``JAXTYPING_DISABLE=1`` in the environment switches all of them off.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import jaxtyped
from torch import Tensor

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

    @functools.wraps(thing)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (thing if torch.compiler.is_compiling() else checking)(*args, **kwargs)

    return call


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
