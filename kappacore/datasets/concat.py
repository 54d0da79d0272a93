"""Several datasets one after another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.datasets.base import KDDataset, check_dataset
from kappacore.datasets.digest import digest
from kappacore.datasets.forms import own_item, own_item_names
from kappacore.datasets.indexing import check_index, check_indices
from kappacore.datasets.items import Ctx, Item
from kappacore.datasets.columns import ALIGNED, concatenate
from kappacore.errors import InvalidItemError, InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.indexing import IntArray

__all__ = ["KDConcatDataset"]

_AGREED = ("classes", "n_classes", "class_to_idx")


class KDConcatDataset(KDDataset):
    """The samples of several datasets, one dataset after another; ``a + b`` is one too.

    Its items are those that all datasets have. ``classes``, ``n_classes`` and ``class_to_idx``
    are passed through where all agree on them, ``targets``, ``samples`` and ``imgs`` are joined.

    Args:
        datasets: The datasets, at least one.

    Attributes:
        datasets: The datasets, as a list.
    """

    def __init__(self, datasets: Iterable[KDDataset]):
        super().__init__()
        if isinstance(datasets, KDDataset) or not isinstance(datasets, Iterable):
            raise InvalidOptionError(
                f"KDConcatDataset takes a list of datasets; got a single "
                f"{type(datasets).__name__}: KDConcatDataset([first, second])."
            )
        self.datasets = list(datasets)
        if not self.datasets:
            raise InvalidOptionError("KDConcatDataset needs at least one dataset; got none.")
        for dataset in self.datasets:
            check_dataset(dataset, type(self).__name__)
        self._ends = np.cumsum([len(dataset) for dataset in self.datasets], dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of samples of all datasets."""
        return int(self._ends[-1])

    def __getattr__(self, name: str) -> Any:
        """Join sample-aligned attributes, and pass on those that all datasets agree on."""
        known = name in ALIGNED or name in _AGREED
        if not known or "datasets" not in self.__dict__ or hasattr(type(self), name):
            return super().__getattr__(name)
        values = [getattr(dataset, name) for dataset in self.datasets]
        return self._agreed(name, values) if name in _AGREED else self._joined(name, values)

    def _agreed(self, name: str, values: list[Any]) -> Any:
        if all(_equal(value, values[0]) for value in values[1:]):
            return values[0]
        raise AttributeError(f"KDConcatDataset has no {name!r}: its datasets do not agree on it.")

    def _joined(self, name: str, values: list[Any]) -> Any:
        for dataset, column in zip(self.datasets, values, strict=True):
            if len(column) != len(dataset):
                raise InvalidItemError(
                    f"{type(dataset).__name__}.{name} has {len(column)} entries for "
                    f"{len(dataset)} samples, so it cannot be joined with that of others."
                )
        return concatenate(values)

    def _kd_inside(self) -> list[Any]:
        return list(self.datasets)

    def _kd_item(self, name: str) -> Item | None:
        own = own_item(self, name)
        if own is not None:
            return own
        items = [dataset._kd_item(name) for dataset in self.datasets]
        known = [item for item in items if item is not None]
        return _ConcatItem(known, self._ends) if len(known) == len(items) else None

    def _kd_item_names(self) -> list[str]:
        first, *others = (dataset._kd_item_names() for dataset in self.datasets)
        common = [name for name in first if all(name in names for names in others)]
        return list(dict.fromkeys([*common, *own_item_names(self)]))


class _ConcatItem(Item):
    """An item that all datasets have."""

    def __init__(self, items: list[Item], ends: IntArray):
        self._items = items
        self._ends = ends
        self._starts = np.concatenate([[0], ends[:-1]])
        self.has_raw = all(item.has_raw for item in items)
        self.reads_samples = any(item.reads_samples for item in items)

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        idx = check_index(idx, self._ends.item(-1), "KDConcatDataset")
        child = int(self._ends.searchsorted(idx, side="right"))
        return self._items[child].get(idx - self._starts.item(child), ctx)

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[Any]:
        values: list[Any] = [None] * len(indices)
        for child, places, inner in self._split(indices):
            chosen = None if ctxs is None else [ctxs[place] for place in places]
            found = self._items[child].get_batch(inner, chosen)
            for place, value in zip(places, found, strict=True):
                values[place] = value
        return values

    def get_all(self) -> Any:
        columns = _all_known(item.get_all() for item in self._items)
        return None if columns is None else concatenate(columns)

    def get_labels(self) -> np.ndarray[Any, Any] | None:
        columns = _all_known(item.get_labels() for item in self._items)
        return None if columns is None else np.concatenate(columns)

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:
        """Return (dataset, stored value) pairs: only that dataset knows how to decode it."""
        raws: list[Any] = [None] * len(indices)
        for child, places, inner in self._split(indices):
            found = self._items[child].get_raw_batch(inner)
            for place, raw in zip(places, found, strict=True):
                raws[place] = (child, raw)
        return raws

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:
        child, inner = raw
        return self._items[child].decode(inner, ctx)

    def fingerprint(self, raw: bool = False) -> str | None:
        parts = []
        for item in self._items:
            part = item.fingerprint(raw)
            if part is None:
                return None
            parts.append(part)
        return digest("concat", self._ends.tobytes(), *parts)

    def _split(self, indices: Sequence[int]) -> list[tuple[int, list[int], list[int]]]:
        """Return (dataset, places in the batch, indices into the dataset) per dataset needed."""
        array = check_indices(indices, self._ends.item(-1), "KDConcatDataset")
        children = self._ends.searchsorted(array, side="right")
        inner = array - self._starts[children]
        parts = []
        for child in sorted(set(children.tolist())):
            places = np.flatnonzero(children == child)
            parts.append((child, places.tolist(), inner[places].tolist()))
        return parts


def _all_known(columns: Iterable[Any]) -> list[Any] | None:
    """Return the columns as a list, or None at the first one that is not known."""
    known = []
    for column in columns:
        if column is None:
            return None
        known.append(column)
    return known


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return np.array_equal(first, second)
    return bool(first == second)
