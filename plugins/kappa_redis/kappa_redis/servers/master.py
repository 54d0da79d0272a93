"""The server that sentinels name as the master."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import ReadOnlyError

from kappa_redis.servers.pace import TooSlowError
from kappa_redis.servers.seeds import show
from kappa_redis.servers.sentinels import Watch
from kappa_redis.servers.server import Server, disconnect, make_client, send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappa_redis.servers.address import Address
    from kappa_redis.servers.sentinels import Master, Sentinels
    from kappa_redis.servers.server import Command

log = logging.getLogger("kappacore.cache")

_PAUSE = 5.0  # seconds that a dead master is left alone, while sentinels name no other
_ASK = 1.0  # seconds between questions to them


class WatchedServer(Server):
    """The server that sentinels name as the master, whichever that is.

    They are asked about once a second, and whenever it fails or turns out to be a replica: a master
    that only this process still knows takes nothing more. Sentinels that do not answer are no
    reason to leave a master that does.

    Args:
        address: What is common to all servers of the service.
        sentinels: Who names the master.
    """

    def __init__(self, address: Address, sentinels: Sentinels) -> None:
        self._address = address
        self._watch = Watch(sentinels, address.connection_class)
        self._lock = threading.Lock()
        self._named: Master | None = None
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
                self._failed_until = time.monotonic() + _PAUSE
                raise
            return _send_to_master(other, commands)

    def _master(self, *, ask: bool = False) -> Any:
        """Return redis-py's client for the master, after a question to the sentinels if due."""
        with self._lock:
            now = time.monotonic()
            if ask or now >= self._ask_at:
                self._ask_at = now + _ASK
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
                log.info("%s has a new master: %s", self._address.url, show(named.where))
                disconnect(self._connected)
            self._connected = make_client(self._address, named.where)
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
    where = show((server["host"], server["port"]))
    raise kind(f"{where}, which the sentinels name as the master: {reason}")
