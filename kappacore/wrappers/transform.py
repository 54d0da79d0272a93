"""Transforming one item of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.datasets.base import KDDataset, KDWrapper
from kappacore.datasets.ctx import Ctx, takes_ctx
from kappacore.datasets.forms import own_item
from kappacore.datasets.items import Item, find_item
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["TransformWrapper"]


class TransformWrapper(KDWrapper):
    """A dataset with a transform applied to one of its items.

    Args:
        dataset: The dataset inside.
        transform: Called with the item's value. If it has a parameter ``ctx`` (``forward``'s, of
            an ``nn.Module``), the sample's ctx is passed too, where it can leave what it drew.
        item: The item to transform.
        is_random: Whether the transform draws random numbers, so that no cache is put above it.
            By default the transform's own ``is_random``, else False.

    Raises:
        UnknownItemError: The dataset has no such item.
        InvalidOptionError: ``transform`` cannot be called.

    Example::

        augmented = TransformWrapper(cached, RandomCrop(224), is_random=True)
        x, label = ModeWrapper(augmented, mode="x class")[0]
    """

    def __init__(
        self,
        dataset: KDDataset,
        transform: Callable[..., Any],
        item: str = "x",
        *,
        is_random: bool | None = None,
    ):
        super().__init__(dataset)
        if not callable(transform):
            raise InvalidOptionError(
                f"TransformWrapper needs a transform that can be called with a value of item "
                f"{item!r}; got a {type(transform).__name__}."
            )
        find_item(dataset, item)
        self.transform = transform
        self.item = item
        self.is_random = getattr(transform, "is_random", False) if is_random is None else is_random

    def _kd_item(self, name: str) -> Item | None:
        inner = self.dataset._kd_item(name)
        if name != self.item or inner is None or own_item(self, name) is not None:
            return super()._kd_item(name)
        return _TransformItem(inner, self.transform)


class _TransformItem(Item):
    """An item with a transform applied: no column, no stored form and no known content."""

    def __init__(self, inner: Item, transform: Callable[..., Any]):
        self._inner = inner
        self._transform = transform
        self._takes_ctx = takes_ctx(transform)

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        value = self._inner.get(idx, ctx)
        return self._transform(value, ctx=ctx) if self._takes_ctx else self._transform(value)

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[Any]:
        values = self._inner.get_batch(indices, ctxs)
        transform = self._transform
        if not self._takes_ctx:
            return [transform(value) for value in values]
        if ctxs is None:
            ctxs = [None] * len(values)
        return [transform(value, ctx=ctx) for value, ctx in zip(values, ctxs, strict=True)]
