"""Connections: commands to one server, or to the nodes of a cluster that hold their keys."""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import redis
from redis.cluster import RedisCluster
from redis.connection import SSLConnection
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import MovedError, RedisClusterException, SlotNotCoveredError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.cluster import ClusterNode

    from kappa_redis.address import Address

    #: Its name, its keys, which have the same tag, and its arguments.
    Command = tuple[Any, ...]

log = logging.getLogger("kappacore.cache")

#: In place of a reply: the node that holds the key was found dead a moment ago.
LOST = object()

# A cluster places a key by the part of its name in braces, its tag. If each key had one of its own,
# each look-up would be a request of its own; with one tag for all, one node would hold everything.
CLUSTER_TAGS = 32
_NODE_PAUSE = 30.0  # seconds that a dead node is left alone while the others are used
_MOST_THREADS = 8
#: By redis-py's pool, its connections that nobody uses now.
_idle: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
_UNCOVERED = ""  # stands for the node of slots that no node holds


def open_server(address: Address) -> Server:
    """Return the server at an address; it connects when the first command is sent."""
    return _Cluster(address) if address.cluster else Server(address)


class Server:
    """One server. Threads may share it.

    Args:
        address: Where it is.
    """

    tags: tuple[str, ...] = ("",)

    def __init__(self, address: Address) -> None:
        pool = redis.ConnectionPool(connection_class=address.connection_class, **address.arguments)
        self._client = redis.Redis(connection_pool=pool)

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands at once; return their replies, including the server's errors.

        Raises:
            redis.RedisError: If no reply comes.
        """
        return send(self._client, commands)

    def clients(self) -> list[Any]:
        """Return redis-py's client for each server that holds keys of its own."""
        return [self._client]

    def close(self) -> None:
        """Close all connections."""
        disconnect(self._client)


class _Cluster(Server):
    """The nodes of a cluster. Each is sent the commands for its own keys, all at the same time.

    A failing node raises once, so that the failure is counted. It is then left alone for a while:
    its keys are lost, and the other nodes go on serving theirs.
    """

    def __init__(self, address: Address) -> None:
        self.tags = cluster_tags()
        self._address = address
        self._lock = threading.Lock()
        self._connected: Any = None  # RedisCluster
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "kappa-redis")
        self._lost_until: dict[str, float] = {}  # by the name of a node

    def run(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = [LOST] * len(commands)
        self._run(commands, range(len(commands)), replies)
        moved = [i for i, reply in enumerate(replies) if isinstance(reply, MovedError)]
        if moved:
            self._cluster().nodes_manager.initialize()
            self._run(commands, moved, replies)
        return replies

    def _run(
        self, commands: Sequence[Command], positions: Sequence[int], replies: list[Any]
    ) -> None:
        """Send the commands at ``positions`` to their nodes, and put the replies there."""
        nodes: dict[str, ClusterNode] = {}
        by_node: dict[str, list[int]] = {}
        for position in positions:
            node = self._node(commands[position][1])
            if node is not None:
                nodes[node.name] = node
                by_node.setdefault(node.name, []).append(position)
        now = time.monotonic()

        def ask(name: str) -> Exception | None:
            client = self._cluster().get_redis_connection(nodes[name])
            try:
                found = send(client, [commands[i] for i in by_node[name]])
            except redis.RedisError as error:
                self._lost_until[name] = time.monotonic() + _NODE_PAUSE
                shown = self._address.without_secrets(error)
                log.info("the Redis node %s is left alone for a while: %s", name, shown)
                return error
            for position, reply in zip(by_node[name], found, strict=True):
                replies[position] = reply
            return None

        asked = [name for name in by_node if self._lost_until.get(name, 0.0) < now]
        answers: Iterable[Exception | None] = map(ask, asked)
        if len(asked) > 1:
            with suppress(RuntimeError):  # the interpreter is about to end and starts no threads
                answers = self._threads.map(ask, asked)
        for error in filter(None, list(answers)):
            self._refresh()
            raise error

    def _node(self, key: str) -> ClusterNode | None:
        """Return the node that holds a key; None if none does."""
        try:
            node: ClusterNode = self._cluster().get_node_from_key(key)
        except SlotNotCoveredError:
            if time.monotonic() < self._lost_until.get(_UNCOVERED, 0.0):
                return None
            self._lost_until[_UNCOVERED] = time.monotonic() + _NODE_PAUSE
            self._refresh()
            return self._node(key)
        return node

    def _refresh(self) -> None:
        """Ask the nodes which slots each holds, since another one may have taken over."""
        try:
            self._cluster().nodes_manager.initialize()
        except (redis.RedisError, RedisClusterException) as error:
            shown = self._address.without_secrets(error)
            log.info("no node of the Redis cluster knows which node holds what: %s", shown)

    def clients(self) -> list[Any]:
        cluster = self._cluster()
        return [cluster.get_redis_connection(node) for node in cluster.get_primaries()]

    def close(self) -> None:
        self._threads.shutdown(wait=False)
        if self._connected is not None:
            self._connected.close()

    def _cluster(self) -> Any:
        with self._lock:
            if self._connected is None:
                arguments = dict(self._address.arguments)
                arguments.pop("db", None)
                self._connected = RedisCluster(
                    require_full_coverage=False,
                    ssl=self._address.connection_class is SSLConnection,
                    **arguments,
                )
            return self._connected


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


@cache
def cluster_tags() -> tuple[str, ...]:
    """Return the tags for a cluster, one in each of as many equal ranges of its slots."""
    tags = []
    width = REDIS_CLUSTER_HASH_SLOTS // CLUSTER_TAGS
    for part in range(CLUSTER_TAGS):
        number = 0
        while key_slot(b"k%d-%d" % (part, number)) // width != part:
            number += 1
        tags.append(f"{{k{part}-{number}}}")
    return tuple(tags)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's
