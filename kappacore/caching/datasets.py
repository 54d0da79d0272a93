"""Datasets with a cache: ``CachedDataset`` for whole samples, ``CacheWrapper`` for single items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.utils.data

from kappacore.caching.opening import (
    check_samples,
    is_raw,
    open_cache,
    refuse_random,
    sample_fingerprint,
)
from kappacore.caching.stats import CacheStats
from kappacore.datasets import Item, KDDataset, KDWrapper, find_item
from kappacore.datasets.indexing import check_batch, check_index, is_sequence
from kappacore.datasets.mapstyle import check_map_style
from kappacore.datasets.passthrough import PassThrough
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from typing_extensions import Self

    from kappacore.caching.codec import Codec
    from kappacore.caching.engine import SampleCache
    from kappacore.datasets.items import Ctx
    from kappacore.plugins import PluginRef

__all__ = ["CacheWrapper", "CachedDataset", "cache"]


class CachedDataset(PassThrough, torch.utils.data.Dataset[Any]):
    """Any map-style dataset, whole samples cached: read from the source once, then from the cache.

    Public attributes of the dataset (``classes``, ``targets``, …) pass through.

    Args:
        dataset: a map-style dataset (torchvision, Hugging Face, your own, a ``ModeWrapper``).
        backend: name of a cache backend, a choice made by :func:`kappacore.backend`, or
            ``{"use": name, **options}``. ``"auto"``: ``"shared"`` where installed, else
            ``"memory"``.
        transform: called with each sample after the cache, so it may be random.
        namespace: names the cached content across processes and runs, where the dataset has no
            fingerprint to tell; or ``kappacore.PRIVATE``.
        keep: what becomes of the entries after the last user left: False (removed), True (stay),
            or a duration such as ``"7d"``.
        check: compare two entries with the source where only a name says what a namespace holds.
        strict: raise what a failing backend raises, instead of reading from the source.
        codec: turns samples into bytes and back.
        verify: check a value's digest on its ``"first"`` read in a process, ``"always"``, or
            ``"never"``.
        copy: False gives read-only views of the cache where the type allows it.
        **options: the backend's, such as ``max_bytes="64GiB"``.

    Example::

        >>> ds = CachedDataset(ImageFolder("/data/train"), "shared", max_bytes="64GiB")
    """

    def __init__(
        self,
        dataset: Any,
        backend: str | PluginRef | dict[str, Any] = "auto",
        *,
        transform: Callable[[Any], Any] | None = None,
        namespace: object = None,
        keep: bool | float | str = False,
        check: bool = True,
        strict: bool = False,
        codec: Codec | None = None,
        verify: str = "first",
        copy: bool = True,
        **options: Any,
    ) -> None:
        check_map_style(dataset, type(self).__name__)
        check_samples(dataset)
        refuse_random(dataset)
        if transform is not None and not callable(transform):
            raise InvalidOptionError(
                f"transform={transform!r} cannot be called; expected a function of one sample."
            )
        self.dataset = dataset
        self.transform = transform
        self._cache = open_cache(
            dataset,
            item="sample",
            form="sample",
            fingerprint=sample_fingerprint(dataset),
            load=self._load,
            backend=backend,
            options=options,
            namespace=namespace,
            keep=keep,
            check=check,
            settings={"strict": strict, "codec": codec, "verify": verify, "copy": copy},
        )

    def __len__(self) -> int:
        return self._cache.length

    def __getitem__(self, idx: Any) -> Any:
        """Return the sample at an integer, or the list of samples at a slice or a sequence."""
        if type(idx) is not int:
            if isinstance(idx, slice):
                return self._read(list(range(*idx.indices(len(self)))))
            if is_sequence(idx):
                return self.__getitems__(idx)
        idx = check_index(idx, self._cache.length, type(self).__name__)
        return self._read([idx])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples of a whole batch; the ``DataLoader`` calls this."""
        return self._read(check_batch(indices, self._cache.length, type(self).__name__))

    def _read(self, indices: list[int]) -> list[Any]:
        samples = self._cache.fetch(indices, self._load)
        if self.transform is not None:
            samples = [self.transform(sample) for sample in samples]
        return samples

    @property
    def is_random(self) -> bool:
        """Whether the same index may give different values: any transform is taken to."""
        return self.transform is not None

    def stats(self) -> CacheStats:
        """Return the counters, summed over all processes of the machine that use the cache."""
        return self._cache.stats()

    def clear(self) -> None:
        """Remove all cached samples, for everybody who uses the namespace."""
        self._cache.clear()

    def close(self) -> None:
        """Let go of the cache; what is not kept goes with its last user."""
        self._cache.close()

    dispose = close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"CachedDataset({self.dataset!r}, {self._cache.ref!r})"

    def _load(self, indices: list[int]) -> Sequence[Any]:
        # On the class, as Python looks up dunders: one that a __getattr__ hands out belongs to a
        # dataset further down and would skip what lies between.
        if callable(getattr(type(self.dataset), "__getitems__", None)):
            return list(self.dataset.__getitems__(indices))
        return [self.dataset[idx] for idx in indices]


class CacheWrapper(KDWrapper):
    """Chosen items of a ``KDDataset`` cached; the others are read from the dataset as ever.

    Where an item has a raw form (an image's compressed bytes) that is what is kept, and it is
    decoded on the way out.

    Args:
        dataset: the dataset to cache.
        backend: see :class:`CachedDataset`.
        items: names of the items to cache, as ``"x"``, ``"x y"`` or ``["x", "y"]``.
        form: ``"raw"`` keeps items as they are stored, ``"decoded"`` as the values they turn into;
            default raw where there is such a form.
        namespace: see :class:`CachedDataset`; one name serves all items.
        keep: see :class:`CachedDataset`, as for all that follow.
        check: compare two entries with the source where only a name says what they are.
        strict: raise what a failing backend raises.
        codec: turns samples into bytes and back.
        verify: when to check values' digests.
        copy: False gives read-only views of the cache where the type allows it.
        **options: the backend's.

    Example::

        >>> ds = CacheWrapper(ImageFolder("/data/train"), "shared", items="x")
        >>> loader = DataLoader(ModeWrapper(ds, "x class"), num_workers=8)
    """

    def __init__(
        self,
        dataset: KDDataset,
        backend: str | PluginRef | dict[str, Any] = "auto",
        *,
        items: str | Sequence[str] = "x",
        form: str | None = None,
        namespace: object = None,
        keep: bool | float | str = False,
        check: bool = True,
        strict: bool = False,
        codec: Codec | None = None,
        verify: str = "first",
        copy: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(dataset)
        refuse_random(dataset)
        names = items.split() if isinstance(items, str) else list(items)
        if not names:
            raise InvalidOptionError(
                f"items={items!r} names no item to cache. Give for example items='x'."
            )
        self._caches: dict[str, tuple[SampleCache, bool]] = {}
        for name in names:
            item = find_item(dataset, name)
            raw = is_raw(item, name, form)
            cache = open_cache(
                dataset,
                item=name,
                form="raw" if raw else "decoded",
                fingerprint=item.fingerprint(raw),
                load=item.get_raw_batch if raw else item.get_batch,
                backend=backend,
                options=options,
                namespace=namespace,
                keep=keep,
                check=check,
                settings={"strict": strict, "codec": codec, "verify": verify, "copy": copy},
            )
            self._caches[name] = (cache, raw)

    def stats(self) -> CacheStats:
        """Return the counters of all cached items, over all processes of the machine."""
        return sum((cache.stats() for cache, _ in self._caches.values()), CacheStats())

    def clear(self) -> None:
        """Remove all cached samples, for everybody who uses the namespace."""
        for cache, _ in self._caches.values():
            cache.clear()

    def close(self) -> None:
        """Let go of the caches and close the dataset below."""
        for cache, _ in self._caches.values():
            cache.close()
        super().close()

    def _kd_item(self, name: str) -> Item | None:
        item = super()._kd_item(name)
        if name in self._caches and item is not None:
            return _CachedItem(item, *self._caches[name])
        return item


class _CachedItem(Item):
    """An item read through a cache."""

    def __init__(self, item: Item, cache: SampleCache, raw: bool) -> None:
        self._item = item
        self._cache = cache
        self._load = item.get_raw_batch if raw else item.get_batch
        self.has_raw = raw

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        return self.get_batch([idx], [ctx])[0]

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[Any]:
        values = self._cache.fetch(indices, self._load)
        if not self.has_raw:
            return values
        each = [None] * len(values) if ctxs is None else ctxs
        return [
            self._decode(idx, value, ctx)
            for idx, value, ctx in zip(indices, values, each, strict=True)
        ]

    def _decode(self, idx: int, value: Any, ctx: Ctx | None) -> Any:
        try:
            return self._item.decode(value, ctx)
        except Exception:
            self._item.get(idx, ctx)  # raises the same, but knows what is read: the file's name
            raise

    def get_all(self) -> Sequence[Any] | np.ndarray[Any, Any] | None:
        return self._item.get_all()

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:
        return self._cache.fetch(indices, self._load)

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:
        return self._item.decode(raw, ctx)

    def fingerprint(self, raw: bool = False) -> str | None:
        return self._item.fingerprint(raw)


def cache(dataset: Any, backend: str | PluginRef | dict[str, Any] = "auto", **options: Any) -> Any:
    """Put a cache above a dataset: the wrapper ``cache`` that is chosen by name.

    Args:
        dataset: a ``KDDataset`` (its items are cached) or any map-style dataset (its samples are).
        backend: see :class:`CachedDataset`.
        **options: those of :class:`CacheWrapper` or :class:`CachedDataset`, and the backend's.
    """
    kind = CacheWrapper if isinstance(dataset, KDDataset) else CachedDataset
    return kind(dataset, backend, **options)
