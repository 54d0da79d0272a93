"""Labels as vectors: one-hot, and smoothed."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from kappacore.datasets.base import KDDataset, KDWrapper
from kappacore.datasets.derived_items import ConvertedItem
from kappacore.datasets.items import as_array, digest
from kappacore.errors import InvalidItemError, InvalidOptionError
from kappacore.wrappers.labels import count_classes, find_label, is_described
from kappacore.wrappers.options import as_fraction, as_integer

if TYPE_CHECKING:
    from kappacore.datasets.items import Item


class OneHotWrapper(KDWrapper):
    """A dataset whose labels are one-hot vectors: float32 tensors of shape ``(n_classes,)``.

    Put wrappers that need class numbers below it.

    Args:
        dataset: The dataset inside.
        n_classes: The number of classes; default: the dataset's ``n_classes``, or the length of its
            ``classes``.
        label: The item that is the label; by default ``class`` if there is one, else ``y``.

    Raises:
        InvalidOptionError: The number of classes is unknown.
        MissingLabelsError: The dataset has neither an item ``class`` nor ``y``.
    """

    smoothing = 0.0
    _keeps_unlabelled = False

    def __init__(
        self, dataset: KDDataset, n_classes: int | None = None, *, label: str | None = None
    ):
        super().__init__(dataset)
        self.label = find_label(dataset, label, type(self).__name__)[0]
        number = count_classes(dataset, label) if n_classes is None else n_classes
        if number is None:
            lacks = f"has neither n_classes nor classes for item {self.label!r}"
            if is_described(dataset, label) and hasattr(dataset, "classes"):
                lacks = (
                    "has no n_classes, and its `classes` are no names of classes, but the labels "
                    "of the samples, by their number or type"
                )
            raise InvalidOptionError(
                f"{type(self).__name__} needs the number of classes, but "
                f"{type(dataset).__name__} {lacks}. Pass n_classes=."
            )
        self.n_classes = as_integer(number, "n_classes", least=1)

    def _kd_derived(self, name: str) -> Item | None:
        inner = super()._kd_derived(name)
        return inner if name != self.label or inner is None else _VectorItem(inner, self)


class LabelSmoothingWrapper(OneHotWrapper):
    """A dataset whose labels are smoothed: ``(1 - smoothing) * one_hot + smoothing / n_classes``.

    Labels that are already vectors are smoothed likewise. A label of -1, of a sample without one,
    becomes a vector of -1. The method is from Szegedy et al.,
    "Rethinking the Inception Architecture for Computer Vision", 2016, section 7.

    Args:
        dataset: The dataset inside.
        smoothing: The probability that is spread evenly over all classes, from 0 to 1.
        n_classes: See :class:`OneHotWrapper`.
        label: See :class:`OneHotWrapper`.

    Raises:
        InvalidOptionError: ``smoothing`` is outside 0 to 1, or the number of classes is unknown.
        MissingLabelsError: The dataset has neither an item ``class`` nor ``y``.
    """

    _keeps_unlabelled = True

    def __init__(
        self,
        dataset: KDDataset,
        smoothing: float = 0.1,
        n_classes: int | None = None,
        *,
        label: str | None = None,
    ):
        super().__init__(dataset, n_classes, label=label)
        self.smoothing = as_fraction(smoothing, "smoothing")


class _VectorItem(ConvertedItem):
    """A label as a vector."""

    def __init__(self, inner: Item, wrapper: OneHotWrapper):
        super().__init__(inner)
        self._n_classes = wrapper.n_classes
        self._smoothing = wrapper.smoothing
        self._keeps_unlabelled = wrapper._keeps_unlabelled
        self._owner = type(wrapper).__name__

    def convert(self, value: Any) -> torch.Tensor:
        if getattr(value, "ndim", 0) or isinstance(value, (list, tuple)):
            vector = torch.as_tensor(value, dtype=torch.float32)
            self._check_shape(vector)
        elif self._keeps_unlabelled and hasattr(value, "__index__") and value == -1:
            return torch.full((self._n_classes,), -1.0)
        else:
            vector = torch.zeros(self._n_classes)
            vector[self._check(value)] = 1.0
        return self._smoothed(vector)

    def get_all(self) -> Any:
        column = self._inner.get_all()
        return None if column is None else self.convert_all(column)

    def convert_all(self, values: Any) -> torch.Tensor:
        labels = as_array(values)
        if labels.ndim > 1:
            vectors = torch.from_numpy(labels.astype(np.float32))
            self._check_shape(vectors[0] if len(vectors) else torch.zeros(self._n_classes))
            return self._smoothed(vectors)
        if len(labels) and labels.dtype.kind not in "iub":
            self._check(labels[0])
        labels = labels.astype(np.int64)
        unlabelled = self._keeps_unlabelled & (labels == -1)
        labelled = np.flatnonzero(~unlabelled)
        if len(labelled):
            self._check(labels[labelled].min())
            self._check(labels[labelled].max())
        vectors = torch.zeros(len(labels), self._n_classes)
        vectors[torch.from_numpy(labelled), torch.from_numpy(labels[labelled])] = 1.0
        vectors = self._smoothed(vectors)
        vectors[torch.from_numpy(unlabelled)] = -1.0
        return vectors

    def get_labels(self) -> NoReturn:
        raise InvalidItemError(
            f"the labels are vectors above {self._owner}; put wrappers that need class numbers "
            f"below it."
        )

    def fingerprint(self, raw: bool = False) -> str | None:
        inner = None if raw else self._inner.fingerprint()
        return digest("vectors", inner, str(self._n_classes), repr(self._smoothing))

    def _check_shape(self, vector: torch.Tensor) -> None:
        if vector.shape != (self._n_classes,):
            raise InvalidItemError(
                f"{self._owner} got a label of shape {tuple(vector.shape)}; expected a class "
                f"number, or a vector of n_classes={self._n_classes}."
            )

    def _check(self, label: Any) -> int:
        """Return a label as a class number; raise if it is none, such as 1.7."""
        try:
            number = operator.index(label)
        except TypeError:
            number = -1
        if not 0 <= number < self._n_classes:
            raise InvalidItemError(
                f"{self._owner} got the label {label}; expected a class from 0 to "
                f"{self._n_classes - 1}. Pass n_classes=, or renumber with RemapClassesWrapper."
            )
        return number

    def _smoothed(self, vectors: torch.Tensor) -> torch.Tensor:
        if not self._smoothing:
            return vectors
        return vectors * (1.0 - self._smoothing) + self._smoothing / self._n_classes
