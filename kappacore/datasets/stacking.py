"""Values of a batch as one array or tensor: stacked, or one after another where shapes differ."""

from __future__ import annotations

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
    "check_out",
    "empty_batch",
    "layout_of",
    "refuse_to_stack",
    "stack_values",
]

Stacked = np.ndarray[Any, Any] | torch.Tensor

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
            return Layout("numpy", value.dtype.str, value.shape)
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
    dtype = layout.dtype if layout.kind == "torch" else str(np.dtype(layout.dtype))
    expected = f"a NumPy array or CPU tensor of shape {shape} and dtype {dtype}"
    if not isinstance(out, np.ndarray | torch.Tensor):
        raise InvalidOptionError(f"out= is a {type(out).__name__}; expected {expected}.")
    given = str(out.dtype).removeprefix("torch.")
    fits = tuple(out.shape) == shape and given == dtype
    if isinstance(out, torch.Tensor):
        fits = fits and out.is_cpu and not out.requires_grad
        where = f" on {out.device}" + (", with requires_grad" if out.requires_grad else "")
    else:
        fits = fits and out.flags.writeable
        where = "" if out.flags.writeable else ", and read-only"
    if not fits:
        raise InvalidOptionError(
            f"out= has shape {tuple(out.shape)} and dtype {given}{where}; expected {expected}."
        )
    return out


def put_rows(batch: Stacked, rows: IntArray | None, part: Stacked) -> None:
    """Write a part of a batch to its rows; None: to all of it."""
    if isinstance(batch, torch.Tensor):
        source = part if isinstance(part, torch.Tensor) else torch.from_numpy(part)
        if rows is None:
            batch.copy_(source)
        else:
            batch[torch.from_numpy(rows)] = source
    else:
        batch[slice(None) if rows is None else rows] = np.asarray(part)


def stack_values(values: Sequence[Any], out: Any = None) -> Stacked:
    """Stack the values of a batch.

    Args:
        values: At least one value.
        out: As for :func:`kappacore.datasets.batches.read_batch`.

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
    return np.stack(parts, out=out)
