"""How much memory is left, asked before heavy work begins: a killed notebook says nothing.

What a piece of work needs is often known in advance; then it is better to refuse at once::

    memory.require(3 * memory.GIB, "fine-tuning the encoder")
"""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

GIB = 2**30

# Where Linux keeps the limit of a container, its use, and the key of what it could give back.
_CONTAINERS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
     "total_inactive_file"),
)  # fmt: skip


class NotEnoughMemory(MemoryError):
    """The work that was asked for needs more memory than there is; the message says how much."""


def available() -> int:
    """Return the bytes that machine, container and ``ulimit -v`` still let this process take."""
    left = [psutil.virtual_memory().available, _left_of_address_space(), *_left_of_containers()]
    return max(0, min(amount for amount in left if amount is not None))


def require(needed: int, purpose: str) -> None:
    """Refuse work that needs so many bytes more than there are, with :class:`NotEnoughMemory`.

    ``purpose`` says what they are for, as the subject of a sentence.
    """
    left = available()
    if needed > left:
        raise NotEnoughMemory(
            f"{purpose} needs about {needed / GIB:.1f} GiB of memory, and {left / GIB:.1f} GiB is "
            "available. Nothing was started. Close other programs, or ask for less work at a time."
        )


def peak() -> int:
    """Return the most bytes of physical memory that this process has held so far."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _left_of_address_space() -> int | None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft - psutil.Process().memory_info().vms


def _left_of_containers() -> list[int]:
    found = []
    for folder, limit, use, reclaimable in _CONTAINERS:
        try:
            most = (Path(folder) / limit).read_text().strip()
            used = int((Path(folder) / use).read_text())
            lines = (Path(folder) / "memory.stat").read_text().splitlines()
        except (OSError, ValueError):
            continue
        if most.isdecimal():  # "max" means none
            kept = dict(line.split() for line in lines if len(line.split()) == 2)
            found.append(int(most) - used + int(kept.get(reclaimable, 0)))
    return found
