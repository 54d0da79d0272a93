"""Labels as vectors: one-hot, and smoothed."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from kappacore.datasets.base import KDDataset, KDWrapper
from kappacore.datasets.digest import digest
from kappacore.datasets.forms import own_item
from kappacore.datasets.items import Ctx, Item
from kappacore.errors import InvalidItemError, InvalidOptionError
from kappacore.wrappers.options import as_share, as_whole
from kappacore.wrappers.labels import count_classes, find_label

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LabelSmoothingWrapper", "OneHotWrapper"]


class OneHotWrapper(KDWrapper):
    """A dataset whose labels are one-hot vectors: float32 tensors of shape ``(n_classes,)``.

    Wrappers that go by labels belong below it.

    Args:
        dataset: The dataset inside.
        n_classes: How many classes there are; default: the dataset's ``n_classes``, or the length
            of its ``classes``.
        label: The item that is the label; by default ``class`` where there is one, else ``y``.

    Raises:
        InvalidOptionError: Nothing says how many classes there are.
        MissingLabelsError: The dataset has neither an item ``class`` nor ``y``.
    """

    smoothing = 0.0

    def __init__(
        self, dataset: KDDataset, n_classes: int | None = None, *, label: str | None = None
    ):
        super().__init__(dataset)
        self.label = find_label(dataset, label, type(self).__name__)[0]
        number = count_classes(dataset, label) if n_classes is None else n_classes
        if number is None:
            raise InvalidOptionError(
                f"{type(self).__name__} cannot tell how many classes there are: "
                f"{type(dataset).__name__} has neither n_classes nor classes for item "
                f"{self.label!r}. Give n_classes=."
            )
        self.n_classes = as_whole(number, "n_classes", least=1)

    def _kd_item(self, name: str) -> Item | None:
        inner = self.dataset._kd_item(name)
        if name != self.label or inner is None or own_item(self, name) is not None:
            return super()._kd_item(name)
        return _VectorItem(inner, self.n_classes, self.smoothing, type(self).__name__)


class LabelSmoothingWrapper(OneHotWrapper):
    """A dataset whose labels are smoothed: ``(1 - smoothing) * one_hot + smoothing / n_classes``.

    Of labels that are vectors already it smooths these. The method is that of Szegedy et al.,
    "Rethinking the Inception Architecture for Computer Vision", 2016, section 7.

    Args:
        dataset: The dataset inside.
        smoothing: How much of the probability is spread over all classes, from 0 to 1.
        n_classes: See :class:`OneHotWrapper`.
        label: See :class:`OneHotWrapper`.

    Raises:
        InvalidOptionError: ``smoothing`` is outside 0 to 1, or nothing says how many classes
            there are.
        MissingLabelsError: The dataset has neither an item ``class`` nor ``y``.
    """

    def __init__(
        self,
        dataset: KDDataset,
        smoothing: float = 0.1,
        n_classes: int | None = None,
        *,
        label: str | None = None,
    ):
        super().__init__(dataset, n_classes, label=label)
        self.smoothing = as_share(smoothing, "smoothing")


class _VectorItem(Item):
    """A label as a vector."""

    def __init__(self, inner: Item, n_classes: int, smoothing: float, owner: str):
        self._inner = inner
        self._n_classes = n_classes
        self._smoothing = smoothing
        self._owner = owner
        self.reads_samples = inner.reads_samples

    def get(self, idx: int, ctx: Ctx | None = None) -> torch.Tensor:
        return self._vector(self._inner.get(idx, ctx))

    def get_batch(
        self, indices: Sequence[int], ctxs: Sequence[Ctx | None] | None = None
    ) -> list[torch.Tensor]:
        return list(map(self._vector, self._inner.get_batch(indices, ctxs)))

    def get_all(self) -> Any:
        column = self._inner.get_all()
        if column is None:
            return None
        labels = np.asarray(column.detach().cpu() if isinstance(column, torch.Tensor) else column)
        if labels.ndim > 1:
            vectors = torch.from_numpy(labels.astype(np.float32))
            self._check_shape(vectors[0] if len(vectors) else torch.zeros(self._n_classes))
            return self._smoothed(vectors)
        if len(labels):
            if labels.dtype.kind not in "iub":
                self._check(labels[0])
            self._check(labels.min())
            self._check(labels.max())
        vectors = torch.zeros(len(labels), self._n_classes)
        vectors[torch.arange(len(labels)), torch.from_numpy(labels.astype(np.int64))] = 1.0
        return self._smoothed(vectors)

    def get_labels(self) -> NoReturn:
        raise InvalidItemError(
            f"the labels are vectors above {self._owner}; put what goes by labels below it."
        )

    def fingerprint(self, raw: bool = False) -> str | None:
        inner = None if raw else self._inner.fingerprint()
        if inner is None:
            return None
        return digest("vectors", inner, str(self._n_classes), repr(self._smoothing))

    def _vector(self, value: Any) -> torch.Tensor:
        if getattr(value, "ndim", 0) or isinstance(value, (list, tuple)):
            vector = torch.as_tensor(value, dtype=torch.float32)
            self._check_shape(vector)
        else:
            vector = torch.zeros(self._n_classes)
            vector[self._check(value)] = 1.0
        return self._smoothed(vector)

    def _check_shape(self, vector: torch.Tensor) -> None:
        if vector.shape != (self._n_classes,):
            raise InvalidItemError(
                f"{self._owner} got a label of shape {tuple(vector.shape)}; expected a class "
                f"number, or a vector of n_classes={self._n_classes}."
            )

    def _check(self, label: Any) -> int:
        """Return a label as a class number; 1.7 is none."""
        try:
            number = operator.index(label)
        except TypeError:
            number = -1
        if not 0 <= number < self._n_classes:
            raise InvalidItemError(
                f"{self._owner} got the label {label}; expected a class from 0 to "
                f"{self._n_classes - 1}. Give n_classes=, or new numbers with RemapClassesWrapper."
            )
        return number

    def _smoothed(self, vectors: torch.Tensor) -> torch.Tensor:
        if not self._smoothing:
            return vectors
        return vectors * (1.0 - self._smoothing) + self._smoothing / self._n_classes
