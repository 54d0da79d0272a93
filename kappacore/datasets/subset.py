"""A part of a dataset, or all of it in another order, given by indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.datasets.base import KDDataset, KDWrapper
from kappacore.datasets.columns import ALIGNED, check_aligned, pick
from kappacore.datasets.derived_items import SubsetItem
from kappacore.datasets.forms import split_form
from kappacore.datasets.indexing import check_indices

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.items import Item

__all__ = ["KDSubset", "only_picks"]


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
        indices: Indices of the samples in ``base``; a read-only int64 array of shape ``(N,)``.

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
        """Pick this subset's entries of the columns in ``ALIGNED``; else as any wrapper."""
        if name not in ALIGNED or "indices" not in self.__dict__ or hasattr(type(self), name):
            return super().__getattr__(name)
        values = getattr(self.base, name)
        if not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
            return values  # not a column in spite of its name
        check_aligned(values, self.base, name)
        return pick(values, self.indices)

    def _kd_pick(self, indices: IntArray) -> tuple[KDDataset, IntArray]:
        if not only_picks(self, KDSubset):
            return self, indices
        return self.base, self.indices[indices]

    def _kd_derived(self, name: str) -> Item | None:
        inner = self.base._kd_item(name)
        return None if inner is None else SubsetItem(inner, self.indices)


def only_picks(dataset: KDDataset, kind: type) -> bool:
    """Return whether ``dataset`` does nothing but pick samples as ``kind`` does.

    A subset around it can then skip it.
    """
    mro = type(dataset).__mro__
    scopes = [vars(dataset), *map(vars, mro)]  # a mixin may come after `kind` in the MRO
    if any(split_form(key) or key in ALIGNED for scope in scopes for key in scope):
        return False
    below = scopes[: 1 + mro.index(kind)]
    return not any("_kd_item" in scope or "_kd_derived" in scope for scope in below)
