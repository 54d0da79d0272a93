"""A part of a dataset, or all of it in another order, given by indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from kappacore.datasets.base import KDDataset, KDWrapper
from kappacore.datasets.columns import ALIGNED, column_of, pick
from kappacore.datasets.derived_items import SubsetItem
from kappacore.datasets.forms import split_form
from kappacore.datasets.indexing import check_indices
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.items import Item


class KDSubset(KDWrapper):
    """The samples of a dataset at ``indices``, in that order.

    As in torch, sample ``i`` is sample ``indices[i]`` of ``dataset``. Subsets of subsets are
    composed for reading: however deeply nested, a sample is one look-up away.

    Args:
        dataset: The dataset inside.
        indices: Integers into it, of one dimension: a list, range, array or tensor. They may
            repeat, may be empty, and negative ones count from the end.

    Attributes:
        dataset: The dataset inside, as given.

    Raises:
        InvalidIndexError: ``indices`` is not a sequence of integers, such as a boolean mask.
        IndexOutOfRangeError: An index has no sample.
    """

    _kd_composed: tuple[KDDataset, IntArray] | None = None

    def __init__(self, dataset: KDDataset, indices: Any):
        super().__init__(dataset)
        array = check_indices(indices, len(dataset), type(self).__name__)
        array.flags.writeable = False
        self._indices = array

    @property
    def indices(self) -> IntArray:
        """Indices of the samples in ``dataset``; a read-only int64 array of shape ``(N,)``."""
        return self._indices

    @indices.setter
    def indices(self, _: Any) -> NoReturn:
        raise InvalidOptionError(
            f"The indices of a {type(self).__name__} are fixed, because wrappers, caches and "
            f"readers above have seen them. Make a new one: KDSubset(dataset, indices)."
        )

    @property
    def root(self) -> KDDataset:
        """The first dataset below that does more than choose samples."""
        return self._compose()[0]

    @property
    def root_indices(self) -> IntArray:
        """Indices of the samples in ``root``: as ``indices``, made when first asked for."""
        return self._compose()[1]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._indices)

    def __getattr__(self, name: str) -> Any:
        """Pick this subset's entries of the columns in ``ALIGNED``; else as any wrapper."""
        if name not in ALIGNED or "_indices" not in self.__dict__ or hasattr(type(self), name):
            return super().__getattr__(name)
        column = column_of(self.root, name)
        return getattr(self.root, name) if column is None else pick(column, self.root_indices)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is composed, as it is made again sooner than it is sent."""
        return {name: value for name, value in self.__dict__.items() if name != "_kd_composed"}

    def _compose(self) -> tuple[KDDataset, IntArray]:
        if self._kd_composed is None:
            root, array = self.dataset._kd_pick(self._indices)
            array.flags.writeable = False
            self._kd_composed = root, array
        return self._kd_composed

    def _kd_pick(self, indices: IntArray) -> tuple[KDDataset, IntArray]:
        if not only_picks(self, KDSubset):
            return self, indices
        return self.dataset._kd_pick(self._indices[indices])

    def _kd_derived(self, name: str) -> Item | None:
        inner = self.root._kd_item(name)
        return None if inner is None else SubsetItem(inner, self.root_indices)


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
