"""The shared-memory cache under KappaData's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.caching import CachedDataset

if TYPE_CHECKING:
    from collections.abc import Callable


class SharedDictDataset(CachedDataset):
    """Any map-style dataset, its samples cached in memory shared by all processes of the machine.

    The same as ``kappacore.CachedDataset(dataset, "shared", transform=transform, …)``.

    Args:
        dataset: A map-style dataset.
        transform: Called with each sample after the cache.
        **options: Those of :class:`kappacore.CachedDataset`, such as ``namespace`` and ``keep``,
            and of the backend, such as ``max_bytes="64GiB"``.

    Example::

        ds = SharedDictDataset(ImageFolder("/data/train"), max_bytes="64GiB")
    """

    def __init__(
        self, dataset: Any, transform: Callable[[Any], Any] | None = None, **options: Any
    ) -> None:
        super().__init__(dataset, "shared", transform=transform, **options)
