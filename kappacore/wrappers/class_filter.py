"""Keeping the samples of some classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kappacore.errors import InvalidOptionError
from kappacore.wrappers.labels import class_numbers, read_labels
from kappacore.wrappers.selection import SelectionWrapper

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kappacore.datasets.base import KDDataset


class ClassFilterWrapper(SelectionWrapper):
    """The samples of some classes, or of all but some, in their order.

    Labels keep their numbers, so ``n_classes`` and ``classes`` do not change;
    :class:`RemapClassesWrapper` renumbers them.

    Args:
        dataset: The dataset inside.
        valid_classes: The classes to keep, by number, or by name if the dataset has ``classes``
            or ``class_to_idx``; -1 is the label of samples that have none.
        invalid_classes: The classes to leave out. Exactly one of the two is required.
        label: The item that is the label; by default ``class`` if there is one, else ``y``.

    Raises:
        InvalidOptionError: Both or neither are given, or a class does not exist.
        MissingLabelsError: The dataset has no labels, or only by reading every sample.

    Example::

        ClassFilterWrapper(dataset, valid_classes=["cat", "dog"])
        ClassFilterWrapper(dataset, invalid_classes=[7])
    """

    def __init__(
        self,
        dataset: KDDataset,
        valid_classes: Iterable[int | str] | None = None,
        invalid_classes: Iterable[int | str] | None = None,
        *,
        label: str | None = None,
    ):
        keeps = valid_classes is not None
        if keeps == (invalid_classes is not None):
            given = "both" if keeps else "neither"
            raise InvalidOptionError(
                f"ClassFilterWrapper takes valid_classes= or invalid_classes=; got {given}."
            )
        self.label = label
        labels = read_labels(dataset, label, type(self).__name__)
        option = "valid_classes" if keeps else "invalid_classes"
        classes = valid_classes if keeps else invalid_classes
        numbers = class_numbers(dataset, label, classes, option, labels)
        self.valid_classes = numbers if keeps else None
        self.invalid_classes = None if keeps else numbers
        super().__init__(dataset, np.flatnonzero(np.isin(labels, numbers, invert=not keeps)))
