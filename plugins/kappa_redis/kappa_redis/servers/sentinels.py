"""Sentinels: their addresses, and which server they name as the master now.

Each answer has an epoch, which every failover raises; the newest one is right. A sentinel that was
cut off from the others names an old master until it hears of the new one, so all are asked.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.exceptions import NoPermissionError

from kappa_redis.servers.seeds import show

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

    from kappa_redis.servers.seeds import Place

log = logging.getLogger("kappacore.cache")

#: What redis-py calls the servers' scheme, with TLS and without.
_SCHEMES = {
    "sentinel": "redis",
    "redis+sentinel": "redis",
    "valkey+sentinel": "redis",
    "sentinels": "rediss",
    "rediss+sentinel": "rediss",
    "valkeys+sentinel": "rediss",
}
_PORT = 26379
_PAUSE = 5.0  # seconds that a sentinel that does not answer is left alone
_SHARED = ("socket_", "ssl_", "retry", "protocol")  # how connections to servers are made, too


@dataclass(frozen=True)
class Sentinels:
    """Where the sentinels of a service are.

    Args:
        hosts: The host and the port of each.
        service: The name by which they know the server.
        arguments: What redis-py opens connections to them with, credentials included.
    """

    hosts: tuple[Place, ...]
    service: str
    arguments: dict[str, Any] = field(repr=False)

    def with_connection(self, arguments: dict[str, Any]) -> Sentinels:
        """Return the same, with connections made as those to the server."""
        shared = {name: value for name, value in arguments.items() if name.startswith(_SHARED)}
        return Sentinels(self.hosts, self.service, {**shared, **self.arguments})

    @property
    def shown(self) -> str:
        """The sentinels and the service, as in a URL."""
        return f"{','.join(map(show, self.hosts))}/{self.service}"


def split(url: str, username: str | None, password: str | None) -> tuple[str, Sentinels] | None:
    """Take sentinels out of a URL.

    Args:
        url: As people write it.
        username: Who logs in at the sentinels; default as the URL says.
        password: The password there; default as the URL says.

    Returns:
        A URL of the first sentinel with all that is said of the server, and the sentinels. None if
        the URL names none.

    Raises:
        ValueError: If it is not valid.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES:
        return None
    # Not urlsplit for the whole: it takes no list that has an IPv6 address.
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    login, at, hosts = authority.rpartition("@")
    service, _, database = path.partition("/")
    sentinels = []
    for host in hosts.split(","):
        parts = urlsplit(f"//{host}")
        if not parts.hostname:
            raise ValueError(f"no host in {host!r}")
        sentinels.append((parts.hostname, parts.port or _PORT))
    own = {"sentinel_username": username, "sentinel_password": password}
    others = []
    for name, value in parse_qsl(query):
        if name not in own:
            others.append((name, value))
        elif own[name] is None:
            own[name] = value
    arguments = {name.removeprefix("sentinel_"): str(each) for name, each in own.items() if each}
    rest = f"?{urlencode(others)}" if others else ""
    plain = f"{_SCHEMES[scheme]}://{login}{at}{show(sentinels[0])}/{database}{rest}"
    return plain, Sentinels(tuple(sentinels), service, arguments)


class MisusedSentinelsError(redis.RedisError):
    """Sentinels that answer and will never name a master; the text says what to do."""


class Master(NamedTuple):
    """The server that sentinels name.

    Args:
        epoch: Raised by each failover.
        where: Its host and port.
        agreed: Whether all sentinels answered, none of them with a later epoch.
    """

    epoch: int
    where: Place
    agreed: bool


class Watch:
    """Asks the sentinels of a service. One that does not answer is left alone for a while.

    Args:
        sentinels: Where they are.
        connection_class: redis-py's class of connection.
    """

    def __init__(self, sentinels: Sentinels, connection_class: type[AbstractConnection]) -> None:
        self._service = sentinels.service
        self._clients = {
            show((host, port)): redis.Redis(
                connection_pool=redis.ConnectionPool(
                    connection_class=connection_class,
                    host=host,
                    port=port,
                    **sentinels.arguments,
                )
            )
            for host, port in sentinels.hosts
        }
        self._silent: dict[str, tuple[float, redis.RedisError]] = {}  # until when, and why

    def ask(self) -> Master:
        """Return the master by the newest answer.

        Raises:
            MisusedSentinelsError: If those who answer know none, and never will.
            redis.ConnectionError: If none answers now.
        """
        newest: Master | None = None
        misused = ""
        for name, client in self._clients.items():
            until, _ = self._silent.get(name, (0.0, None))
            if time.monotonic() < until:
                continue
            self._silent.pop(name, None)
            try:
                found = self._ask(client)
            except MisusedSentinelsError as error:
                misused = f"The sentinel {name} {error}"
            except redis.RedisError as error:
                self._silent[name] = time.monotonic() + _PAUSE, error
                log.info("the sentinel %s is left alone for a while: %s", name, error)
            else:
                newest = found if newest is None else max(newest, found)
        if newest is not None:
            return newest._replace(agreed=not self._silent and not misused)
        if misused:
            raise MisusedSentinelsError(misused)
        reasons = "; ".join(f"{name}: {error}" for name, (_, error) in self._silent.items())
        raise redis.ConnectionError(f"no sentinel answers ({reasons})")

    def _ask(self, client: Any) -> Master:
        pipeline = client.pipeline(transaction=False)
        # The master of a failover that goes on is in the first reply alone.
        pipeline.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        pipeline.execute_command("SENTINEL", "MASTER", self._service)
        try:
            where, state = pipeline.execute(raise_on_error=False)
        except redis.AuthenticationError as error:
            raise MisusedSentinelsError(
                f"rejects this login ({error}). Give the right sentinel_password= (and "
                f"sentinel_username=)."
            ) from None
        if isinstance(where, NoPermissionError) or isinstance(state, NoPermissionError):
            raise MisusedSentinelsError(
                "refuses this user. Let an administrator allow it: ACL SETUSER <name> "
                "+sentinel|get-master-addr-by-name +sentinel|master +sentinel|masters."
            )
        if where is None:
            raise MisusedSentinelsError(
                f"knows no service {self._service!r}{_services(client)}. Give the right name in "
                f"url=."
            )
        if "unknown command" in str(where):
            raise MisusedSentinelsError(
                "is no sentinel, but a server of samples. Give its address as redis://host:port."
            )
        for reply in (where, state):
            if isinstance(reply, Exception):
                raise reply
        told = dict(zip(state[::2], state[1::2], strict=True))
        host, port = where
        return Master(int(told[b"config-epoch"]), (host.decode(), int(port)), agreed=False)

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()


def _services(client: Any) -> str:
    """Return what services a sentinel knows, for people; empty if this user may not ask."""
    try:
        states = client.execute_command("SENTINEL", "MASTERS")
    except NoPermissionError:
        return ""
    names = [dict(zip(each[::2], each[1::2], strict=True))[b"name"].decode() for each in states]
    return f"; it knows {', '.join(map(repr, sorted(names))) or 'none'}"
