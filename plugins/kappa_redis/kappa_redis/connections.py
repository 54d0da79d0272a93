"""Connections: commands to one server, or to the nodes of a cluster that hold their keys."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import redis
from redis.cluster import RedisCluster
from redis.connection import SSLConnection
from redis.exceptions import MovedError, RedisClusterException, SlotNotCoveredError

from kappa_redis.layout import cluster_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.cluster import ClusterNode

    from kappa_redis.address import Address

    #: A command and the tag that its keys lie under, by its place in ``tags``.
    Command = tuple[int, tuple[Any, ...]]

T = TypeVar("T")

__all__ = ["LOST", "Cluster", "OneServer", "Server", "open_server"]

log = logging.getLogger("kappacore.cache")

#: In place of a reply: the node that holds the key was found dead a moment ago.
LOST = object()

_NODE_PAUSE = 30.0  # seconds that a dead node is left alone while the others are used
_MOST_THREADS = 8
_UNCOVERED = ""  # the name of the node that holds what no node does
_FAILURES = (redis.RedisError, RedisClusterException)


class Server(Protocol):
    """What the backend needs of one server or a cluster. Threads may share it."""

    tags: tuple[str, ...]

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands at once; return their replies, with errors of the server among them.

        Raises:
            redis.RedisError: if no reply comes.
        """

    def clients(self) -> list[Any]:
        """Return redis-py's client for each server that holds keys of its own."""

    def close(self) -> None:
        """Close all connections."""


def open_server(address: Address, *, cluster: bool) -> Server:
    """Return what sends commands to the server; it connects when the first one is sent."""
    return Cluster(address) if cluster else OneServer(address)


class OneServer:
    """One server.

    Args:
        address: where it is.
    """

    tags: tuple[str, ...] = ("",)

    def __init__(self, address: Address) -> None:
        pool = redis.ConnectionPool(connection_class=address.kind, **address.arguments)
        self._client = redis.Redis(connection_pool=pool)

    def run(self, commands: Sequence[Command]) -> list[Any]:
        return _send(self._client, [command for _, command in commands])

    def clients(self) -> list[Any]:
        return [self._client]

    def close(self) -> None:
        self._client.close()
        self._client.connection_pool.disconnect()


class Cluster:
    """The nodes of a cluster, each sent what it holds, all at the same time.

    A node that fails is raised once, so that it is noticed and counted, and then left alone for a
    while: its keys are lost and the others serve on.

    Args:
        address: where one of the nodes is.
    """

    def __init__(self, address: Address) -> None:
        self.tags = cluster_tags()
        self._address = address
        self._lock = threading.Lock()
        self._opened: Any = None  # RedisCluster
        self._threads: ThreadPoolExecutor | None = None
        self._lost_until: dict[str, float] = {}  # by the name of a node

    def run(self, commands: Sequence[Command]) -> list[Any]:
        cluster = self._cluster()
        replies: list[Any] = [LOST] * len(commands)
        self._run(cluster, commands, list(range(len(commands))), replies)
        moved = [place for place, reply in enumerate(replies) if isinstance(reply, MovedError)]
        if moved:
            cluster.nodes_manager.initialize()
            self._run(cluster, commands, moved, replies)
        return replies

    def _run(
        self,
        cluster: Any,
        commands: Sequence[Command],
        places: list[int],
        replies: list[Any],
    ) -> None:
        """Send the commands at ``places`` to their nodes, and put the replies there."""
        by_node: dict[str, tuple[Any, list[int]]] = {}
        for place in places:
            node = self._node(cluster, self.tags[commands[place][0]])
            if node is None:
                continue
            if node.name not in by_node:
                by_node[node.name] = cluster.get_redis_connection(node), []
            by_node[node.name][1].append(place)
        now = time.monotonic()
        asked = [name for name in by_node if self._lost_until.get(name, 0.0) < now]

        def send(name: str) -> redis.RedisError | None:
            client, own = by_node[name]
            try:
                found = _send(client, [commands[place][1] for place in own])
            except redis.RedisError as error:
                return error
            for place, reply in zip(own, found, strict=True):
                replies[place] = reply
            return None

        failures = self._at_once(send, asked)
        lost = {name: error for name, error in zip(asked, failures, strict=True) if error}
        for name, error in lost.items():
            self._lost_until[name] = time.monotonic() + _NODE_PAUSE
            shown = self._address.without_secrets(error)
            log.info("the Redis node %s is left alone for a while: %s", name, shown)
        for error in lost.values():
            self._look_anew(cluster)
            raise error

    def _node(self, cluster: Any, tag: str) -> ClusterNode | None:
        """Return the node that holds a tag; None if none does."""
        try:
            node: ClusterNode = cluster.get_node_from_key(tag)
        except SlotNotCoveredError:
            if time.monotonic() < self._lost_until.get(_UNCOVERED, 0.0):
                return None
            self._lost_until[_UNCOVERED] = time.monotonic() + _NODE_PAUSE
            self._look_anew(cluster)
            return self._node(cluster, tag)
        return node

    def _look_anew(self, cluster: Any) -> None:
        """Ask the nodes who holds what, since another one may have taken over."""
        try:
            cluster.nodes_manager.initialize()
        except _FAILURES as error:
            shown = self._address.without_secrets(error)
            log.info("no node of the Redis cluster says who holds what: %s", shown)

    def clients(self) -> list[Any]:
        cluster = self._cluster()
        return [cluster.get_redis_connection(node) for node in cluster.get_primaries()]

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False)
        if self._opened is not None:
            self._opened.close()

    def _cluster(self) -> Any:
        with self._lock:
            if self._opened is None:
                arguments = dict(self._address.arguments)
                arguments.pop("db", None)
                self._opened = RedisCluster(
                    require_full_coverage=False,
                    ssl=self._address.kind is SSLConnection,
                    **arguments,
                )
            return self._opened

    def _at_once(self, send: Callable[[str], T], names: list[str]) -> list[T]:
        if len(names) < 2:
            return [send(name) for name in names]
        try:
            futures = [self._executor().submit(send, name) for name in names]
        except RuntimeError:  # the interpreter is about to end and starts no threads
            return [send(name) for name in names]
        return [future.result() for future in futures]

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_MOST_THREADS, "kappa-redis")
            return self._threads


def _send(client: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
    """Send commands in one piece; errors of the server are among the replies."""
    if len(commands) == 1:
        try:
            return [client.execute_command(*commands[0])]
        except redis.ResponseError as error:
            return [error]
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return list(pipeline.execute(raise_on_error=False))
