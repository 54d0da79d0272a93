"""A cluster: commands sent to the nodes that hold their keys, all at the same time."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis
from redis.connection import DefaultParser
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from kappa_redis.servers.pace import TooSlowError
from kappa_redis.servers.seeds import show
from kappa_redis.servers.server import LOST, Server, disconnect, make_client, send
from kappa_redis.servers.topology import Topology, cluster_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kappa_redis.servers.address import Address
    from kappa_redis.servers.seeds import Place
    from kappa_redis.servers.server import Command

log = logging.getLogger("kappacore.cache")

_MOST_THREADS = 8
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


class Cluster(Server):
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
            client = make_client(self._address, node, parser_class=_Parser)
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
