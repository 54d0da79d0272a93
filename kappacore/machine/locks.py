"""Kernel locks on files: freed when their holder dies, and never held by its forked children."""

from __future__ import annotations

import functools
import os
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = ["is_supported", "keep_from_children", "locked", "own_lock", "unlock"]

Method = TypeVar("Method", bound="Callable[..., Any]")


def is_supported() -> bool:
    """Return whether this system has the kernel locks that sharing files needs."""
    return fcntl is not None


# Descriptors of locks that this process holds. A forked child closes its copies at once: it would
# go on holding its parent's locks after the parent was killed.
_locks: set[int] = set()


def keep_from_children(fd: int) -> None:
    """Have a lock's descriptor closed in every child that is forked from now on."""
    _locks.add(fd)


def own_lock(owner: object, fd: int) -> Finalize:
    """Have a lock's descriptor closed with its owner, and in every child that is forked meanwhile.

    Returns:
        What closes it before; later calls do nothing.
    """
    keep_from_children(fd)
    return Finalize(owner, unlock, args=(fd,))


def locked(method: Method) -> Method:
    """Have a method run while its object's ``_lock_fd`` holds the lock exclusively.

    No context manager: its own code could be interrupted, as by Ctrl-C, before it gives the lock
    back, and the traceback that an interactive session keeps would hold it against everybody.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            return method(self, *args, **kwargs)
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    return cast("Method", call)


def unlock(fd: int) -> None:
    """Free a lock and close its descriptor."""
    _locks.discard(fd)
    # Said, not left to the close: a mapping or another process may have the same lock open.
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _close_inherited() -> None:
    for fd in _locks:
        os.close(fd)
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
