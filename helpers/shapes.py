"""Shapes stand in signatures, and are checked there at each call.

``@checked`` joins jaxtyping, which reads shapes such as ``Float[Tensor, "*batch n_keys d_v"]``, and
beartype, which checks types. A name in a shape means the same number wherever it occurs in one
signature, in what is returned too. An argument that does not fit raises jaxtyping's
``TypeCheckError``, a ``TypeError`` that names it, what came, and what was expected.

A check looks at shapes and dtypes, never at the numbers, so no GPU has to wait for it. It costs
about 50 µs a call; ``JAXTYPING_DISABLE=1`` in the environment switches all of them off.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

Checked = TypeVar("Checked", bound=Callable[..., Any])

# An integer is taken where a float is expected, as in `dropout=0`.
_TYPECHECKER = beartype(conf=BeartypeConf(is_pep484_tower=True))


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
