"""How much work a run does: ``small`` on two CPU cores, ``full`` on a GPU with the Hub.

A notebook never branches on the machine it runs on. It asks for a number::

    examples = profiles.pick(small=4_000, full=25_000)

and the profile answers. The environment variable ``HANDBOOK_PROFILE`` decides;
without it, ``full`` is chosen where a GPU and the Hugging Face Hub are both at hand.
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
NAMES: tuple[Profile, ...] = ("small", "full")


def current() -> Profile:
    """Return the profile of this run, ``"small"`` or ``"full"``.

    Raises:
        ValueError: ``HANDBOOK_PROFILE`` holds anything else.
    """
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
    """Return ``small`` or ``full``, whichever the current profile calls for.

    Raises:
        ValueError: ``HANDBOOK_PROFILE`` holds an unknown name.
    """
    return {"small": small, "full": full}[current()]


@functools.cache
def _detected() -> Profile:
    # Imported here: asking for a profile by name must not cost the seconds that torch needs.
    import torch

    return "full" if torch.accelerator.is_available() and _hub_is_reachable() else "small"


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
