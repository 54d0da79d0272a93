"""A part of a dataset, or the whole in another order, given by indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.datasets.base import KDDataset, KDWrapper
from kappacore.datasets.digest import digest
from kappacore.datasets.forms import own_item, split_form
from kappacore.datasets.indexing import check_indices
from kappacore.datasets.items import Ctx, Item
from kappacore.datasets.columns import ALIGNED, pick
from kappacore.errors import InvalidItemError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.indexing import IntArray

__all__ = ["KDSubset", "SubsetItem", "only_picks"]


class KDSubset(KDWrapper):
    """The samples of a dataset at ``indices``, in that order.

    Subsets of subsets are composed: however deeply nested, a sample is one look-up away.

    Args:
        dataset: The dataset inside.
        indices: Integers into it, of one dimension: a list, range, array or tensor. They may
            repeat, may be empty, and negative ones count from the end.

    Attributes:
        dataset: The dataset inside, as given.
        base: The first dataset below that is not itself a plain subset.
        indices: Where the samples are in ``base``; a read-only int64 array of shape ``(N,)``.

    Raises:
        InvalidIndexError: ``indices`` is not a sequence of integers, such as a boolean mask.
        IndexOutOfRangeError: An index has no sample.
    """

    base: KDDataset
    indices: IntArray

    def __init__(self, dataset: KDDataset, indices: Any):
        super().__init__(dataset)
        array = check_indices(indices, len(dataset), type(self).__name__)
        self.base, array = dataset._kd_pick(array)
        array.flags.writeable = False
        self.indices = array

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    def __getattr__(self, name: str) -> Any:
        """Map sample-aligned attributes through the indices; else as any wrapper."""
        if name not in ALIGNED or "indices" not in self.__dict__ or hasattr(type(self), name):
            return super().__getattr__(name)
        values = getattr(self.base, name)
        if not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
            return values  # something else of that name
        if len(values) != len(self.base):
            raise InvalidItemError(
                f"{type(self.base).__name__}.{name} has {len(values)} entries for "
                f"{len(self.base)} samples, so a subset cannot pick its own from it."
            )
        return pick(values, self.indices)

    def _kd_pick(self, indices: IntArray) -> tuple[KDDataset, IntArray]:
        if not only_picks(self, KDSubset):
            return self, indices
        return self.base, self.indices[indices]

    def _kd_item(self, name: str) -> Item | None:
        own = own_item(self, name)
        if own is not None:
            return own
        inner = self.base._kd_item(name)
        return None if inner is None else SubsetItem(inner, self.indices)


class SubsetItem(Item):
    """An item of a dataset, seen through indices into it."""

    def __init__(self, inner: Item, indices: IntArray):
        self._inner = inner
        self._indices = indices
        self._fingerprints: dict[bool, str | None] = {}
        self.has_raw = inner.has_raw
        self.reads_samples = inner.reads_samples

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        """Return the value at ``idx``."""
        return self._inner.get(self._indices.item(idx), ctx)

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[Any]:
        """Return the values at ``indices``, mapping them all at once."""
        return self._inner.get_batch(self._map(indices), ctxs)

    def get_all(self) -> Any:
        """Return the part of the inner column."""
        column = self._inner.get_all()
        return None if column is None else pick(column, self._indices)

    def get_labels(self) -> np.ndarray[Any, Any] | None:
        """Return the part of the inner labels."""
        labels = self._inner.get_labels()
        return None if labels is None else labels[self._indices]

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:
        """Return the stored values at ``indices``."""
        return self._inner.get_raw_batch(self._map(indices))

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:
        """Turn a stored value into the value."""
        return self._inner.decode(raw, ctx)

    def fingerprint(self, raw: bool = False) -> str | None:
        """Combine the inner fingerprint with the indices."""
        if raw not in self._fingerprints:
            inner = self._inner.fingerprint(raw)
            self._fingerprints[raw] = (
                None if inner is None else digest("subset", inner, self._indices.tobytes())
            )
        return self._fingerprints[raw]

    def _map(self, indices: Sequence[int]) -> list[int]:
        mapped: list[int] = self._indices[np.asarray(indices, dtype=np.int64)].tolist()
        return mapped


def only_picks(dataset: KDDataset, kind: type) -> bool:
    """Tell whether ``dataset`` does nothing but pick samples as ``kind`` does.

    Then what is around it can skip it.
    """
    mro = type(dataset).__mro__
    scopes = [vars(dataset), *map(vars, mro)]  # a class mixed in may stand behind `kind`
    if any(split_form(key) or key in ALIGNED for scope in scopes for key in scope):
        return False
    return not any("_kd_item" in scope for scope in scopes[: 1 + mro.index(kind)])
