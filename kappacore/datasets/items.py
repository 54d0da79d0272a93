"""An item: one property of a dataset, ready to be read, whatever forms the dataset defines.

``dataset._kd_item(name)`` returns the item, or None. A wrapper that leaves an item unchanged
returns the item of the dataset inside, so it costs nothing per sample; a wrapper that changes it
returns an item of its own. Items are reached in no other way, so a batch form can never bypass a
wrapper that changes the values.
"""

from __future__ import annotations

import difflib
import logging
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
import xxhash

from kappacore.datasets.ctx import Ctx, Ctxs
from kappacore.datasets.gathering import gather, gather_ragged
from kappacore.datasets.stacking import stack_values
from kappacore.errors import DatasetTypeError, UnknownItemError
from kappacore.locations import nothing_located

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.stacking import Ragged, Stacked
    from kappacore.locations import BatchLocation

__all__ = ["Ctx", "Item", "as_array", "digest", "find_item", "list_items", "read_one_by_one"]

_BATCH = 8192  # values
_LONG = 1.0  # seconds

log = logging.getLogger("kappacore.datasets")


class Item(ABC):
    """One property of a dataset; subclasses define where its values come from.

    Only :meth:`get` is required; the other methods have defaults based on it. Indices are
    non-negative Python integers, those of a batch a list of them.
    """

    #: True if the item has a raw form (``getraw_<item>``), which ``decode`` turns into the value.
    has_raw: bool = False

    #: What the stored form is, if its class declares it; see :attr:`KDDataset.raw_formats`.
    raw_format: str | None = None

    #: True if reading a value means reading the whole sample that it is part of.
    reads_samples: bool = False

    #: True if the fingerprint needs no proof; see :attr:`KDDataset.fingerprint_is_content`.
    fingerprint_is_content: bool = False

    @abstractmethod
    def get(self, idx: int, ctx: Ctx | None = None) -> Any:
        """Return the value at ``idx``.

        Args:
            idx: The sample.
            ctx: What the sample's items share; None without one.
        """

    def get_batch(self, indices: Sequence[int], ctxs: Ctxs | None = None) -> list[Any]:
        """Return the values at ``indices``, in one call if the dataset supports it.

        Args:
            indices: The samples; may repeat.
            ctxs: The ctx of each sample.
        """
        if ctxs is None:
            return [self.get(idx) for idx in indices]
        return [self.get(idx, ctx) for idx, ctx in zip(indices, ctxs, strict=True)]

    def get_stacked(self, indices: IntArray, out: Any = None, ctxs: Ctxs | None = None) -> Stacked:
        """Return the values at ``indices`` stacked, as ``getbatch_<item>`` does.

        Args:
            indices: (N,) int64; may repeat.
            out: A NumPy array or CPU tensor to fill, of shape ``(N, ...)`` and the values' dtype.
            ctxs: The ctx of each sample. A cache calls what is below it without.

        Returns:
            ``out`` if given; else an array of shape ``(N, ...)``, of images ``(N, H, W, C)``; a
            tensor where values are tensors.

        Raises:
            NotUniformError: They cannot be stacked; the message names two that differ.
            InvalidOptionError: ``out`` does not fit.
        """
        location = self.locate_batch(indices)
        if location is None:
            return stack_values(self.get_batch(indices.tolist(), ctxs), out)
        return gather(location, self.read_missing(indices, location, ctxs), out)

    def get_ragged(self, indices: IntArray, ctxs: Ctxs | None = None) -> Ragged:
        """Return the values at ``indices`` one after another, whatever their shapes.

        Args:
            indices: (N,) int64; may repeat.
            ctxs: The ctx of each sample.

        Raises:
            NotUniformError: They differ in more than their shape.
        """
        location = self.locate_batch(indices)
        if location is None:
            location = nothing_located(len(indices))
        return gather_ragged(location, self.read_missing(indices, location, ctxs))

    def read_missing(
        self, indices: IntArray, location: BatchLocation, ctxs: Ctxs | None = None
    ) -> list[Any]:
        """Return the values that are missing in what :meth:`locate_batch` returned.

        Args:
            indices: (N,) int64, as given to it.
            location: What it returned.
            ctxs: The ctx of each sample.
        """
        missing = location.missing
        if not len(missing):
            return []
        chosen = None if ctxs is None else [ctxs[row] for row in missing.tolist()]
        return self.get_batch(indices[missing].tolist(), chosen)

    def locate_batch(self, indices: IntArray, *, raw: bool = False) -> BatchLocation | None:  # noqa: ARG002
        """Return where the values at ``indices`` lie in the memory of a cache.

        Those that are there count as read.

        Args:
            indices: (N,) int64; may repeat.
            raw: Whether stored values are meant.

        Returns:
            None if they do not lie in memory. What is missing in the location is read by
            :meth:`get_batch`, or by :meth:`get_raw_batch`.
        """
        return None

    def how_stacked(self) -> tuple[bool, str]:
        """Return whether :meth:`get_stacked` works on batches as a whole, and how, for people."""
        return False, "sample by sample"

    def in_batches(self, raw: bool = False) -> bool:  # noqa: ARG002
        """Return whether a batch is read in one call, and its values are independent of each other.

        Otherwise a cache reads values one by one, as each may lie in a buffer that the next read
        overwrites.

        Args:
            raw: Whether stored values are meant: :meth:`get_raw_batch`, not :meth:`get_batch`.
        """
        return False

    def get_all(self) -> Sequence[Any] | np.ndarray[Any, Any] | None:
        """Return the whole column without reading samples; None if the dataset cannot."""
        return None

    def get_labels(self) -> np.ndarray[Any, Any] | None:
        """Return a column of labels as an array; None as for :meth:`get_all`.

        Items derived from class numbers, such as merged classes, return class numbers.
        """
        column = self.get_all()
        return None if column is None else as_array(column)

    def get_raw_batch(self, indices: Sequence[int]) -> list[Any]:  # noqa: ARG002
        """Return the stored values at ``indices``. Requires ``has_raw``.

        Args:
            indices: The samples; may repeat.

        Raises:
            UnknownItemError: The item has no raw form.
        """
        raise self._without_raw()

    def decode(self, raw: Any, ctx: Ctx | None = None) -> Any:  # noqa: ARG002
        """Turn a stored value from :meth:`get_raw_batch` into the value. Requires ``has_raw``.

        Args:
            raw: The stored value.
            ctx: What the sample's items share; None without one.

        Raises:
            UnknownItemError: The item has no raw form.
        """
        raise self._without_raw()

    def _without_raw(self) -> UnknownItemError:
        return UnknownItemError(
            f"A {type(self).__name__} has no raw form (has_raw is False): read its values with "
            f"get() or get_batch()."
        )

    def fingerprint(self, raw: bool = False) -> str | None:  # noqa: ARG002
        """Identify the content of the whole item, or of its raw form; None if unknown.

        Args:
            raw: Whether the raw form is meant.
        """
        return None


def find_item(dataset: Any, name: str) -> Item:
    """Return the item ``name`` of ``dataset``.

    Args:
        dataset: A ``KDDataset``.
        name: The item's name.

    Raises:
        UnknownItemError: The dataset has no such item; the message lists its items.
        DatasetTypeError: ``dataset`` is not a ``KDDataset``.
    """
    if not hasattr(type(dataset), "_kd_item"):
        raise DatasetTypeError(
            f"expected a KDDataset to read item {name!r} from, got a {type(dataset).__name__}. "
            f"Wrap it first: as_kd(dataset, items=(...))."
        )
    item: Item | None = dataset._kd_item(name)
    if item is not None:
        return item
    kind, root = type(dataset).__name__, type(dataset.root_dataset).__name__
    source = kind if root == kind else f"{kind} (of {root})"
    close = difflib.get_close_matches(str(name), dataset._kd_item_names(), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UnknownItemError(f"{source} has no item {name!r}; {list_items(dataset)}.{hint}")


def list_items(dataset: Any) -> str:
    """Return a clause that names the items of ``dataset``, for error messages."""
    names = ", ".join(dataset._kd_item_names())
    return f"its items are: {names}" if names else "it has no items: define getitem_<item> methods"


def read_one_by_one(item: Item, name: str, length: int) -> list[Any]:
    """Return all values of an item that has no column; the log says so if it took long.

    Args:
        item: The item.
        name: Its name.
        length: The number of samples.
    """
    start = time.monotonic()
    indices = range(length)
    values: list[Any] = []
    for first in indices[::_BATCH]:
        values += item.get_batch(list(indices[first : first + _BATCH]))
    seconds = time.monotonic() - start
    if seconds > _LONG:
        log.warning(
            "Reading item %r of %d samples one by one took %.1f s, each time it is asked for. "
            "Define getall_%s(), which returns the whole column, in the dataset.",
            name, length, seconds, name,
        )  # fmt: skip
    return values


def as_array(column: Any) -> np.ndarray[Any, Any]:
    """Return a column as a numpy array; a tensor on any device too."""
    return np.asarray(column.detach().cpu() if isinstance(column, torch.Tensor) else column)


@overload
def digest(*parts: str | bytes) -> str: ...
@overload
def digest(*parts: str | bytes | None) -> str | None: ...
def digest(*parts: str | bytes | None) -> str | None:
    """Return the XXH3 128-bit digest of ``parts`` in hex, or None if a part is None (unknown).

    Each part is hashed with its length, so ``("a", "bc")`` and ``("ab", "c")`` differ.
    """
    hasher = xxhash.xxh3_128()
    for part in parts:
        if part is None:
            return None
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()
