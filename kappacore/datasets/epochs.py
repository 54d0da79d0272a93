"""The epoch that a sample is read in: it comes with the sample's index.

A dataset remembers the epoch that was set last. Two loaders may read it in turns, though, and
workers are behind the sampler or ahead of the loop, so each index says which epoch it is of.
"""

from __future__ import annotations

import contextlib
import os
import threading
from contextvars import ContextVar
from itertools import groupby
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from kappacore.datasets.stack import StackPart, set_epoch, told_epoch, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "EpochIndex",
    "epoch_being_read",
    "epoch_keepers",
    "in_epochs",
    "reading_epoch",
    "tell_epoch",
    "with_epoch",
]

_PREFIX = "Epoch"

_being_read: ContextVar[int | None] = ContextVar("kappacore_epoch", default=None)
_classes: WeakValueDictionary[int, type[EpochIndex]] = WeakValueDictionary()
_one_at_a_time = threading.RLock()
_one_reads = threading.RLock()


class EpochIndex(int):
    """The index of a sample in an epoch: a plain integer but for its attribute ``epoch``.

    There is a class for each epoch, as an attribute of each index would take several times as long
    to make. :func:`with_epoch` makes them; a pickle finds its class by the name ``Epoch<number>``.
    """

    __slots__ = ()
    epoch: int


def _class_of(epoch: int) -> type[EpochIndex]:
    with _one_at_a_time:
        found = _classes.get(epoch)
        if found is None:
            names = {"__slots__": (), "__module__": __name__, "epoch": epoch}
            found = _classes[epoch] = type(f"{_PREFIX}{epoch}", (EpochIndex,), names)
        return found


def __getattr__(name: str) -> Any:
    number = name.removeprefix(_PREFIX)
    if number != name and number.isdecimal():
        return _class_of(int(number))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def with_epoch(indices: Iterable[int], epoch: int) -> list[int]:
    """Return indices that say which epoch they are of."""
    return [*map(_class_of(epoch), indices)]


def in_epochs(indices: Any) -> list[tuple[int | None, Sequence[int]]]:
    """Return the indices in groups of one epoch each, in their order, as plain integers.

    Args:
        indices: Any sequence of indices.

    Returns:
        Pairs of an epoch and indices; the epoch is None where the indices do not say it.
    """
    kinds = set(map(type, indices)) if isinstance(indices, (list, tuple)) else ()
    if not any(issubclass(kind, EpochIndex) for kind in kinds):
        return [(None, indices)]
    return [
        (getattr(kind, "epoch", None), [*map(int, group)]) for kind, group in groupby(indices, type)
    ]


def epoch_being_read() -> int | None:
    """Return the epoch of the samples that this thread reads; None if their indices do not say."""
    return _being_read.get()


def epoch_keepers(dataset: Any) -> list[Any]:
    """Return the parts of a stack that are not kappacore's and have a ``set_epoch`` of their own.

    They know the epoch that was set last, and not that of the samples being read.
    """
    return [part for _, part in walk(dataset) if _keeps_epoch(part)]


def tell_epoch(dataset: Any, epoch: int) -> None:
    """Set the epoch of any dataset and of those inside it, between what threads read.

    Args:
        dataset: The dataset; one of torch's, such as ``Subset``, passes it on too.
        epoch: From 0.
    """
    with _one_reads:
        set_epoch(dataset, epoch)


@contextlib.contextmanager
def reading_epoch(dataset: Any, keepers: Sequence[Any], epoch: int | None) -> Iterator[None]:
    """Let what is read from a dataset in a block be of an epoch.

    Args:
        dataset: The dataset.
        keepers: Its :func:`epoch_keepers`. They are told the epoch unless they know it, and threads
            take turns.
        epoch: The epoch; None: whichever was set.
    """
    if epoch is None:
        yield
        return
    token = _being_read.set(epoch)
    try:
        with _one_reads if keepers else contextlib.nullcontext():
            if any(told_epoch(part) != epoch for part in keepers):
                set_epoch(dataset, epoch)
            yield
    finally:
        _being_read.reset(token)


def _keeps_epoch(part: Any) -> bool:
    own = getattr(type(part), "set_epoch", StackPart.set_epoch)
    return not str(getattr(own, "__module__", "")).startswith("kappacore.")


def _renew_locks() -> None:
    """Replace the locks in a forked process: the thread that held one is not there."""
    global _one_at_a_time, _one_reads
    _one_at_a_time, _one_reads = threading.RLock(), threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
