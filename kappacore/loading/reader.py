"""Reading the samples of a batch into columns in memory, in the reading thread or in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kappacore.datasets.ctx import SampleCtx
from kappacore.datasets.items import as_array
from kappacore.errors import InvalidOptionError, LoadingError, NotUniformError
from kappacore.loading.columns import as_column, collate_values
from kappacore.loading.gathering import as_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.items import Item
    from kappacore.datasets.mode import ModeWrapper
    from kappacore.loading.options import ItemOptions

__all__ = ["Columns", "Reader", "read_whole"]

_BATCH = 256  # samples


@dataclass
class Columns:
    """What was read of one batch.

    Args:
        items: By position in the mode: a column; or a list of values, where only some rows were
            read, or ``collate_fn`` takes them.
        ctx: The ctx of the rows, collated; None if it was not asked for.
    """

    items: dict[int, Any]
    ctx: dict[str, Any] | None = None


class Reader:
    """Reads samples; it can be sent to workers.

    Args:
        mode: The dataset and the items to read.
        options: Those of each item, by name.
        return_ctx: Whether the ctx is wanted.
        collate_fn: Makes the whole batch of a list of samples, instead of columns.
    """

    def __init__(
        self,
        mode: ModeWrapper,
        options: dict[str, ItemOptions],
        return_ctx: bool,
        collate_fn: Callable[[list[Any]], Any] | None,
    ) -> None:
        self.mode = mode
        self.options = options
        self.return_ctx = return_ctx
        self.collate_fn = collate_fn
        self.names = tuple(mode.mode.split())
        self._not_stacked: set[int] = set()

    def item(self, position: int) -> Item:
        """Return the item at a position in the mode."""
        return next(item for number, item in self.mode._plan if number == position)

    def read(
        self, indices: IntArray, epochs: IntArray, wanted: dict[int, IntArray | None]
    ) -> Columns:
        """Read the samples at ``indices``.

        Args:
            indices: Int64 of shape ``(N,)``.
            epochs: The epoch that each is read in, int64 of shape ``(N,)``.
            wanted: The items to read, by position in the mode: which rows; None for all.
        """
        if not wanted and not self.return_ctx:
            return Columns({})
        rows = indices.tolist()
        ctxs = [SampleCtx() for _ in rows]
        items: dict[int, Any] = {}
        for position, item in self.mode._plan:
            if position not in wanted:
                continue
            name, chosen = self.names[position], wanted[position]
            if self.options[name].decode is not None:
                some = rows if chosen is None else indices[chosen].tolist()
                items[position] = [stored_bytes(raw) for raw in item.get_raw_batch(some)]
                continue
            if chosen is not None:
                own = [ctxs[row] for row in chosen.tolist()]
                items[position] = self._values(
                    item, name, indices[chosen].tolist(), epochs[chosen], own
                )
                continue
            values = self._values(item, name, rows, epochs, ctxs)
            if self.collate_fn is None:
                values = as_column(values, self.options[name], name, rows)
            items[position] = values
        return Columns(items, _collate_ctxs(ctxs, rows) if self.return_ctx else None)

    def _values(
        self, item: Item, name: str, rows: list[int], epochs: IntArray, ctxs: list[SampleCtx]
    ) -> list[Any]:
        """Return the values of an item; rows of one epoch are read together."""
        values: list[Any] = []
        bounds = [0, *(np.flatnonzero(np.diff(epochs)) + 1).tolist(), len(rows)]
        for start, end in pairwise(bounds):
            with self.mode._reading(int(epochs[start])):
                values += read_values(item, name, rows[start:end], ctxs[start:end])
        return values

    def read_stacked(self, position: int, indices: IntArray, epochs: IntArray) -> Any:
        """Return the column of an item that is read as a whole, or whatever its values make."""
        item, name = self.item(position), self.names[position]
        if position not in self._not_stacked and (epochs == epochs[0]).all():
            try:
                with self.mode._reading(int(epochs[0])):
                    return as_tensor(item.get_stacked(indices))
            except NotUniformError:
                self._not_stacked.add(position)  # they are no numbers
            except Exception as error:
                raise _at_sample(error, item, name, indices.tolist()) from error
        return self.read(indices, epochs, {position: None}).items[position]


def stored_bytes(raw: Any) -> Any:
    """Return the bytes of a stored value, which a concatenation pairs with the dataset's number."""
    return raw[1] if isinstance(raw, tuple) else raw


def read_values(item: Item, name: str, rows: list[int], ctxs: list[SampleCtx]) -> list[Any]:
    """Return the values of an item, one for each sample.

    Raises:
        Exception: What the dataset raises, of the same type if it can be, with sample and item.
    """
    try:
        return item.get_batch(rows, ctxs)
    except Exception as error:
        raise _at_sample(error, item, name, rows) from error


def _at_sample(error: Exception, item: Item, name: str, rows: list[int]) -> Exception:
    """Return the error with the sample and item at which it arose, of the same type if it can be.

    The samples are read again one by one to find it.
    """
    where = f"one of the samples {rows}"
    for idx in rows:
        try:
            item.get(idx, SampleCtx())
        except type(error):  # noqa: PERF203 - one by one
            where = f"sample {idx}"
            break
        except Exception:  # noqa: S112 - another one than that to be found
            continue
    text = f"item {name!r} of {where}: {type(error).__name__}: {error}"
    try:
        same = type(error)(text)
        return same if text in str(same) else LoadingError(text)
    except Exception:  # it takes other arguments
        return LoadingError(text)


def _collate_ctxs(ctxs: list[SampleCtx], rows: list[int]) -> dict[str, Any]:
    try:
        collated: dict[str, Any] = collate_values([dict(ctx) for ctx in ctxs])
    except (TypeError, RuntimeError, KeyError) as error:
        raise LoadingError(
            f"the ctx of samples {rows} cannot be put into one batch: {type(error).__name__}: "
            f"{error}. Every sample must have the same keys, with values that default_collate "
            f"takes; or leave return_ctx out."
        ) from error
    return collated


def read_whole(reader: Reader, position: int, epoch: int) -> torch.Tensor:
    """Return the whole column of one item, by ``getall_<item>`` if there is one.

    Args:
        reader: What reads samples.
        position: That of the item in the mode.
        epoch: The epoch to read in.

    Raises:
        InvalidOptionError: The item is random, or no column of numbers of one shape.
    """
    name, length = reader.names[position], len(reader.mode)
    whole = reader.item(position).get_all()
    if whole is not None:
        array = as_array(whole)
        column: Any = torch.from_numpy(np.array(array)) if array.dtype.kind in "biufc" else array
    elif reader.mode.is_random:
        raise InvalidOptionError(
            f"resident={name!r}: the dataset draws random numbers, so that its samples change from "
            f"epoch to epoch. Leave it out, and draw in transform=."
        )
    else:
        parts = [
            reader.read(rows, np.full_like(rows, epoch), {position: None})
            for rows in np.split(np.arange(length), range(_BATCH, length, _BATCH))
        ]
        columns = [part.items[position] for part in parts]
        column = torch.cat(columns) if {*map(type, columns)} == {torch.Tensor} else columns[0]
    if not isinstance(column, torch.Tensor):
        raise InvalidOptionError(
            f"resident={name!r}: expected numbers or arrays of one shape; got a "
            f"{type(column).__name__}. Leave it out."
        )
    return column
