"""Transforming one item of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.datasets.ctx import Ctx, takes_ctx
from kappacore.datasets.forms import own_item
from kappacore.datasets.items import Item, find_item
from kappacore.errors import InvalidOptionError
from kappacore.wrappers._generators import random_states_kept, seed_generators
from kappacore.wrappers.randomness import RandomWrapper, SampleSeeds, ctx_for, part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kappacore.datasets.base import KDDataset

__all__ = ["TransformWrapper"]


class TransformWrapper(RandomWrapper):
    """A dataset with a transform applied to one of its items.

    Args:
        dataset: The dataset inside.
        transform: Called with the item's value. If it has a parameter ``ctx`` (``forward``'s, of
            an ``nn.Module``), the sample's ctx is passed too, where it can leave what it drew.
        item: The item to transform.
        seed: An integer from 0 on: what the transform draws for a sample depends on this, the
            epoch (:meth:`set_epoch`) and the sample's index alone, through the global generators
            of torch (CPU), Python and numpy. The sample's seed comes back in its ctx, as
            ``ctx["transform"]["seed"]``. Two wrappers of one seed draw the same, as an image and
            its mask need it. None: the worker's randomness.
        fixed: With a seed: draw the same in every epoch, as for evaluating on augmented data.
        name: Where in the sample's ctx everything of this wrapper goes: the transform then gets
            ``ctx[name]``, a dict of its own, as its ctx, and the seed is there as well.
        is_random: Whether the transform draws random numbers, so that no cache is put above it.
            By default True with a seed that is not fixed, else the transform's own ``is_random``,
            else False.

    Raises:
        UnknownItemError: The dataset has no such item.
        InvalidOptionError: ``transform`` cannot be called, or another option does not fit.

    Example::

        augmented = TransformWrapper(cached, RandomCrop(224), seed=0)
        for epoch in range(100):
            augmented.set_epoch(epoch)
            for x, label in loader:
                ...
    """

    _ctx_key = "transform"

    def __init__(
        self,
        dataset: KDDataset,
        transform: Callable[..., Any],
        item: str = "x",
        *,
        seed: int | None = None,
        fixed: bool = False,
        name: str | None = None,
        is_random: bool | None = None,
    ):
        super().__init__(dataset, seed=seed, fixed=fixed, name=name)
        if not callable(transform):
            raise InvalidOptionError(
                f"transform={transform!r}: TransformWrapper needs something that can be called "
                f"with a value of item {item!r}; got a {type(transform).__name__}."
            )
        find_item(dataset, item)
        self.transform = transform
        self.item = item
        if is_random is None:
            is_random = (
                not fixed if seed is not None else bool(getattr(transform, "is_random", False))
            )
        self.is_random = is_random
        self._takes_ctx = takes_ctx(transform)

    def _kd_item(self, name: str) -> Item | None:
        inner = self.dataset._kd_item(name)
        if name != self.item or inner is None or own_item(self, name) is not None:
            return super()._kd_item(name)
        if self._seeds is None:
            return _TransformedItem(inner, self.transform, self._takes_ctx, self._name)
        key = self._name or self._ctx_key
        return _SeededItem(inner, self.transform, self._takes_ctx, self._name, self._seeds, key)


class _TransformedItem(Item):
    """An item with a transform applied: no column, no stored form and no known content."""

    def __init__(
        self, inner: Item, transform: Callable[..., Any], with_ctx: bool, name: str | None
    ):
        self._inner = inner
        self._transform = transform
        self._with_ctx = with_ctx
        self._name = name
        self.reads_samples = inner.reads_samples

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        return self._apply(self._inner.get(idx, ctx), ctx)

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[Any]:
        values = self._inner.get_batch(indices, ctxs)
        if ctxs is None:
            ctxs = [None] * len(values)
        return [self._apply(value, ctx) for value, ctx in zip(values, ctxs, strict=True)]

    def _apply(self, value: Any, ctx: Ctx | None) -> Any:
        if self._with_ctx:
            return self._transform(value, ctx=ctx_for(ctx, self._name))
        return self._transform(value)


class _SeededItem(_TransformedItem):
    """The same, each sample with a seed of its own."""

    def __init__(
        self,
        inner: Item,
        transform: Callable[..., Any],
        with_ctx: bool,
        name: str | None,
        seeds: SampleSeeds,
        key: str,
    ):
        super().__init__(inner, transform, with_ctx, name)
        self._seeds = seeds
        self._key = key

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        value = self._inner.get(idx, ctx)
        with random_states_kept():
            return self._draw(idx, value, ctx)

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[Any]:
        values = self._inner.get_batch(indices, ctxs)
        if ctxs is None:
            ctxs = [None] * len(values)
        with random_states_kept():
            return [
                self._draw(idx, value, ctx)
                for idx, value, ctx in zip(indices, values, ctxs, strict=True)
            ]

    def _draw(self, idx: int, value: Any, ctx: Ctx | None) -> Any:
        seed = self._seeds.of(idx)
        if ctx is not None:
            part_of(ctx, self._key)["seed"] = seed
        seed_generators(seed)
        return self._apply(value, ctx)
