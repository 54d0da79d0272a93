"""The stack of a dataset: what is wrapped around what, for programs and for people."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from torch.utils.data import Dataset

from kappacore._shown import shown
from kappacore.errors import EmptyDatasetError, KappaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

T = TypeVar("T")

_LONGEST_LIST = 10
MOST_SEARCHED = 1000  # entries of a list, tuple or dict that may hold datasets
_NOT_SHOWN = ("dataset", "datasets", "is_random")


class StackPart:
    """A dataset that may be around others, and passes on what concerns the whole stack."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if inspect.isfunction(vars(cls).get("dispose")):
            cls.dispose = _with_close(vars(cls)["dispose"])  # type: ignore[method-assign]
        if inspect.isfunction(vars(cls).get("set_epoch")):
            cls.set_epoch = _noting(vars(cls)["set_epoch"])  # type: ignore[method-assign]

    def inner_datasets(self) -> Iterable[Any]:
        """Return the datasets directly inside this one.

        What concerns the whole stack reaches them: :attr:`is_random`, :meth:`set_epoch` and
        :meth:`close`. By default these are all datasets in the attributes, and in lists, tuples
        and dicts of at most 1,000 entries there. Override it to say otherwise: ``return []``
        for datasets that are only borrowed.
        """
        return held_datasets(self)

    @property
    def is_random(self) -> bool:
        """True if the same index may give different values: random crops, even seeded ones."""
        with _tour("is_random", self) as met:
            return any(bool(part.is_random) for part in _reach(self, "is_random", met))

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
        with _tour("set_epoch", self) as met:
            for part in _reach(self, "set_epoch", met):
                part.set_epoch(epoch)
                _note_epoch(part, epoch)

    def close(self) -> None:
        """Release the resources of the dataset and of those inside it. May be called twice.

        A :meth:`dispose` of a class's own is called too.
        """
        with _tour("close", self) as met, contextlib.ExitStack() as stack:
            met["closed", id(self)] = self
            for part in _reach(self, "close", met):
                stack.callback(part.close)  # closes all, even if one fails to
            if ("disposed", id(self)) not in met:
                met["disposed", id(self)] = self
                if type(self).dispose is not StackPart.dispose:
                    stack.callback(self.dispose)

    def dispose(self) -> None:
        """Do the same as :meth:`close`."""
        with _tour("close", self) as met:
            met["disposed", id(self)] = self
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


class PassThrough(StackPart):
    """Forwards public attributes that it does not have itself to ``self.dataset``.

    Names with a leading underscore are never forwarded: a dunder of the dataset inside, such as
    ``__getitems__``, would make the DataLoader bypass this wrapper. Nor are the ``indices`` of a
    subset: they are indices into the dataset inside that subset.
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
        if name == "indices":
            raise AttributeError(
                f"{type(self).__name__} has no indices: those of a subset belong to its own "
                f"`dataset`. Use .dataset.indices, or root_indices into .root."
            )
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

    def inner_datasets(self) -> Iterable[Any]:
        """Return the dataset inside, and all others in the attributes."""
        return [self.dataset, *held_datasets(self, besides=[self.dataset])]


def _with_close(dispose: Callable[..., None]) -> Callable[..., None]:
    """Return a ``dispose`` of a class's own that closes as well, each once."""

    @functools.wraps(dispose)
    def disposing(self: StackPart, *args: Any, **options: Any) -> None:
        with _tour("close", self) as met:
            first = ("disposed", id(self)) not in met
            met["disposed", id(self)] = self
            dispose(self, *args, **options)
            if first and ("closed", id(self)) not in met:
                self.close()

    return disposing


def _noting(set_epoch: Callable[..., None]) -> Callable[..., None]:
    """Return a ``set_epoch`` of a class's own that notes the epoch, for :func:`told_epoch`."""

    @functools.wraps(set_epoch)
    def setting(self: StackPart, epoch: int) -> None:
        set_epoch(self, epoch)
        _note_epoch(self, epoch)

    return setting


_tours = threading.local()


@contextlib.contextmanager
def _tour(operation: str, start: Any) -> Iterator[dict[Any, Any]]:
    """Hold what an operation has met on its way through a stack, so that it meets each once.

    The way begins with the outermost call; those inside it in this thread go on with it.
    """
    met = getattr(_tours, operation, None)
    if met is not None:
        yield met
        return
    met = {id(start): start}  # with the objects: an id is that of another one later
    setattr(_tours, operation, met)
    try:
        yield met
    finally:
        delattr(_tours, operation)


def _reach(dataset: Any, name: str, met: dict[Any, Any]) -> Iterator[Any]:
    """Yield the nearest datasets inside that have an attribute and were not met before."""
    for part in inside(dataset):
        if id(part) in met:
            continue
        met[id(part)] = part
        if isinstance(part, StackPart) or hasattr(part, name):
            yield part
        else:
            yield from _reach(part, name, met)


def set_epoch(dataset: Any, epoch: int) -> None:
    """Set the epoch of any dataset, or of those inside it that have one, as in torch's ``Subset``.

    Args:
        dataset: The dataset.
        epoch: From 0.
    """
    with _tour("set_epoch", dataset) as met:
        whole = hasattr(dataset, "set_epoch")
        for part in [dataset] if whole else _reach(dataset, "set_epoch", met):
            part.set_epoch(epoch)
            _note_epoch(part, epoch)


def told_epoch(dataset: Any) -> int | None:
    """Return the epoch that a dataset with a ``set_epoch`` of its own was told last, if it was."""
    epoch: int | None = getattr(dataset, "__dict__", {}).get("_kd_epoch")
    return epoch


def _note_epoch(dataset: Any, epoch: int) -> None:
    if hasattr(dataset, "__dict__"):
        vars(dataset)["_kd_epoch"] = epoch


def held_datasets(owner: Any, besides: Iterable[Any] = ()) -> list[Any]:
    """Return the datasets in the attributes of an object, each once.

    Those in a list, tuple or dict there count, if it has at most 1,000 entries.

    Args:
        owner: The object.
        besides: Datasets to leave out.
    """
    seen = {id(owner), *map(id, besides)}
    found = []
    for name, value in vars(owner).items():
        if name.startswith("_kd_"):
            continue
        entries: Iterable[Any] = (value,)
        if isinstance(value, (list, tuple, dict)):
            if len(value) > MOST_SEARCHED:
                continue
            entries = value.values() if isinstance(value, dict) else value
        for entry in entries:
            if isinstance(entry, (StackPart, Dataset)) and id(entry) not in seen:
                seen.add(id(entry))
                found.append(entry)
    return found


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
    as in torch's ``Subset``, ``ConcatDataset``, ``StackDataset`` and ``DataLoader``; and what any
    other dataset of torch's holds.
    """
    if isinstance(dataset, StackPart):
        return list(dataset.inner_datasets())
    attributes = getattr(dataset, "__dict__", {})
    parts = attributes.get("datasets")
    if isinstance(parts, Mapping):
        parts = list(parts.values())
    elif not isinstance(parts, (list, tuple)):
        parts = [attributes.get("dataset")]
    found = [part for part in parts if hasattr(part, "__getitem__") and not isinstance(part, str)]
    return [*found, *held_datasets(dataset, found)] if isinstance(dataset, Dataset) else found


def walk(dataset: Any, _above: tuple[Any, ...] = ()) -> Iterator[tuple[int, Any]]:
    """Yield a dataset and all that is inside it, each with its depth, the outermost first.

    The parts of a concatenation come one after another. A dataset that is inside itself is not
    entered again.
    """
    yield len(_above), dataset
    above = (*_above, dataset)
    for part in inside(dataset):
        if not any(part is each for each in above):
            yield from walk(part, above)


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
