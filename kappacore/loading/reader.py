"""Reading the rows of a batch into columns in memory, in the reading thread or in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kappacore.datasets.ctx import SampleCtx
from kappacore.datasets.items import as_array
from kappacore.errors import InvalidOptionError, LoadingError
from kappacore.loading.columns import as_column, collate_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
        items: The columns by their position in the mode.
        ctx: The ctx of the rows, collated; None if it was not asked for.
    """

    items: dict[int, Any]
    ctx: dict[str, Any] | None = None


class Reader:
    """Reads columns; it can be sent to workers.

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

    def read(self, indices: IntArray, skipped: Sequence[int] = ()) -> Columns:
        """Read the samples at ``indices``.

        Args:
            indices: Int64 of shape ``(N,)``.
            skipped: Positions in the mode of the items that need not be read.
        """
        rows = indices.tolist()
        ctxs = [SampleCtx() for _ in rows]
        values: dict[int, Any] = {}
        for position, item in self.mode._plan:
            if position not in skipped:
                name = self.names[position]
                values[position] = _read_values(item, name, rows, ctxs)
        ctx = _collate_ctxs(ctxs, rows) if self.return_ctx else None
        return Columns(values, ctx) if self.collate_fn else self._collated(values, rows, ctx)

    def _collated(self, values: dict[int, Any], rows: list[int], ctx: Any) -> Columns:
        columns = {
            position: as_column(column, self.options[self.names[position]], name, rows)
            for position, column in values.items()
            for name in [self.names[position]]
        }
        return Columns(columns, ctx)


def read_whole(reader: Reader, position: int) -> torch.Tensor:
    """Return the whole column of one item, by ``getall_<item>`` if there is one.

    Raises:
        InvalidOptionError: The item is random, or no column of numbers of one shape.
    """
    name, length = reader.names[position], len(reader.mode)
    (item,) = (item for number, item in reader.mode._plan if number == position)
    whole = item.get_all()
    if whole is not None:
        column: Any = as_array(whole)
        column = torch.from_numpy(np.array(column)) if column.dtype.kind in "biufc" else column
    elif reader.mode.is_random:
        raise InvalidOptionError(
            f"resident={name!r}: the dataset draws random numbers, so that its samples change from "
            f"epoch to epoch. Leave it out, and draw in transform=."
        )
    else:
        others = [number for number in range(len(reader.names)) if number != position]
        parts = [
            reader.read(np.arange(first, min(first + _BATCH, length)), others).items[position]
            for first in range(0, length, _BATCH)
        ]
        kinds = set(map(type, parts))
        column = torch.cat(parts) if kinds == {torch.Tensor} else parts[0]
    if not isinstance(column, torch.Tensor):
        raise InvalidOptionError(
            f"resident={name!r}: expected numbers or arrays of one shape; got a "
            f"{type(column).__name__}. Leave it out."
        )
    return column


def _read_values(item: Item, name: str, rows: list[int], ctxs: list[SampleCtx]) -> list[Any]:
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
        except type(error) as again:  # noqa: PERF203 - one by one
            if str(again) == str(error) or len(rows) == 1:
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
