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

__all__ = ["can_gather", "gather_ragged", "gather_rows"]

_LINE = 64
_WORD = 8
_LARGE = 4096  # bytes of a value from which on lines are faster than an index for each number
_UNITS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}


def can_gather(offset: IntArray) -> bool:
    """Return whether values that begin at these offsets, in bytes, can be gathered."""
    return not (offset % _WORD).any()


def gather_rows(words: torch.Tensor, offset: IntArray, nbytes: int, out: torch.Tensor) -> None:
    """Copy values of one size, a row each.

    Args:
        words: The region, int64 of one dimension.
        offset: (N,) int64, where values begin, in bytes; multiples of 8.
        nbytes: The size of each.
        out: Contiguous, of N rows of ``nbytes``, on the device of ``words``.
    """
    if not nbytes or not len(offset):
        return
    target = out.view(-1).view(torch.uint8).view(len(offset), nbytes)
    first = int(offset.min())
    distance = int(np.gcd.reduce(offset - first)) or -(-nbytes // _WORD) * _WORD
    if nbytes % _WORD == 0 and distance >= nbytes:
        count = (int(offset.max()) - first) // distance + 1
        shape, strides = (count, nbytes // _WORD), (distance // _WORD, 1)
        values = words.as_strided(shape, strides, words.storage_offset() + first // _WORD)
        index = _on((offset - first) // distance, words)
        torch.index_select(values, 0, index, out=target.view(torch.int64))
        return
    unit, rows = _rows(words, offset)
    number = -(-nbytes // unit)
    steps = torch.arange(number, device=words.device)
    index = (_on(offset // unit, words)[:, None] + steps).view(-1)
    found = torch.index_select(rows, 0, index).view(torch.uint8).view(len(offset), number * unit)
    target.copy_(found[:, :nbytes])


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
