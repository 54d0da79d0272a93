"""Making a batch on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kappacore.loading.columns import Jagged
from kappacore.loading.convert import convert
from kappacore.loading.decoding import decode_images
from kappacore.loading.gathering import (
    gather_column,
    jagged_column,
    uniform_column,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from kappacore.loading.buffers import Allocate, Ring
    from kappacore.loading.devices.base import Device
    from kappacore.loading.order import Rows
    from kappacore.loading.plan import Plan
    from kappacore.loading.reader import Columns, Reader

__all__ = ["Assembly", "Made", "map_tensors"]


@dataclass(frozen=True)
class Made:
    """A batch that was made, on the device.

    Args:
        rows: Its rows.
        items: Its columns, in the order of the mode; or what ``collate_fn`` returned, alone.
        ctx: Its ctx, collated; None if it was not asked for.
        mark: See :meth:`Device.finish`.
        held: What must not go before ``mark`` is reached.
        buffers: The set of fixed buffers that it is in, if it is in such.
    """

    rows: Rows
    items: list[Any]
    ctx: dict[str, Any] | None
    mark: Any
    held: Any
    buffers: int | None


class Assembly:
    """Makes batches on a device out of what was read and what lies in memory.

    Args:
        device: The device.
        reader: What read the samples.
        resident: The whole columns that are on the device already, by position in the mode.
        lock: Held while the device is used: two iterations have a thread each.
        new: Returns memory for a column that is not put into a fixed buffer.
    """

    def __init__(
        self,
        device: Device,
        reader: Reader,
        resident: dict[int, torch.Tensor],
        lock: threading.Lock,
        new: Allocate,
    ) -> None:
        self._device = device
        self._reader = reader
        self._resident = resident
        self._lock = lock
        self._new = new

    def make(self, plan: Plan, columns: Columns, ring: Ring | None) -> Made:
        """Make one batch.

        Args:
            plan: How it is read.
            columns: What was read sample by sample.
            ring: The buffers to use; None for new memory.
        """
        device, names = self._device, self._reader.names
        # Memory that is kept for later batches must be written to in any mode of the loop.
        with self._lock, torch.inference_mode(False), device.reading():
            number = None
            if ring is not None:
                number = ring.advance()
                device.wait(ring.marks[number])
            if self._reader.collate_fn is not None:
                samples = _samples([columns.items[position] for position in range(len(names))])
                items = [map_tensors(self._reader.collate_fn(samples), device.upload)]
            else:
                items = [
                    self._item(
                        position,
                        plan,
                        columns,
                        None if number is None or ring is None else ring.allocate(number, position),
                    )
                    for position in range(len(names))
                ]
            ctx = map_tensors(columns.ctx, device.upload)
            return Made(plan.rows, items, ctx, device.finish(), (plan, columns), number)

    def _item(self, position: int, plan: Plan, columns: Columns, allocate: Allocate | None) -> Any:
        """Return one item of a batch; ``allocate`` returns its buffer, if that is a fixed one."""
        device, options = self._device, self._reader.options[self._reader.names[position]]
        whole = self._resident.get(position)
        if whole is not None:
            indices = device.upload(torch.from_numpy(plan.rows.indices))
            out = None
            if allocate is not None:
                shape = (len(plan.rows), *whole.shape[1:])
                out = allocate(shape, whole.dtype, whole.device, torch.contiguous_format)
            return torch.index_select(whole, 0, indices, out=out)
        column = self._read(position, plan, columns, None if options.converts else allocate)
        if isinstance(column, Jagged):
            return Jagged(
                convert(device.upload(column.values), options), device.upload(column.offsets)
            )
        if not isinstance(column, torch.Tensor):
            return map_tensors(column, device.upload)
        if options.converts:
            return convert(device.upload(column), options, allocate or self._new)
        if allocate is None:
            return device.upload(column)
        out = allocate(column.shape, column.dtype, device.device, torch.contiguous_format)
        return column if column.data_ptr() == out.data_ptr() else device.upload(column, out)

    def _read(self, position: int, plan: Plan, columns: Columns, allocate: Allocate | None) -> Any:
        """Return one item before it is converted, on the device or in the CPU's memory."""
        name, rows = self._reader.names[position], plan.rows.indices
        options = self._reader.options[name]
        if position in plan.stacked:
            return self._reader.read_stacked(position, rows, plan.rows.epochs)
        if options.decode is not None:
            location = plan.located.get(position)
            read = columns.items.get(position, ())
            return decode_images(self._device, self._reader, position, rows, location, read)
        location = plan.located.get(position)
        if location is None:
            return columns.items[position]
        values = columns.items.get(position, [])
        device, out = self._device, None
        if options.ragged is None and not values and (uniform := uniform_column(location)):
            out = (allocate or self._new)(*uniform, device.device, torch.contiguous_format)
            if device.gather(location, out):
                return out
            out = device.host_memory(*uniform)
        elif options.ragged == "jagged" and not values and (found := jagged_column(location)):
            shape, dtype, offsets = found
            numbers = torch.empty(shape, dtype=dtype, device=device.device)
            if device.gather_ragged(location, numbers.view(-1)):
                return Jagged(numbers, offsets)
        return gather_column(location, values, options, name, rows.tolist(), out)


def _samples(columns: list[Any]) -> list[Any]:
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def map_tensors(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return containers with each tensor in them replaced; they keep their type."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(each, function) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(each, function) for each in value))
    if type(value) in (list, tuple):
        return type(value)(map_tensors(each, function) for each in value)
    return value
