"""One process at a time works on a target; the others wait and say for whom.

The lock is the kernel's (flock), on the local disk beside the target: it is free again the moment
its holder ends, however that happens.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import time
from typing import TYPE_CHECKING, NoReturn

from filelock import FileLock, SoftFileLock, Timeout

from kappacore.errors import StagingError, StagingTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kappacore.staging.places import Places

__all__ = ["held"]

_SAY_AGAIN = 60.0  # seconds


@contextlib.contextmanager
def held(
    places: Places, source: str, *, timeout: float | None, log: Callable[[str], None]
) -> Iterator[None]:
    """Hold the lock of a target, after waiting for who holds it now.

    Args:
        places: the target's.
        source: what is staged, for those who wait.
        timeout: how many seconds to wait at most; None: as long as the holder lives.
        log: called with a line when waiting begins, and every minute.

    Raises:
        StagingTimeoutError: if the lock was not free in time; says who holds it.
    """
    if places.lock.is_symlink():  # older versions of filelock would follow it, and truncate
        raise StagingError(f"'{places.lock}' is in the way: it is a link, not a lock. Remove it.")
    lock = FileLock(places.lock, thread_local=False)
    _acquire(lock, places, timeout, log)
    try:
        _write_holder(places.holder, source)
        yield
    finally:
        places.holder.unlink(missing_ok=True)
        lock.release()


def _acquire(
    lock: FileLock, places: Places, timeout: float | None, log: Callable[[str], None]
) -> None:
    started = time.monotonic()
    wait = 0.0
    while not _acquired(lock, places, wait):
        waited = time.monotonic() - started
        if timeout is not None and waited >= timeout:
            raise StagingTimeoutError(
                f"waited {waited:.0f} s for '{places.target}': {_describe(places.holder)}. Wait "
                f"longer (timeout=), or end that process; what it copied is kept."
            )
        log(f"waiting for '{places.target}': {_describe(places.holder)}")
        wait = _SAY_AGAIN if timeout is None else min(_SAY_AGAIN, timeout - waited)


def _acquired(lock: FileLock, places: Places, wait: float) -> bool:
    try:
        lock.acquire(timeout=wait, poll_interval=0.05)
    except Timeout:
        return False
    except NotImplementedError:
        _refuse_disk(places)
    except PermissionError:
        if not places.lock.exists():  # it cannot be made
            raise
        raise StagingError(
            f"'{places.target}' is staged by {_owner(places.lock)}, whose lock '{places.lock}' you "
            f"cannot open. Wait until it is complete, or choose another target."
        ) from None
    if isinstance(lock, SoftFileLock):  # what filelock makes of it where the kernel has no lock
        lock.release()
        _refuse_disk(places)
    return True


def _refuse_disk(places: Places) -> NoReturn:
    raise StagingError(
        f"the file system of '{places.target}' has no locks (flock), so two processes could copy "
        f"at once. Choose a target on a local disk."
    )


def _write_holder(path: Path, source: str) -> None:
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "user": _user(),
        "since": time.time(),
        "source": source,
    }
    path.unlink(missing_ok=True)  # left by a kill, or a link that somebody placed to be followed
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o644), "w", encoding="utf-8") as file:
        json.dump(about, file)  # half of it is told from all of it


def _describe(path: Path) -> str:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        since = float(about["since"])
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
        return (
            f"process {about['pid']} of {about['user']} on {about['host']} has been staging from "
            f"'{about['source']}' since {clock} ({max(0.0, time.time() - since):.0f} s)"
        )
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun
        return "another process has just begun to stage"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for this user
        return f"user {os.getuid()}"


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return "another user"
