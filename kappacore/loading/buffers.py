"""Where the columns of a batch are put: new memory for each, or fixed buffers in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Allocate", "Ring", "allocate_new"]

#: (shape, dtype, device, memory format) -> memory for a column.
Allocate = Callable[[Any, torch.dtype, torch.device, torch.memory_format], torch.Tensor]


def allocate_new(
    shape: Any, dtype: torch.dtype, device: torch.device, memory_format: torch.memory_format
) -> torch.Tensor:
    """Return new memory."""
    return torch.empty(shape, dtype=dtype, device=device, memory_format=memory_format)


class Ring:
    """Sets of buffers that are used in turn, one set a batch.

    A smaller batch lies at the beginning of its buffer. Where the shape or type of a column
    changes, it gets another buffer.

    Args:
        number: The number of sets.
    """

    def __init__(self, number: int) -> None:
        self._sets: list[dict[int, torch.Tensor]] = [{} for _ in range(number)]
        #: For each set, the mark of its last use; see :meth:`Device.release`.
        self.marks: list[Any] = [None] * number

    def number_of(self, batch: int) -> int:
        """Return the set of a batch, counted from 0."""
        return batch % len(self._sets)

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
