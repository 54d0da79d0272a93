"""Columns of values that lie in a cache's memory, gathered on the CPU."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kappacore.datasets.gathering import gather, gather_ragged
from kappacore.errors import NotUniformError
from kappacore.loading.columns import Jagged, as_column, refuse_jagged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.stacking import Ragged, Stacked
    from kappacore.loading.options import ItemOptions
    from kappacore.locations import BatchLocation, Layout

__all__ = ["as_tensor", "buffers_of", "gather_column", "jagged_column", "uniform_column"]


def gather_column(
    location: BatchLocation,
    values: Sequence[Any],
    options: ItemOptions,
    name: str,
    indices: Sequence[int],
    out: torch.Tensor | None = None,
) -> Any:
    """Return a column as :func:`as_column` does, of values that lie in memory.

    Args:
        location: Where they lie.
        values: Those of the rows that are missing there.
        options: What is to be done with the item.
        name: The item's name, for messages.
        indices: The rows' indices in the dataset, for messages.
        out: The CPU's memory that a uniform column is put into, of its shape and dtype.
    """
    layout = location.uniform
    if layout is not None and layout.kind == "bytes":
        rest = iter(values)
        all_values = [next(rest) if part is None else bytes(part) for part in buffers_of(location)]
        return as_column(all_values, options, name, indices)
    if layout is not None and options.ragged is None:
        try:
            return as_tensor(gather(location, values, out))
        except NotUniformError:  # the values that were missing differ
            if not values:
                raise
    if options.ragged == "jagged":
        return _jagged(gather_ragged(location, values), name)
    ragged = gather_ragged(location, values)
    return as_column([ragged[row] for row in range(len(ragged))], options, name, indices)


def uniform_column(location: BatchLocation) -> tuple[tuple[int, ...], torch.dtype] | None:
    """Return shape and dtype of the column, if all rows lie there, of one layout in C order."""
    layout = location.uniform
    if layout is None or layout.kind == "bytes" or layout.axes or len(location.missing):
        return None
    dtype = _torch_dtype(layout)
    return None if dtype is None else ((len(location), *layout.shape), dtype)


def jagged_column(
    location: BatchLocation,
) -> tuple[tuple[int, ...], torch.dtype, torch.Tensor] | None:
    """Return shape, dtype and offsets of a jagged column, if all rows lie there and fit together.

    They fit if they are in C order and differ in their first dimension alone.
    """
    numbers, which = np.unique(location.layout, return_inverse=True)
    layouts = [location.layouts[number] for number in numbers.tolist() if number >= 0]
    kinds = {(each.kind, each.dtype, each.shape[1:], each.axes) for each in layouts}
    first = layouts[0] if layouts else None
    if first is None or len(layouts) < len(numbers) or len(kinds) > 1:
        return None
    dtype = None if first.axes or not first.shape else _torch_dtype(first)
    if dtype is None:
        return None
    lengths = np.array([each.shape[0] for each in layouts])[which]
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
    return (int(offsets[-1]), *first.shape[1:]), dtype, offsets


@functools.lru_cache(maxsize=64)
def _torch_dtype(layout: Layout) -> torch.dtype | None:
    """Return the dtype of a layout's numbers; None if torch has none such."""
    if layout.kind == "torch":
        dtype: torch.dtype = getattr(torch, layout.dtype)
        return dtype
    try:
        return torch.from_numpy(np.empty(0, layout.dtype)).dtype
    except (TypeError, ValueError):  # one that torch does not have, or of the other byte order
        return None


def buffers_of(location: BatchLocation) -> list[memoryview | None]:
    """Return the memory of each value; None where it is missing."""
    places = zip(
        location.region.tolist(), location.offset.tolist(), location.nbytes.tolist(), strict=True
    )
    return [
        None if region < 0 else location.regions[region][offset : offset + size]
        for region, offset, size in places
    ]


def as_tensor(batch: Stacked) -> torch.Tensor:
    """Return a stacked batch as a tensor over its memory, in the byte order of this machine."""
    if isinstance(batch, torch.Tensor):
        return batch
    return torch.from_numpy(np.ascontiguousarray(batch, batch.dtype.newbyteorder("=")))


def _jagged(ragged: Ragged, name: str) -> Jagged:
    rest = ragged.shapes[:1, 1:]
    if not ragged.shapes.shape[1] or not (ragged.shapes[:, 1:] == rest).all():
        refuse_jagged(name)
    values = as_tensor(ragged.values).reshape(-1, *rest[0].tolist())
    offsets = np.concatenate([[0], np.cumsum(ragged.shapes[:, 0])])
    return Jagged(values, torch.from_numpy(offsets))
