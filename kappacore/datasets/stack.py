"""The stack of a dataset: what is wrapped around what, for programs and for people."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from kappacore._shown import shown
from kappacore.errors import EmptyDatasetError, KappaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

__all__ = [
    "PassThrough",
    "StackPart",
    "describe",
    "describe_stack",
    "find_wrapper",
    "inside",
    "iter_wrappers",
    "refuse_empty",
    "walk",
]

T = TypeVar("T")

_LONGEST_LIST = 10
_NOT_SHOWN = ("dataset", "datasets", "is_random")


class StackPart:
    """A dataset that may be around others, and passes on what concerns the whole stack."""

    @property
    def is_random(self) -> bool:
        """True if the same index may give different values: random crops, even seeded ones."""
        return any(bool(getattr(dataset, "is_random", False)) for dataset in self._kd_inside())

    @property
    def root_dataset(self) -> Any:
        """The dataset at the bottom of the wrappers."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of every wrapper that draws anew in each epoch.

        Workers that are already running see it too. Call it on the outermost dataset, before
        iterating over the loader.

        Args:
            epoch: The epoch's number, starting at 0.
        """
        for dataset in self._kd_inside():
            if callable(getattr(dataset, "set_epoch", None)):
                dataset.set_epoch(epoch)

    def close(self) -> None:
        """Release the resources of the dataset and of those inside it. May be called twice."""
        with contextlib.ExitStack() as stack:  # closes all, even if one fails to
            for dataset in self._kd_inside():
                if callable(getattr(dataset, "close", None)):
                    stack.callback(dataset.close)

    def dispose(self) -> None:
        """Do the same as :meth:`close`."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Return the whole stack, one part a line, the outermost first."""
        return describe_stack(self)

    def __getattr__(self, name: str) -> Any:
        return object.__getattribute__(self, name)  # raises; subclasses look further

    def _kd_inside(self) -> list[Any]:
        """Return the datasets directly inside this one."""
        return []


class PassThrough(StackPart):
    """Forwards public attributes that it does not have itself to ``self.dataset``.

    Names with a leading underscore are never forwarded: a dunder of the dataset inside, such as
    ``__getitems__``, would make the DataLoader bypass this wrapper.
    """

    dataset: Any

    #: Whether setting a public attribute that only the dataset inside has sets it there.
    _kd_sets_inside = False

    @property
    def root_dataset(self) -> Any:
        """The dataset at the bottom of the wrappers."""
        return self.dataset.root_dataset

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or hasattr(type(self), name):
            return super().__getattr__(name)
        try:
            dataset = self.__dict__["dataset"]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}, and no dataset yet to look in: "
                f"call super().__init__(dataset) first."
            ) from None
        return getattr(dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._kd_sets_inside and not (
            name.startswith("_") or name in vars(self) or hasattr(type(self), name)
        ):
            dataset = vars(self).get("dataset")
            if dataset is not None and hasattr(dataset, name):
                setattr(_owner(dataset, name), name, value)
                return
        super().__setattr__(name, value)

    def _kd_inside(self) -> list[Any]:
        return [self.dataset]


def _owner(dataset: Any, name: str) -> Any:
    """Return the dataset that has an attribute, through wrappers that pass it on unchanged."""
    while isinstance(dataset, PassThrough) and not dataset._kd_sets_inside:
        inner = vars(dataset).get("dataset")
        own = name in vars(dataset) or hasattr(type(dataset), name)
        if own or getattr(inner, name, None) is not getattr(dataset, name):
            break
        dataset = inner
    return dataset


def inside(dataset: Any) -> list[Any]:
    """Return the datasets directly inside any dataset: kappacore's, torch's or another one.

    Those of others are their attributes ``dataset`` and ``datasets`` (a list, tuple or mapping),
    as in torch's ``Subset``, ``ConcatDataset``, ``StackDataset`` and ``DataLoader``.
    """
    if isinstance(dataset, StackPart):
        return dataset._kd_inside()
    attributes = getattr(dataset, "__dict__", {})
    parts = attributes.get("datasets")
    if isinstance(parts, Mapping):
        parts = list(parts.values())
    elif not isinstance(parts, (list, tuple)):
        parts = [attributes.get("dataset")]
    return [part for part in parts if hasattr(part, "__getitem__") and not isinstance(part, str)]


def walk(dataset: Any, depth: int = 0) -> Iterator[tuple[int, Any]]:
    """Yield a dataset and all that is inside it, each with its depth, the outermost first.

    The parts of a concatenation come one after another.
    """
    yield depth, dataset
    for part in inside(dataset):
        yield from walk(part, depth + 1)


def iter_wrappers(dataset: Any) -> Iterator[Any]:
    """Yield every dataset of the stack that is around others, the outermost first.

    Sources are left out, as nothing is inside them; ``dataset.root_dataset`` is the source. The
    parts of a concatenation come one after another.

    Args:
        dataset: Any dataset, such as a :class:`ModeWrapper`.

    Example::

        [type(wrapper).__name__ for wrapper in iter_wrappers(train)]
    """
    return (part for _, part in walk(dataset) if inside(part))


def find_wrapper(dataset: Any, kind: type[T]) -> T | None:
    """Return the outermost wrapper of a type, or None if there is none.

    Args:
        dataset: Any dataset, such as a :class:`ModeWrapper`.
        kind: The class to look for; subclasses count.

    Example::

        find_wrapper(train, CacheWrapper).stats()
    """
    return next((part for part in iter_wrappers(dataset) if isinstance(part, kind)), None)


def describe_stack(dataset: Any) -> str:
    """Return a text with one line for each part of the stack, indented by depth."""
    return "\n".join(f"{'  ' * depth}{describe(part)}" for depth, part in walk(dataset))


def describe(dataset: Any) -> str:
    """Return a dataset in one line: its class, the options it was made with, its length."""
    text = f"{type(dataset).__name__}({', '.join(_options(dataset))})"
    try:
        return f"{text} of {len(dataset)}"
    except (TypeError, KappaError):  # no length, or a ModeWrapper around an empty selection
        return text


def refuse_empty(dataset: Any) -> None:
    """Raise if a wrapper that selects samples by a rule (``_kd_selects``) has left none.

    An empty list of indices is no error: whoever passes one wants no samples.

    Raises:
        EmptyDatasetError: The message names the wrapper.
    """
    for part in iter_wrappers(dataset):
        if not getattr(type(part), "_kd_selects", False) or len(part):
            continue
        before = sum(map(len, inside(part)))
        if before:
            raise EmptyDatasetError(
                f"There is no sample to read: {describe(part)} left none of the {before} below it. "
                f"Check its options, or skip this dataset while len() of it is 0."
            )


def _options(dataset: Any) -> Iterator[str]:
    """Yield the constructor's arguments that the dataset has kept and that are not defaults."""
    try:
        parameters = inspect.signature(type(dataset).__init__).parameters
    except (TypeError, ValueError):  # a class without a signature
        return
    attributes = getattr(dataset, "__dict__", {})
    for name, parameter in parameters.items():
        kept = name if name in attributes else f"_{name}"
        if kept in attributes and name not in _NOT_SHOWN:
            value = attributes[kept]
            if not _is_default(value, parameter.default):
                yield f"{name}={_shorten(name, value)}"


def _is_default(value: Any, default: Any) -> bool:
    plain = isinstance(value, (str, int, float)) and type(value) is type(default)
    return value is default or (plain and bool(value == default))


def _shorten(name: str, value: Any) -> str:
    if not isinstance(value, str) and hasattr(value, "__len__") and hasattr(value, "__iter__"):
        with contextlib.suppress(TypeError):  # an array without dimensions
            if len(value) > _LONGEST_LIST:
                return f"<{len(value)} values>"
    return " ".join(shown(name, value).split())
