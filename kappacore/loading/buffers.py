"""Where the columns of a batch are put: new memory for each, or fixed buffers in turn."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["Allocate", "Recycler", "Ring", "allocate_new"]

_LARGE = 1 << 20  # bytes
_SIZES = 8  # of which memory is kept

#: (shape, dtype, device, memory format) -> memory for a column.
Allocate = Callable[[Any, torch.dtype, torch.device, torch.memory_format], torch.Tensor]


def allocate_new(
    shape: Any, dtype: torch.dtype, device: torch.device, memory_format: torch.memory_format
) -> torch.Tensor:
    """Return new memory."""
    return torch.empty(shape, dtype=dtype, device=device, memory_format=memory_format)


class Recycler:
    """Memory of batches that nobody holds any more, for the next ones.

    New memory of some size comes from the kernel page by page, which takes several times as long as
    filling it. A batch's memory comes back once every tensor over it is gone.

    Args:
        most: The number of pieces of one size that are kept for later.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free: dict[int, list[np.ndarray[Any, Any]]] = {}  # by size

    def allocate(
        self,
        shape: Any,
        dtype: torch.dtype,
        device: torch.device,
        memory_format: torch.memory_format,
    ) -> torch.Tensor:
        """Return memory that nobody else has."""
        size = math.prod(shape) * dtype.itemsize
        if device.type != "cpu" or size < _LARGE:
            return allocate_new(shape, dtype, device, memory_format)
        free = self._free.get(size)
        if free is None:
            if len(self._free) == _SIZES:  # columns of ever other sizes: keep the latest
                del self._free[next(iter(self._free))]
            free = self._free[size] = []
        memory = free.pop() if free else np.empty(size, np.uint8)
        lease = memory[:]  # the tensor holds this view, and nobody else does
        weakref.finalize(lease, self._take_back, memory).atexit = False
        batch = torch.from_numpy(lease).view(dtype)
        if memory_format is torch.channels_last:
            number, channels, height, width = shape
            return batch.view(number, height, width, channels).permute(0, 3, 1, 2)
        return batch.view(tuple(shape))

    def _take_back(self, memory: np.ndarray[Any, Any]) -> None:
        free = self._free.get(len(memory))
        if free is not None and len(free) < self._most:
            free.append(memory)


class Ring:
    """Sets of buffers that are used in turn, one set a batch.

    A smaller batch lies at the beginning of its buffer. Where the shape or type of a column
    changes, it gets another buffer.

    Args:
        number: The number of sets.
    """

    def __init__(self, number: int) -> None:
        self._sets: list[dict[int, torch.Tensor]] = [{} for _ in range(number)]
        self._next = 0
        #: The set of the batch that the loop has; None before the first.
        self.taken: int | None = None
        #: For each set, the mark of its last use; see :meth:`Device.release`.
        self.marks: list[Any] = [None] * number

    def begin(self) -> None:
        """Let an iteration begin behind the batch that the loop still has of the last one."""
        self._next = 0 if self.taken is None else self.taken + 1

    def advance(self) -> int:
        """Return the set of the next batch."""
        number = self._next % len(self._sets)
        self._next = number + 1
        return number

    def allocate(self, number: int, position: int) -> Allocate:
        """Return where a set has the buffer of one column."""
        buffers = self._sets[number]

        def allocate(
            shape: Any, dtype: torch.dtype, device: torch.device, memory_format: torch.memory_format
        ) -> torch.Tensor:
            buffer = buffers.get(position)
            if (
                buffer is None
                or buffer.dtype is not dtype
                or buffer.shape[1:] != torch.Size(shape[1:])
                or len(buffer) < shape[0]
                or not buffer.is_contiguous(memory_format=memory_format)
            ):
                buffer = allocate_new(shape, dtype, device, memory_format)
                buffers[position] = buffer
            return buffer[: shape[0]]

        return allocate
