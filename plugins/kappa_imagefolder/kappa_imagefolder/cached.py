"""An image folder and its cache in one."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from kappa_imagefolder.attributes import INSTEAD
from kappa_imagefolder.dataset import ImageFolder
from kappa_imagefolder.errors import FixedAttributeError
from kappa_imagefolder.images_and_classes import ImagesAndClasses
from kappa_imagefolder.options import check_transform
from kappacore.caching import CacheWrapper
from kappacore.errors import UnknownOptionError
from kappacore.plugin_api import KDWrapper
from kappacore.wrappers import TransformWrapper

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from kappacore.plugin_api import Item

_FOLDER_OPTIONS = tuple(inspect.signature(ImageFolder).parameters)


class CachedImageFolder(ImagesAndClasses, KDWrapper):
    """An :class:`ImageFolder` whose files are cached: each is read once, and stays compressed.

    Setting an attribute of the folder, such as ``classes``, sets it there. ``loader`` and
    ``samples`` can be set before the first read: the cache is then opened anew.

    The same as ``CacheWrapper(ImageFolder(root), …)`` followed by a transform, with the items and
    attributes of the folder and the methods of the cache (``prefill``, ``stats``, ``clear``).

    Args:
        root: The folder.
        transform: Image → image, applied after the cache, so it may be random; it can be set.
        target_transform: Label → label, applied after the cache; it can be set.
        backend: The cache backend; anything that ``CacheWrapper`` takes.
        **options: Options of :class:`ImageFolder` (``decode``, ``shrink``, ``index``, …); all
            others go to the cache (``form``, ``namespace``, ``keep``, ``max_bytes``, …).

    Raises:
        RootNotFoundError: There is no such folder.
        UnknownOptionError: Neither the folder nor the cache has such an option.
        InvalidOptionError: An option has an invalid value.

    Example::

        ds = CachedImageFolder("/data/train", augment, backend="shared", max_bytes="64GiB")
        image, label = ds[0]
    """

    _kd_sets_inside = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[..., Any] | None = None,
        target_transform: Callable[..., Any] | None = None,
        *,
        backend: Any = "auto",
        **options: Any,
    ) -> None:
        folder = {name: options.pop(name) for name in _FOLDER_OPTIONS if name in options}
        self.transform = check_transform(transform)
        self.target_transform = check_transform(target_transform, "target_transform")
        self._reopened_with = backend, options
        self._is_read = False
        dataset = ImageFolder(root, **folder)
        try:
            cache = CacheWrapper(dataset, backend, **options)
        except UnknownOptionError as error:
            raise UnknownOptionError(
                f"{error} The folder takes: {', '.join(_FOLDER_OPTIONS)}."
            ) from None
        super().__init__(cache)

    @property  # type: ignore[misc]
    def is_random(self) -> bool:
        """Whether an index may return different images; assumed of any transform."""
        return self.transform is not None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("loader", "samples") and "dataset" in vars(self):
            self._change(name, value)
        else:
            super().__setattr__(name, value)

    def _change(self, name: str, value: Any) -> None:
        """Set an attribute of the folder that its images follow, and open the cache anew."""
        if self._is_read:
            raise FixedAttributeError(
                f"{name} of {type(self).__name__} can no longer be set: it has been read or "
                f"wrapped, and what is kept in the cache would not follow. Set {name} before the "
                f"first read, or make another {type(self).__name__}; {INSTEAD[name]}"
            )
        folder = self.root_dataset.unidentified()
        setattr(folder, name, value)
        backend, options = self._reopened_with
        before, self.dataset = self.dataset, CacheWrapper(folder, backend, **options)
        before.close()

    def _kd_item(self, name: str) -> Item | None:
        if not self._is_read:
            self._is_read = True
        transform = None
        if name == "x":
            transform = self.transform
        elif name in ("class", "y"):
            transform = self.target_transform
        if transform is not None:
            return TransformWrapper(self.dataset, transform, name)._kd_item(name)
        return super()._kd_item(name)
