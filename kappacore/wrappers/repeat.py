"""A dataset several times over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.datasets.base import KDDataset, KDWrapper
from kappacore.datasets.digest import digest
from kappacore.datasets.forms import own_item
from kappacore.datasets.indexing import check_index, check_indices
from kappacore.datasets.items import Ctx, Item
from kappacore.datasets.columns import ALIGNED, concatenate
from kappacore.datasets.subset import only_picks
from kappacore.errors import InvalidOptionError
from kappacore.wrappers.options import as_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.indexing import IntArray

__all__ = ["RepeatWrapper"]


class RepeatWrapper(KDWrapper):
    """The whole dataset again and again: sample ``i`` is sample ``i % len(dataset)`` inside.

    It holds no indices, so it costs no memory. Put it below a wrapper with ``seed=`` to have each
    repetition augmented in its own way.

    Args:
        dataset: The dataset inside.
        repetitions: How often.
        min_size: Or: as often as it takes to have at least so many samples.

    Attributes:
        repetitions: How often.

    Raises:
        InvalidOptionError: Both or none are given, one is less than 1, or the dataset is empty
            and has to reach a size.
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
            size = as_whole(min_size, "min_size", least=1)
            if not len(dataset):
                raise InvalidOptionError(
                    f"min_size={min_size}: an empty dataset has no size however often repeated."
                )
            repetitions = -(-size // len(dataset))
        self.repetitions = as_whole(repetitions, "repetitions", least=1)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset) * self.repetitions

    def __getattr__(self, name: str) -> Any:
        """Repeat sample-aligned attributes too; else as any wrapper."""
        values = super().__getattr__(name)
        if name not in ALIGNED or not hasattr(values, "__len__"):
            return values
        return concatenate([values] * self.repetitions)

    def _kd_pick(self, indices: IntArray) -> tuple[KDDataset, IntArray]:
        if not only_picks(self, RepeatWrapper) or not len(indices):
            return self, indices
        return self.dataset._kd_pick(indices % len(self.dataset))

    def _kd_item(self, name: str) -> Item | None:
        own = own_item(self, name)
        if own is not None:
            return own
        inner = self.dataset._kd_item(name)
        return None if inner is None else _RepeatedItem(inner, len(self.dataset), self.repetitions)


class _RepeatedItem(Item):
    """An item of a dataset, over and over."""

    def __init__(self, inner: Item, length: int, repetitions: int):
        self._inner = inner
        self._length = length
        self._repetitions = repetitions
        self.has_raw = inner.has_raw
        self.reads_samples = inner.reads_samples

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        idx = check_index(idx, self._length * self._repetitions, "RepeatWrapper")
        return self._inner.get(idx % self._length, ctx)

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[Any]:
        return self._inner.get_batch(self._map(indices), ctxs)

    def get_all(self) -> Any:
        column = self._inner.get_all()
        return None if column is None else concatenate([column] * self._repetitions)

    def get_labels(self) -> np.ndarray[Any, Any] | None:
        labels = self._inner.get_labels()
        return None if labels is None else np.concatenate([labels] * self._repetitions)

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:
        return self._inner.get_raw_batch(self._map(indices))

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:
        return self._inner.decode(raw, ctx)

    def fingerprint(self, raw: bool = False) -> str | None:
        inner = self._inner.fingerprint(raw)
        return None if inner is None else digest("repeat", inner, str(self._repetitions))

    def _map(self, indices: Sequence[int]) -> list[int]:
        if not len(indices):
            return []
        array = check_indices(indices, self._length * self._repetitions, "RepeatWrapper")
        mapped: list[int] = (array % self._length).tolist()
        return mapped
