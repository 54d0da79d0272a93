"""An item: one property of a dataset, ready to be read, whatever forms the dataset defines.

``dataset._kd_item(name)`` gives the item or ``None``. A wrapper that changes nothing about an item
hands out the item of the dataset below, so it costs nothing per sample; one that changes it
answers with an item of its own. There is no other way to an item, which is what keeps a batch
form from being taken past a wrapper that changes the values.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kappacore.datasets.ctx import Ctx
from kappacore.errors import DatasetTypeError, UnknownItemError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Ctx", "Item", "find_item"]


class Item(ABC):
    """One property of a dataset; subclasses say where its values come from.

    Only :meth:`get` must be defined. Everything else has a default that follows from it.
    Indices are Python integers from 0 on, those of a batch a list of them.
    """

    #: True if the item has a raw form (``getraw_<item>``), to be turned into the value by `decode`.
    has_raw: bool = False

    #: True if its values are known only by reading the whole samples that they are part of.
    reads_samples: bool = False

    @abstractmethod
    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        """Return the value at ``idx``."""

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[Any]:
        """Return the values at ``indices``, in one call where the dataset can."""
        if ctxs is None:
            return [self.get(idx) for idx in indices]
        return [self.get(idx, ctx) for idx, ctx in zip(indices, ctxs, strict=True)]

    def get_all(self) -> Sequence[Any] | np.ndarray[Any, Any] | None:
        """Return the whole column without reading samples, or None where the dataset has none."""
        return None

    def get_labels(self) -> np.ndarray[Any, Any] | None:
        """Return the column as an array, where it is one of labels; None as for :meth:`get_all`.

        An item whose values are made from class numbers, such as one-hot vectors, gives the
        numbers.
        """
        column = self.get_all()
        if isinstance(column, torch.Tensor):
            column = column.detach().cpu().numpy()
        return None if column is None else np.asarray(column)

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:  # noqa: ARG002
        """Return the values at ``indices`` as they are stored. Only where ``has_raw``."""
        raise self._without_raw()

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:  # noqa: ARG002
        """Turn what :meth:`get_raw_batch` gave into the value. Only where ``has_raw``."""
        raise self._without_raw()

    def _without_raw(self) -> UnknownItemError:
        return UnknownItemError(
            f"A {type(self).__name__} has no raw form (has_raw is False): read its values with "
            f"get() or get_batch()."
        )

    def fingerprint(self, raw: bool = False) -> str | None:  # noqa: ARG002
        """Identify the content of the whole item (or of its raw form); None if unknown."""
        return None


def find_item(dataset: Any, name: str) -> Item:
    """Return the item ``name`` of ``dataset``.

    Raises:
        UnknownItemError: The dataset has no such item; the message lists those it has.
        DatasetTypeError: ``dataset`` is not a ``KDDataset``.
    """
    if not hasattr(type(dataset), "_kd_item"):
        raise DatasetTypeError(
            f"expected a KDDataset to read item {name!r} from, got a {type(dataset).__name__}. "
            f"Wrap it first: as_kd(dataset, items=(...))."
        )
    item: Item | None = dataset._kd_item(name)
    if item is None:
        raise UnknownItemError(_unknown(dataset, name))
    return item


def list_items(dataset: Any) -> str:
    """Name the items of ``dataset``, for error texts."""
    names = ", ".join(dataset._kd_item_names())
    return f"its items are: {names}" if names else "it has no items: define getitem_<item> methods"


def _unknown(dataset: Any, name: str) -> str:
    text = f"{_describe(dataset)} has no item {name!r}; {list_items(dataset)}."
    close = difflib.get_close_matches(str(name), dataset._kd_item_names(), n=1)
    return f"{text} Did you mean {close[0]!r}?" if close else text


def _describe(dataset: Any) -> str:
    name = type(dataset).__name__
    root = type(dataset.root_dataset).__name__
    return name if root == name else f"{name} (of {root})"
