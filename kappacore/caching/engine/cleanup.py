"""Clearing entries after their last use, for backends that outlive processes but never clear."""

from __future__ import annotations

import contextlib
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import xxhash

from kappacore._shown import secret
from kappacore.caching.identity.namespace import EXTRA_KEYS, samples_in
from kappacore.machine.folders import user_folder
from kappacore.machine.lease import SharedFolderLease, remove

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kappacore.caching.backends.base import CacheBackend
    from kappacore.plugins import PluginRef

__all__ = ["LastUserCleanup"]

log = logging.getLogger("kappacore.cache")


class LastUserCleanup:
    """This process's use of the entries of one namespace, recorded in a folder of the user.

    The last user clears the entries unless they are to be kept. Entries left by killed processes,
    or past their ``keep``, are removed the next time the same storage is opened.

    Args:
        ref: The backend and the options that identify the storage.
        namespace: The namespace.
        keep: How long entries stay after their last use, in seconds.
        collects: Whether to clear entries that nobody uses now.
    """

    def __init__(self, ref: PluginRef, namespace: str, keep: float, *, collects: bool) -> None:
        storage = xxhash.xxh3_64_hexdigest(repr(_storage_options(ref.options)).encode())
        parent, prefix = user_folder("lifetimes"), f"{ref.name}.{storage}."
        if collects:
            try:
                for folder in parent.glob(f"{prefix}*"):
                    unused = folder.name[len(prefix) :]
                    remove(folder, kept=False, last=partial(_open_and_clear, ref, unused))
            except Exception as error:  # the next one may reach it
                log.info("entries of killed processes could not be cleared: %s", error)
        self._lease = SharedFolderLease(parent / f"{prefix}{namespace}", keep)

    def leave(self, backend: CacheBackend | None) -> None:
        """End the use; the last user clears the entries through its ``backend``, if it has one."""
        self._lease.release(partial(_clear, backend))


def _storage_options(options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the options that identify the storage, always spelt the same."""
    return sorted(
        (name, os.path.abspath(value) if isinstance(value, os.PathLike) else value)  # noqa: PTH100
        for name, value in options.items()
        if not secret(name)
    )


def _clear(backend: CacheBackend | None) -> bool:
    if backend is None:  # it was never reached, so another process will have to
        return False
    backend.clear()
    return True


def _open_and_clear(ref: PluginRef, namespace: str) -> bool:
    length = samples_in(namespace)
    if length is not None:
        with contextlib.closing(ref.open(namespace, length + EXTRA_KEYS)) as backend:
            backend.clear()
    return True
