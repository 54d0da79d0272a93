"""Values of a batch as one array or tensor: stacked, or one after another where shapes differ."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kappacore.errors import InvalidOptionError, NotUniformError
from kappacore.locations import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.indexing import IntArray

__all__ = [
    "Ragged",
    "Stacked",
    "as_numbers",
    "as_stacked",
    "check_out",
    "empty_batch",
    "join_parts",
    "layout_of",
    "pick_rows",
    "put_rows",
    "refuse_to_stack",
    "stack_values",
    "write_out",
]

Stacked = np.ndarray[Any, Any] | torch.Tensor

#: Torch copies rows of these, and not of all types of their sizes.
_CARRIERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SCALARS = {bool: "|b1", int: np.dtype(np.int64).str, float: np.dtype(np.float64).str}


@dataclass(frozen=True, eq=False)
class Ragged:
    """Values of one batch that differ in shape, one after another.

    Args:
        values: (M,) the numbers of all values, each value in C order.
        offsets: (N + 1,) int64; value ``k`` is ``values[offsets[k]:offsets[k + 1]]``.
        shapes: (N, D) int64; the shape of each value. Of byte strings, their length.
    """

    values: Stacked
    offsets: IntArray
    shapes: IntArray

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self.shapes)

    def __getitem__(self, k: int) -> Stacked:
        """Return value ``k`` in its shape, as a view."""
        part = self.values[self.offsets[k] : self.offsets[k + 1]]
        return part.reshape(tuple(self.shapes[k].tolist()))


def layout_of(value: Any) -> Layout:
    """Return the layout that a single value has as part of a batch.

    Raises:
        NotUniformError: It is no number, array of numbers, tensor or PIL image.
    """
    kind = type(value)
    if kind in _SCALARS:
        return Layout("numpy", _SCALARS[kind], ())
    if kind is bytes:
        return Layout("bytes", "|u1", ())
    if isinstance(value, torch.Tensor):
        if value.layout is torch.strided and value.is_cpu:
            return Layout("torch", str(value.dtype).removeprefix("torch."), tuple(value.shape))
    elif isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind in "biufc":
            return Layout("numpy", value.dtype.newbyteorder("=").str, value.shape)
        raise NotUniformError(
            f"An array of dtype {value.dtype} is not stacked: a batch holds numbers. Return its "
            f"fields as items of their own."
        )
    elif (images := sys.modules.get("PIL.Image")) and isinstance(value, images.Image):
        pixels = np.asarray(value)
        height, width, *channels = pixels.shape
        palette = None
        if value.palette is not None and value.mode in ("P", "PA"):
            palette = value.palette.mode, bytes(value.getpalette(value.palette.mode) or ())
        shape = (height, width, *(channels or (1,)))
        return Layout("image", pixels.dtype.str, shape, None, value.mode, palette)
    raise NotUniformError(
        f"A {kind.__name__} is not stacked: a batch holds numbers, arrays of them, dense CPU "
        f"tensors or PIL images. Read the values one by one: get_batch, or a ModeWrapper."
    )


def as_numbers(value: Any, layout: Layout) -> Any:
    """Return a value as an array or tensor of its layout's shape."""
    if layout.kind == "torch":
        return value.detach()
    if layout.kind == "bytes":
        return np.frombuffer(value, np.uint8)
    try:
        return np.asarray(value, layout.dtype).reshape(layout.shape)
    except OverflowError as error:
        raise NotUniformError(f"The number {value} does not fit into 64 bits.") from error


def refuse_to_stack(rows: Sequence[int], layouts: Sequence[Layout], what: str = "stacked") -> None:
    """Raise, naming two rows whose layouts differ.

    Raises:
        NotUniformError: Always.
    """
    raise NotUniformError(
        f"The values of a batch cannot be {what}: row {rows[0]} is a {layouts[0]}, and row "
        f"{rows[1]} is a {layouts[1]}. Bring them to one shape and type below the cache (resize, "
        f"crop, convert), or read them ragged."
    )


def empty_batch(layout: Layout, length: int) -> Stacked:
    """Return memory for a batch of that many values."""
    shape = (length, *layout.shape)
    if layout.kind == "torch":
        return torch.empty(shape, dtype=getattr(torch, layout.dtype))
    return np.empty(shape, layout.dtype)


def check_out(out: Any, layout: Layout, length: int) -> Stacked:
    """Return ``out`` if a batch of that many values can be written to it.

    Raises:
        InvalidOptionError: The message says what was given and what was expected.
    """
    shape = (length, *layout.shape)
    dtype = layout.dtype if layout.kind == "torch" else _name_of(layout.dtype)
    if (
        isinstance(out, torch.Tensor)
        and out.shape == shape
        and out.dtype is getattr(torch, dtype, None)
        and out.is_cpu
        and not out.requires_grad
    ):
        return out
    expected = f"a NumPy array or CPU tensor of shape {shape} and dtype {dtype}"
    if not isinstance(out, np.ndarray | torch.Tensor):
        raise InvalidOptionError(f"out= is a {type(out).__name__}; expected {expected}.")
    given = str(out.dtype).removeprefix("torch.")
    if isinstance(out, torch.Tensor):
        where = f" on {out.device}" + (", with requires_grad" if out.requires_grad else "")
    elif out.shape == shape and given == dtype and out.flags.writeable:
        return out
    else:
        where = "" if out.flags.writeable else ", and read-only"
    raise InvalidOptionError(
        f"out= has shape {tuple(out.shape)} and dtype {given}{where}; expected {expected}."
    )


@functools.cache
def _name_of(dtype: str) -> str:
    """Return the name of one of NumPy's dtypes, which torch shares if it has that dtype."""
    name: str = np.dtype(dtype).name
    return name


def put_rows(batch: Stacked, rows: IntArray | None, part: Stacked) -> None:
    """Write a part of a batch, of the same dtype, to its rows; None: to all of it."""
    if isinstance(batch, torch.Tensor):
        source = part if isinstance(part, torch.Tensor) else torch.from_numpy(part)
        carrier = _CARRIERS.get(batch.itemsize)
        if carrier is not None and not (batch.is_conj() or source.is_conj()):
            batch, source = batch.view(carrier), source.view(carrier)
        if rows is None:
            batch.copy_(source)
        else:
            batch[torch.from_numpy(rows)] = source
    else:
        batch[slice(None) if rows is None else rows] = np.asarray(part)


def write_out(batch: Stacked, out: Any) -> Stacked:
    """Copy a batch to ``out`` and return that; see :func:`check_out`."""
    check_out(out, _layout_of_rows(batch), len(batch))
    put_rows(out, None, batch)
    return out  # type: ignore[no-any-return]


def pick_rows(column: Stacked, indices: IntArray, out: Any = None) -> Stacked:
    """Return the rows of a column at ``indices``, as a batch."""
    rows = torch.from_numpy(indices) if isinstance(column, torch.Tensor) else indices
    batch = column[rows]
    return batch if out is None else write_out(batch, out)


def as_stacked(column: Any, example: Any) -> Stacked | None:
    """Return a column from which batches are picked as single values would be stacked.

    Args:
        column: One value for each sample: an array, a tensor or a list.
        example: A single value, whose type the batches have.

    Returns:
        None if the column is not of numbers, or its type cannot become that of the value.
    """
    try:
        layout = layout_of(example)
    except NotUniformError:
        return None
    if layout.kind not in ("numpy", "torch"):
        return None
    if isinstance(column, torch.Tensor):
        same = layout.kind == "torch" and str(column.dtype).endswith(f".{layout.dtype}")
        if same and tuple(column.shape[1:]) == layout.shape:
            return column.detach().cpu()
    array = _as_array(column)
    if array is None or array.shape[1:] != layout.shape:
        return None
    wanted = empty_batch(layout, 0)
    dtype = np.dtype(layout.dtype) if isinstance(wanted, np.ndarray) else None
    if dtype is None:
        same = array.dtype == torch.empty(0, dtype=wanted.dtype).numpy().dtype
        return torch.from_numpy(array) if same and array.flags.writeable else None
    return array.astype(dtype, copy=False) if np.can_cast(array.dtype, dtype, "safe") else None


def _as_array(column: Any) -> np.ndarray[Any, Any] | None:
    if isinstance(column, torch.Tensor):
        try:
            column = column.detach().cpu().numpy()
        except TypeError:  # a type that NumPy does not have
            return None
    if isinstance(column, np.ndarray):
        return column if column.dtype.kind in "biufc" else None
    if type(column) in (list, tuple) and len(kinds := set(map(type, column))) == 1:
        kind = kinds.pop()
        if kind in _SCALARS:
            try:
                return np.array(column, _SCALARS[kind])
            except OverflowError:  # beyond 64 bits
                return None
    return None


def _layout_of_rows(batch: Stacked) -> Layout:
    if isinstance(batch, torch.Tensor):
        return Layout("torch", str(batch.dtype).removeprefix("torch."), tuple(batch.shape[1:]))
    return Layout("numpy", batch.dtype.str, batch.shape[1:])


def join_parts(parts: Sequence[tuple[IntArray, Stacked]], length: int, out: Any = None) -> Stacked:
    """Return one batch of several, each with its rows.

    Raises:
        NotUniformError: They differ in type, shape or dtype.
    """
    if not parts:
        return stack_values([], out)
    rows, first = parts[0]
    layout = _layout_of_rows(first)
    for others, part in parts[1:]:
        if (other := _layout_of_rows(part)) != layout:
            refuse_to_stack((rows.item(0), others.item(0)), (layout, other))
    if out is None:
        if len(parts) == 1:
            return first
        out = empty_batch(layout, length)
    else:
        check_out(out, layout, length)
    for rows, part in parts:
        put_rows(out, rows, part)
    return out  # type: ignore[no-any-return]


def stack_values(values: Sequence[Any], out: Any = None) -> Stacked:
    """Stack the values of a batch.

    Args:
        values: At least one value.
        out: As for :meth:`Item.get_stacked`.

    Raises:
        NotUniformError: They differ in type, shape or dtype, or are no numbers.
        InvalidOptionError: ``out`` does not fit; or there is no value, so that nothing is known.
    """
    if not values:
        if out is not None and len(out) == 0:
            return out  # type: ignore[no-any-return]
        raise NotUniformError("A batch without samples has no shape; give at least one index.")
    first = layout_of(values[0])
    if first.kind == "bytes":
        raise NotUniformError("Byte strings are not stacked: read them by get_ragged.")
    parts = []
    for row, value in enumerate(values):
        layout = layout_of(value)
        if layout.stacks_as != first.stacks_as:
            refuse_to_stack((0, row), (first, layout))
        parts.append(as_numbers(value, layout))
    if out is not None:
        check_out(out, first, len(values))
    if first.kind == "torch":
        stacked: Stacked = torch.stack(parts)
        if out is None:
            return stacked
        put_rows(out, None, stacked)
        return out  # type: ignore[no-any-return]
    if isinstance(out, torch.Tensor):
        put_rows(out, None, np.stack(parts))
        return out
    batch: np.ndarray[Any, Any] = np.stack(parts, out=out)
    return batch
