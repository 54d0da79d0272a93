"""An item of a dataset, read through a cache: by sample, by batch, and where the values lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kappacore.caching.identity.following import looks_at_ctx
from kappacore.datasets import Item
from kappacore.datasets.indexing import check_batch, check_index
from kappacore.datasets.stacking import write_out
from kappacore.errors import KappaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np

    from kappacore.caching.engine.cache import SampleCache
    from kappacore.caching.engine.tiers import TieredCache
    from kappacore.caching.watch import Watch
    from kappacore.datasets import KDDataset
    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.items import Ctx
    from kappacore.datasets.stacking import Stacked
    from kappacore.locations import BatchLocation


@dataclass(frozen=True)
class ItemLoad:
    """Reads the values of an item for a cache: alone, without a ctx, as single reads give them.

    Args:
        dataset: The dataset that has the item.
        name: The item's name.
        item: The item.
        raw: Whether to read the stored values.
    """

    dataset: KDDataset
    name: str
    item: Item
    raw: bool = False

    def __call__(self, indices: list[int]) -> Iterable[Any]:
        """Return the values at ``indices``; a declared batch form is used for several."""
        if self.item.in_batches(self.raw):
            item = self.item
            return item.get_raw_batch(indices) if self.raw else item.get_batch(indices)
        if len(indices) == 1:
            return [self.single(indices[0])]
        return (self.single(idx) for idx in indices)

    def single(self, idx: int) -> Any:
        """Read one value."""
        return self.item.get_raw_batch([idx])[0] if self.raw else self.item.get(idx)

    def look(self, indices: Iterable[int], digest: Callable[[Any, int], str]) -> None:
        """Raise if the item follows another one; see :func:`looks_at_ctx`."""
        if not self.raw:
            looks_at_ctx(self.dataset, self.name, indices, digest)


class CachedItem(Item):
    """An item read through a cache.

    Args:
        dataset: The dataset below the cache.
        name: The item's name.
        item: The item there.
        cache: The cache of its values, or of what is stored of them.
        raw: Whether the cache keeps the raw form, which is decoded after it.
        watch: What the cache sees of its dataset.
    """

    def __init__(
        self,
        dataset: KDDataset,
        name: str,
        item: Item,
        cache: SampleCache | TieredCache,
        raw: bool,
        watch: Watch,
    ) -> None:
        self._item = item
        self._watch = watch
        self.cache = cache
        self.load = ItemLoad(dataset, name, item, raw)
        self.has_raw = raw
        self.raw_format = item.raw_format if raw else None
        self.reads_samples = item.reads_samples

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        cache, watch = self.cache, self._watch
        idx = check_index(idx, cache.length, "a cached item")
        if watch.sees_more or len(watch.dataset) != cache.length:
            watch.check((idx,))
        value = cache.fetch_one(idx, self.load)
        return self._decode(idx, value, ctx) if self.has_raw else value

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[Any]:
        indices = check_batch(indices, self.cache.length, "a cached item")
        self._watch.check(indices)
        values = self.cache.fetch(indices, self.load)
        if not self.has_raw:
            return values
        each = [None] * len(values) if ctxs is None else ctxs
        return [
            self._decode(idx, value, ctx)
            for idx, value, ctx in zip(indices, values, each, strict=True)
        ]

    def get_stacked(
        self, indices: IntArray, out: Any = None, ctxs: Sequence[Ctx | None] | None = None
    ) -> Stacked:
        if not self.has_raw and len(indices):
            numbers = self.cache.pick_column(indices)
            if numbers is not None:
                return numbers if out is None else write_out(numbers, out)
        return super().get_stacked(indices, out, ctxs)

    def how_stacked(self) -> tuple[bool, str]:
        if self.has_raw:
            return False, (
                "sample by sample, as the cache keeps the stored form, which is decoded after it; "
                "form='decoded' keeps values"
            )
        return self.cache.how_located()

    def locate_batch(self, indices: IntArray, *, raw: bool = False) -> BatchLocation | None:
        if raw != self.has_raw:
            return None
        self._watch.check(indices)
        return self.cache.locate(indices, self.load)

    def get_all(self) -> Sequence[Any] | np.ndarray[Any, Any] | None:
        column = self._item.get_all()
        if column is not None or self.has_raw or self.reads_samples or not self.cache.length:
            return column
        self._watch.check()
        return self.cache.column(self.load)

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:
        indices = check_batch(indices, self.cache.length, "a cached item")
        self._watch.check(indices)
        return self.cache.fetch(indices, self.load)

    def in_batches(self, raw: bool = False) -> bool:
        return raw or not self.has_raw

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:
        return self._item.decode(raw, ctx)

    def fingerprint(self, raw: bool = False) -> str | None:
        return self._item.fingerprint(raw)

    def _decode(self, idx: int, value: Any, ctx: Ctx | None) -> Any:
        try:
            return self._item.decode(value, ctx)
        except KappaError:  # raised on purpose: the source may handle it
            return self._item.get(idx, ctx)
        except Exception:
            self._item.get(idx, ctx)  # raises the same, but knows what is read: the file's name
            raise
