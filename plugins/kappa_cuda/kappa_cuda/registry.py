"""Memory of caches that the GPU may read, registered with CUDA once per process."""

from __future__ import annotations

import contextlib
import mmap
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

__all__ = ["Region", "Registry", "registry"]

_READ_ONLY = 8  # cudaHostRegisterReadOnly
_LEAST = 16 << 20  # bytes; smaller parts are registered once no more are stored


@dataclass(eq=False)
class Region:
    """A block of memory, registered from its start on.

    Args:
        memory: The block; held as long as any of it is registered.
        address: Where it begins.
        end: How much of it is registered, in bytes.
        seen: How much of it held values at the last look.
        parts: Address and size of each part that was registered.
        users: Who uses it.
        refused: Why the driver refused it; empty if it did not.
    """

    memory: memoryview
    address: int
    end: int = 0
    seen: int = 0
    parts: list[tuple[int, int]] = field(default_factory=list)
    users: set[int] = field(default_factory=set)
    refused: str = ""

    def words(self, device: torch.device) -> torch.Tensor:
        """Return what is registered as int64 on a device, of one dimension; only to be read."""
        return torch.as_tensor(_Words(self.address, self.end // 8), device=device)


class Registry:
    """The regions that this process has registered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._regions: dict[int, Region] = {}  # by address

    def cover(self, memory: memoryview, filled: int, user: int) -> Region:
        """Register what of a region holds values and is not registered yet.

        While it is being filled, it is registered in parts of some size, so that the last values
        may not be covered; once it does not grow any more, all are.

        Args:
            memory: The region.
            filled: How many bytes from its start hold values.
            user: Who asks; see :meth:`release`.
        """
        address = np.frombuffer(memory, np.uint8).ctypes.data
        with self._lock:
            region = self._regions.get(address)
            if region is None:
                region = self._regions[address] = Region(memory, address)
            region.users.add(user)
            grows, region.seen = filled != region.seen and region.seen > 0, filled
            wanted = min(-(-filled // mmap.PAGESIZE) * mmap.PAGESIZE, len(memory))
            new = wanted - region.end
            enough = new >= max(_LEAST, region.end // 8) or not grows
            if new > 0 and enough and not region.refused:
                _register(region, new)
            return region

    def release(self, user: int, memory: memoryview | None = None) -> None:
        """Unregister what nobody uses but ``user``, whose work with it is done.

        Args:
            user: As for :meth:`cover`.
            memory: The region; None: all of the user's.
        """
        with self._lock:
            for address, region in list(self._regions.items()):
                if memory is not None and region.memory is not memory:
                    continue
                region.users.discard(user)
                if not region.users:
                    del self._regions[address]
                    for part, _ in region.parts:
                        _cudart().cudaHostUnregister(part)

    def explain(self, user: int) -> tuple[int, list[str]]:
        """Return how many bytes a user's regions have registered, and why others were refused."""
        with self._lock:
            own = [region for region in self._regions.values() if user in region.users]
        refused = dict.fromkeys(region.refused for region in own if region.refused)
        return sum(region.end for region in own), list(refused)


registry = Registry()


class _Words:
    """int64 numbers at an address that CUDA can read."""

    def __init__(self, address: int, number: int) -> None:
        # Not marked as read-only, which torch refuses; nothing writes to it.
        self.__cuda_array_interface__: dict[str, Any] = {
            "data": (address, False),
            "shape": (number,),
            "typestr": "<i8",
            "version": 3,
        }


def _cudart() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def _register(region: Region, size: int) -> None:
    address = region.address + region.end
    if address % mmap.PAGESIZE or size % mmap.PAGESIZE:
        region.refused = "it does not begin and end with a page of memory"
        return
    code = _cudart().cudaHostRegister(address, size, _READ_ONLY)
    if int(code) != 0:
        reason = _cudart().cudaGetErrorString(code)
        region.refused = f"the driver refused to register it: {reason}"
        with contextlib.suppress(RuntimeError):  # CUDA reports the error once more at a launch
            torch.zeros(1, device="cuda").add_(1)
        return
    region.parts.append((address, size))
    region.end += size
