"""Several views of one item."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from kappacore.datasets.ctx import Ctx, takes_ctx
from kappacore.datasets.forms import own_item
from kappacore.datasets.items import Item, find_item
from kappacore.errors import InvalidOptionError
from kappacore.wrappers._generators import random_states_kept, seed_generators
from kappacore.wrappers.randomness import RandomWrapper, SampleSeeds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kappacore.datasets.base import KDDataset

__all__ = ["MultiViewWrapper"]


class MultiViewWrapper(RandomWrapper):
    """A dataset with several views of one item: the list of what each transform makes of it.

    The item is read once; each transform gets a copy of its own. Of a batch, ``default_collate``
    makes a list of views, each of shape ``(B, ...)``.

    Args:
        dataset: The dataset inside.
        item: The item to view.
        transforms: One for each view, as for :class:`TransformWrapper`; ``[augment] * 2`` for two
            views by one transform.
        seed: See :class:`TransformWrapper`; each view has a seed of its own.
        fixed: See :class:`TransformWrapper`.
        name: Where in the sample's ctx the views' own parts are, a list of dicts: each transform
            that takes a ctx gets one, and the view's seed is there as well.
        is_random: See :class:`TransformWrapper`; by default True if any transform's own is.

    Raises:
        UnknownItemError: The dataset has no such item.
        InvalidOptionError: There is no transform, one cannot be called, or another option does
            not fit.

    Example::

        views = MultiViewWrapper(dataset, "x", [weak, strong, strong], seed=0)
        first, second, third = ModeWrapper(views, "x")[0]
    """

    _ctx_key = "multi_view"

    def __init__(
        self,
        dataset: KDDataset,
        item: str,
        transforms: Sequence[Callable[..., Any]],
        *,
        seed: int | None = None,
        fixed: bool = False,
        name: str | None = None,
        is_random: bool | None = None,
    ):
        super().__init__(dataset, seed=seed, fixed=fixed, name=name)
        if not isinstance(transforms, (list, tuple)) or not transforms:
            raise InvalidOptionError(
                f"transforms={transforms!r}: expected a list of transforms, one for each view."
            )
        for position, transform in enumerate(transforms):
            if not callable(transform):
                raise InvalidOptionError(
                    f"transforms= has {transform!r} at position {position}, which cannot be "
                    f"called; expected a function of a value of item {item!r}."
                )
        find_item(dataset, item)
        self.item = item
        self.transforms = list(transforms)
        if is_random is None:
            draws = any(bool(getattr(transform, "is_random", False)) for transform in transforms)
            is_random = draws if seed is None else not fixed
        self.is_random = is_random
        self._takes_ctx = [takes_ctx(transform) for transform in self.transforms]

    def _kd_item(self, name: str) -> Item | None:
        inner = self.dataset._kd_item(name)
        if name != self.item or inner is None or own_item(self, name) is not None:
            return super()._kd_item(name)
        views = list(zip(self.transforms, self._takes_ctx, strict=True))
        return _ViewsItem(inner, views, self._seeds, self._name or self._ctx_key)


class _ViewsItem(Item):
    """An item seen through several transforms."""

    def __init__(
        self,
        inner: Item,
        views: list[tuple[Callable[..., Any], bool]],
        seeds: SampleSeeds | None,
        key: str,
    ):
        self._inner = inner
        self._views = views
        self._seeds = seeds
        self._key = key
        self._keeps_ctx = seeds is not None or any(with_ctx for _, with_ctx in views)
        self.reads_samples = inner.reads_samples

    def get(self, idx: int, ctx: Ctx | None = None) -> list[Any]:
        return self.get_batch([idx], [ctx])[0]

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[list[Any]]:
        values = self._inner.get_batch(indices, ctxs)
        if ctxs is None:
            ctxs = [None] * len(values)
        samples = zip(indices, values, ctxs, strict=True)
        if self._seeds is None:
            return [self._look(idx, value, ctx) for idx, value, ctx in samples]
        with random_states_kept():
            return [self._look(idx, value, ctx) for idx, value, ctx in samples]

    def _look(self, idx: int, value: Any, ctx: Ctx | None) -> list[Any]:
        parts: list[Ctx | None] = [None] * len(self._views)
        if ctx is not None and self._keeps_ctx:
            parts = [{} for _ in self._views]
            ctx[self._key] = parts
        last = len(self._views) - 1
        views = []
        for k, ((transform, with_ctx), part) in enumerate(zip(self._views, parts, strict=True)):
            if self._seeds is not None:
                seed = self._seeds.of(idx, part=k)
                seed_generators(seed)
                if part is not None:
                    part["seed"] = seed
            own = value if k == last else _copy(value)
            views.append(transform(own, ctx=part) if with_ctx else transform(own))
        return views


def _copy(value: Any) -> Any:
    """Return a copy, for a transform may change what it gets, or what that shares memory with."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if hasattr(value, "__array__") and hasattr(value, "copy"):  # numpy's arrays, PIL's images
        return value.copy()
    return copy.deepcopy(value)
