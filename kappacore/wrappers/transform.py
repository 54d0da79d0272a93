"""Transforming one item of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.datasets.ctx import Ctx, takes_ctx
from kappacore.datasets.own_generators import find_generators
from kappacore.errors import InvalidOptionError
from kappacore.wrappers.randomness import RandomItem, RandomWrapper, part_of, seed_generators

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.datasets.base import KDDataset
    from kappacore.datasets.items import Item


class TransformWrapper(RandomWrapper):
    """A dataset with a transform applied to one of its items.

    Args:
        dataset: The dataset inside.
        transform: Called with the item's value. If it has a parameter ``ctx`` (for an
            ``nn.Module``: if ``forward`` has), it also gets the sample's ctx and can store what
            it drew there.
        item: The item to transform.
        seed: A non-negative integer: what the transform draws for a sample from the global
            generators of torch (CPU), Python and numpy, and from those that it has as attributes
            (also within a ``Compose``), depends only on this, the epoch
            (:meth:`set_epoch`) and the sample's index. The sample's seed is stored in its ctx as
            ``ctx["transform"]["seed"]``. Two wrappers with the same seed draw the same, as needed
            for an image and its mask. None: the transform draws from the worker's generators.
        fixed: With a seed: draw the same in every epoch, as for evaluating on augmented data.
        name: Key in the sample's ctx for everything of this wrapper: the transform then gets
            ``ctx[name]``, a dict of its own, as its ctx, and the seed is stored there as well.
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
        super().__init__(
            dataset, item, [transform], seed=seed, fixed=fixed, name=name, is_random=is_random
        )
        if not callable(transform):
            raise InvalidOptionError(
                f"transform={transform!r}: TransformWrapper needs something that can be called "
                f"with a value of item {item!r}; got a {type(transform).__name__}."
            )
        self.transform = transform
        self._takes_ctx = takes_ctx(transform)

    def _transformed(self, inner: Item) -> Item:
        return _TransformedItem(inner, self)


class _TransformedItem(RandomItem):
    """An item with a transform applied."""

    def __init__(self, inner: Item, wrapper: TransformWrapper):
        super().__init__(inner, wrapper._seeds, wrapper._name or wrapper._ctx_key)
        self._transform = wrapper.transform
        self._takes_ctx = wrapper._takes_ctx
        self._name = wrapper._name
        self._generators = [] if self._seeds is None else find_generators(wrapper.transform)

    def apply(self, idx: int, value: Any, ctx: Ctx | None) -> Any:
        if self._seeds is not None:
            seed = self._seeds.of(idx)
            if ctx is not None:
                part_of(ctx, self._key)["seed"] = seed
            seed_generators(seed, self._generators)
        if not self._takes_ctx:
            return self._transform(value)
        if ctx is not None and self._name is not None:
            ctx = part_of(ctx, self._name)
        return self._transform(value, ctx=ctx)
