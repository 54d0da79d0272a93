"""``__getitems__`` beside ``__getitem__``: when a batch may stand in for single reads.

A sample is what a single read gives. ``__getitems__`` is a faster way to the same samples only
where that is known: a foreign one may pad to the longest of the batch, or be the method of a class
whose subclass overrides ``__getitem__`` alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch.utils.data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kappacore.datasets.ctx import Ctxs
    from kappacore.datasets.items import Item


def overriding_getitem(dataset: Any, owner: type) -> Callable[[Any, int], Any] | None:
    """Return the ``__getitem__`` of a subclass that hides the inherited ``__getitems__``.

    It is the one rule for forms, for whole samples: a class that defines one hides the other. What
    a subclass with both calls by ``super()`` is the form of the classes between it and ``owner``.

    Args:
        dataset: The dataset.
        owner: The class whose ``__getitems__`` asks.

    Returns:
        The function, to be called with the dataset and an index; None if none hides it.
    """
    cls = type(dataset)
    if cls is owner:
        return None
    found = None
    mro = cls.__mro__
    for base in reversed(mro[: mro.index(owner)]):
        if "__getitems__" in vars(base):
            break
        found = vars(base).get("__getitem__", found)
    return found


def own_getitems(dataset: Any) -> Callable[[list[int]], Sequence[Any]] | None:
    """Return ``dataset.__getitems__`` where its class means it for its samples, else None.

    Neither one that ``__getattr__`` forwards from a dataset further inside counts, nor one that a
    subclass hides by its ``__getitem__``, nor one that is switched off.
    """
    if "__getitems__" not in getattr(dataset, "__dict__", {}):
        owner = _owner(dataset)
        if owner is None or overriding_getitem(dataset, owner) is not None:
            return None
    return dataset.__getitems__ or None


def read_samples(dataset: Any, indices: list[int]) -> Iterable[Any]:
    """Read the samples that single reads give, in one call where that is known to give the same.

    Known are kappacore's own datasets, an unformatted Hugging Face dataset, and torch's ``Subset``
    of such; of these very classes, as a subclass may change what a sample is.

    Returns:
        A list; or, where samples are read one by one, an iterator: a sample may lie in a buffer
        that the next read overwrites.
    """
    if len(indices) == 1:
        return [dataset[indices[0]]]
    if gives_single_reads(dataset):
        return list(dataset.__getitems__(indices))
    owner = _owner(dataset)
    if owner is not None and overriding_getitem(dataset, owner) is None:
        read = vars(owner).get("_kd_read_samples")
        if read is not None:
            samples: Iterable[Any] = read(dataset, indices)
            return samples
    return (dataset[idx] for idx in indices)


class PartlyBatched(Iterator[Any]):
    """Samples of which one part was read in a batch, and the other is read one by one."""

    partly_batched = True

    def __init__(self, samples: Iterator[Any]) -> None:
        self._samples = samples

    def __next__(self) -> Any:
        return next(self._samples)


def read_items(
    items: Sequence[Item], indices: list[int], ctxs: Ctxs, finish: Callable[[int, list[Any]], Any]
) -> Iterable[Any]:
    """Read several items of samples, as :func:`read_samples` does.

    Args:
        items: The items, in the order of reading: one may follow what those before it left in the
            ctx, so that only the first ones may be read ahead, in batches.
        indices: The samples.
        ctxs: The ctx of each.
        finish: Makes a sample of its position in the batch and the values of its items.
    """
    columns: list[Sequence[Any]] = []
    for item in items:
        if not item.in_batches():
            break
        columns.append(item.get_batch(indices, ctxs))
    rest = items[len(columns) :]
    samples = (
        finish(k, [*(column[k] for column in columns), *(item.get(idx, ctx) for item in rest)])
        for k, (idx, ctx) in enumerate(zip(indices, ctxs, strict=True))
    )
    if not rest:
        return list(samples)
    return PartlyBatched(samples) if columns else samples


def gives_single_reads(dataset: Any) -> bool:
    """Return whether ``__getitems__`` is a foreign one that is known to give what single reads do.

    It is that of a Hugging Face dataset that returns plain Python values, or of a ``Subset`` of it.
    """
    if type(dataset) is torch.utils.data.Subset:
        return gives_single_reads(dataset.dataset)
    library = sys.modules.get("datasets")
    if library is None or type(dataset) is not getattr(library, "Dataset", None):
        return False
    return bool(dataset.format["type"] is None)


def _owner(dataset: Any) -> type | None:
    """Return the class that defines the dataset's ``__getitems__``."""
    return next((base for base in type(dataset).__mro__ if "__getitems__" in vars(base)), None)
