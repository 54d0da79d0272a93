"""Connections: commands to one server, or to the nodes of a cluster that hold their keys."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import redis
from redis.cluster import RedisCluster
from redis.connection import SSLConnection
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    MovedError,
    ReadOnlyError,
    RedisClusterException,
    SlotNotCoveredError,
)

from kappa_redis import sentinels
from kappa_redis.pace import TooSlowError

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
_MASTER_PAUSE = 5.0  # seconds that a dead master is left alone, while sentinels name no other
_ASK_SENTINELS = 1.0  # seconds between questions to them
_UNCOVERED = ""  # stands for the node of slots that no node holds


def open_server(address: Address) -> Server:
    """Return the server at an address; it connects when the first command is sent."""
    if address.sentinels is not None:
        return _Master(address, sentinels.Watch(address.sentinels, address.connection_class))
    return _Cluster(address) if address.cluster else Server(address)


class Server:
    """One server. Threads may share it.

    Args:
        address: Where it is.
    """

    tags: tuple[str, ...] = ("",)

    def __init__(self, address: Address) -> None:
        self._client = _client(address)

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
        self._client.close()
        self._client.connection_pool.disconnect()


class _Master(Server):
    """The server that sentinels name as the master, whichever that is.

    They are asked about once a second, and whenever it fails or turns out to be a replica: a master
    that only this process still knows takes nothing more. Sentinels that do not answer are no
    reason to leave a master that does.

    Args:
        address: What is common to all servers of the service.
        watch: Asks the sentinels.
    """

    def __init__(self, address: Address, watch: sentinels.Watch) -> None:
        self._address = address
        self._watch = watch
        self._lock = threading.Lock()
        self._named: sentinels.Master | None = None
        self._connected: Any = None  # redis-py's client for it
        self._ask_at = 0.0
        self._failed_until = 0.0

    def run(self, commands: Sequence[Command]) -> list[Any]:
        client = self._master()
        try:
            return _send_to_master(client, commands)
        except TooSlowError:
            raise
        except (redis.ConnectionError, redis.TimeoutError):
            other = self._master(ask=True)
            if other is client:
                self._failed_until = time.monotonic() + _MASTER_PAUSE
                raise
            return _send_to_master(other, commands)

    def _master(self, *, ask: bool = False) -> Any:
        """Return redis-py's client for the master, after a question to the sentinels if due."""
        with self._lock:
            now = time.monotonic()
            if ask or now >= self._ask_at:
                self._ask_at = now + _ASK_SENTINELS
                self._ask()
            if now < self._failed_until:
                raise redis.ConnectionError(
                    "the master failed a moment ago, and the sentinels name no other yet"
                )
            return self._connected

    def _ask(self) -> None:
        """Ask the sentinels, and turn to another master if they name one."""
        try:
            named = self._watch.ask()
        except redis.RedisError as error:
            if self._named is None:
                raise
            log.info("%s: %s; its master is used on", self._address.url, error)
            return
        known = self._named
        # An older one is a sentinel's that was cut off, unless all were set up anew.
        if known is None or (
            named.where != known.where and (named.epoch >= known.epoch or named.agreed)
        ):
            if known is not None:
                log.info("%s has a new master: %s", self._address.url, sentinels.join(named.where))
                self._connected.connection_pool.disconnect(inuse_connections=False)
            self._connected = _client(self._address, named.where)
            self._failed_until = 0.0
            self._named = named
        elif named.where == known.where:
            self._named = named

    def clients(self) -> list[Any]:
        return [self._master()]

    def close(self) -> None:
        self._watch.close()
        if self._connected is not None:
            self._connected.close()
            self._connected.connection_pool.disconnect()


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
                if isinstance(error, TooSlowError):  # that is no reason to leave the node alone
                    return error
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
                    ssl=issubclass(self._address.connection_class, SSLConnection),
                    **arguments,
                )
            return self._connected


def _client(address: Address, where: tuple[str, int] | None = None) -> Any:
    """Return redis-py's client for a server, at another host and port if given."""
    arguments = dict(address.arguments)
    if where is not None:
        arguments["host"], arguments["port"] = where
    pool = redis.ConnectionPool(connection_class=address.connection_class, **arguments)
    return redis.Redis(connection_pool=pool)


def _send_to_master(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands to what sentinels named; its errors say which server that is."""
    try:
        replies = send(client, commands)
    except (redis.ConnectionError, redis.TimeoutError) as error:
        if type(error) not in (redis.ConnectionError, redis.TimeoutError):
            raise  # a rejected login
        reason: Exception | str = error
        kind: type[redis.RedisError] = type(error)
    else:
        if not any(isinstance(reply, ReadOnlyError) for reply in replies):
            return replies
        kind, reason = redis.ConnectionError, "it is a replica"
    server = client.connection_pool.connection_kwargs
    where = sentinels.join((server["host"], server["port"]))
    raise kind(f"{where}, which the sentinels name as the master: {reason}")


def send(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands in one piece; the replies include the server's errors."""
    if len(commands) == 1:
        try:
            return [client.execute_command(*commands[0])]
        except redis.ResponseError as error:
            return [error]
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return list(pipeline.execute(raise_on_error=False))


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
