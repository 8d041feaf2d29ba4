"""How much work a run does: ``small`` on two CPU cores, ``full`` on a GPU with the Hub.

A notebook never branches on the machine it runs on. It asks for a number::

    examples = profiles.pick(small=4_000, full=25_000)

The environment variable ``HANDBOOK_PROFILE`` decides; without it, ``full`` is chosen where a GPU
and the Hugging Face Hub are both at hand.

A *rehearsal* (``make rehearsal``) runs the ``full`` profile in minutes, against a Hub with tiny
weights and few rows. ``HANDBOOK_REHEARSAL`` holds the most steps of a pass over the data, and a
check that says what it ``needs`` of the real thing shows its figure without stopping the chapter.
"""

from __future__ import annotations

import functools
import os
import urllib.error
import urllib.request
from typing import Literal, TypeVar

Profile = Literal["small", "full"]
T = TypeVar("T")

VARIABLE = "HANDBOOK_PROFILE"
REHEARSAL = "HANDBOOK_REHEARSAL"
NAMES: tuple[Profile, ...] = ("small", "full")


def current() -> Profile:
    """Return the profile of this run; ValueError if ``HANDBOOK_PROFILE`` holds something else."""
    chosen = os.environ.get(VARIABLE, "").strip()
    if not chosen:
        return _detected()
    if chosen not in NAMES:
        raise ValueError(
            f"{VARIABLE} is {chosen!r}; expected 'small' or 'full'. "
            "Unset it to let the handbook choose."
        )
    return chosen  # type: ignore[return-value]


def pick(*, small: T, full: T) -> T:
    """Return ``small`` or ``full``, whichever the current profile calls for."""
    return {"small": small, "full": full}[current()]


def rehearsal() -> int | None:
    """Return the step limit of a rehearsal, None in a real run; ValueError if it is set wrongly."""
    chosen = os.environ.get(REHEARSAL, "").strip()
    if not chosen:
        return None
    if not chosen.isdecimal() or int(chosen) == 0:
        raise ValueError(
            f"{REHEARSAL} is {chosen!r}; expected the number of training steps, 1 or more. "
            "Unset it for a real run."
        )
    if current() != "full":
        raise ValueError(
            f"{REHEARSAL} is set, but the profile is {current()!r}: only 'full' is rehearsed. "
            f"Unset it, or set {VARIABLE}=full."
        )
    return int(chosen)


def steps(planned: int) -> int:
    """Return how many steps a pass over the data takes: ``planned``, fewer in a rehearsal."""
    return min(planned, rehearsal() or planned)


def uses_accelerator() -> bool:
    """Say whether training runs on a GPU: there is one, and Accelerate was not told otherwise."""
    # Imported here: asking for a profile by name must not cost the seconds that torch needs.
    import torch
    from accelerate.utils import parse_flag_from_env

    return torch.accelerator.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")


def computes_bf16_fast() -> bool:
    """Say whether this machine multiplies bfloat16 matrices in hardware."""
    import torch
    from accelerate.utils import is_bf16_available

    if uses_accelerator():
        return is_bf16_available()
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("amx_tile"))


@functools.cache
def _detected() -> Profile:
    return "full" if uses_accelerator() and _hub_is_reachable() else "small"


def _hub_is_reachable(timeout: float = 2.0) -> bool:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=timeout):
            return True
    except urllib.error.HTTPError:
        return True  # it answered, if only to say no
    except OSError:
        return False
