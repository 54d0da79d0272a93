"""Renumbering classes."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kappacore.datasets.base import KDDataset, KDWrapper
from kappacore.datasets.columns import column_of
from kappacore.datasets.derived_items import ConvertedItem
from kappacore.datasets.items import as_array, digest
from kappacore.errors import InvalidItemError, InvalidOptionError
from kappacore.wrappers.labels import (
    class_names,
    class_numbers,
    find_label,
    is_described,
    read_labels,
    shorten,
)
from kappacore.wrappers.options import as_integer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.items import Item
    from kappacore.datasets.stacking import Stacked

__all__ = ["RemapClassesWrapper"]

_LARGEST_TABLE = 1 << 20


class RemapClassesWrapper(KDWrapper):
    """A dataset whose classes have new numbers; several classes can be merged into one.

    ``n_classes``, ``classes``, ``class_to_idx``, ``targets`` and ``labels`` are mapped too.
    ``samples`` and ``imgs`` remain the source's records.

    Args:
        dataset: The dataset inside.
        mapping: ``{old: new}``, where ``old`` is a number or a name; or a sequence or array with
            the new number of class ``i`` at position ``i``. Every label that occurs needs a new,
            non-negative number.
        n_classes: The number of classes afterwards; default: the largest new number plus one.
        classes: Their names, by new number; default: the old names if they are known, joined by
            ``/`` where classes are merged.
        label: The item that is the label; by default ``class`` if there is one, else ``y``.

    Attributes:
        mapping: The new number of each old number.

    Raises:
        InvalidOptionError: The mapping leaves out a label, or a new number or name does not fit.
        MissingLabelsError: The dataset has no labels, or only by reading every sample.

    Example::

        pets = ClassFilterWrapper(dataset, valid_classes=["cat", "dog"])
        pets = RemapClassesWrapper(pets, {"cat": 0, "dog": 1})
    """

    def __init__(
        self,
        dataset: KDDataset,
        mapping: Mapping[int | str, int] | Sequence[int],
        n_classes: int | None = None,
        classes: Sequence[str] | None = None,
        *,
        label: str | None = None,
    ):
        super().__init__(dataset)
        owner = type(self).__name__
        self.label = find_label(dataset, label, owner)[0]
        self.mapping = _read_mapping(dataset, label, mapping)
        lacking = _lacking(read_labels(dataset, label, owner), self.mapping)
        if lacking:
            raise InvalidOptionError(
                f"mapping= has no new number for {shorten(lacking)}, which occur as labels. Map "
                f"every label, or leave samples out with ClassFilterWrapper first."
            )
        largest = max(self.mapping.values(), default=-1)
        total = largest + 1 if n_classes is None else as_integer(n_classes, "n_classes", least=1)
        if largest >= total:
            raise InvalidOptionError(
                f"n_classes={n_classes}, but mapping= gives a class the number {largest}; "
                f"expected numbers below n_classes."
            )
        if classes is not None and (isinstance(classes, str) or not hasattr(classes, "__len__")):
            raise InvalidOptionError(f"classes={classes!r}: expected a list of names.")
        if classes is not None and len(classes) != total:
            raise InvalidOptionError(f"classes= has {len(classes)} names for {total} classes.")
        self._is_described = is_described(dataset, label)
        if self._is_described:
            self.n_classes = total
            names = _renamed(dataset, self.mapping, total) if classes is None else list(classes)
            if names is not None:
                self.classes = names
                self.class_to_idx = {name: number for number, name in enumerate(names)}

    def __getattr__(self, name: str) -> Any:
        """Map ``targets`` and ``labels``, and hide class names that are no longer known."""
        if not self.__dict__.get("_is_described"):
            return super().__getattr__(name)  # the attributes describe another label
        if name in ("classes", "class_to_idx"):
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}: not every class has a name after the "
                f"mapping. Pass them: classes=[...]."
            )
        values = super().__getattr__(name)
        if name not in ("targets", "labels") or column_of(self.dataset, name) is None:
            return values
        return _remap_like(values, self.mapping)

    def _kd_derived(self, name: str) -> Item | None:
        inner = super()._kd_derived(name)
        return inner if name != self.label or inner is None else _RemappedItem(inner, self.mapping)


class _RemappedItem(ConvertedItem):
    """A label with a new number."""

    def __init__(self, inner: Item, mapping: dict[int, int]):
        super().__init__(inner)
        self._mapping = mapping

    def convert(self, value: Any) -> int:
        try:
            return self._mapping[operator.index(value)]
        except (KeyError, TypeError):  # TypeError: no class number, such as 1.7
            raise InvalidItemError(_unmapped(value)) from None

    def get_all(self) -> IntArray | None:
        labels = self._inner.get_labels()
        return None if labels is None else self.convert_all(labels)

    def convert_all(self, values: Stacked) -> IntArray:
        labels = as_array(values)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            return np.array(list(map(self.convert, labels.tolist())), np.int64)
        lacking = _lacking(labels, self._mapping)
        if lacking:
            raise InvalidItemError(_unmapped(lacking[0]))
        return _remap(labels, self._mapping)

    def fingerprint(self, raw: bool = False) -> str | None:
        inner = None if raw else self._inner.fingerprint()
        return digest("remap", inner, repr(sorted(self._mapping.items())))


def _read_mapping(dataset: KDDataset, label: str | None, mapping: Any) -> dict[int, int]:
    """Return the mapping with class numbers as keys."""
    if isinstance(mapping, Mapping):
        old = class_numbers(dataset, label, list(mapping), "mapping")
        new = list(mapping.values())
    elif isinstance(mapping, (str, bytes)) or not hasattr(mapping, "__len__"):
        raise InvalidOptionError(
            f"mapping={mapping!r}: expected {{old: new, ...}}, or a list of the new numbers."
        )
    else:
        old, new = list(range(len(mapping))), list(mapping)
    found = {
        number: as_integer(value, f"mapping[{number}]", least=0)
        for number, value in zip(old, new, strict=True)
    }
    if len(found) < len(old):
        raise InvalidOptionError(
            f"mapping= has two entries for {len(old) - len(found)} classes, one by number and one "
            f"by name; expected one each."
        )
    return found


def _unmapped(label: Any) -> str:
    return (
        f"a sample has the label {label}, for which mapping= has no new number; no sample had it "
        f"when RemapClassesWrapper was created."
    )


def _renamed(dataset: KDDataset, mapping: dict[int, int], n_classes: int) -> list[Any] | None:
    """Return the names by new number, or None if one is unknown."""
    old_names = class_names(dataset)
    names: list[list[Any]] = [[] for _ in range(n_classes)]
    for old in sorted(mapping):
        if old_names is None or not 0 <= old < len(old_names):
            return None
        names[mapping[old]].append(old_names[old])
    if not all(names):
        return None
    return [each[0] if len(each) == 1 else "/".join(map(str, each)) for each in names]


def _lacking(labels: IntArray, mapping: dict[int, int]) -> list[int]:
    """Return the labels that occur but have no new number."""
    unknown = labels[np.isin(labels, list(mapping), invert=True)]
    lacking: list[int] = np.unique(unknown).tolist()
    return lacking


def _remap(labels: IntArray, mapping: dict[int, int]) -> IntArray:
    """Return the new numbers of labels, each of which has one."""
    if not len(labels):
        return np.empty(0, np.int64)
    old = np.array(sorted(mapping), dtype=np.int64)
    new = np.array([mapping[number] for number in old.tolist()], dtype=np.int64)
    if old[-1] - old[0] > _LARGEST_TABLE:
        return new[np.searchsorted(old, labels)]
    table = np.zeros(old[-1] - old[0] + 1, np.int64)
    table[old - old[0]] = new
    remapped: IntArray = table[labels - old[0]]
    return remapped


def _remap_like(values: Any, mapping: dict[int, int]) -> Any:
    """Return ``targets`` with new numbers, in the same type; unchanged if they are no labels."""
    if not isinstance(values, (torch.Tensor, list, np.ndarray)):
        return values
    array = as_array(values)
    if array.ndim != 1 or array.dtype.kind not in "iu" or _lacking(array, mapping):
        return values
    remapped = _remap(array, mapping)
    if isinstance(values, torch.Tensor):
        return torch.from_numpy(remapped)
    return remapped.tolist() if isinstance(values, list) else remapped
