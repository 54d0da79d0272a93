"""Where the values of a batch lie in memory, so that they are gathered in one operation.

This file needs neither torch nor Pillow: the engine finds locations, datasets map them, and the CPU
(:mod:`kappacore.datasets.gathering`) or a device gathers what lies there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BatchLocation", "IntArray", "Layout", "join", "nothing_located"]

#: Indices, offsets or sizes.
IntArray = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Layout:
    """How the bytes of a value make up its numbers.

    Args:
        kind: What a single read gives: a ``"numpy"`` array, a ``"torch"`` tensor, a PIL
            ``"image"``, or ``"bytes"``, such as a compressed file.
        dtype: The dtype's name: NumPy's ``dtype.str`` (``"<f4"``, ``"|u1"``) for arrays and
            images, torch's (``"bfloat16"``) for tensors, ``"|u1"`` for bytes.
        shape: The shape of the value, of an image ``(H, W, C)``. Of bytes ``()``: their lengths
            differ, and stand in :attr:`BatchLocation.nbytes`.
        axes: The order of the axes in memory, the slowest first; None for C order.
        mode: Of an image, its mode.
        palette: Of an image with a palette, its mode and colours.
    """

    kind: Literal["numpy", "torch", "image", "bytes"]
    dtype: str
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None = None
    mode: str = ""
    palette: tuple[str, bytes] | None = None

    @property
    def stacks_as(self) -> tuple[object, ...]:
        """What two values must have in common to be stacked."""
        return self.kind, self.dtype, self.shape, self.mode, self.palette

    def __str__(self) -> str:
        if self.kind == "bytes":
            return "bytes"
        what = f"image of mode {self.mode}" if self.kind == "image" else f"{self.kind} array"
        return f"{what}, {self.dtype}, of shape {self.shape}"


@dataclass(frozen=True, eq=False)
class BatchLocation:
    """Where the values of a batch lie. Row ``k`` belongs to the ``k``-th index of the batch.

    The regions stay mapped, and what lies there unchanged, as long as this object is referenced:
    hold it until the batch is gathered. A region is the same object in every batch, so a device
    registers it once.

    Args:
        regions: Memory that cannot be written, as buffers of bytes.
        filled: For each region, how many bytes from its start may hold values by now. A device
            registers these; the region itself is as long as the cache's limit.
        region: (N,) int64, the number of the region; ``-1`` where the value is missing.
        offset: (N,) int64, where the value's numbers begin in the region, in bytes.
        nbytes: (N,) int64, the size of the numbers in bytes.
        layout: (N,) int64, the number of the value's layout; ``-1`` where it is missing.
        layouts: Layouts by number. More than those of this batch may be in it.
        missing: The rows whose values are not there, as int64 positions; they are loaded.
        whole: Of a part that :meth:`split` made, the location that it is a part of, so that a
            device prepares what it needs once for all parts.
        first: Which row of ``whole`` is the first one here.
    """

    regions: tuple[memoryview, ...]
    filled: tuple[int, ...]
    region: IntArray
    offset: IntArray
    nbytes: IntArray
    layout: IntArray
    layouts: Sequence[Layout]
    missing: IntArray
    whole: BatchLocation | None = None
    first: int = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.region)

    @cached_property
    def uniform(self) -> Layout | None:
        """The layout of all rows that are there, if they can be stacked and have one order.

        None if they differ, or if no row is there.
        """
        numbers = self.layout
        if len(self.missing):
            numbers = numbers[self.region >= 0]
        if not len(numbers):
            return None
        first: int = numbers.item(0)
        return self.layouts[first] if bool((numbers == first).all()) else None

    def split(self, sizes: Sequence[int]) -> list[BatchLocation]:
        """Return the locations of consecutive parts of the rows, which are views of this one.

        Args:
            sizes: The number of rows of each; they add up to all.
        """
        if len(sizes) == 1:
            return [self]
        parts, first = [], 0
        for size in sizes:
            rows = slice(first, first + size)
            missing = self.missing
            if len(missing):
                begin, end = np.searchsorted(missing, (first, first + size)).tolist()
                missing = missing[begin:end] - first
            part = BatchLocation(
                self.regions,
                self.filled,
                self.region[rows],
                self.offset[rows],
                self.nbytes[rows],
                self.layout[rows],
                self.layouts,
                missing,
                self,
                first,
            )
            if not len(self.missing) and self.uniform is not None and size:
                part.__dict__["uniform"] = self.uniform
            parts.append(part)
            first += size
        return parts

    @property
    def kind(self) -> str | None:
        """The kind of the uniform layout."""
        return None if self.uniform is None else self.uniform.kind

    @property
    def dtype(self) -> str | None:
        """The dtype of the uniform layout."""
        return None if self.uniform is None else self.uniform.dtype

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of a value of the uniform layout."""
        return None if self.uniform is None else self.uniform.shape


def nothing_located(length: int) -> BatchLocation:
    """Return the location of a batch of which all rows are missing."""
    none = np.full(length, -1, np.int64)
    return BatchLocation(
        (), (), none, none, np.zeros(length, np.int64), none, (), np.arange(length)
    )


def join(parts: Sequence[tuple[IntArray, BatchLocation]], length: int) -> BatchLocation:
    """Return one location for a batch whose rows lie in several.

    Args:
        parts: For each part its rows in the batch, (n,) int64, and their location.
        length: The number of rows of the batch.
    """
    if len(parts) == 1:
        return parts[0][1]
    regions: list[memoryview] = []
    filled: list[int] = []
    layouts: list[Layout] = []
    columns = np.full((4, length), -1, np.int64)
    for rows, part in parts:
        known = part.region >= 0
        columns[0, rows] = np.where(known, part.region + len(regions), -1)
        columns[1, rows] = part.offset
        columns[2, rows] = part.nbytes
        used, numbers = np.unique(part.layout[known], return_inverse=True)
        mine = np.full(len(rows), -1, np.int64)
        numbered = []
        for layout in (part.layouts[number] for number in used.tolist()):
            if layout not in layouts:
                layouts.append(layout)
            numbered.append(layouts.index(layout))
        mine[known] = np.array(numbered, np.int64)[numbers]
        columns[3, rows] = mine
        regions += part.regions
        filled += part.filled
    region, offset, nbytes, layout_column = columns
    return BatchLocation(
        tuple(regions),
        tuple(filled),
        region,
        offset,
        nbytes,
        layout_column,
        layouts,
        np.flatnonzero(region < 0),
    )
