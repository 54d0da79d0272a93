"""Gathering a batch from where its values lie in memory, on the CPU, in one operation."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from kappacore.datasets.stacking import (
    Ragged,
    Stacked,
    as_numbers,
    check_out,
    empty_batch,
    layout_of,
    put_rows,
    refuse_to_stack,
    stack_values,
)
from kappacore.errors import NotUniformError
from kappacore.locations import BatchLocation, Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.indexing import IntArray

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]

__all__ = ["gather", "gather_ragged"]

_LINE = 64
#: Types to move memory with, by the logarithm of their size.
_ELEMENTS = {3: torch.int64, 2: torch.int32, 1: torch.int16, 0: torch.uint8}
_NUMBERS = {3: np.int64, 2: np.int32, 1: np.int16, 0: np.uint8}
#: Bytes of a value above which a copy each is faster than an index for each number.
_LARGE = 4096


def gather(location: BatchLocation, values: Sequence[Any], out: Any = None) -> Stacked:
    """Stack a batch: what is located in one operation, the rest value by value.

    Args:
        location: Where the values lie.
        values: The values of the rows that are missing there.
        out: As for :meth:`Item.get_stacked`.

    Raises:
        NotUniformError: The values differ in type, shape or dtype, or are no numbers.
        InvalidOptionError: ``out`` does not fit.
    """
    if len(values) == len(location):
        return stack_values(values, out)
    layout = location.uniform
    if layout is None or values or layout.axes is not None or layout.kind == "bytes":
        return _gather_parts(location, values, out)
    if out is None:
        out = empty_batch(layout, len(location))
    else:
        check_out(out, layout, len(location))
        if not _is_contiguous(out):
            return _gather_parts(location, values, out)
    if out.nbytes:
        _gather_rows(location, None, _bytes_of(out), len(location))
    return out  # type: ignore[no-any-return]


def _gather_parts(location: BatchLocation, values: Sequence[Any], out: Any) -> Stacked:
    """Stack a batch whose values do not all lie in memory, and there in the same order."""
    parts: list[tuple[IntArray, Layout, Stacked]] = []
    if values:
        parts.append((location.missing, layout_of(values[0]), stack_values(values)))
    for number in np.unique(location.layout[location.region >= 0]).tolist():
        layout = location.layouts[number]
        rows = np.flatnonzero(location.layout == number)
        if layout.kind == "bytes":
            raise NotUniformError("Byte strings are not stacked: read them by get_ragged.")
        if parts and layout.stacks_as != parts[0][1].stacks_as:
            refuse_to_stack((parts[0][0].item(0), rows.item(0)), (parts[0][1], layout))
        memory = np.empty((len(rows), location.nbytes.item(rows.item(0))), np.uint8)
        if memory.size:
            _gather_rows(location, rows, torch.from_numpy(memory.reshape(-1)), len(rows))
        parts.append((rows, layout, _as_values(memory, layout)))
    layout = parts[0][1]
    if out is None:
        out = empty_batch(layout, len(location))
    else:
        check_out(out, layout, len(location))
    for rows, _, part in parts:
        put_rows(out, rows, part)
    return out  # type: ignore[no-any-return]


def _gather_rows(
    location: BatchLocation, rows: IntArray | None, target: torch.Tensor, count: int
) -> None:
    """Copy the numbers of values of one size to memory, one after another.

    Args:
        location: Where the values lie; none may be missing.
        rows: The rows to copy; None: all.
        target: Contiguous bytes; not empty.
        count: The number of rows.
    """
    size = len(target) // count
    whole = location if location.whole is None else location.whole
    if rows is None and whole.uniform is not None and not len(whole.missing):
        placed = _placed.get(whole)
        if placed is None:
            placed = _placed[whole] = _place(whole, whole.region, whole.offset, size)
        base, span, shift, index = placed
        if location.whole is not None:
            index = index[location.first : location.first + count]
    else:
        region, offset = location.region, location.offset
        if rows is not None:
            region, offset = region[rows], offset[rows]
        base, span, shift, index = _place(location, region, offset, size)
    address = target.data_ptr()
    while address & ((1 << shift) - 1):  # memory of the user's, at an odd address
        shift, index = shift - 1, index * 2
    windows = _windows(base, span, size, shift)
    torch.index_select(windows, 0, index, out=target.view(_ELEMENTS[shift]).view(count, -1))


#: A base address, the span of the memory from there, the logarithm of the size of an element, and
#: where values begin, in elements.
_Placed = tuple[int, int, int, torch.Tensor]

#: What was found for locations of which batches are parts.
_placed: WeakKeyDictionary[BatchLocation, _Placed] = WeakKeyDictionary()


def _place(location: BatchLocation, region: IntArray, offset: IntArray, size: int) -> _Placed:
    """Return where values of one size lie, in the largest elements that they are made of."""
    base, span, index = _one_space(location, region, offset, size)
    shift = _shift(index, size | base)
    return base, span, shift, torch.from_numpy(index >> shift)


@functools.lru_cache(maxsize=16)
def _windows(base: int, span: int, size: int, shift: int) -> torch.Tensor:
    """Return memory as rows that overlap: each begins an element after the one before.

    It holds no memory: whoever reads the rows holds the buffers that they lie in.

    Args:
        base: The address of the memory.
        span: Its size in bytes.
        size: The size of a row in bytes.
        shift: The logarithm of the size of an element.
    """
    memory = torch.from_numpy(np.asarray(_Memory(base, span >> shift << shift)))
    rows = (span - size >> shift) + 1
    return memory.view(_ELEMENTS[shift]).as_strided((rows, size >> shift), (1, 1))


class _Memory:
    """Bytes at an address, for NumPy; whoever reads them holds the buffers that they belong to.

    Torch has no read-only tensors, and warns of arrays that are; this one is only read.
    """

    def __init__(self, address: int, size: int) -> None:
        self.__array_interface__ = {
            "data": (address, False),
            "shape": (size,),
            "typestr": "|u1",
            "version": 3,
        }


def _one_space(
    location: BatchLocation, region: IntArray, offset: IntArray, size: int | IntArray
) -> tuple[int, int, IntArray]:
    """Return an address, a span in bytes, and where in it values begin.

    The span covers all regions that are used. What lies between them is not touched.
    """
    addresses = [
        _address(np.frombuffer(each, np.uint8)) if len(each) else 0 for each in location.regions
    ]
    if len(addresses) == 1:
        return addresses[0], len(location.regions[0]), offset
    absolute = np.array(addresses, np.int64)[region] + offset
    base = int(absolute.min()) // _LINE * _LINE
    index = absolute - base
    return base, int((index + size).max()), index


def _address(memory: Bytes) -> int:
    address: int = memory.__array_interface__["data"][0]
    return address


def _shift(index: IntArray, others: int) -> int:
    """Return the logarithm of the largest size of an element that all numbers divide by."""
    bits = int(np.bitwise_or.reduce(index)) | others
    return next(shift for shift in _ELEMENTS if not bits & ((1 << shift) - 1))


def _is_contiguous(batch: Stacked) -> bool:
    if isinstance(batch, torch.Tensor):
        return batch.is_contiguous() and not batch.is_conj() and not batch.is_neg()
    return bool(batch.flags.c_contiguous)


def _bytes_of(batch: Stacked) -> torch.Tensor:
    """Return the memory of a contiguous batch as bytes."""
    if isinstance(batch, torch.Tensor):
        return batch.view(-1).view(torch.uint8)
    return torch.from_numpy(batch.reshape(-1).view(np.uint8))


def _as_values(memory: Bytes, layout: Layout) -> Stacked:
    """Return bytes, one row a value, as values of a layout."""
    axes = layout.axes or tuple(range(len(layout.shape)))
    shape = (len(memory), *(layout.shape[axis] for axis in axes))
    back = (0, *(1 + axes.index(axis) for axis in range(len(axes))))
    if layout.kind == "torch":
        flat: torch.Tensor = torch.from_numpy(memory.reshape(-1))
        tensor: torch.Tensor = flat.view(getattr(torch, layout.dtype)).view(shape)
        return tensor.permute(back)
    numbers: np.ndarray[Any, Any] = memory.reshape(-1).view(layout.dtype).reshape(shape)
    array: np.ndarray[Any, Any] = numbers.transpose(back)
    return array


# ---- ragged


def gather_ragged(location: BatchLocation, values: Sequence[Any]) -> Ragged:
    """Lay the values of a batch one after another, whatever their shapes.

    Args:
        location: Where the values lie.
        values: The values of the rows that are missing there.

    Raises:
        NotUniformError: The values differ in more than their shape, or there are none.
    """
    present = np.flatnonzero(location.region >= 0)
    used, heads, which = np.unique(location.layout[present], return_index=True, return_inverse=True)
    found = [location.layouts[number] for number in used.tolist()]
    extra = list(map(layout_of, values))
    layout = _common([*extra, *found], [*location.missing.tolist(), *present[heads].tolist()])
    if layout.kind == "bytes":
        shapes = location.nbytes.reshape(-1, 1).copy()
    else:
        shapes = np.zeros((len(location), len(layout.shape)), np.int64)
        if found:
            shapes[present] = np.array([each.shape for each in found], np.int64)[which]
    arrays = [as_numbers(value, each) for value, each in zip(values, extra, strict=True)]
    for row, array in zip(location.missing.tolist(), arrays, strict=True):
        shapes[row] = tuple(array.shape)
    offsets = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))])
    number = Layout(layout.kind, layout.dtype, ())
    batch = empty_batch(number, int(offsets[-1]))
    memory = _bytes_of(batch).numpy()
    starts = offsets * batch.itemsize
    if arrays or len(memory) > _LARGE * len(location) or any(each.axes for each in found):
        _copy_each(location, present, memory, starts)
    elif len(memory):
        _copy_numbers(location, memory, starts)
    for row, array in zip(location.missing.tolist(), arrays, strict=True):
        batch[offsets[row] : offsets[row + 1]] = array.reshape(-1)
    return Ragged(batch, offsets, shapes)


def _common(layouts: Sequence[Layout], rows: Sequence[int]) -> Layout:
    """Return the first layout, if the others differ from it in shape and order alone."""
    if not layouts:
        raise NotUniformError("A batch without samples has no type; give at least one index.")
    first = layouts[0]
    key = (first.kind, first.dtype, len(first.shape), first.mode, first.palette)
    for row, each in zip(rows, layouts, strict=True):
        if (each.kind, each.dtype, len(each.shape), each.mode, each.palette) != key:
            refuse_to_stack((rows[0], row), (first, each), "laid one after another")
    return first


def _copy_each(location: BatchLocation, rows: IntArray, memory: Bytes, starts: IntArray) -> None:
    """Copy values one by one, each to where it starts in memory, in C order."""
    regions = [np.frombuffer(each, np.uint8) for each in location.regions]
    for row in rows.tolist():
        offset, size = location.offset.item(row), location.nbytes.item(row)
        source = regions[location.region.item(row)][offset : offset + size]
        layout = location.layouts[location.layout.item(row)]
        target = memory[starts.item(row) : starts.item(row) + size]
        if layout.axes is None:
            target[:] = source
        else:
            value = _as_values(source.reshape(1, -1).copy(), layout)
            ordered = np.empty(size, np.uint8)
            put_rows(_as_values(ordered.reshape(1, -1), replace(layout, axes=None)), None, value)
            target[:] = ordered


def _copy_numbers(location: BatchLocation, memory: Bytes, starts: IntArray) -> None:
    """Copy all values in one operation, by an index for each number; none may be missing."""
    sizes = np.diff(starts)
    base, span, index = _one_space(location, location.region, location.offset, sizes)
    shift = _shift(np.concatenate([index, sizes]), base | _address(memory))
    numbers = np.asarray(_Memory(base, span >> shift << shift)).view(_NUMBERS[shift])
    every = np.repeat(index - starts[:-1] >> shift, sizes >> shift)
    every += np.arange(len(every))
    np.take(numbers, every, out=memory.view(_NUMBERS[shift]), mode="clip")
