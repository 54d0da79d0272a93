"""What a cache backend is: bytes under integer keys, in one namespace."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kappacore.errors import BrokenPluginError
from kappacore.plugins.options import check_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kappacore.plugins import PluginRef

__all__ = ["BackendInfo", "Buffer", "CacheBackend", "Scope", "backend_class", "takes_keep"]

Buffer = bytes | bytearray | memoryview
Scope = Literal["process", "machine", "network"]


@dataclass(frozen=True, kw_only=True)
class BackendInfo:
    """How full one namespace of a backend is.

    Args:
        namespace: the namespace.
        entries: number of values stored.
        bytes: memory taken by the values and their bookkeeping, in bytes.
        capacity: the limit on ``bytes``; None if there is none.
        full: True once a value was refused for want of room.
        where: where the values are, for people: a folder, an address, a process.
        dataset: whose samples they are, for people; empty if unknown.
        users: processes that use the namespace now; None if unknown, as are the next two.
        last_used: when it was used last, in seconds since 1970.
        kept_until: when it goes if nobody uses it any more, in seconds since 1970; ``0``: with its
            last user, ``inf``: when it is cleared.
        advice: what hurts there and what to do about it, for people; empty if nothing does.
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


class CacheBackend(ABC):
    """Stores bytes under the integer keys ``0 … length - 1`` of one namespace.

    Only :meth:`get` and :meth:`put` must be written, and :meth:`clear` where entries outlive the
    process. The engine opens one instance per process and never uses it in a forked child; it
    calls one method at a time unless ``thread_safe`` is True. A buffer that was returned stays
    valid and unchanged as long as somebody holds it, across put, clear and close.

    An ``__init__`` with a parameter ``keep`` takes the lifetime of the entries into its own hands:
    it is given the number of seconds that entries stay after their last user (``0``: not at all,
    ``inf``: until they are cleared). Elsewhere the engine clears the entries when the last process
    of the machine that used them leaves.

    Args:
        namespace: matches ``[a-z0-9._-]{1,100}``; nothing is shared between namespaces.
        length: number of keys.
        **options: the backend's own, as the user gave them.

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

    @abstractmethod
    def __init__(self, namespace: str, length: int, **options: Any) -> None: ...

    @classmethod
    def prepare(cls, **options: Any) -> dict[str, Any]:
        """Return the options to open instances with, once where a cache is made.

        What it returns goes to all processes that use the cache; so does the address of something
        that was found or started here. Errors that only the user can mend are best raised here.

        Args:
            **options: as the user gave them, already checked against the signature.
        """
        return options

    @classmethod
    def is_temporary(cls, **options: Any) -> bool:  # noqa: ARG003
        """Return whether all entries go with the process that made the cache.

        Where so, the engine keeps no note of a private namespace that a kill may leave behind.

        Args:
            **options: what :meth:`prepare` has returned.
        """
        return False

    @abstractmethod
    def get(self, key: int) -> Buffer | None:
        """Return the value of ``key``, or None if it is absent."""

    @abstractmethod
    def put(self, key: int, value: Sequence[Buffer]) -> bool:
        """Store the pieces of one value as one, replacing an older one.

        Returns:
            False if there is no room. That is no error: the sample is read from its source.
        """

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        """Return the values of ``keys``, in one operation where the backend can."""
        return [self.get(key) for key in keys]

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        """Store several values, in one operation where the backend can."""
        return [self.put(key, value) for key, value in items]

    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:  # noqa: ARG002
        """Say that this process is about to load ``keys``; again by the same process: renew.

        Where a backend does not define it, the engine keeps claims among the processes of one
        machine. So only a backend that several machines share gains by doing so.

        Args:
            keys: keys that were found absent.
            ttl: seconds after which a claim that nobody renewed is void.

        Returns:
            For each key False if another process is loading it or has stored it meanwhile.
        """
        return [True] * len(keys)

    def release_many(self, keys: Sequence[int]) -> None:  # noqa: B027 - optional
        """Give back claims of this process, whether the values were stored or not."""

    def clear(self) -> None:
        """Remove all entries of this namespace, for all its users, and nothing else."""
        raise BrokenPluginError(
            f"The cache backend {type(self).__name__} cannot be cleared: it does not define "
            f"clear(). Define it, or use another backend."
        )

    def close(self) -> None:  # noqa: B027 - optional
        """Let go of all resources. May be called more than once."""

    def info(self) -> BackendInfo | None:
        """Return how full this namespace is; None if the backend cannot say."""
        return None

    # ---- for ``kappacore cache``: without an instance, and without counting as a user

    @classmethod
    def namespaces(cls, **options: Any) -> Iterable[BackendInfo]:  # noqa: ARG003
        """Return the namespaces that there are, used or not.

        Looking at them does not count as use, so it prolongs no life.
        :func:`kappacore.caching.identity.header.dataset_of` says whose samples a namespace holds.

        Args:
            **options: those of ``__init__``, already checked against its signature. Name those
                that say where entries are, such as a path, and ignore the others.

        Example::

            @classmethod
            def namespaces(cls, *, path=None, **options):
                for folder in Path(path).iterdir():
                    yield BackendInfo(namespace=folder.name, …)
        """
        return ()

    @classmethod
    def remove(cls, namespace: str, **options: Any) -> bool:  # noqa: ARG003
        """Remove one namespace with everything that belongs to it, though it is to be kept.

        Processes that use it find it empty, as after :meth:`clear`.

        Args:
            namespace: its name.
            **options: as for :meth:`namespaces`.

        Returns:
            False if there was none of that name.
        """
        raise BrokenPluginError(
            f"The cache backend {cls.__name__} cannot remove {namespace!r}: it does not define "
            f"remove(). Define it, or remove the entries by its own means."
        )

    @classmethod
    def collect(cls, **options: Any) -> list[str]:  # noqa: ARG003
        """Remove what nobody uses and nobody wants kept, such as after a kill.

        Needed only where the place of storage does not do that by itself.

        Args:
            **options: as for :meth:`namespaces`.

        Returns:
            The names of the removed namespaces.
        """
        return []


def backend_class(ref: PluginRef) -> type[CacheBackend]:
    """Import the backend that ``ref`` names and check the options given with it.

    Raises:
        BrokenPluginError: if it cannot be imported or is no :class:`CacheBackend`.
        UnknownOptionError: if the backend does not take one of the options.
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
    check_options(str(ref), cls, ref.options, positional=2, fixed=("keep",))
    return cls


def takes_keep(cls: type[CacheBackend]) -> bool:
    """Return whether the backend looks after the lifetime of its entries itself."""
    return "keep" in inspect.signature(cls).parameters
