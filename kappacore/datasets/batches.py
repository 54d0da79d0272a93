"""The stacked form of an item: a whole batch as one array or tensor.

``getbatch_<item>(indices, out=None, ctxs=None)`` is a form like any other. Where a class does not
define it, it is derived: from where the values lie in a cache's memory
(:meth:`Item.locate_batch`), from a column, or from the values, one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.datasets.indexing import check_indices
from kappacore.datasets.items import find_item

if TYPE_CHECKING:
    from kappacore.datasets.ctx import Ctxs
    from kappacore.datasets.stacking import Ragged, Stacked
    from kappacore.locations import BatchLocation

__all__ = ["locate_batch", "read_batch", "read_ragged"]


def read_batch(
    dataset: Any, item: str, indices: Any, out: Any = None, ctxs: Ctxs | None = None
) -> Stacked:
    """Return an item of a batch, stacked: what ``dataset.getbatch_<item>`` returns.

    Args:
        dataset: A ``KDDataset``.
        item: The item's name.
        indices: (N,) indices; may repeat, negative ones count from the end.
        out: A NumPy array or CPU tensor to fill, of shape ``(N, ...)`` and the values' dtype.
        ctxs: The ctx of each sample. A cache calls what is below it without.

    Returns:
        ``out`` if given; else an array of shape ``(N, ...)``, a tensor where values are tensors.
        Images are ``(N, H, W, C)``.

    Raises:
        UnknownItemError: The dataset has no such item.
        NotUniformError: The values cannot be stacked; the message names two that differ.
        InvalidOptionError: ``out`` does not fit.
    """
    array = check_indices(indices, len(dataset), type(dataset).__name__)
    return find_item(dataset, item).get_stacked(array, out, ctxs)


def read_ragged(dataset: Any, item: str, indices: Any, ctxs: Ctxs | None = None) -> Ragged:
    """Return an item of a batch whose values differ in shape, one after another.

    Args:
        dataset: As for :func:`read_batch`.
        item: The item's name.
        indices: As for :func:`read_batch`.
        ctxs: As for :func:`read_batch`.

    Raises:
        NotUniformError: The values differ in more than their shape.
    """
    array = check_indices(indices, len(dataset), type(dataset).__name__)
    return find_item(dataset, item).get_ragged(array, ctxs)


def locate_batch(
    dataset: Any, item: str, indices: Any, *, raw: bool = False
) -> BatchLocation | None:
    """Return where the values of a batch lie in memory, for a device that gathers them itself.

    Args:
        dataset: As for :func:`read_batch`.
        item: The item's name.
        indices: As for :func:`read_batch`.
        raw: Whether the stored form is meant, such as compressed bytes.

    Returns:
        None if they do not lie in a cache's memory. Rows that are missing in the location are read
        by :meth:`Item.get_batch`.
    """
    array = check_indices(indices, len(dataset), type(dataset).__name__)
    return find_item(dataset, item).locate_batch(array, raw=raw)
