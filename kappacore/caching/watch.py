"""What a cache can see of its dataset: a change of it is an error, not a mixture of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch.utils.data

from kappacore.datasets.stack import walk
from kappacore.errors import DatasetChangedError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Watch:
    """The length of a dataset, and formats and indices in it, as they were when its cache opened.

    The formats are Hugging Face's, whose fingerprint changes with them. Of torch's subsets around
    the source each index is compared when its sample is read, so that lists may be changed in
    place; of those further inside, the whole lists, once they are others.

    Args:
        dataset: The dataset below the cache.

    Attributes:
        sees_more: Whether there is more to look at than the length.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._length = len(dataset)
        self._subsets, self._mapped = _map(dataset)
        parts = {id(part): part for _, part in walk(dataset)}.values()
        self._formats = [
            (part, vars(part)["_fingerprint"])
            for part in parts
            if isinstance(getattr(part, "__dict__", {}).get("_fingerprint"), str)
        ]
        self._inner = [
            (part, part.indices)
            for part in parts
            if isinstance(part, torch.utils.data.Subset)
            and not any(part is subset for subset in self._subsets)
        ]
        self.sees_more = bool(self._formats or self._subsets or self._inner)

    def check(self, indices: Iterable[int] | None = None) -> None:
        """Raise if the dataset has changed in what samples are read from.

        Args:
            indices: The samples; default all of them.

        Raises:
            DatasetChangedError: The message says what has changed.
        """
        length = len(self.dataset)
        if length != self._length:
            raise self._changed(f"it has {length} samples, and had {self._length}")
        for part, kept in self._formats:
            if vars(part).get("_fingerprint") != kept:
                raise self._changed(f"the format of its {type(part).__name__} changed")
        for subset, given in self._inner:
            if subset.indices is not given and not np.array_equal(subset.indices, given):
                raise self._changed("the indices of its Subset changed")
        if self._mapped is not None:
            for idx in range(length) if indices is None else indices:
                at = idx
                for subset in self._subsets:
                    at = subset.indices[at]
                if at != self._mapped.item(idx):
                    raise self._changed(
                        f"the indices of its Subset changed: sample {idx} was sample "
                        f"{self._mapped.item(idx)} inside, and is {int(at)}"
                    )

    def _changed(self, what: str) -> DatasetChangedError:
        return DatasetChangedError(
            f"The dataset {type(self.dataset).__qualname__} was changed after its cache was "
            f"opened: {what}. What is cached would be mixed with other samples. Change it first "
            f"and then make the cache."
        )


def _map(dataset: Any) -> tuple[list[Any], np.ndarray[Any, Any] | None]:
    """Return torch's subsets around a dataset, and where each sample lies in what is inside."""
    subsets: list[Any] = []
    mapped = np.arange(len(dataset)) if isinstance(dataset, torch.utils.data.Subset) else None
    while isinstance(dataset, torch.utils.data.Subset):
        mapped = np.asarray(dataset.indices, dtype=np.int64)[mapped]
        subsets.append(dataset)
        dataset = dataset.dataset
    return subsets, mapped
