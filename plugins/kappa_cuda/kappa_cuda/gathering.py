"""Gathering values from a region of memory, by ``index_select`` on any device.

A region is a tensor of int64. Where values have one distance from each other, as uniform ones
stored one after another have, a row is a value. Otherwise a row is a line of 64 bytes, at whose
multiples the backend ``shared`` lets values begin; or a word of 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    IntArray = np.ndarray[Any, np.dtype[np.int64]]

__all__ = ["PlacedRows", "can_gather", "gather_ragged", "gather_rows"]

_LINE = 64
_WORD = 8
_LARGE = 4096  # bytes of a value from which on lines are faster than an index for each number
_UNITS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}


def can_gather(offset: IntArray) -> bool:
    """Return whether values that begin at these offsets, in bytes, can be gathered."""
    return not (offset % _WORD).any()


class PlacedRows:
    """Values of one size in a region, found once and gathered in parts.

    Args:
        words: The region, int64 of one dimension.
        offset: (N,) int64, where values begin, in bytes; multiples of 8.
        nbytes: The size of each; not 0.
    """

    def __init__(self, words: torch.Tensor, offset: IntArray, nbytes: int) -> None:
        self._nbytes = nbytes
        first = int(offset.min())
        distance = int(np.gcd.reduce(offset - first)) or -(-nbytes // _WORD) * _WORD
        self._at_one_distance = nbytes % _WORD == 0 and distance >= nbytes
        if self._at_one_distance:
            count = (int(offset.max()) - first) // distance + 1
            shape, strides = (count, nbytes // _WORD), (distance // _WORD, 1)
            start = words.storage_offset() + first // _WORD
            self._rows = words.as_strided(shape, strides, start)
            self._index = _on((offset - first) // distance, words)
            return
        unit, self._rows = _rows(words, offset)
        self._steps = torch.arange(-(-nbytes // unit), device=words.device)
        self._index = _on(offset // unit, words)

    def gather(self, first: int, out: torch.Tensor) -> None:
        """Copy the values from a row on.

        Args:
            first: The row.
            out: Contiguous, of as many rows as are copied, on the device of the region.
        """
        index = self._index[first : first + len(out)]
        if self._at_one_distance:
            target = out.view(-1).view(torch.int64).view(len(out), -1)
            torch.index_select(self._rows, 0, index, out=target)
            return
        target = out.view(-1).view(torch.uint8).view(len(out), self._nbytes)
        found = torch.index_select(self._rows, 0, (index[:, None] + self._steps).view(-1))
        target.copy_(found.view(torch.uint8).view(len(out), -1)[:, : self._nbytes])


def gather_rows(words: torch.Tensor, offset: IntArray, nbytes: int, out: torch.Tensor) -> None:
    """Copy values of one size, a row each.

    Args:
        words: As for :class:`PlacedRows`.
        offset: As for :class:`PlacedRows`.
        nbytes: The size of each.
        out: Contiguous, of N rows of ``nbytes``, on the device of ``words``.
    """
    if nbytes and len(offset):
        PlacedRows(words, offset, nbytes).gather(0, out)


def gather_ragged(
    words: torch.Tensor, offset: IntArray, nbytes: IntArray, out: torch.Tensor
) -> None:
    """Copy values of different sizes, one after another.

    Args:
        words: The region, int64 of one dimension.
        offset: (N,) int64, where values begin, in bytes; multiples of 8.
        nbytes: (N,) int64, the size of each.
        out: Of one dimension and as many bytes together, on the device of ``words``.
    """
    total = int(nbytes.sum())
    if not total:
        return
    target = out.view(torch.uint8)
    starts = np.cumsum(nbytes) - nbytes
    if total < _LARGE * len(nbytes):
        unit = next(size for size in _UNITS if not (nbytes % size).any())
        first = np.repeat((offset - starts) // unit, nbytes // unit)
        index = _on(first + np.arange(total // unit), words)
        kind = _UNITS[unit]
        torch.index_select(words.view(kind), 0, index, out=target.view(kind))
        return
    unit, rows = _rows(words, offset)
    numbers = -(-nbytes // unit)
    lines = np.cumsum(numbers) - numbers
    index = _on(np.repeat(offset // unit - lines, numbers) + np.arange(numbers.sum()), words)
    found = torch.index_select(rows, 0, index).view(-1).view(torch.uint8)
    sizes = list(zip((lines * unit).tolist(), starts.tolist(), nbytes.tolist(), strict=True))
    torch._foreach_copy_(
        [target[start : start + size] for _, start, size in sizes],
        [found[line : line + size] for line, _, size in sizes],
    )


def _rows(words: torch.Tensor, offset: IntArray) -> tuple[int, torch.Tensor]:
    """Return the largest unit at whose multiples values begin, in bytes, and rows of it."""
    unit = _WORD if (offset % _LINE).any() else _LINE
    width = unit // _WORD
    return unit, words[: len(words) // width * width].view(-1, width)


def _on(index: IntArray, words: torch.Tensor) -> torch.Tensor:
    """Return an index on the device of a region."""
    found = torch.from_numpy(np.ascontiguousarray(index))
    if words.is_cuda:
        found = found.pin_memory().to(words.device, non_blocking=True)
    return found
