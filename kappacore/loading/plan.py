"""How a batch is read: gathered from a cache's memory, stacked, or sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.items import Item
    from kappacore.loading.options import ItemOptions
    from kappacore.loading.order import Rows
    from kappacore.loading.reader import Reader
    from kappacore.locations import BatchLocation

__all__ = ["Plan", "Planner"]


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
        #: How items are read, for people; by position.
        self.roads: dict[int, str] = {}

    def plan(self, rows: Rows) -> Plan:
        """Return how a batch is read.

        Values that are located count as read from their cache.
        """
        plan = Plan(rows)
        for position, item in self._items.items():
            location = self._locate(position, item, rows.indices)
            if location is not None and len(location.missing) < len(rows):
                plan.located[position] = location
                self.roads[position] = "gathered from the memory of its cache"
                if len(location.missing):
                    plan.wanted[position] = location.missing
            elif location is None and self._stacks(item) and position not in self._decoded:
                plan.stacked.append(position)
                self.roads[position] = item.how_stacked()[1]
            else:
                plan.wanted[position] = None
                self.roads.setdefault(position, item.how_stacked()[1])
        return plan

    def _option(self, position: int) -> ItemOptions:
        return self._reader.options[self._reader.names[position]]

    def _locate(self, position: int, item: Item, indices: IntArray) -> BatchLocation | None:
        if not self._whole_batches or not self.locating:
            return None
        return item.locate_batch(indices, raw=position in self._decoded)

    def _stacks(self, item: Item) -> bool:
        return self._whole_batches and self.locating and self._columns and item.how_stacked()[0]
