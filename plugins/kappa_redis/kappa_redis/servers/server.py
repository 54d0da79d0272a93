"""One server: commands sent to it at once, over connections that are kept."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import redis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappa_redis.servers.address import Address
    from kappa_redis.servers.seeds import Place

    #: Its name, its keys, which have the same tag, and its arguments.
    Command = tuple[Any, ...]

#: In place of a reply: the node that holds the key was found dead a moment ago.
LOST = object()

#: By redis-py's pool, its connections that nobody uses now.
_idle: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()


class Server:
    """One server. Threads may share it.

    Args:
        address: Where it is.
    """

    tags: tuple[str, ...] = ("",)

    def __init__(self, address: Address) -> None:
        self._client = make_client(address)

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands at once; return their replies, including the server's errors.

        Raises:
            redis.RedisError: If no reply comes.
        """
        return send(self._client, commands)

    @property
    def nodes(self) -> tuple[Place, ...]:
        """Where the nodes of a cluster are, as far as they are known."""
        return ()

    def is_lost(self, key: str) -> bool:  # noqa: ARG002 - of a cluster
        """Return whether the node that holds a key was found dead a moment ago."""
        return False

    def clients(self) -> list[Any]:
        """Return redis-py's client for each server that holds keys of its own."""
        return [self._client]

    def close(self) -> None:
        """Close all connections."""
        disconnect(self._client)


def make_client(address: Address, where: tuple[str, int] | None = None, **further: Any) -> Any:
    """Return redis-py's client for a server, at another host and port if given."""
    arguments = {**address.arguments, **further}
    if where is not None:
        arguments["host"], arguments["port"] = where
    pool = redis.ConnectionPool(connection_class=address.connection_class, **arguments)
    return redis.Redis(connection_pool=pool)


def send(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands in one piece; return the replies as they come, the server's errors included.

    redis-py's own way from a command to a connection takes longer than a small value from the
    server. So connections are made by its pool, and kept here.
    """
    if not commands:
        return []
    pool = client.connection_pool
    idle = _idle.setdefault(pool, [])
    kept = True
    try:
        connection = idle.pop()
    except IndexError:
        kept, connection = False, pool.make_connection()
    try:
        if kept:  # which the server may have closed meanwhile
            with suppress(redis.ConnectionError):
                return _exchange(connection, commands)
        replies: list[Any] = connection.retry.call_with_retry(
            lambda: _exchange(connection, commands), lambda _: None
        )
    finally:
        idle.append(connection)  # if it is closed now, it connects when it is used again
    return replies


def _exchange(connection: Any, commands: Sequence[Command]) -> list[Any]:
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        return [_read_reply(connection) for _ in commands]
    except BaseException:  # an interrupt, too: replies may be on their way
        connection.disconnect()
        raise


def _read_reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def disconnect(client: Any) -> None:
    """Close all connections of one of redis-py's clients."""
    for connection in _idle.pop(client.connection_pool, []):
        connection.disconnect()
    client.close()
    client.connection_pool.disconnect()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's
