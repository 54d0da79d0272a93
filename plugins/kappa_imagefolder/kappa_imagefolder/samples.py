"""Indexing a dataset of items as torchvision's are indexed: ``ds[i]`` is ``(x, class)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.datasets import KDDataset, find_item
from kappacore.datasets.indexing import check_batch, check_index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kappacore.datasets import Item

__all__ = ["ImagesAndClasses"]


class ImagesAndClasses(KDDataset):
    """A ``KDDataset`` with the items ``x`` and ``class`` that can be indexed."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:  # type: ignore[override]
        """Return ``(x, class)`` of one image; negative indices count from the end."""
        idx = check_index(index, len(self), type(self).__name__, "integers")
        return self._item("x").get(idx), self._item("class").get(idx)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Return ``(x, class)`` of each image in a batch."""
        idxs = check_batch(indices, len(self), type(self).__name__)
        images = self._item("x").get_batch(idxs)
        labels = self._item("class").get_batch(idxs)
        return list(zip(images, labels, strict=True))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Go through all ``(x, class)``; an IndexError from a transform does not end it early."""
        return map(self.__getitem__, range(len(self)))

    def _item(self, name: str) -> Item:
        """Return an item as subclasses define it."""
        return find_item(self, name)
