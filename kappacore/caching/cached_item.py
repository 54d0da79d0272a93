"""An item of a dataset, read through a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.datasets import Item
from kappacore.datasets.indexing import check_batch, check_index
from kappacore.errors import KappaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from kappacore.caching.engine.cache import SampleCache
    from kappacore.caching.engine.tiers import TieredCache
    from kappacore.datasets.items import Ctx

__all__ = ["CachedItem"]


class CachedItem(Item):
    """An item read through a cache."""

    def __init__(self, item: Item, cache: SampleCache | TieredCache, raw: bool) -> None:
        self._item = item
        self.cache = cache
        self.load = item.get_raw_batch if raw else item.get_batch
        self.has_raw = raw
        self.reads_samples = item.reads_samples

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        idx = check_index(idx, self.cache.length, "a cached item")
        value = self.cache.fetch_one(idx, self.load)
        return self._decode(idx, value, ctx) if self.has_raw else value

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[Any]:
        indices = check_batch(indices, self.cache.length, "a cached item")
        values = self.cache.fetch(indices, self.load)
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
        except KappaError:  # said on purpose: the source may know what to do about it
            return self._item.get(idx, ctx)
        except Exception:
            self._item.get(idx, ctx)  # raises the same, but knows what is read: the file's name
            raise

    def get_all(self) -> Sequence[Any] | np.ndarray[Any, Any] | None:
        column = self._item.get_all()
        if column is not None or self.has_raw or self.reads_samples or not self.cache.length:
            return column
        # Only a column of integers is worth an array of its own; one value tells.
        return self.cache.column(self.load) if type(self.get(0)) is int else None

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:
        indices = check_batch(indices, self.cache.length, "a cached item")
        return self.cache.fetch(indices, self.load)

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:
        return self._item.decode(raw, ctx)

    def fingerprint(self, raw: bool = False) -> str | None:
        return self._item.fingerprint(raw)
