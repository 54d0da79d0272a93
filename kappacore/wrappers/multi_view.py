"""Several views of one item."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from kappacore.datasets.ctx import Ctx, takes_ctx
from kappacore.datasets.own_generators import find_generators
from kappacore.errors import InvalidOptionError
from kappacore.wrappers.randomness import RandomItem, RandomWrapper, seed_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kappacore.datasets.base import KDDataset
    from kappacore.datasets.items import Item


class MultiViewWrapper(RandomWrapper):
    """A dataset with several views of one item: the list of the results of each transform.

    The item is read once; each transform gets its own copy. ``default_collate`` turns a batch into
    a list of views, each of shape ``(B, ...)``.

    Args:
        dataset: The dataset inside.
        item: The item to view.
        transforms: One for each view, as for :class:`TransformWrapper`; ``[augment] * 2`` for two
            views by one transform.
        seed: See :class:`TransformWrapper`; each view has a seed of its own.
        fixed: See :class:`TransformWrapper`.
        name: Key in the sample's ctx for a list of dicts, one for each view: a transform that
            takes a ctx gets its view's dict, and the view's seed is stored there as well.
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
        super().__init__(
            dataset, item, transforms, seed=seed, fixed=fixed, name=name, is_random=is_random
        )
        self.transforms = list(transforms)
        self._views = [(transform, takes_ctx(transform)) for transform in transforms]

    def _transformed(self, inner: Item) -> Item:
        return _ViewsItem(inner, self)


class _ViewsItem(RandomItem):
    """An item seen through several transforms."""

    def __init__(self, inner: Item, wrapper: MultiViewWrapper):
        super().__init__(inner, wrapper._seeds, wrapper._name or wrapper._ctx_key)
        self._views = wrapper._views
        seeded = self._seeds is not None
        self._generators = [
            find_generators(transform) if seeded else [] for transform, _ in self._views
        ]
        self._uses_ctx = self._seeds is not None or any(with_ctx for _, with_ctx in self._views)

    def apply(self, idx: int, value: Any, ctx: Ctx | None) -> list[Any]:
        parts: list[Ctx | None] = [None] * len(self._views)
        if ctx is not None and self._uses_ctx:
            parts = [{} for _ in self._views]
            ctx[self._key] = parts
        last = len(self._views) - 1
        views = []
        for k, ((transform, with_ctx), part) in enumerate(zip(self._views, parts, strict=True)):
            if self._seeds is not None:
                seed = self._seeds.of(idx, part=k)
                seed_generators(seed, self._generators[k])
                if part is not None:
                    part["seed"] = seed
            own = value if k == last else _copy(value)
            views.append(transform(own, ctx=part) if with_ctx else transform(own))
        return views


def _copy(value: Any) -> Any:
    """Return a copy: a transform may change its argument, or memory that the argument shares."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if hasattr(value, "__array__") and hasattr(value, "copy"):  # numpy's arrays, PIL's images
        return value.copy()
    return copy.deepcopy(value)
