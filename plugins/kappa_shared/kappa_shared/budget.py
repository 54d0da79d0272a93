"""How much memory or disk a shared cache may take."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kappacore.plugin_api import disk_space, format_size, memory_limits, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

_SHM = Path("/dev/shm")  # noqa: S108 - only compared with
_DEFAULT_SHARE = 0.8
_RESERVE = 256 * 2**20  # at most half of what there is
# A limit smaller than a sample is reported as a mistake. So a cache without room has at least this
# limit, and the reserve or the disk refuses its samples.
_LEAST = 16 * 2**20
_MOST = 2**45  # less than the word of a value can say, or a process can map
_TINY = 64 * 2**20  # Docker's default for /dev/shm
_ADVICE = (
    f"In a container, give it more: --shm-size=16g with Docker and Podman, a volume of medium "
    f"Memory at {_SHM} with Kubernetes."
)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a cache may take.

    Args:
        capacity: Limit on the samples' size, in bytes.
        ceiling: Limit on what this process fills, though others may have a higher one; in bytes.
        reserve: Bytes that must stay free in the file system: a process that passes batches
            through a full /dev/shm is killed by a bus error.
        memory_left: Returns how many more bytes of memory may be taken; None for a disk.
        warning: What the user should know; empty if nothing.
    """

    capacity: int
    ceiling: int = sys.maxsize
    reserve: int = 0
    memory_left: Callable[[], int] | None = None
    warning: str = ""


def plan(max_bytes: float | str | None, base: Path, *, memory: bool, used: int) -> Budget:
    """Find out what a cache may take.

    Args:
        max_bytes: As the user gave it; None for a share of what is free.
        base: A folder of the file system that the cache is on.
        memory: Whether files there take the machine's memory.
        used: What the cache takes already, in bytes.

    Raises:
        InvalidOptionError: If ``max_bytes`` is not a size.
    """
    total, free = disk_space(base)
    limits = {f"the free space of {base}": free}
    reserve = 0
    if memory:
        limits.update(memory_limits())
        reserve = min(_RESERVE, (free + used) // 2)
    limit = min(limits, key=limits.__getitem__)
    room = limits[limit] + used
    spare = min(reserve, room // 2)
    most = room - spare
    absolute = max_bytes is not None and not isinstance(max_bytes, float)
    asked = parse_size(_DEFAULT_SHARE if max_bytes is None else max_bytes, room)
    least = min(asked, _LEAST) if absolute else _LEAST
    text = format_size(min(asked, most))
    scarce = base == _SHM and limits[limit] == free
    warning = ""
    if absolute and asked > most:
        batches = ", some of it for the DataLoader's batches" if reserve else ""
        warning = (
            f"max_bytes={max_bytes!r} is more than there is: {limit} leaves "
            f"{format_size(room)}{batches}. The shared cache takes at most {text}; what does not "
            f"fit is read from the source in every epoch."
        )
    elif scarce and total <= _TINY:
        warning = (
            f"{_SHM} has only {format_size(total)} here, of which the shared cache takes at most "
            f"{text}."
        )
    if warning and scarce:
        warning += f" {_ADVICE}"

    def memory_left() -> int:
        # Asked again and again: what was free at the start is shared with whatever comes later,
        # such as another cache that is filled at the same time, or the training itself.
        return max(0, min(memory_limits().values()) - spare)

    return Budget(
        capacity=min(max(min(asked, most), least), _MOST),
        ceiling=max(most, _LEAST),
        reserve=reserve if total else 0,
        memory_left=memory_left if memory else None,
        warning=warning,
    )
