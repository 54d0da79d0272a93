"""Labels and classes for wrappers: all labels at once, without reading a sample."""

from __future__ import annotations

import contextlib
import difflib
import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.datasets.base import KDDataset, check_dataset
from kappacore.datasets.columns import are_names
from kappacore.datasets.items import Item, find_item, list_items, read_one_by_one
from kappacore.errors import InvalidItemError, InvalidOptionError, KappaError, MissingLabelsError

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray

_SHOWN = 10
_UNLABELLED = -1  # the usual label of samples without one, whether or not there are any


def find_label(dataset: KDDataset, label: str | None, owner: str) -> tuple[str, Item]:
    """Return the item that is the label: ``class`` if the dataset has it, else ``y``.

    Args:
        dataset: The dataset.
        label: The item's name, if it is another one.
        owner: The class or function that needs it, for the error message.

    Returns:
        The item's name and the item.

    Raises:
        MissingLabelsError: The dataset has neither.
        UnknownItemError: The dataset has no item ``label``.
    """
    check_dataset(dataset, owner)
    name = _main_label(dataset) if label is None else label
    if name is not None:
        return name, find_item(dataset, name)
    raise MissingLabelsError(
        f"{owner} needs labels, but {type(dataset).__name__} has neither an item 'class' nor 'y'; "
        f"{list_items(dataset)}. Name the item that is the label: label='...'."
    )


def read_labels(dataset: KDDataset, label: str | None, owner: str) -> IntArray:
    """Return the labels of all samples: integers of shape ``(N,)``.

    Args:
        dataset: The dataset.
        label: See :func:`find_label`.
        owner: The class or function that needs them, for the error message.

    Raises:
        MissingLabelsError: There are none, or only by reading every sample.
        InvalidItemError: They are not integers.
    """
    name, item = find_label(dataset, label, owner)
    try:
        labels = item.get_labels()
        if labels is None:
            labels = _read_one_by_one(dataset, name, item, owner)
    except KappaError:
        raise
    except ValueError as error:  # numpy's, of values that make no array
        raise InvalidItemError(
            f"{owner} cannot use item {name!r} of {type(dataset).__name__} as labels: {error}"
        ) from error
    if labels.ndim == 1 and (labels.dtype.kind in "iub" or not labels.size):
        return labels.astype(np.int64, copy=False)
    raise InvalidItemError(
        f"{owner} needs labels that are integers; item {name!r} of {type(dataset).__name__} is an "
        f"array of {labels.dtype} of shape {labels.shape}. Put {owner} below the wrapper "
        f"that converts the class numbers, or name the item that has them: label='...'."
    )


def _main_label(dataset: KDDataset) -> str | None:
    return next((name for name in ("class", "y") if dataset._kd_item(name) is not None), None)


def _read_one_by_one(dataset: KDDataset, name: str, item: Item, owner: str) -> IntArray:
    if item.reads_samples:
        raise MissingLabelsError(
            f"{owner} needs the labels of all samples, and item {name!r} is known only by reading "
            f"each of the {len(dataset)} samples whole. Pass the labels to "
            f"as_kd(dataset, labels='targets'): the name of an attribute, or an array."
        )
    labels = read_one_by_one(item, name, len(dataset))
    return np.asarray(labels) if labels else np.empty(0, np.int64)


def is_described(dataset: KDDataset, label: str | None) -> bool:
    """Return whether ``classes`` and ``n_classes`` of a dataset describe this label."""
    return label is None or label == _main_label(dataset)


def class_counts(dataset: KDDataset, label: str | None = None) -> IntArray:
    """Return how many samples each class has.

    Takes one call where the dataset defines ``getall_class``. Otherwise the labels are read one by
    one, which takes about as long as an epoch that reads nothing else.

    Args:
        dataset: The dataset.
        label: The item that is the label; by default ``class`` if there is one, else ``y``.

    Returns:
        The number of samples by class, of shape ``(n_classes,)``; without an ``n_classes``, up to
        the largest label. Negative labels, as of samples without one, are not counted.

    Raises:
        MissingLabelsError: The dataset has no labels, or only by reading every sample.
    """
    labels = read_labels(dataset, label, "class_counts")
    return np.bincount(labels[labels >= 0], minlength=count_classes(dataset, label) or 0)


def count_classes(dataset: KDDataset, label: str | None) -> int | None:
    """Return ``n_classes`` of a dataset, else the length of its ``classes``, else None."""
    if not is_described(dataset, label):
        return None
    number = getattr(dataset, "n_classes", None)
    if number is None:
        names = class_names(dataset)
        return None if names is None else len(names)
    return int(number)


def class_names(dataset: KDDataset) -> Any:
    """Return ``classes`` of a dataset; None without, or where these are labels of the samples."""
    names = getattr(dataset, "classes", None)
    return names if hasattr(names, "__len__") and are_names(dataset) else None


def class_numbers(
    dataset: KDDataset,
    label: str | None,
    classes: Any,
    option: str,
    labels: IntArray | None = None,
) -> list[int]:
    """Return the numbers of classes that are given by number or by name.

    Args:
        dataset: The dataset that has the names.
        label: The item that is the label; see :func:`find_label`.
        classes: The option's value: an iterable of integers and names.
        option: The option's name, for the error message.
        labels: All labels, to refuse classes that are neither below ``n_classes`` nor among them;
            -1 is allowed always.

    Raises:
        InvalidOptionError: ``classes`` is no such iterable, or a class does not exist.
    """
    if isinstance(classes, (str, bytes, Mapping)) or not isinstance(classes, Iterable):
        raise InvalidOptionError(
            f"{option}={classes!r} is no list of classes; expected numbers or names, such as "
            f"{option}=[0, 1]."
        )
    given = list(classes)
    named: dict[str, list[int]] = {}
    if is_described(dataset, label) and any(isinstance(each, str) for each in given):
        named = _numbers_by_name(dataset)
    numbers = [_class_number(dataset, each, named, option) for each in given]
    if labels is None:
        return numbers
    total = count_classes(dataset, label) or 0
    for number in numbers:
        exists = number == _UNLABELLED or 0 <= number < total
        if not exists and not (labels == number).any():
            known = sorted({*range(total), *np.unique(labels).tolist()})
            raise InvalidOptionError(
                f"{option}={shorten(numbers)} has {number}, which is no class of "
                f"{type(dataset).__name__}: its classes are {_as_range(known)}."
            )
    return numbers


def shorten(values: list[Any]) -> str:
    """Return the first few values as text."""
    shown = ", ".join(map(repr, values[:_SHOWN]))
    return f"[{shown}, … ({len(values)} in all)]" if len(values) > _SHOWN else f"[{shown}]"


def _class_number(dataset: KDDataset, given: Any, named: dict[str, list[int]], option: str) -> int:
    if not isinstance(given, str):
        if not isinstance(given, bool) and getattr(given, "ndim", 0) == 0:
            with contextlib.suppress(TypeError):
                return operator.index(given)
        raise InvalidOptionError(
            f"{option} has {given!r}; expected the number or the name of a class."
        )
    numbers = named.get(given, [])
    if len(numbers) == 1:
        return numbers[0]
    if numbers:
        raise InvalidOptionError(
            f"{option} has {given!r}, which is the name of several classes: {numbers}. "
            f"Use their numbers."
        )
    close = difflib.get_close_matches(given, named, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    known = f"there are {shorten(list(named))}" if named else "there are no names (`classes`)"
    if not named and not are_names(dataset):
        known = "its `classes` are no names of classes"
    raise InvalidOptionError(
        f"{option} has {given!r}, which is the name of no class of {type(dataset).__name__}: "
        f"{known}.{hint}"
    )


def _numbers_by_name(dataset: KDDataset) -> dict[str, list[int]]:
    """Return the numbers of the classes of each name; a class may have several names."""
    named: dict[str, list[int]] = {}
    names = class_names(dataset)
    for number, name in enumerate(() if names is None else names):
        named.setdefault(name, []).append(number)
    by_name = getattr(dataset, "class_to_idx", None)
    if isinstance(by_name, Mapping):
        for name, number in by_name.items():
            named.setdefault(name, [number])
    return {name: numbers for name, numbers in named.items() if isinstance(name, str)}


def _as_range(numbers: list[int]) -> str:
    if not numbers:
        return "none"
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return shorten(numbers)
