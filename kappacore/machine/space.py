"""How much memory and disk space is free."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path


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
    """Return the total and free bytes of a folder's file system; without a limit, 0 and a lot.

    Args:
        folder: A folder that exists.
    """
    usage = shutil.disk_usage(folder)
    return usage.total, usage.free if usage.total else sys.maxsize


def is_in_memory(folder: Path) -> bool:
    """Return whether a folder's file system is in memory.

    Args:
        folder: A folder that exists.
    """
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
