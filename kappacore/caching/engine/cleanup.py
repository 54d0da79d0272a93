"""How long entries stay, for backends that outlive processes and do not see to it themselves."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import xxhash

from kappacore._shown import secret
from kappacore.machine.folders import user_folder
from kappacore.machine.lease import SharedFolderLease, remove
from kappacore.machine.locks import is_supported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kappacore.caching.backends.base import CacheBackend
    from kappacore.plugins import PluginRef

__all__ = ["Lifetime", "open_lifetime", "samples_in"]

log = logging.getLogger("kappacore.cache")

_LENGTH = re.compile(r".*\.(\d+)\.v\d+")  # in a namespace, see identify()


def samples_in(namespace: str) -> int | None:
    """Return the number of samples that a namespace is for; None if its name does not say."""
    match = _LENGTH.fullmatch(namespace)
    return int(match[1]) if match else None


class Lifetime:
    """This process's use of the entries of one namespace, noted in a folder of the user's own.

    The last user clears them, unless they are to be kept. What nobody has cleared, because its last
    user was killed or its time is over, goes when the same place of storage is opened next.

    Args:
        ref: the backend and its options: the place of storage.
        namespace: the namespace.
        keep: seconds that entries stay after their last use.
        collects: whether to clear what nobody uses.
    """

    def __init__(self, ref: PluginRef, namespace: str, keep: float, *, collects: bool) -> None:
        place = xxhash.xxh3_64_hexdigest(repr(_place(ref.options)).encode())
        parent, prefix = user_folder("lifetimes"), f"{ref.name}.{place}."
        if collects:
            try:
                for folder in parent.glob(f"{prefix}*"):
                    left = folder.name[len(prefix) :]
                    remove(folder, kept=False, last=partial(_open_and_clear, ref, left))
            except Exception as error:  # the next one may reach it
                log.info("what killed processes left could not be cleared: %s", error)
        self._lease = SharedFolderLease(parent / f"{prefix}{namespace}", keep)

    def leave(self, backend: CacheBackend | None) -> None:
        """End the use; the last user clears the entries through its ``backend``, if it has one."""
        self._lease.release(partial(_clear, backend))


def _place(options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what says where entries are, in one spelling."""
    return sorted(
        (name, os.path.abspath(value) if isinstance(value, os.PathLike) else value)  # noqa: PTH100
        for name, value in options.items()
        if not secret(name)
    )


def open_lifetime(
    ref: PluginRef, namespace: str, keep: float, *, collects: bool
) -> Lifetime | None:
    """Return a lifetime; None on systems that have no means for it."""
    return Lifetime(ref, namespace, keep, collects=collects) if is_supported() else None


def _clear(backend: CacheBackend | None) -> bool:
    if backend is None:  # it was never reached: somebody else will have to
        return False
    backend.clear()
    return True


def _open_and_clear(ref: PluginRef, namespace: str) -> bool:
    length = samples_in(namespace)
    if length is None:
        return True
    with contextlib.closing(ref.open(namespace, length + 2)) as backend:
        backend.clear()
    return True
