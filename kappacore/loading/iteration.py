"""One iteration over a Loader: batches made ahead in a thread, handed over to the loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from kappacore.errors import LoadingError
from kappacore.loading.assembly import map_tensors
from kappacore.loading.batch import batch_type
from kappacore.loading.columns import Jagged
from kappacore.loading.draw import Draw
from kappacore.loading.read_ahead import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

    from kappacore.loading.assembly import Made
    from kappacore.loading.buffers import Ring
    from kappacore.loading.devices.base import Device
    from kappacore.loading.place import Progress
    from kappacore.loading.stats import LoaderStats

__all__ = ["Iteration"]


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
        self._ahead = ahead
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
        #: Called once the iteration has ended: its buffers may be used by another one.
        self.give_back: Callable[[], Any] = lambda: None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self.ended:
            raise StopIteration
        ring = self._ring
        if ring is not None and ring.taken is not None:
            ring.marks[ring.taken] = self._device.release()
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
        self._device.take(made.mark, _tensors(made.items, made.ctx))
        if ring is not None:
            ring.taken = made.buffers
        result = self._finished(made)
        self.stats.batches += 1
        self.stats.samples += len(made.rows)
        self.progress.give_out(made.rows.end, made.rows.last)
        return result

    def begin_anew(self, make: Callable[[Ring | None], Iterator[Made]]) -> None:
        """Give the batches of another epoch; none was given so far.

        Args:
            make: Makes them, into the buffers that it gets.
        """
        self._stop_reading()
        if self._ring is not None:
            self._ring.begin()
        made = make(self._ring)
        self._made = ReadAhead(made, self._ahead) if self._ahead else made
        self.stats.epoch = self.progress.epoch

    def close(self) -> None:
        """End the iteration, and the thread that reads ahead."""
        self.ended = True
        self._stop_reading()
        self.give_back()

    def _stop_reading(self) -> None:
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


def _tensors(items: list[Any], ctx: Any) -> list[torch.Tensor]:
    if ctx is None and all(isinstance(item, torch.Tensor) for item in items):
        return items
    found: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    map_tensors([items, ctx], note)
    return found
