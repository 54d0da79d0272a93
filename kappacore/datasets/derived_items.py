"""Items made from other items: converted one by one, picked by index, or joined."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.datasets.columns import concatenate, pick
from kappacore.datasets.gathering import gather
from kappacore.datasets.indexing import check_index, check_indices
from kappacore.datasets.items import Item, digest
from kappacore.datasets.stacking import join_parts, write_out
from kappacore.errors import NotUniformError
from kappacore.locations import join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.ctx import Ctx, Ctxs
    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.stacking import Ragged, Stacked
    from kappacore.locations import BatchLocation


class ConvertedItem(Item):
    """An item whose values are converted one by one from those of an item inside."""

    def __init__(self, inner: Item):
        self._inner = inner
        self.reads_samples = inner.reads_samples
        self.fingerprint_is_content = inner.fingerprint_is_content

    @abstractmethod
    def convert(self, value: Any) -> Any:
        """Return what an inner value is converted to."""

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        """Return the value at ``idx``."""
        return self.convert(self._inner.get(idx, ctx))

    def get_batch(self, indices: Sequence[int], ctxs: Ctxs | None = None) -> list[Any]:
        """Return the values at ``indices``."""
        return list(map(self.convert, self._inner.get_batch(indices, ctxs)))

    def get_stacked(self, indices: IntArray, out: Any = None, ctxs: Ctxs | None = None) -> Stacked:
        """Return the values stacked: converted all at once if the inner ones can be stacked."""
        try:
            inner = self._inner.get_stacked(indices, None, ctxs)
        except NotUniformError:  # of more than one kind, all of which convert to one
            return super().get_stacked(indices, out, ctxs)
        batch = self.convert_all(inner)
        return batch if out is None else write_out(batch, out)

    @abstractmethod
    def convert_all(self, values: Stacked) -> Stacked:
        """Return what stacked inner values are converted to."""

    def how_stacked(self) -> tuple[bool, str]:
        """Return how the inner item is stacked, which is then converted as a whole."""
        return self._inner.how_stacked()

    def in_batches(self, raw: bool = False) -> bool:
        """Return whether the inner item is read in batches."""
        return self._inner.in_batches(raw)


class PickedItem(Item):
    """An item whose values are those of an item inside, at other indices."""

    def __init__(self, inner: Item):
        self._inner = inner
        self.has_raw = inner.has_raw
        self.raw_format = inner.raw_format
        self.reads_samples = inner.reads_samples
        self.fingerprint_is_content = inner.fingerprint_is_content

    @abstractmethod
    def map_indices(self, indices: IntArray) -> IntArray:
        """Return the inner indices of a batch, mapping all of them at once."""

    def inner_indices(self, indices: Sequence[int]) -> list[int]:
        """Return the inner indices of a batch as a list."""
        mapped: list[int] = self.map_indices(np.asarray(indices, dtype=np.int64)).tolist()
        return mapped

    def get_batch(self, indices: Sequence[int], ctxs: Ctxs | None = None) -> list[Any]:
        """Return the values at ``indices``."""
        return self._inner.get_batch(self.inner_indices(indices), ctxs)

    def get_stacked(self, indices: IntArray, out: Any = None, ctxs: Ctxs | None = None) -> Stacked:
        """Return the values stacked, as the inner item does."""
        return self._inner.get_stacked(self.map_indices(indices), out, ctxs)

    def get_ragged(self, indices: IntArray, ctxs: Ctxs | None = None) -> Ragged:
        """Return the values one after another, as the inner item does."""
        return self._inner.get_ragged(self.map_indices(indices), ctxs)

    def locate_batch(self, indices: IntArray, *, raw: bool = False) -> BatchLocation | None:
        """Return where the values lie, as the inner item knows."""
        return self._inner.locate_batch(self.map_indices(indices), raw=raw)

    def how_stacked(self) -> tuple[bool, str]:
        """Return how the inner item is stacked."""
        return self._inner.how_stacked()

    def in_batches(self, raw: bool = False) -> bool:
        """Return whether the inner item is read in batches."""
        return self._inner.in_batches(raw)

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:
        """Return the stored values at ``indices``."""
        return self._inner.get_raw_batch(self.inner_indices(indices))

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:
        """Turn a stored value into the value."""
        return self._inner.decode(raw, ctx)


class SubsetItem(PickedItem):
    """An item of a dataset, seen through an array of indices into it."""

    def __init__(self, inner: Item, indices: IntArray):
        super().__init__(inner)
        self._indices = indices

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        """Return the value at ``idx``."""
        return self._inner.get(self._indices.item(idx), ctx)

    def get_all(self) -> Any:
        """Return the entries of the inner column."""
        column = self._inner.get_all()
        return None if column is None else pick(column, self._indices)

    def get_labels(self) -> np.ndarray[Any, Any] | None:
        """Return the entries of the inner labels."""
        labels = self._inner.get_labels()
        return None if labels is None else labels[self._indices]

    def fingerprint(self, raw: bool = False) -> str | None:
        """Combine the inner fingerprint with the indices."""
        return digest("subset", self._inner.fingerprint(raw), self._indices.tobytes())

    def map_indices(self, indices: IntArray) -> IntArray:
        """Return the inner indices of a batch."""
        return self._indices[indices]


class ConcatItem(Item):
    """The items of one name of several datasets, one dataset after another.

    Args:
        items: One of each dataset.
        ends: Where each dataset ends, as int64 of shape ``(len(items),)``.
    """

    def __init__(self, items: list[Item], ends: IntArray):
        self._items = items
        self._ends = ends
        self._starts = np.concatenate([[0], ends[:-1]])
        self._locates = True
        self.has_raw = all(item.has_raw for item in items)
        formats = {item.raw_format for item in items}
        self.raw_format = formats.pop() if len(formats) == 1 else None
        self.reads_samples = any(item.reads_samples for item in items)
        self.fingerprint_is_content = all(item.fingerprint_is_content for item in items)

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        """Return the value at ``idx``."""
        idx = check_index(idx, self._ends.item(-1), "KDConcatDataset")
        child = int(self._ends.searchsorted(idx, side="right"))
        return self._items[child].get(idx - self._starts.item(child), ctx)

    def get_batch(self, indices: Sequence[int], ctxs: Ctxs | None = None) -> list[Any]:
        """Return the values at ``indices``, in one call for each dataset needed."""
        values: list[Any] = [None] * len(indices)
        for child, positions, inner in self._split(indices):
            chosen = None if ctxs is None else [ctxs[position] for position in positions]
            found = self._items[child].get_batch(inner, chosen)
            for position, value in zip(positions, found, strict=True):
                values[position] = value
        return values

    def get_stacked(self, indices: IntArray, out: Any = None, ctxs: Ctxs | None = None) -> Stacked:
        """Return the values stacked, each dataset's part by its own item."""
        location = self.locate_batch(indices)
        if location is not None:
            return gather(location, self.read_missing(indices, location, ctxs), out)
        parts = []
        for child, rows, inner in self._parts(indices):
            chosen = None if ctxs is None else [ctxs[row] for row in rows.tolist()]
            parts.append((rows, self._items[child].get_stacked(inner, None, chosen)))
        return join_parts(parts, len(indices), out)

    def locate_batch(self, indices: IntArray, *, raw: bool = False) -> BatchLocation | None:
        """Return where the values lie, if all datasets that are needed know that."""
        if raw or not self._locates:
            return None  # a raw value can only be decoded by the dataset that it comes from
        located = []
        for child, rows, inner in self._parts(indices):
            location = self._items[child].locate_batch(inner)
            if location is None:
                self._locates = False  # not again: what was located counts as read
                return None
            located.append((rows, location))
        return join(located, len(indices)) if located else None

    def how_stacked(self) -> tuple[bool, str]:
        """Return how the first dataset whose samples are read one by one is stacked, if any."""
        roads = [item.how_stacked() for item in self._items]
        return next((road for road in roads if not road[0]), roads[0])

    def in_batches(self, raw: bool = False) -> bool:
        """Return whether all items are read in batches."""
        return all(item.in_batches(raw) for item in self._items)

    def get_all(self) -> Any:
        """Return the columns joined; None if one is None."""
        columns = _all_known([item.get_all() for item in self._items])
        return None if columns is None else concatenate(columns)

    def get_labels(self) -> np.ndarray[Any, Any] | None:
        """Return the labels joined; None if one is None."""
        columns = _all_known([item.get_labels() for item in self._items])
        return None if columns is None else np.concatenate(columns)

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:
        """Return pairs of a dataset's number and its stored value, as only it can decode that."""
        raws: list[Any] = [None] * len(indices)
        for child, positions, inner in self._split(indices):
            found = self._items[child].get_raw_batch(inner)
            for position, raw in zip(positions, found, strict=True):
                raws[position] = (child, raw)
        return raws

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:
        """Turn a stored value into the value."""
        child, inner = raw
        return self._items[child].decode(inner, ctx)

    def fingerprint(self, raw: bool = False) -> str | None:
        """Combine the fingerprints of the datasets with their lengths."""
        parts = (item.fingerprint(raw) for item in self._items)
        return digest("concat", self._ends.tobytes(), *parts)

    def _split(self, indices: Sequence[int]) -> list[tuple[int, list[int], list[int]]]:
        """Return (dataset, positions in the batch, indices into it) for each dataset needed."""
        return [
            (child, positions.tolist(), inner.tolist())
            for child, positions, inner in self._parts(indices)
        ]

    def _parts(self, indices: Any) -> list[tuple[int, IntArray, IntArray]]:
        array = check_indices(indices, self._ends.item(-1), "KDConcatDataset")
        children = self._ends.searchsorted(array, side="right")
        inner = array - self._starts[children]
        parts = []
        for child in np.unique(children).tolist():
            positions = np.flatnonzero(children == child)
            parts.append((child, positions, inner[positions]))
        return parts


def _all_known(columns: list[Any]) -> list[Any] | None:
    """Return the columns, or None if one of them is None."""
    return None if any(column is None for column in columns) else columns
