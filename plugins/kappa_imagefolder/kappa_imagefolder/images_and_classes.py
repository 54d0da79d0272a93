"""Pairs of an image and its class, indexed like torchvision's datasets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kappa_imagefolder.attributes import FIXED
from kappa_imagefolder.errors import FixedAttributeError
from kappa_imagefolder.files.listing import LazySequence
from kappacore.errors import DatasetTypeError
from kappacore.plugin_api import KDDataset, check_batch, check_index, find_item, overriding_getitem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kappacore.plugin_api import Item


@dataclass(frozen=True)
class BothTransforms:
    """Image and label → both transformed."""

    transform: Callable[[Any], Any] | None = None
    target_transform: Callable[[Any], Any] | None = None

    def __call__(self, image: Any, label: Any) -> tuple[Any, Any]:
        """Transform both."""
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return image, label


class ImagesAndClasses(KDDataset):
    """A ``KDDataset`` with the items ``x`` and ``class``, indexed like torchvision's datasets."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED:
            if isinstance(value, (list, LazySequence)) and value == getattr(self, name, None):
                return  # as a subclass for torchvision does once it has set samples
            raise FixedAttributeError(
                f"{name} of {type(self).__name__} cannot be set, because reading would not follow "
                f"it; {FIXED[name]}"
            )
        super().__setattr__(name, value)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for base in cls.__bases__:
            if base.__module__.startswith("torchvision.") and base.__name__.endswith("Wrapper"):
                raise DatasetTypeError(
                    f"wrap_dataset_for_transforms_v2 is for torchvision's own datasets, and "
                    f"{cls.__bases__[-1].__name__} needs no wrapping: transforms of "
                    f"torchvision.transforms.v2 take its images as they are, as transform="
                )

    transform: Callable[[Any], Any] | None
    target_transform: Callable[[Any], Any] | None

    @property
    def transforms(self) -> BothTransforms | None:
        """``transform`` and ``target_transform`` as one function of both, as in torchvision."""
        if self.transform is None and self.target_transform is None:
            return None
        return BothTransforms(self.transform, self.target_transform)

    def __getitem__(self, index: int) -> tuple[Any, Any]:  # type: ignore[override]
        """Return ``(x, class)`` of one image; negative indices count from the end."""
        idx = check_index(index, len(self), type(self).__name__, "integers")
        return self._item("x").get(idx), self._item("class").get(idx)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Return ``(x, class)`` of each image in a batch.

        Where a subclass overrides ``__getitem__`` alone, it reads them one by one.
        """
        idxs = check_batch(indices, len(self), type(self).__name__)
        getitem = overriding_getitem(self, ImagesAndClasses)
        if getitem is not None:
            return [getitem(self, idx) for idx in idxs]
        images = self._item("x").get_batch(idxs)
        labels = self._item("class").get_batch(idxs)
        return list(zip(images, labels, strict=True))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over all ``(x, class)``; an IndexError from a transform does not end it early."""
        return map(self.__getitem__, range(len(self)))

    def _item(self, name: str) -> Item:
        """Return an item, also where a subclass defines it."""
        return find_item(self, name)
