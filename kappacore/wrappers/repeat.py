"""Repeating a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.datasets.base import KDDataset, KDWrapper
from kappacore.datasets.columns import concatenate
from kappacore.datasets.derived_items import PickedItem
from kappacore.datasets.indexing import check_index, check_indices
from kappacore.datasets.items import digest
from kappacore.datasets.subset import only_picks
from kappacore.errors import InvalidOptionError
from kappacore.wrappers.options import as_integer

if TYPE_CHECKING:
    from kappacore.datasets.ctx import Ctx
    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.items import Item

__all__ = ["RepeatWrapper"]


class RepeatWrapper(KDWrapper):
    """The whole dataset again and again: sample ``i`` is sample ``i % len(dataset)`` inside.

    It stores no indices, so it costs no memory. Put it below a wrapper with ``seed=`` to augment
    each repetition differently.

    Args:
        dataset: The dataset inside.
        repetitions: The number of repetitions.
        min_size: The minimum number of samples; the dataset is repeated as often as needed.
            Exactly one of the two is required.

    Attributes:
        repetitions: The number of repetitions.

    Raises:
        InvalidOptionError: Both or neither are given, one is less than 1, or ``min_size`` is given
            for an empty dataset.
    """

    def __init__(
        self, dataset: KDDataset, repetitions: int | None = None, min_size: int | None = None
    ):
        super().__init__(dataset)
        if (repetitions is None) == (min_size is None):
            given = "both" if repetitions is not None else "neither"
            raise InvalidOptionError(f"RepeatWrapper takes repetitions= or min_size=; got {given}.")
        self.min_size = min_size
        if min_size is not None:
            size = as_integer(min_size, "min_size", least=1)
            if not len(dataset):
                raise InvalidOptionError(
                    f"min_size={min_size}: an empty dataset has no samples however often repeated."
                )
            repetitions = -(-size // len(dataset))
        self.repetitions = as_integer(repetitions, "repetitions", least=1)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset) * self.repetitions

    def _kd_column(self, column: Any) -> Any:
        return concatenate([column] * self.repetitions)

    def _kd_pick(self, indices: IntArray) -> tuple[KDDataset, IntArray]:
        if not only_picks(self, RepeatWrapper) or not len(indices):
            return self, indices
        return self.dataset._kd_pick(indices % len(self.dataset))

    def _kd_derived(self, name: str) -> Item | None:
        inner = self.dataset._kd_item(name)
        return None if inner is None else _RepeatedItem(inner, len(self.dataset), self.repetitions)


class _RepeatedItem(PickedItem):
    """An item of a dataset, over and over."""

    def __init__(self, inner: Item, length: int, repetitions: int):
        super().__init__(inner)
        self._length = length
        self._repetitions = repetitions

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        idx = check_index(idx, self._length * self._repetitions, "RepeatWrapper")
        return self._inner.get(idx % self._length, ctx)

    def get_all(self) -> Any:
        column = self._inner.get_all()
        return None if column is None else concatenate([column] * self._repetitions)

    def get_labels(self) -> np.ndarray[Any, Any] | None:
        labels = self._inner.get_labels()
        return None if labels is None else np.concatenate([labels] * self._repetitions)

    def fingerprint(self, raw: bool = False) -> str | None:
        return digest("repeat", self._inner.fingerprint(raw), str(self._repetitions))

    def map_indices(self, indices: IntArray) -> IntArray:
        array = check_indices(indices, self._length * self._repetitions, "RepeatWrapper")
        return array % max(1, self._length)
