"""The interface of cache backends: bytes under integer keys, in one namespace."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kappacore.errors import BrokenPluginError, CacheError
from kappacore.plugins.options import GIVEN, check_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np

    from kappacore.machine.claims import Load
    from kappacore.machine.processes import Claimant
    from kappacore.plugins import PluginRef

__all__ = [
    "BackendInfo",
    "Buffer",
    "CacheBackend",
    "FailedKeysError",
    "Located",
    "Scope",
    "backend_class",
    "takes_keep",
]

#: What a value is stored from and read as.
Buffer = bytes | bytearray | memoryview
Scope = Literal["process", "machine", "network"]


@dataclass(frozen=True, kw_only=True)
class BackendInfo:
    """How full one namespace of a backend is.

    Args:
        namespace: The namespace.
        entries: The number of values stored.
        bytes: The memory taken by the values and their bookkeeping, in bytes.
        capacity: The limit on ``bytes``; None if there is none.
        full: True once a value was refused for want of room.
        where: Where the values are, for people: a folder, an address, a process.
        dataset: The dataset of the samples, for people; empty if unknown.
        users: The number of processes that use the namespace now; None if unknown, as are the
            next two.
        last_used: When it was used last, in seconds since 1970.
        kept_until: When it is removed if nobody uses it any more, in seconds since 1970; ``0``:
            with its last user, ``inf``: only when cleared.
        advice: What slows it down and what to do about it, for people; empty if nothing does.
    """

    namespace: str
    entries: int
    bytes: int
    capacity: int | None
    full: bool
    where: str
    dataset: str = ""
    users: int | None = None
    last_used: float | None = None
    kept_until: float | None = None
    advice: str = ""


@dataclass(frozen=True, eq=False)
class Located:
    """Where the values of some keys lie in memory.

    A region is a block of memory with many values: a mapped file, or a large allocation. It stays
    mapped, and the values in it unchanged, as long as somebody holds the buffer. One region is the
    same object in every answer, as readers note what they have checked in it, and devices register
    it; a region that was mapped anew is another object.

    Args:
        regions: The regions that the other fields refer to, as buffers of bytes that cannot be
            written.
        filled: For each region, how many bytes from its start may hold values by now.
        region: (N,) int64; for each key the number of the region, ``-1`` if the key is absent.
        offset: (N,) int64; where the value begins in its region, in bytes.
        size: (N,) int64; the size of the value in bytes; or a function that returns the sizes, as
            they are asked for only where values are new to this process. A value that was damaged
            has the size 0, so that it fails its check and is replaced.
    """

    regions: tuple[memoryview, ...]
    filled: tuple[int, ...]
    region: np.ndarray[Any, np.dtype[np.int64]]
    offset: np.ndarray[Any, np.dtype[np.int64]]
    size: np.ndarray[Any, np.dtype[np.int64]] | Callable[[], np.ndarray[Any, np.dtype[np.int64]]]

    def sizes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the sizes of the values in bytes, (N,) int64."""
        return self.size() if callable(self.size) else self.size


class FailedKeysError(CacheError):
    """A backend failed for some keys alone. Those are counted, and read from their source.

    Args:
        answers: What the method that raises this would return, with an exception in place of each
            answer that could not be given.
    """

    def __init__(self, answers: list[Any]) -> None:
        super().__init__(answers)
        self.answers = answers
        self.reasons = [answer for answer in answers if isinstance(answer, Exception)]
        if not self.reasons:
            raise TypeError("a FailedKeysError needs an exception among its answers")

    def __str__(self) -> str:
        first = self.reasons[0]
        return (
            f"{len(self.reasons)} keys failed, the first one with {type(first).__name__}: {first}"
        )


class CacheBackend(ABC):
    """Stores bytes under the integer keys ``0 … length - 1`` of one namespace.

    Only :meth:`get` and :meth:`put` must be written, and :meth:`clear` where entries outlive the
    process. The engine opens one instance per process and never uses it in a forked child; it
    calls one method at a time unless ``thread_safe`` is True. A returned buffer stays valid and
    unchanged as long as it is referenced, across put, clear and close.

    What a method raises ends no run: the source is read, and the backend tried again later. Errors
    of :mod:`kappacore.errors` say what only the user can mend, and are raised, a ``StorageError``
    only where the cache is made. A :class:`FailedKeysError` says that the backend failed for some
    keys alone. The engine cannot interrupt a call, so give it a time-out.

    A backend whose ``__init__`` has a parameter ``keep`` removes its entries itself: ``keep`` is
    the number of seconds that they stay after their last user (``0``: not at all, ``inf``: until
    they are cleared). Otherwise the engine clears the entries when the last process of the machine
    that used them leaves.

    Args:
        namespace: Matches ``[a-z0-9._-]{1,100}``; nothing is shared between namespaces.
        length: The number of keys that may come: one a sample, and two for the engine. It is the
            same in all processes that open the namespace.
        **options: The backend's own, as the user gave them.

    Example::

        class DictBackend(CacheBackend):
            scope = "process"

            def __init__(self, namespace, length):
                self.values = {}

            def get(self, key):
                return self.values.get(key)

            def put(self, key, value):
                self.values[key] = b"".join(value)
                return True
    """

    #: Who sees an entry: this process, all processes of the machine, or all machines.
    scope: ClassVar[Scope]
    #: True if a value may change between two reads, as on a disk or behind a network: its digest
    #: is then checked at each. May be set on the instance; always so where the scope is network.
    verify_always: bool = False
    #: True if several threads may call one instance at the same time.
    thread_safe: ClassVar[bool] = False
    #: Seconds that the engine leaves the backend alone after it raised; None: 5. May be set on the
    #: instance; shorter where a try costs next to nothing, as one that asks who has taken over.
    retry_after: float | None = None

    @abstractmethod
    def __init__(self, namespace: str, length: int, **options: Any) -> None: ...

    @classmethod
    def prepare(cls, **options: Any) -> dict[str, Any]:
        """Return the options to open instances with; called once, where a cache is made.

        All processes that use the cache open it with these options, which may hold the address of
        something that was found or started here. Raise here the errors that only the user can fix.

        Args:
            **options: As the user gave them, already checked against the signature.
        """
        return options

    @classmethod
    def is_temporary(cls, **options: Any) -> bool:  # noqa: ARG003
        """Return whether all entries disappear with the process that made the cache.

        If so, the engine does not record private namespaces for clearing after a kill.

        Args:
            **options: As returned by :meth:`prepare`.
        """
        return False

    @abstractmethod
    def get(self, key: int) -> Buffer | None:
        """Return the value of a key, or None if it is absent.

        Args:
            key: From 0 to ``length - 1``.

        Returns:
            A buffer that does not change while it is referenced. An empty value is not None.
        """

    @abstractmethod
    def put(self, key: int, value: Sequence[Buffer]) -> bool:
        """Store the pieces of one value as one, replacing an older one.

        Args:
            key: From 0 to ``length - 1``.
            value: The pieces, to be joined and copied.

        Returns:
            False if there is no room. That is not an error: the sample is read from its source.
        """

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        """Return the values of several keys, in one operation where the backend can.

        Args:
            keys: Keys that may repeat.

        Returns:
            For each key what :meth:`get` returns.
        """
        return [self.get(key) for key in keys]

    def locate_many(self, keys: np.ndarray[Any, np.dtype[np.int64]]) -> Located | None:  # noqa: ARG002
        """Return where the values of ``keys`` lie, to be gathered without a look at each.

        Only a backend whose values lie in memory can define it, and only if they stay there
        unchanged as long as the region is referenced, across put, clear and close. It must not run
        Python code for each key: a batch of 512 has a few microseconds.

        Args:
            keys: (N,) int64; may repeat.

        Returns:
            None if the backend cannot; samples are then read one by one.
        """
        return None

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        """Store several values, in one operation where the backend can.

        Args:
            items: Pairs of a key and the pieces of its value.

        Returns:
            For each pair what :meth:`put` returns.
        """
        return [self.put(key, value) for key, value in items]

    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:  # noqa: ARG002
        """Claim ``keys`` before loading them, or renew the claims of this process.

        If a backend does not define it, the engine keeps claims among the processes of one
        machine. So only a backend that several machines share needs it.

        Args:
            keys: Keys that were found absent.
            ttl: Seconds after which a claim that was not renewed is void.

        Returns:
            For each key False if another process is loading it or has stored it meanwhile.
        """
        return [True] * len(keys)

    def release_many(self, keys: Sequence[int]) -> None:  # noqa: B027 - optional
        """Release claims of this process, whether the values were stored or not.

        Args:
            keys: Keys that this process has claimed.
        """

    def claimants(self, keys: Sequence[int]) -> list[Claimant | None]:
        """Return who has claimed ``keys``, to tell those who wait; None where that is unknown.

        Asked only when a wait has become long.

        Args:
            keys: Keys that others are loading.
        """
        return [None] * len(keys)

    def begin_load(self) -> Load | None:
        """Return a load of this machine that claims end with; None if they end with their ttl.

        The engine then gives the load to ``claim_many`` and ``release_many`` as another argument,
        renews nothing, and closes the load in the end. For backends that keep
        :class:`kappacore.plugin_api.ClaimWords` in memory of their own.
        """
        return None

    def clear(self) -> None:
        """Remove all entries of this namespace, for all its users, and nothing else.

        Raises:
            BrokenPluginError: The backend does not define it.
        """
        raise BrokenPluginError(
            f"The cache backend {type(self).__name__} cannot be cleared: it does not define "
            f"clear(). Define it, or use another backend."
        )

    def generation(self) -> object:
        """Return what changes whenever anybody clears the namespace; None if that is not known.

        As the last look-up has found it: nothing is asked for. It spares the engine a look, at each
        miss, whether the namespace was cleared.
        """
        return None

    def close(self) -> None:  # noqa: B027 - optional
        """Release all resources. May be called more than once."""

    def info(self) -> BackendInfo | None:
        """Return how full this namespace is; None if unknown."""
        return None

    # ---- for ``kappacore cache``: without an instance, and without counting as a user

    @classmethod
    def namespaces(cls, **options: Any) -> Iterable[BackendInfo]:  # noqa: ARG003
        """Return all namespaces, used or not.

        Listing them does not count as use, so it does not extend their ``keep``.
        :func:`kappacore.caching.identity.header.dataset_of` returns the dataset of a namespace.

        Args:
            **options: Those of ``__init__``, already checked against its signature. Name those
                that locate the entries, such as a path, and ignore the others.

        Example::

            @classmethod
            def namespaces(cls, *, path=None, **options):
                for folder in Path(path).iterdir():
                    sizes = [file.stat().st_size for file in folder.iterdir()]
                    yield BackendInfo(folder.name, len(sizes), sum(sizes), None, False, str(folder))
        """
        return ()

    @classmethod
    def remove(cls, namespace: str, **options: Any) -> bool:  # noqa: ARG003
        """Remove one namespace with everything that belongs to it, even if it is to be kept.

        Processes that use it find it empty, as after :meth:`clear`.

        Args:
            namespace: Its name.
            **options: As for :meth:`namespaces`.

        Returns:
            False if there was none of that name.

        Raises:
            BrokenPluginError: The backend does not define it.
        """
        raise BrokenPluginError(
            f"The cache backend {cls.__name__} cannot remove {namespace!r}: it does not define "
            f"remove(). Define it, or remove the entries by its own means."
        )

    @classmethod
    def collect(cls, **options: Any) -> list[str]:  # noqa: ARG003
        """Remove the namespaces that nobody uses and that are not to be kept, as after a kill.

        Needed only where the storage does not do that itself.

        Args:
            **options: As for :meth:`namespaces`.

        Returns:
            The names of the removed namespaces.
        """
        return []


def backend_class(ref: PluginRef) -> type[CacheBackend]:
    """Import the backend that ``ref`` names and check the options given with it.

    Raises:
        BrokenPluginError: If it cannot be imported or is no :class:`CacheBackend`.
        UnknownOptionError: If the backend does not take one of the options.
    """
    cls = ref.load()
    if not (isinstance(cls, type) and issubclass(cls, CacheBackend)):
        raise BrokenPluginError(
            f"The cache backend {ref.name!r} is {cls!r}; expected a class derived from "
            f"kappacore.CacheBackend."
        )
    if getattr(cls, "scope", None) not in ("process", "machine", "network"):
        raise BrokenPluginError(
            f"The cache backend {ref.name!r} ({cls.__qualname__}) has "
            f"scope={getattr(cls, 'scope', None)!r}; expected the class attribute scope to be "
            f"'process', 'machine' or 'network'."
        )
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise BrokenPluginError(
            f"The cache backend {ref.name!r} ({cls.__qualname__}) does not define "
            f"{', '.join(missing)}. A backend needs at least __init__, get and put."
        )
    check_options(str(ref), cls, ref.options, *GIVEN["backend"])
    return cls


def takes_keep(cls: type[CacheBackend]) -> bool:
    """Return whether the backend removes its entries itself."""
    return "keep" in inspect.signature(cls).parameters
