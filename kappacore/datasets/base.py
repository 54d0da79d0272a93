"""What a dataset is: samples whose properties are read one by one, and wrappers around them."""

from __future__ import annotations

import operator
import types
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from kappacore.datasets.columns import ALIGNED, column_of, concatenate, pick
from kappacore.datasets.derived_items import ConcatItem, SubsetItem
from kappacore.datasets.forms import ClassItem, as_method, own_item, own_item_names, split_form
from kappacore.datasets.items import Item, find_item, list_items, read_one_by_one
from kappacore.datasets.stack import PassThrough, StackPart, held_datasets
from kappacore.errors import (
    DatasetTypeError,
    InvalidOptionError,
    UnknownItemError,
    UseModeWrapperError,
)

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray

_AGREED = ("classes", "n_classes", "class_to_idx")


class KDDataset(StackPart, Dataset[Any]):
    """A dataset whose samples have properties (*items*) that can be read independently.

    A subclass defines ``__len__`` and, for each item, one method ``getitem_<item>(idx, ctx=None)``.
    An item can have other forms too:

    - ``getitems_<item>(indices, ctxs=None) -> list``: the values of a whole batch in one call;
    - ``getall_<item>()``: all values, as a sequence or an array, without reading any sample.
      ``getall_class`` is there without: it then reads the labels one by one at each call;
    - ``getraw_<item>(idx)`` and ``decode_<item>(raw, ctx=None)``: the value as it is stored, such
      as compressed bytes, and the function that decodes it. A cache keeps the stored form.

    Any form can be left out if another one provides the value. A class that defines one form of
    an item hides all forms inherited from its bases (in a wrapper: those of the dataset inside),
    and makes the item's fingerprint unknown until the class defines one itself. Methods that do
    not use ``ctx`` or ``ctxs`` may omit the parameter; a wrapper that calls such a method directly
    must then omit the argument as well.

    Samples are read through :class:`ModeWrapper`, whose ``mode`` names the items to read.

    Example::

        class Flowers(KDDataset):
            def __init__(self, paths, labels):
                self.paths, self.labels = paths, labels

            def __len__(self):
                return len(self.paths)

            def getitem_x(self, idx, ctx=None):
                return load_image(self.paths[idx])

            def getitem_class(self, idx):
                return self.labels[idx]

        for label in ModeWrapper(Flowers(paths, labels), mode="class"):  # loads no image
            ...
    """

    #: Whether the fingerprint changes whenever the content does, so that caches need not compare
    #: samples. Of the class that declares it alone: a subclass declares it again, or is compared.
    fingerprint_is_content: ClassVar[bool] = False

    #: What the stored form of an item is (``getraw_<item>``): ``{"x": "jpeg"}`` says that all are
    #: plain JPEGs, of which ``decode_<item>`` returns the RGB pixels, so that a device may decode
    #: them. As with fingerprints, a class that defines a form of the item declares it anew.
    raw_formats: Mapping[str, str] = types.MappingProxyType({})

    _is_random = False

    def __len__(self) -> int:
        """Return the number of samples."""
        raise DatasetTypeError(f"{type(self).__name__} has no length: define __len__.")

    def fingerprint(self, item: str, raw: bool = False) -> str | None:
        """Identify the content of an item, so that a cache can check what it holds.

        A dataset may override this with anything that changes when the content does: a version,
        a digest of paths, sizes and modification times, the options that affect the value.

        Args:
            item: The item's name.
            raw: Whether to identify the stored form (``getraw_<item>``) instead of the value.

        Returns:
            A string that is the same for the same content in every process; None if unknown.
        """
        found = find_item(self, item)
        if isinstance(found, ClassItem) and found.dataset is self:
            return None  # an override called super().fingerprint: it does not know
        return found.fingerprint(raw)

    @property
    def is_random(self) -> bool:
        """True if the same index may give different values: random crops, even seeded ones.

        Set it on a class or an instance. A wrapper around a random dataset is random too.
        """
        return self._is_random or super().is_random

    @is_random.setter
    def is_random(self, value: bool) -> None:
        self._is_random = bool(value)

    def __getitem__(self, index: Any) -> NoReturn:
        name = type(self).__name__
        raise UseModeWrapperError(
            f"{name} is not indexed directly, because its items are read one by one: "
            f"ModeWrapper(dataset, mode='...')[{index!r}] reads those named in mode; "
            f"{list_items(self)}."
        )

    def __getattr__(self, name: str) -> Any:
        """Derive forms of an item that the class does not define from those it does."""
        split = split_form(name)
        if split is None or hasattr(type(self), name):
            return super().__getattr__(name)
        form, item = split
        found = find_item(self, item)
        method = as_method(found, form, self)
        if method is not None:
            return method
        if name == "getall_class" and not found.reads_samples:
            return partial(_all_labels, found, len(self))
        hint = ""
        if name == "getall_class":
            hint = (
                " The labels are known only by reading each sample whole: pass them to "
                "as_kd(dataset, labels='targets'), as an array or the name of an attribute."
            )
        raise UnknownItemError(
            f"{type(self).__name__} has no {name}: item {item!r} does not have this form.{hint}"
        )

    def __add__(self, other: Any) -> KDConcatDataset:  # type: ignore[override]
        return KDConcatDataset([self, other])

    def _kd_item(self, name: str) -> Item | None:
        return own_item(self, name) or self._kd_derived(name)

    def _kd_derived(self, name: str) -> Item | None:  # noqa: ARG002
        """Return an item that no method of this dataset defines; None if there is none."""
        return None

    def _kd_item_names(self) -> list[str]:
        return own_item_names(self)

    def _kd_pick(self, indices: IntArray) -> tuple[KDDataset, IntArray]:
        """Return the dataset to read the samples at ``indices`` from, and their indices in it."""
        return self, indices


class KDWrapper(KDDataset, PassThrough):
    """A dataset around another one; items that it does not define pass through.

    Args:
        dataset: The dataset inside.

    Example::

        class Grayscale(KDWrapper):
            def getitem_x(self, idx, ctx=None):
                return self.dataset.getitem_x(idx, ctx).convert("L")
    """

    dataset: KDDataset

    def __init__(self, dataset: KDDataset):
        super().__init__()
        check_dataset(dataset, type(self).__name__)
        self.dataset = dataset

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        """Forward what is about samples only where they are as many as inside."""
        values = super().__getattr__(name)
        if name not in ALIGNED and name != "root_indices":
            return values
        length, inner = len(self), len(self.dataset)
        if length == inner:
            return values
        if name == "root_indices":
            raise AttributeError(
                f"{type(self).__name__} of {length} samples has no root_indices: those of the "
                f"dataset inside are of its {inner} samples. Ask it for them: .dataset."
            )
        column = column_of(self.dataset, name)
        return values if column is None else self._kd_column(column)

    def _kd_column(self, column: Any) -> Any:
        """Return the entries of a column of the dataset inside for other samples than its own."""
        return pick(column, np.arange(len(self)))  # a __len__ of its own: the first samples

    def _kd_derived(self, name: str) -> Item | None:
        inner = self.dataset._kd_item(name)
        if inner is None or len(self) == len(self.dataset):
            return inner
        return SubsetItem(inner, np.arange(len(self)))  # a __len__ of its own: the first samples

    def _kd_item_names(self) -> list[str]:
        return list(dict.fromkeys([*self.dataset._kd_item_names(), *own_item_names(self)]))


class KDConcatDataset(KDDataset):
    """The samples of several datasets, one dataset after another; ``a + b`` is one too.

    Its items are those that all datasets have. ``classes``, ``n_classes`` and ``class_to_idx``
    are available if all datasets agree on them; ``targets``, ``samples`` and ``imgs`` are joined.

    Args:
        datasets: The datasets, at least one.

    Attributes:
        datasets: The datasets, as a list.
    """

    def __init__(self, datasets: Iterable[KDDataset]):
        super().__init__()
        if isinstance(datasets, KDDataset) or not isinstance(datasets, Iterable):
            raise InvalidOptionError(
                f"KDConcatDataset takes a list of datasets; got a single "
                f"{type(datasets).__name__}: KDConcatDataset([first, second])."
            )
        self.datasets = list(datasets)
        if not self.datasets:
            raise InvalidOptionError("KDConcatDataset needs at least one dataset; got none.")
        for dataset in self.datasets:
            check_dataset(dataset, type(self).__name__)
        self._ends = np.cumsum([len(dataset) for dataset in self.datasets], dtype=np.int64)

    @property
    def cumulative_sizes(self) -> list[int]:
        """Where each dataset ends; as in torch."""
        ends: list[int] = self._ends.tolist()
        return ends

    def __len__(self) -> int:
        """Return the number of samples of all datasets."""
        return int(self._ends[-1])

    def __getattr__(self, name: str) -> Any:
        """Join the columns in ``ALIGNED``, and look up the attributes all datasets agree on."""
        known = name in ALIGNED or name in _AGREED
        if not known or "datasets" not in self.__dict__ or hasattr(type(self), name):
            return super().__getattr__(name)
        values = [getattr(dataset, name) for dataset in self.datasets]
        if name in ALIGNED:
            columns = [column_of(dataset, name) for dataset in self.datasets]
            if all(column is not None for column in columns):
                return concatenate(columns)
        if all(_equal(value, values[0]) for value in values[1:]):
            return values[0]
        raise AttributeError(f"KDConcatDataset has no {name!r}: its datasets do not agree on it.")

    def inner_datasets(self) -> Iterable[Any]:
        """Return the datasets, and all others in the attributes."""
        return [*self.datasets, *held_datasets(self, besides=self.datasets)]

    def _kd_derived(self, name: str) -> Item | None:
        items = [dataset._kd_item(name) for dataset in self.datasets]
        known = [item for item in items if item is not None]
        return ConcatItem(known, self._ends) if len(known) == len(items) else None

    def _kd_item_names(self) -> list[str]:
        first, *others = (dataset._kd_item_names() for dataset in self.datasets)
        common = [name for name in first if all(name in names for names in others)]
        return list(dict.fromkeys([*common, *own_item_names(self)]))


def _all_labels(item: Item, length: int) -> Any:
    """Return all labels, read one by one: as an array if they are integers, else as a list."""
    labels = read_one_by_one(item, "class", length)
    try:
        return np.array(list(map(operator.index, labels)), dtype=np.int64)
    except (TypeError, OverflowError):
        return labels


def _equal(first: Any, second: Any) -> bool:
    if hasattr(first, "__array__") or hasattr(second, "__array__"):
        return np.array_equal(first, second)
    return bool(first == second)


def check_dataset(dataset: Any, owner: str) -> None:
    """Raise unless ``dataset`` is a ``KDDataset``.

    Args:
        dataset: The argument to check.
        owner: The class that needs it, for the error message.

    Raises:
        DatasetTypeError: The message says how to convert it.
    """
    if isinstance(dataset, KDDataset):
        return
    check_map_style(dataset, owner)
    raise DatasetTypeError(
        f"{owner} needs a KDDataset; got a {type(dataset).__name__}. "
        f"Wrap a map-style dataset of tuples or dicts first: as_kd(dataset, items=('x', 'class'))."
    )


def check_map_style(dataset: Any, owner: str) -> None:
    """Raise unless ``dataset`` can be read by index from 0 to its length.

    Args:
        dataset: The argument to check.
        owner: The class or function that needs it, for the error message.

    Raises:
        DatasetTypeError: The message says why it cannot be used.
    """
    kind = type(dataset).__name__
    if isinstance(dataset, type):
        raise DatasetTypeError(f"{owner} needs a dataset; got the class {dataset.__name__}.")
    if isinstance(dataset, IterableDataset):
        raise DatasetTypeError(
            f"{owner} cannot use {kind}: an IterableDataset has no indices, so single samples "
            f"cannot be read. Use a map-style dataset (__len__ and __getitem__)."
        )
    if isinstance(dataset, Mapping):
        raise DatasetTypeError(
            f"{owner} cannot use a {kind} with the keys {list(dataset)}: datasets are read by "
            f"index. Choose one of its values."
        )
    lacking = [name for name in ("__len__", "__getitem__") if not hasattr(type(dataset), name)]
    if lacking:
        raise DatasetTypeError(
            f"{owner} cannot use a {kind}: it has no {' and no '.join(lacking)}, and datasets are "
            f"read by index from 0 to their length."
        )
