"""How a batch is read: gathered from a cache's memory, stacked, or sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.items import Item
    from kappacore.loading.options import ItemOptions
    from kappacore.loading.order import Rows
    from kappacore.loading.reader import Reader
    from kappacore.locations import BatchLocation

__all__ = ["Plan", "Planner"]

# Of batches that are looked up together. Values that are new to the process are checked then, so
# more bytes would let the loop wait for them.
_MOST_ROWS = 4096
_MOST_BYTES = 16 << 20
_SMALL = 2 << 20  # bytes of a batch


@dataclass(frozen=True)
class Plan:
    """How one batch is read. Items are given by their position in the mode.

    Args:
        rows: The rows of the batch.
        located: Where values lie in memory, to be gathered from there.
        stacked: Items that are read as a whole, such as from a column of numbers.
        wanted: What is left to be read sample by sample: the rows that are missing in an item's
            location, or None for all rows.
    """

    rows: Rows
    located: dict[int, BatchLocation] = field(default_factory=dict)
    stacked: list[int] = field(default_factory=list)
    wanted: dict[int, IntArray | None] = field(default_factory=dict)


class Planner:
    """Plans batches, in the process that iterates.

    Args:
        reader: What reads samples.
        resident: Positions of items that are on the device already.
    """

    def __init__(self, reader: Reader, resident: Collection[int]) -> None:
        self._reader = reader
        self._whole_batches = reader.collate_fn is None
        # A column gives no ctx, which samples read one by one do.
        self._columns = not reader.return_ctx and "ctx." not in reader.mode.mode
        self._items = {
            position: item for position, item in reader.mode._plan if position not in resident
        }
        self._decoded = {
            position for position in self._items if self._option(position).decode is not None
        }
        #: Whether caches may be looked up in this process; otherwise the samples are wanted.
        self.locating = True
        #: Whether all batches so far were gathered and small, or read as a whole.
        self.small = True
        #: How items are read, for people; by position.
        self.roads: dict[int, str] = {}

    def plans(self, batches: Iterator[Rows], *, together: bool) -> Iterator[Plan]:
        """Yield how each batch is read.

        Values that are located count as read from their cache. Small batches that are all there
        are looked up several at a time, as a look costs more for each batch than for each row.

        Args:
            batches: The rows of each.
            together: Whether the rows of later batches may be asked for ahead of their time.
        """
        number = 1
        while group := list(islice(batches, number)):
            plans = self._plan(group)
            ahead = self._look_ahead(plans)
            number = ahead if together else 1
            yield from plans

    def _plan(self, group: list[Rows]) -> list[Plan]:
        """Return how batches are read, which are looked up together."""
        plans = list(map(Plan, group))
        indices = group[0].indices
        if len(group) > 1:
            indices = np.concatenate([rows.indices for rows in group])
        sizes = list(map(len, group))
        for position, item in self._items.items():
            whole = self._locate(position, item, indices)
            if whole is None and self._stacks(item) and position not in self._decoded:
                self.roads[position] = item.how_stacked()[1]
                for plan in plans:
                    plan.stacked.append(position)
                continue
            parts = [None] * len(plans) if whole is None else whole.split(sizes)
            for plan, location in zip(plans, parts, strict=True):
                if location is None or len(location.missing) == len(plan.rows):
                    plan.wanted[position] = None
                    self.roads.setdefault(position, item.how_stacked()[1])
                    continue
                plan.located[position] = location
                self.roads[position] = "gathered from the memory of its cache"
                if len(location.missing):
                    plan.wanted[position] = location.missing
        return plans

    def _look_ahead(self, plans: list[Plan]) -> int:
        """Return how many batches are looked up together, after some that were planned."""
        last = plans[-1]
        size = sum(int(location.nbytes.sum()) for location in last.located.values())
        if size > _SMALL or self._decoded or any(plan.wanted for plan in plans):
            self.small = False
        if last.wanted or not last.located:
            return 1
        return max(1, min(_MOST_ROWS // len(last.rows), _MOST_BYTES // max(size, 1)))

    def _option(self, position: int) -> ItemOptions:
        return self._reader.options[self._reader.names[position]]

    def _locate(self, position: int, item: Item, indices: IntArray) -> BatchLocation | None:
        if not self._whole_batches or not self.locating:
            return None
        return item.locate_batch(indices, raw=position in self._decoded)

    def _stacks(self, item: Item) -> bool:
        return self._whole_batches and self.locating and self._columns and item.how_stacked()[0]
