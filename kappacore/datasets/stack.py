"""The stack of a dataset: what is wrapped around what, for programs and for people."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from kappacore._shown import shown
from kappacore.errors import EmptyDatasetError, KappaError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "describe",
    "describe_stack",
    "find_wrapper",
    "inner_datasets",
    "iter_wrappers",
    "refuse_empty",
]

T = TypeVar("T")

_LONGEST_LIST = 10
_UNSAID = ("dataset", "datasets", "is_random")


def iter_wrappers(dataset: Any) -> Iterator[Any]:
    """Yield everything that is around other datasets, the outermost first.

    Sources, which are around nothing, are not among them; ``dataset.root_dataset`` is the source.
    What is inside a concatenation comes one dataset after another.

    Args:
        dataset: Any dataset, such as a :class:`ModeWrapper`.

    Example::

        [type(wrapper).__name__ for wrapper in iter_wrappers(train)]
    """
    inside = inner_datasets(dataset)
    if inside:
        yield dataset
    for part in inside:
        yield from iter_wrappers(part)


def find_wrapper(dataset: Any, kind: type[T]) -> T | None:
    """Return the outermost wrapper of a type, or None if there is none.

    Args:
        dataset: Any dataset, such as a :class:`ModeWrapper`.
        kind: The class to look for; subclasses count.

    Example::

        find_wrapper(train, CacheWrapper).stats()
    """
    return next((part for part in iter_wrappers(dataset) if isinstance(part, kind)), None)


def describe_stack(dataset: Any, depth: int = 0) -> str:
    """Return a dataset and what is inside it as text, one part a line."""
    lines = [f"{'  ' * depth}{describe(dataset)}"]
    lines += [describe_stack(part, depth + 1) for part in inner_datasets(dataset)]
    return "\n".join(lines)


def describe(dataset: Any) -> str:
    """Return a dataset in one line: its class, the options it was made with, its length."""
    text = f"{type(dataset).__name__}({', '.join(_options(dataset))})"
    try:
        return f"{text} of {len(dataset)}"
    except (TypeError, KappaError):  # without a length, or empty and in the way of an epoch
        return text


def refuse_empty(dataset: Any) -> None:
    """Raise if a wrapper that chooses samples (``_kd_chooses``) has left none.

    Indices that were given are another matter: whoever gives none wants none.

    Raises:
        EmptyDatasetError: Naming the wrapper.
    """
    for part in iter_wrappers(dataset):
        if not getattr(type(part), "_kd_chooses", False) or len(part):
            continue
        before = sum(len(inner) for inner in inner_datasets(part))
        if before:
            raise EmptyDatasetError(
                f"There is no sample to read: {describe(part)} left none of the {before} below it. "
                f"Check its options, or skip this dataset while len() of it is 0."
            )


def inner_datasets(dataset: Any) -> list[Any]:
    """Return the datasets directly inside another: that of a wrapper, those of a concatenation."""
    if hasattr(type(dataset), "_kd_inside"):
        inside: list[Any] = dataset._kd_inside()
        return inside
    attributes = getattr(dataset, "__dict__", {})
    several = attributes.get("datasets")
    if isinstance(several, dict):  # of torch's StackDataset
        return list(several.values())
    if isinstance(several, (list, tuple)):
        return list(several)
    inner = attributes.get("dataset")
    return [] if isinstance(inner, str) or not hasattr(inner, "__getitem__") else [inner]


def _options(dataset: Any) -> Iterator[str]:
    """Yield the arguments of the constructor that the dataset has kept and that say something."""
    try:
        parameters = inspect.signature(type(dataset).__init__).parameters
    except (TypeError, ValueError):  # a class without a signature
        return
    attributes = getattr(dataset, "__dict__", {})
    for name, parameter in parameters.items():
        kept = name if name in attributes else f"_{name}"
        if kept in attributes and name not in _UNSAID:
            value = attributes[kept]
            if not _is_default(value, parameter.default):
                yield f"{name}={_in_short(name, value)}"


def _is_default(value: Any, default: Any) -> bool:
    plain = isinstance(value, (str, int, float)) and type(value) is type(default)
    return value is default or (plain and bool(value == default))


def _in_short(name: str, value: Any) -> str:
    if not isinstance(value, str) and hasattr(value, "__len__") and hasattr(value, "__iter__"):
        try:
            if len(value) > _LONGEST_LIST:
                return f"<{len(value)} values>"
        except TypeError:  # an array without dimensions
            pass
    return " ".join(shown(name, value).split())
