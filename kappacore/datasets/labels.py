"""Labels that are known for the whole dataset, so that no sample is read for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kappacore.datasets.digest import digest
from kappacore.datasets.items import Item
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from kappacore.datasets.ctx import Ctx

__all__ = ["LabelItem", "read_labels"]


class LabelItem(Item):
    """An item whose values are all at hand.

    Args:
        labels: One per sample, an array or a list; single ones of a one-dimensional array are
            given as Python values.
    """

    def __init__(self, labels: Sequence[Any] | np.ndarray[Any, Any]):
        self._labels = labels

    def get(self, idx: int, ctx: Ctx | None = None) -> Any:  # noqa: ARG002
        """Return the label at ``idx``."""
        labels = self._labels
        if not isinstance(labels, np.ndarray):
            return labels[idx]
        return labels.item(idx) if labels.ndim == 1 else labels[idx].copy()

    def get_all(self) -> Any:
        """Return all labels."""
        return self._labels

    def fingerprint(self, raw: bool = False) -> str | None:
        """Identify the labels by their values."""
        labels = self._labels
        if raw or not isinstance(labels, np.ndarray) or labels.dtype.hasobject:
            return None
        return digest("labels", labels.dtype.str, repr(labels.shape), labels.tobytes())


def read_labels(dataset: Any, labels: Any) -> Any:
    """Return the labels of a dataset as an array, or as a list where they are not numbers.

    Args:
        dataset: The dataset.
        labels: A tensor, array or sequence of them, or the name of an attribute of ``dataset``.

    Raises:
        InvalidOptionError: There is no such attribute, or not one label per sample.
    """
    kind = type(dataset).__name__
    source = "labels"
    if isinstance(labels, str):
        source = f"{kind}.{labels}"
        if not hasattr(dataset, labels):
            raise InvalidOptionError(
                f"labels={labels!r} names an attribute, but {kind} has none of that name. "
                f"Name another, or give the labels themselves."
            )
        labels = getattr(dataset, labels)
    column = _as_column(labels)
    if column is None:
        raise InvalidOptionError(
            f"{source} is a {type(labels).__name__}; expected an array or list with one label "
            f"per sample."
        )
    if len(column) != len(dataset):
        raise InvalidOptionError(
            f"{source} has {len(column)} labels, but {kind} has {len(dataset)} samples; "
            f"expected one per sample, in order."
        )
    return column


def _as_column(labels: Any) -> Any:
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    if hasattr(labels, "__array__"):
        array = np.asarray(labels)
        return array if array.ndim else None
    if not isinstance(labels, Sequence):
        return None
    values = list(labels)
    if set(map(type, values)) == {int}:
        array = np.array(values)  # a list of a million integers is copied by every worker
        return array if array.dtype == np.int64 else values
    return values
