"""Which server to use, and a first look at whether it can be used at all."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.exceptions import ClusterCrossSlotError, MovedError, NoPermissionError

from kappa_redis import embedded
from kappa_redis.address import read_address
from kappa_redis.connections import open_server
from kappa_redis.layout import Layout, check_prefix
from kappa_redis.namespace import Space
from kappacore.errors import InvalidOptionError
from kappacore.plugin_api import count_ranks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kappa_redis.address import Address

__all__ = ["ENVIRONMENT", "PREFIX", "find_server", "prepare", "visit"]

log = logging.getLogger("kappacore.cache")

ENVIRONMENT = "KAPPA_REDIS_URL"
PREFIX = "kappa:"
_OF_THE_ADDRESS = (
    "cluster", "username", "password", "tls_ca", "tls_cert", "tls_key", "tls_verify", "timeout",
    "connect_timeout",
)  # fmt: skip
_PROBE = "kappa-redis-probe"  # no namespace of the engine's, whose names have more parts
_NOT_LET_IN = ("Authentication required", "invalid username-password", "AUTH")
_OF_A_CLUSTER = ("MOVED ", "CROSSSLOT ")
_PROBE_TTL = 1000  # milliseconds


def find_server(url: str | None, max_bytes: float | str | None = None) -> str:
    """Return the server's address: the one given, the environment's, or that of a private one.

    Raises:
        InvalidOptionError: if several ranks would each start a private one, or a limit is given
            for a server that runs already.
    """
    url = url or os.environ.get(ENVIRONMENT) or None
    if url is not None:
        if max_bytes is not None and url != embedded.running_url():
            raise InvalidOptionError(
                f"max_bytes={max_bytes!r} limits a private Redis server, but url= or "
                f"${ENVIRONMENT} names one that runs already. Set maxmemory there, or leave "
                f"one of them out."
            )
        return url
    ranks = count_ranks()
    if ranks > 1:
        raise InvalidOptionError(
            f"{ranks} ranks run and nothing names a Redis server, so each rank would start and "
            f"fill a private one. Start one server for all of them and name it: "
            f"url='redis://host:6379', or ${ENVIRONMENT}. Ranks of one machine can share the "
            f"backend 'shared' without a server."
        )
    return embedded.private_server(max_bytes)


def _existing_server(url: str | None) -> str | None:
    """Return the address of the server that :func:`find_server` would find; none is started."""
    return url or os.environ.get(ENVIRONMENT) or embedded.running_url()


def prepare(options: dict[str, Any]) -> dict[str, Any]:
    """Return options that name the server and keep credentials apart, after a first look at it.

    Raises:
        InvalidOptionError: if an option cannot be used, or the server refuses this user.
    """
    settled = dict(options)
    url = find_server(options.get("url"), settled.pop("max_bytes", None))
    address = _address_of(url, options)
    _look(address, options.get("cluster", False), check_prefix(options.get("prefix", PREFIX)))
    settled["url"] = url
    if address.password is not None or address.username is not None:
        settled["url"] = _without_credentials(url)
        settled.update(username=address.username, password=address.password)
    return settled


@contextmanager
def visit(namespace: str, options: dict[str, Any]) -> Iterator[Space | None]:
    """Look at a namespace without being one of its users; None if there is no server."""
    url = _existing_server(options.get("url"))
    if url is None:
        yield None
        return
    address = _address_of(url, options)
    space = Space(
        address,
        cluster=options.get("cluster", False),
        prefix=check_prefix(options.get("prefix", PREFIX)),
        namespace=namespace,
        ttl=None,
    )
    try:
        with address.errors_without_secrets():
            yield space
    finally:
        space.close()


def _address_of(url: str, options: dict[str, Any]) -> Address:
    """Return the address that a backend's options describe, with ``url`` in the place of theirs."""
    named = {name: options[name] for name in _OF_THE_ADDRESS if name in options}
    return read_address(url, **named)


def _look(address: Address, cluster: bool, prefix: str) -> None:
    """Do once what a cache does. A server that is not there is no error: it may come back."""
    server = open_server(address, cluster=cluster)
    try:
        layout = Layout(prefix, _PROBE, server.tags)
        # Two names, which the nodes of a cluster would not take together without a tag.
        name, other = layout.claim(0, os.getpid()), layout.claim(0, os.getpid() + 1)
        commands: list[tuple[Any, ...]] = [
            ("SET", name, b"", "NX", "PX", _PROBE_TTL),
            ("GET", name),
            ("MGET", name, other),
            ("TYPE", name),
            ("PEXPIRE", name, _PROBE_TTL),
            ("STRLEN", name),
            ("PTTL", name),
            ("UNLINK", name),
        ]
        with address.errors_without_secrets():
            replies = server.run([(0, command) for command in commands])
            commands.append(("SCAN", 0, "MATCH", layout.pattern, "COUNT", 1))
            try:
                replies.append(server.clients()[0].execute_command(*commands[-1]))
            except redis.ResponseError as error:
                replies.append(error)
    except redis.RedisError as error:
        _explain(error, address, cluster)
        log.info("the Redis server %s cannot be reached now: %s", address.url, error)
        return
    finally:
        server.close()
    lacking = [
        str(command[0])
        for command, reply in zip(commands, replies, strict=True)
        if isinstance(reply, NoPermissionError)
    ]
    if lacking:
        raise InvalidOptionError(
            f"This user of the Redis server {address.url} may not run {', '.join(lacking)} on keys "
            f"that begin with {prefix!r}. Let an administrator allow it: ACL SETUSER <name> "
            f"~{prefix}* {' '.join(f'+{command.lower()}' for command in lacking)}."
        )
    for reply in replies:
        if isinstance(reply, Exception):
            _explain(address.without_secrets(reply), address, cluster)


def _explain(error: Exception, address: Address, cluster: bool) -> None:
    """Raise what the user has to change; return where waiting may help."""
    # By the text, too: redis-py wraps what it meets on its way into a cluster.
    text = str(error)
    where = f"The Redis server {address.url}"
    if isinstance(error, redis.AuthenticationError) or any(word in text for word in _NOT_LET_IN):
        raise InvalidOptionError(
            f"{where} does not let this user in ({text}). Give the right password= (and "
            f"username=), in the options or in the URL."
        ) from None
    if isinstance(error, NoPermissionError):
        raise InvalidOptionError(
            f"{where} refuses this user ({text}). Let an administrator allow it with ACL SETUSER."
        ) from None
    if "[SSL" in text or "_ssl.c" in text:
        raise InvalidOptionError(
            f"TLS with the Redis server {address.url} fails: {text}. Give the authority that "
            f"signed its certificate as tls_ca=, or use redis:// if it has no TLS."
        ) from None
    if cluster and "Cluster mode is not enabled" in text:
        raise InvalidOptionError(
            f"cluster=True was given, but the Redis server {address.url} is no part of a cluster "
            f"(or this user may not run CLUSTER SLOTS). Leave cluster= out."
        ) from None
    # redis-py 5 leaves the names in the text.
    if isinstance(error, MovedError | ClusterCrossSlotError) or text.startswith(_OF_A_CLUSTER):
        raise InvalidOptionError(f"{where} is one of a cluster. Give cluster=True.") from None


def _without_credentials(url: str) -> str:
    """Return a URL whose user and password are left out, with all else that it says."""
    parts = urlsplit(url)
    query = [(k, v) for k, v in parse_qsl(parts.query) if k not in ("username", "password")]
    rest = f"?{urlencode(query)}" if query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{rest}"
