"""One iteration over a Loader: batches made ahead in a thread, handed over to the loop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kappacore.errors import LoadingError
from kappacore.loading.batch import batch_type
from kappacore.loading.buffers import Allocate, Ring, allocate_new
from kappacore.loading.columns import Jagged
from kappacore.loading.convert import convert
from kappacore.loading.draw import Draw
from kappacore.loading.read_ahead import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

    from kappacore.loading.devices.base import Device
    from kappacore.loading.options import ItemOptions
    from kappacore.loading.order import Rows
    from kappacore.loading.reader import Columns
    from kappacore.loading.stats import LoaderStats

__all__ = ["Assembly", "Iteration"]


@dataclass(frozen=True)
class Made:
    """A batch that was made, on the device.

    Args:
        rows: Its rows.
        items: Its columns, in the order of the mode; or what ``collate_fn`` returned, alone.
        ctx: Its ctx, collated; None if it was not asked for.
        mark: See :meth:`Device.finish`.
    """

    rows: Rows
    items: list[Any]
    ctx: dict[str, Any] | None
    mark: Any


@dataclass
class Progress:
    """How far an iteration has come.

    Args:
        epoch: Its epoch.
        position: The position at which one begins that goes on from here.
        begun: Whether it gave out anything.
        finished: Whether it came to its end.
    """

    epoch: int
    position: int
    begun: bool = False
    finished: bool = False


class Assembly:
    """Makes batches on a device out of columns in memory.

    Args:
        device: The device.
        names: The items of the mode.
        options: Those of each item.
        resident: The whole columns that are on the device already, by position in the mode.
        collate_fn: Makes the batch of a list of samples.
    """

    def __init__(
        self,
        device: Device,
        names: tuple[str, ...],
        options: dict[str, ItemOptions],
        resident: dict[int, torch.Tensor],
        collate_fn: Callable[[list[Any]], Any] | None,
    ) -> None:
        self._device = device
        self._names = names
        self._options = options
        self._resident = resident
        self._collate_fn = collate_fn

    def make(self, rows: Rows, columns: Columns, ring: Ring | None, number: int) -> Made:
        """Make one batch.

        Args:
            rows: Its rows.
            columns: What was read of them.
            ring: The buffers to use; None for new memory.
            number: The number of the batch in this iteration.
        """
        with self._device.reading():
            if ring is not None:
                self._device.wait(ring.marks[ring.number_of(number)])
            if self._collate_fn is not None:
                samples = _samples([columns.items[k] for k in range(len(self._names))])
                items = [_mapped(self._collate_fn(samples), self._device.upload)]
            else:
                items = [
                    self._item(position, rows, columns, ring, number)
                    for position in range(len(self._names))
                ]
            ctx = _mapped(columns.ctx, self._device.upload)
            return Made(rows, items, ctx, self._device.finish())

    def _item(
        self, position: int, rows: Rows, columns: Columns, ring: Ring | None, number: int
    ) -> Any:
        allocate: Allocate = allocate_new
        if ring is not None:
            allocate = ring.allocate(ring.number_of(number), position)
        options = self._options[self._names[position]]
        whole = self._resident.get(position)
        if whole is not None:
            indices = self._device.upload(torch.from_numpy(rows.indices))
            out = None if ring is None else _like(whole, len(rows), allocate)
            return torch.index_select(whole, 0, indices, out=out)
        column = columns.items[position]
        if isinstance(column, Jagged):
            values = convert(self._device.upload(column.values), options)
            return Jagged(values, self._device.upload(column.offsets))
        if not isinstance(column, torch.Tensor):
            return _mapped(column, self._device.upload)
        if options.converts:
            return convert(self._device.upload(column), options, allocate)
        out = None if ring is None else _like(column, len(column), allocate, self._device.device)
        return self._device.upload(column, out)


class Iteration:
    """Gives the batches of one epoch, each when it is asked for.

    Args:
        made: Makes the batches.
        device: The device that they are on.
        names: The items of the mode.
        ahead: The number of batches made ahead; 0: each is made when it is asked for.
        transform: Called with each batch and its draws.
        seed: The Loader's.
        return_ctx: Whether to give ``(batch, ctx)``.
        collated: Whether a batch is what ``collate_fn`` returned, and not items.
        ring: The buffers that the batches are in, if they are fixed ones.
        progress: How far it has come is noted here.
        stats: Counts what is given out.
    """

    def __init__(
        self,
        made: Iterator[Made],
        *,
        device: Device,
        names: tuple[str, ...],
        ahead: int,
        transform: Callable[[Any, Draw], Any] | None,
        seed: int,
        return_ctx: bool,
        collated: bool,
        ring: Ring | None,
        progress: Progress,
        stats: LoaderStats,
    ) -> None:
        self._made: ReadAhead[Made] | Iterator[Made] = ReadAhead(made, ahead) if ahead else made
        self._device = device
        self._batch = batch_type(names)
        self._collated = collated
        self._transform = transform
        self._seed = seed
        self._return_ctx = return_ctx
        self._ring = ring
        self.stats = stats
        self.progress = progress
        self.ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self.ended:
            raise StopIteration
        if self._ring is not None and self.stats.batches:
            last = self._ring.number_of(self.stats.batches - 1)
            self._ring.marks[last] = self._device.release()
        started = time.perf_counter()
        try:
            made = next(self._made)
        except StopIteration:
            self.progress.begun = self.progress.finished = True
            self.close()
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self.stats.seconds_data += time.perf_counter() - started
            if isinstance(self._made, ReadAhead):
                self.stats.seconds_step = self._made.seconds_waited
        self._device.take(made.mark, _tensors([made.items, made.ctx]))
        result = self._finished(made)
        self.stats.batches += 1
        self.stats.samples += len(made.rows)
        self.progress.position, self.progress.begun = made.rows.end, True
        return result

    def close(self) -> None:
        """End the iteration, and the thread that reads ahead."""
        self.ended = True
        close = getattr(self._made, "close", None)
        if close is not None:
            close()

    def _finished(self, made: Made) -> Any:
        """Return a batch transformed, as the loop gets it."""
        single = self._collated or len(made.items) == 1
        batch = made.items[0] if single else self._batch(made.items)
        params: dict[str, Any] = {}
        if self._transform is not None:
            draw = Draw(self._seed, self.stats.epoch, made.rows.positions, self._device.device)
            result = self._transform(batch, draw)
            _check_rows(result, len(made.rows))
            named = self._batch.names and not single and type(result) is tuple
            same = named and len(result) == len(batch)
            batch, params = self._batch(result) if same else result, draw.params
        return (batch, {**(made.ctx or {}), **params}) if self._return_ctx else batch


def _check_rows(batch: Any, rows: int) -> None:
    if batch is None:
        raise LoadingError(
            "transform= returned None; expected the batch, as in `return batch.replace(x=x)`."
        )
    parts: Iterable[Any] = [batch]
    if isinstance(batch, dict):
        parts = batch.values()
    elif isinstance(batch, (tuple, list)) and not isinstance(batch, Jagged):
        parts = batch
    for part in parts:
        number = rows
        if isinstance(part, Jagged):
            number = len(part.offsets) - 1
        elif isinstance(part, torch.Tensor):
            number = len(part) if part.ndim else -1
        if number != rows:
            shape = "no rows at all" if number < 0 else f"{number} rows"
            raise LoadingError(
                f"transform= was given a batch of {rows} rows and returned one item of {shape}; "
                f"expected as many. What belongs to the whole batch goes into draw.params."
            )


def _samples(columns: list[Any]) -> list[Any]:
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def _like(
    column: torch.Tensor, rows: int, allocate: Allocate, device: torch.device | None = None
) -> torch.Tensor:
    """Return memory for some rows like those of a column."""
    shape = (rows, *column.shape[1:])
    return allocate(shape, column.dtype, device or column.device, torch.contiguous_format)


def _mapped(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return containers with each tensor in them replaced; they keep their type."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _mapped(each, function) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(each, function) for each in value))
    if type(value) in (list, tuple):
        return type(value)(_mapped(each, function) for each in value)
    return value


def _tensors(value: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    _mapped(value, note)
    return found
