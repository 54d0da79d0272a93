"""Connections: commands to one server, or to the nodes of a cluster that hold their keys."""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import redis
from redis.connection import DefaultParser
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    TryAgainError,
)

from kappa_redis import sentinels
from kappa_redis.pace import TooSlowError
from kappa_redis.seeds import show
from kappa_redis.topology import Topology, cluster_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kappa_redis.address import Address
    from kappa_redis.seeds import Place

    #: Its name, its keys, which have the same tag, and its arguments.
    Command = tuple[Any, ...]

log = logging.getLogger("kappacore.cache")

#: In place of a reply: the node that holds the key was found dead a moment ago.
LOST = object()

_MOST_THREADS = 8
_MASTER_PAUSE = 5.0  # seconds that a dead master is left alone, while sentinels name no other
_ASK_SENTINELS = 1.0  # seconds between questions to them
#: Seconds that a node which fails is left alone, at least; and that pass between questions to the
#: others who holds its slots now.
_PAUSE = 0.5
#: How many times as long as its failure took a node is left alone; and all, if none answers.
_NODE_PATIENCE, _PATIENCE = 20.0, 4.0
_LONGEST_PAUSE = 30.0  # seconds
_REDIRECTIONS = 5  # of one command whose key is moving
#: Answers that the node gives to all keys; that another node has the key, or may have it.
_DOWN = (ClusterDownError, redis.BusyLoadingError)
_ELSEWHERE = (AskError, TryAgainError)
#: Commands of several keys: the one for each key, and how their replies are put together.
_OF_SEVERAL_KEYS: dict[str, tuple[str, Callable[[list[Any]], Any]]] = {
    "MGET": ("GET", list),
    "EXISTS": ("EXISTS", sum),
    "UNLINK": ("UNLINK", sum),
}
#: By redis-py's pool, its connections that nobody uses now.
_idle: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()


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
                disconnect(self._connected)
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
            disconnect(self._connected)


class _Cluster(Server):
    """The nodes of a cluster. Each is sent the commands for its own keys, all at the same time.

    A failing node raises once, so that the failure is counted. It is then left alone for a while:
    its keys are lost, and the other nodes go on serving theirs. Meanwhile these are asked again and
    again whether another node holds its slots now, as after a failover.
    """

    def __init__(self, address: Address) -> None:
        self.tags = cluster_tags()
        self._address = address
        self._topology = Topology(address)
        self._lock = threading.Lock()
        self._clients: dict[Place, Any] = {}
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "kappa-redis")
        self._lost_until: dict[Place, float] = {}
        self._untold: dict[Place, Exception] = {}  # failures of lost nodes that nobody has met yet
        self._outdated = False  # a slot has moved
        self._ask_at = 0.0
        self._why: Exception = redis.ConnectionError("no node of the cluster was asked")

    @property
    def nodes(self) -> tuple[Place, ...]:
        return self._topology.nodes

    def run(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        self._find_holders()
        slots = [key_slot(_encode(command[1])) for command in commands]
        replies: list[Any] = [LOST] * len(commands)
        pending: Sequence[int] = range(len(commands))
        for _ in range(2):  # where they are thought to be, and where they have moved to
            self._send(commands, slots, pending, replies)
            pending = self._to_redo(slots, pending, replies)
            if not pending:
                break
        for position in pending:  # of a slot that is moving just now, key by key
            replies[position] = self._follow(commands[position], slots[position])
        if self._untold:
            self._tell({slots[i] for i, reply in enumerate(replies) if reply is LOST})
        return replies

    def _send(
        self,
        commands: Sequence[Command],
        slots: Sequence[int],
        positions: Sequence[int],
        replies: list[Any],
    ) -> None:
        """Send the commands at ``positions`` to their nodes, and put the replies there."""
        by_node: dict[Place, list[int]] = {}
        for position in positions:
            node = self._topology.holder(slots[position])
            if node is None:
                self._outdated = True
            elif not self._is_lost(node):
                by_node.setdefault(node, []).append(position)

        def ask(node: Place) -> None:
            found = self._ask(node, [commands[position] for position in by_node[node]])
            for position, reply in zip(by_node[node], found, strict=True):
                replies[position] = reply

        answers: Iterable[None] = map(ask, by_node)
        if len(by_node) > 1:
            with suppress(RuntimeError):  # the interpreter is about to end and starts no threads
                answers = self._threads.map(ask, by_node)
        list(answers)

    def _ask(self, node: Place, commands: Sequence[Command]) -> list[Any]:
        """Send commands to a node; all replies are lost if it fails."""
        started = time.monotonic()
        try:
            replies = send(self._client_of(node), commands)
        except TooSlowError:  # that is no reason to leave the node alone
            raise
        except redis.RedisError as error:
            self._lose(node, error, time.monotonic() - started)
            return [LOST] * len(commands)
        down = [reply for reply in replies if isinstance(reply, _DOWN)]
        if down:
            self._lose(node, down[0], 0.0)
            return [LOST if isinstance(reply, _DOWN) else reply for reply in replies]
        if self._lost_until:
            self._lost_until.pop(node, None)
            self._untold.pop(node, None)
        return replies

    def _to_redo(
        self, slots: Sequence[int], positions: Sequence[int], replies: Sequence[Any]
    ) -> list[int]:
        """Return which of the commands at ``positions`` are to be sent again, in order.

        Those that another node answers, and what follows them in their slot: a value is stored
        before its generation is read again.
        """
        for position in positions:
            reply, slot = replies[position], slots[position]
            if isinstance(reply, MovedError):
                self._topology.move(slot, self._told(reply, self._topology.holder(slot)))
                self._outdated = True
        self._find_holders()
        redo: list[int] = []
        elsewhere: set[int] = set()
        for position in positions:
            reply, slot = replies[position], slots[position]
            if reply is LOST:
                holder = self._topology.holder(slot)
                if holder is not None and not self._is_lost(holder):
                    elsewhere.add(slot)
            elif isinstance(reply, _ELSEWHERE):
                elsewhere.add(slot)
            if slot in elsewhere:
                redo.append(position)
        return redo

    def _follow(self, command: Command, slot: int) -> Any:
        """Send a command to where its keys are while their slot moves from a node to another."""
        if command[0] not in _OF_SEVERAL_KEYS:
            return self._follow_one(command, slot)
        one, combined = _OF_SEVERAL_KEYS[command[0]]
        found = []
        for key in command[1:]:  # which may be on either node
            reply = self._follow_one((one, key), slot)
            if _is_of_another_type(reply):
                reply = None  # as MGET gives it
            if reply is LOST or isinstance(reply, Exception):
                return reply
            found.append(reply)
        return combined(found)

    def _follow_one(self, command: Command, slot: int) -> Any:
        """Send a command of one key to where that is."""
        node, asking = self._topology.holder(slot), False
        for _ in range(_REDIRECTIONS):
            if node is None or self._is_lost(node):
                break
            *_, reply = self._ask(node, [("ASKING",), command] if asking else [command])
            if not isinstance(reply, AskError):
                return reply
            asking = not isinstance(reply, MovedError)
            node = self._told(reply, node)
            if not asking:
                self._topology.move(slot, node)
        return LOST

    def _told(self, error: AskError, by: Place | None) -> Place:
        """Return the node that another one has named."""
        return self._topology.place(error.host, error.port, by or self._topology.nodes[0])

    # ---- nodes that fail, and who takes over

    def _is_lost(self, node: Place) -> bool:
        return time.monotonic() < self._lost_until.get(node, 0.0)

    def _lose(self, node: Place, error: Exception, cost: float) -> None:
        """Leave a node alone for a while, the longer the more time its failure has cost."""
        error = self._address.without_secrets(error)
        if node not in self._lost_until:
            self._untold[node] = error
            self._ask_at = 0.0
        self._why = error
        pause = min(max(_PAUSE, _NODE_PATIENCE * cost), _LONGEST_PAUSE)
        self._lost_until[node] = time.monotonic() + pause
        log.info("the Redis node %s is left alone for a while: %s", show(node), error)

    def _tell(self, slots: set[int]) -> None:
        """Raise why nodes that hold slots fail, unless that was done."""
        holders = [holder for slot in slots if (holder := self._topology.holder(slot)) is not None]
        for node in holders:
            error = self._untold.pop(node, None)
            if error is None:
                continue
            for other in holders:  # that one of them fails is told once
                self._untold.pop(other, None)
            if type(error) in (redis.ConnectionError, redis.TimeoutError):
                raise type(error)(f"the node {show(node)} of the Redis cluster fails: {error}")
            raise error

    def _find_holders(self) -> None:
        """Ask the nodes which slots each holds, if that may have changed and is due.

        Raises:
            redis.RedisError: If nothing is known, and no node answers.
        """
        topology = self._topology
        changing = self._outdated or any(node in self._lost_until for node in topology.primaries)
        if topology.primaries and not changing:
            return
        # Others go on with what is known.
        if self._lock.acquire(blocking=not topology.primaries):
            try:
                if time.monotonic() >= self._ask_at:
                    self._ask_all()
            finally:
                self._lock.release()
        if not topology.primaries:
            raise self._why.with_traceback(None)

    def _ask_all(self) -> None:
        """Ask one node after the other until one knows which slots each holds."""
        started = time.monotonic()
        # Those that have failed come last.
        nodes = sorted(self._topology.nodes, key=lambda node: self._lost_until.get(node, 0.0))
        try:
            for node in nodes:
                if self._ask_for_holders(node) or (
                    time.monotonic() - started > self._address.arguments["socket_timeout"]
                ):
                    return
        finally:
            cost = time.monotonic() - started
            self._ask_at = time.monotonic() + max(_PAUSE, _PATIENCE * cost)

    def _ask_for_holders(self, node: Place) -> bool:
        """Ask a node which slots each node holds; return whether it knows."""
        started = time.monotonic()
        # Not by _ask: a node of a cluster that is down answers this.
        try:
            answer = self._client_of(node).execute_command("CLUSTER", "SLOTS")
        except redis.ResponseError as error:
            self._why = self._address.without_secrets(error)
            log.info("the Redis node %s does not say what it knows: %s", show(node), self._why)
            return False
        except redis.RedisError as error:
            self._lose(node, error, time.monotonic() - started)
            return False
        if not answer:
            self._why = redis.ConnectionError(f"the node {show(node)} is in no cluster yet")
            return False
        self._topology.read(answer, node)
        self._outdated = False
        return True

    # ---- connections

    def is_lost(self, key: str) -> bool:
        self._find_holders()
        holder = self._topology.holder(key_slot(_encode(key)))
        return holder is None or self._is_lost(holder)

    def clients(self) -> list[Any]:
        self._find_holders()
        return [self._client_of(node) for node in sorted(self._topology.primaries)]

    def close(self) -> None:
        self._threads.shutdown(wait=False)
        for client in list(self._clients.values()):
            disconnect(client)

    def _client_of(self, node: Place) -> Any:
        client = self._clients.get(node)
        if client is None:
            client = _client(self._address, node, parser_class=_Parser)
            client = self._clients.setdefault(node, client)
        return client


class _Parser(DefaultParser):  # type: ignore[valid-type,misc]
    """Knows the errors of a cluster's nodes, as redis-py 5 does not by itself."""

    EXCEPTION_CLASSES = {  # noqa: RUF012 - as redis-py's
        **DefaultParser.EXCEPTION_CLASSES,
        "ASK": AskError,
        "MOVED": MovedError,
        "TRYAGAIN": TryAgainError,
        "CLUSTERDOWN": ClusterDownError,
    }


def _is_of_another_type(reply: Any) -> bool:
    return isinstance(reply, redis.ResponseError) and str(reply).startswith("WRONGTYPE")


def _encode(key: Any) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode()


def _client(address: Address, where: tuple[str, int] | None = None, **further: Any) -> Any:
    """Return redis-py's client for a server, at another host and port if given."""
    arguments = {**address.arguments, **further}
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
