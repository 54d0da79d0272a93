"""Sizes and durations as people write them, and how much memory and disk space is free."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from fractions import Fraction
from pathlib import Path

from kappacore.errors import InvalidOptionError

_UNITS = {
    "": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
}  # fmt: skip
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", re.IGNORECASE)
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)


def parse_size(value: float | str, total: int, name: str = "max_bytes") -> int:
    """Parse a size and return it in bytes.

    Args:
        value: Bytes as an integer, ``"64GiB"``, ``"500 MB"``, or a fraction of ``total`` as a
            float between 0 and 1.
        total: The whole of a fraction, in bytes.
        name: The option's name, for the error.

    Raises:
        InvalidOptionError: If it is none of these, or not positive.
    """
    size = -1
    if isinstance(value, float) and 0 < value <= 1:
        size = max(1, int(value * total))  # not 0 if nothing is free
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        size = int(Fraction(match[1]) * _UNITS[(match[2] or "").lower()])
    if size <= 0:
        raise InvalidOptionError(
            f"{name}={value!r} is not a size. Give bytes as a positive integer, a string such as "
            f"'64GiB' or '500MB', or a fraction between 0 and 1 such as 0.5."
        )
    return size


def parse_duration(value: bool | float | str, name: str = "keep") -> float:
    """Parse a duration and return it in seconds.

    Args:
        value: Seconds as a number, ``"90s"``, ``"30m"``, ``"12h"``, ``"7d"``; True means for ever
            (``inf``), False not at all (``0``).
        name: The option's name, for the error.

    Raises:
        InvalidOptionError: If it is none of these.
    """
    if isinstance(value, bool):
        return math.inf if value else 0.0
    if isinstance(value, int | float) and value >= 0:
        return float(value)
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(match[1]) * _SECONDS[match[2].lower()]
    raise InvalidOptionError(
        f"{name}={value!r} is not a duration. Give True, False, a number of seconds, or a string "
        f"such as '90s', '30m', '12h' or '7d'."
    )


def counted(number: int, noun: str) -> str:
    """Return a number of things, such as ``"1 file"`` or ``"1,000 files"``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_size(size: float) -> str:
    """Return a size in bytes as text: ``1536`` → ``'1.5 KiB'``.

    Args:
        size: In bytes.
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def available_memory() -> int:
    """Return the memory in bytes that this process could still allocate without swapping.

    The kernel's ``MemAvailable``, or what the control group leaves if that is less, as in a
    container or a SLURM job.
    """
    return min(memory_limits().values())


def memory_limits() -> dict[str, int]:
    """Return each limit of the memory that this process could still allocate, in bytes."""
    limits = {"the available memory": _meminfo_available()}
    if groups := _cgroup_headroom():
        limits["the memory limit of this container or job (cgroup)"] = min(groups)
    return limits


def disk_space(folder: Path) -> tuple[int, int]:
    """Return the total and free bytes of a folder's file system; without a limit, 0 and a lot."""
    usage = shutil.disk_usage(folder)
    return usage.total, usage.free if usage.total else sys.maxsize


def is_in_memory(folder: Path) -> bool:
    """Return whether a folder's file system is in memory."""
    number = folder.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    for line in (_read("/proc/self/mountinfo") or "").splitlines():
        mount, _, system = line.partition(" - ")  # "31 24 0:26 / /dev/shm rw - tmpfs tmpfs rw"
        if mount.split()[2] == device:
            return system.split()[0] in ("tmpfs", "ramfs")
    return False


def _meminfo_available() -> int:
    text = _read("/proc/meminfo")
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text or "", re.MULTILINE)
    if match:
        return int(match[1]) * 1024
    return 4 * 2**30  # no /proc: a cautious guess


def _cgroup_headroom() -> list[int]:
    """Limit minus usage of this process's control group and of those above it, version 2 and 1.

    Usage includes the page cache; inactive pages do not count, since the kernel frees them first.
    """
    lines = (_read("/proc/self/cgroup") or "").splitlines()
    found: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, usage = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
            idle = "inactive_file"
        elif "memory" in controllers.split(","):
            base = Path("/sys/fs/cgroup/memory")
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
            idle = "total_inactive_file"
        else:
            continue
        folder = base / path.lstrip("/")
        for group in [folder, *folder.parents]:
            top, used = _read(group / limit), _read(group / usage)
            if top and used and top.strip().isdigit():
                match = re.search(
                    rf"^{idle} (\d+)$", _read(group / "memory.stat") or "", re.MULTILINE
                )
                found.append(max(0, int(top) - int(used) + (int(match[1]) if match else 0)))
            if group == base:
                break
    return found


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
