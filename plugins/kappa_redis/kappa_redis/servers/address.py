"""Where the server is and how to talk to it: from options as people write them."""

from __future__ import annotations

import inspect
import math
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

import redis
from redis.backoff import FullJitterBackoff
from redis.connection import AbstractConnection, parse_url
from redis.exceptions import NoPermissionError, RedisClusterException
from redis.retry import Retry

from kappa_redis.servers import seeds, sentinels, tls
from kappa_redis.servers.credentials import read_credentials
from kappa_redis.servers.pace import PACED, TooSlowError
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kappa_redis.servers.credentials import AskedCredentials, Login
    from kappa_redis.servers.seeds import Place, Remap
    from kappa_redis.servers.sentinels import Sentinels

_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}  # for redis-py
_READ_SIZE = 1 << 20  # bytes per read of the socket; values are large
_TIMEOUTS = {"timeout": 1.5, "connect_timeout": 1.0}  # seconds
_RETRIES = 2  # of a lost connection, not of a server that does not answer
_BACKOFF = {"base": 0.01, "cap": 0.1}  # seconds
_EXPECTED = (
    "expected redis://host:6379/0, rediss://host:6379/0 (TLS) or unix:///path/of/the/socket "
    "(valkey:// and valkeys:// are the same as the first two), or "
    "sentinel://host:26379,other:26379/service (sentinels:// with TLS), with special characters of "
    "a password percent-encoded, or the password as password=…"
)
#: Errors that can be made anew from their text alone.
_MADE_OF_TEXT = (
    redis.AuthenticationError, redis.ConnectionError, redis.ResponseError, NoPermissionError,
    TooSlowError,
)  # fmt: skip


@dataclass(frozen=True)
class Address:
    """How to reach a server or a cluster.

    Args:
        url: The address, without credentials.
        cluster: Whether it is a node of a cluster.
        connection_class: redis-py's class of connection.
        arguments: What redis-py opens connections with, credentials included.
        nodes: Where nodes of a cluster are; empty without one.
        remap: Says how a node of a cluster is reached whose address another node has told.
        sentinels: Who says where the server is; None if the arguments do.
    """

    url: str
    cluster: bool
    connection_class: type[AbstractConnection]
    arguments: dict[str, Any] = field(repr=False)
    nodes: tuple[Place, ...] = ()
    remap: Remap = field(default=seeds.as_told, repr=False)
    sentinels: Sentinels | None = None

    @property
    def provider(self) -> AskedCredentials | None:
        """What is asked for credentials at each connection; None if they are arguments."""
        return self.arguments.get("credential_provider")

    @contextmanager
    def errors_without_secrets(self) -> Iterator[None]:
        """Take the credentials out of errors: a server repeats what it did not understand."""
        try:
            yield
        except (redis.RedisError, RedisClusterException) as error:
            raise self.without_secrets(error) from None

    def without_secrets(self, error: Exception) -> Exception:
        """Return an error of redis-py's that may be shown and logged."""
        text = shown = str(error)
        logins = [_login(self.arguments) if self.provider is None else self.provider.last]
        if self.sentinels is not None:
            logins.append(_login(self.sentinels.arguments))
        for username, password in logins:
            if password:
                shown = shown.replace(password, "***")
            if username:
                shown = re.sub(rf"\b{re.escape(username)}\b", "***", shown)
        if shown == text and isinstance(error, redis.RedisError):
            return error
        if type(error) in _MADE_OF_TEXT:
            return type(error)(shown)
        return redis.RedisError(f"{type(error).__name__}: {shown}")


def _login(arguments: dict[str, Any]) -> tuple[str | None, str | None]:
    return arguments.get("username"), arguments.get("password")


def read_address(
    url: object,
    cluster: bool = False,
    username: str | None = None,
    password: str | None = None,
    password_file: str | Path | None = None,
    credentials: Callable[[], Login] | None = None,
    tls_ca: str | Path | None = None,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    tls_verify: bool | None = None,
    tls_key_password: str | None = None,
    timeout: float | None = None,
    connect_timeout: float | None = None,
    sentinel_username: str | None = None,
    sentinel_password: str | None = None,
    address_remap: object = None,
) -> Address:
    """Turn options into an address; see :class:`kappa_redis.backend.RedisBackend`.

    Raises:
        InvalidOptionError: If an option cannot be used; the message repeats no credentials.
    """
    url, *others = seeds.split(url)
    arguments, watched = _parse(url, sentinel_username, sentinel_password)
    nodes = [_parse_other(other, arguments) for other in others]
    remap = arguments.pop("address_remap", None)
    remap = remap if address_remap is None else address_remap
    for name, seconds in (("timeout", timeout), ("connect_timeout", connect_timeout)):
        in_url = f"socket_{name}"
        if seconds is not None:
            arguments[in_url] = _check_seconds(seconds, name)
        elif in_url in arguments:
            _check_seconds(arguments[in_url], in_url, " in url=")
        else:
            arguments[in_url] = _TIMEOUTS[name]
    kind: type[AbstractConnection] = arguments.pop("connection_class", redis.Connection)
    database = int(arguments.get("db") or 0)
    if kind is redis.UnixDomainSocketConnection:
        shown = f"unix://{quote(arguments['path'])}" + (f"?db={database}" if database else "")
    else:
        host = arguments.setdefault("host", "localhost")
        port = arguments.setdefault("port", 6379)
        arguments["socket_keepalive"] = True
        scheme = "rediss" if kind is redis.SSLConnection else "redis"
        shown = f"{scheme}://{seeds.show((host, port))}"
        if watched is not None:
            del arguments["host"], arguments["port"]  # of a sentinel
            scheme = "sentinels" if kind is redis.SSLConnection else "sentinel"
            shown = f"{scheme}://{watched.shown}"
        shown += f"/{database}" if database else ""
    if cluster and kind is redis.UnixDomainSocketConnection:
        raise InvalidOptionError(
            f"cluster=True needs a node's host and port, but url={shown!r} is a socket of one "
            f"server. Give url='redis://node:6379'."
        )
    if cluster and watched is not None:
        raise InvalidOptionError(
            f"cluster=True was given, but url={shown!r} names sentinels, which watch over one "
            f"server. Leave cluster= out, or give url='redis://node:6379'."
        )
    if cluster and database:
        raise InvalidOptionError(
            f"url={shown!r} names the database {database}, but a cluster has only database 0. "
            f"Leave it out, and use prefix= to keep apart from others."
        )
    if not cluster and (nodes or remap is not None):
        what = f"url= names {1 + len(nodes)} servers" if nodes else "address_remap= was given"
        raise InvalidOptionError(
            f"{what}, which is for the nodes of one cluster. Give cluster=True, or leave all but "
            f"the URL of one server out."
        )
    read_credentials(arguments, username, password, password_file, credentials)
    arguments.update(
        socket_read_size=_READ_SIZE,
        decode_responses=False,
        protocol=2,  # the newer one only adds notices that are of no use here
        retry=Retry(
            FullJitterBackoff(**_BACKOFF), _RETRIES, supported_errors=(redis.ConnectionError,)
        ),
    )
    given = {"tls_ca": tls_ca, "tls_cert": tls_cert, "tls_key": tls_key}
    files = {name: Path(path) for name, path in given.items() if path is not None}
    if kind is redis.SSLConnection:
        tls.complete(arguments, files, tls_key_password, tls_verify)
    elif files or tls_key_password is not None or tls_verify is False:
        raise InvalidOptionError(
            f"A tls_ option was given, but url={shown!r} does not use TLS. Begin the URL with "
            f"rediss://, or leave the option out."
        )
    _check_names(arguments, kind, shown)
    if watched is not None:
        watched = watched.with_connection(arguments)
    known = dict.fromkeys([(arguments["host"], arguments["port"]), *nodes] if cluster else [])
    return Address(
        shown,
        cluster,
        PACED[kind],
        arguments,
        sentinels=watched,
        nodes=tuple(known),
        remap=seeds.read_remap(remap),
    )


def _check_names(arguments: dict[str, Any], kind: type[AbstractConnection], shown: str) -> None:
    """Check that redis-py's connections know all that the URL has after the question mark.

    Raises:
        InvalidOptionError: If they do not.
    """
    makers = [vars(each)["__init__"] for each in kind.__mro__[:-1] if "__init__" in vars(each)]
    known = {name for maker in makers for name in inspect.signature(maker).parameters}
    unknown = sorted(arguments.keys() - known)
    if unknown:
        raise InvalidOptionError(
            f"url= names the server {shown!r}, and after the question mark "
            f"{', '.join(map(repr, unknown))}, which no such connection of redis-py's takes. Leave "
            f"it out."
        )


def _check_seconds(seconds: object, name: str, where: str = "") -> float:
    """Return a time-out if it is one."""
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 < seconds < math.inf
    ):
        raise InvalidOptionError(f"{name}={seconds!r}{where} is not a positive number of seconds.")
    return seconds


def _parse_other(url: object, first: dict[str, Any]) -> Place:
    """Return where a further node of a cluster is; the rest is as the first URL says."""
    arguments, _ = _parse(url, None, None)
    seeds.check_alike(first, arguments)
    return arguments.get("host", "localhost"), arguments.get("port", 6379)


def _check_whole(url: str) -> None:
    """Check that nothing of a URL would be left out, as what follows a character of a password.

    Raises:
        ValueError: If something would.
    """
    parts = urlsplit(url)
    is_database = parts.scheme == "unix" or re.fullmatch(r"(/\d*)?", parts.path)
    if parts.fragment or not is_database:
        raise ValueError("it has a fragment, or a path that is no number")
    parse_qsl(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True)


def _parse(
    url: object, sentinel_username: str | None, sentinel_password: str | None
) -> tuple[dict[str, Any], Sentinels | None]:
    """Take a URL apart. An invalid one is not repeated: it may hold a password."""
    if not isinstance(url, str):
        raise InvalidOptionError(
            f"url= is a {type(url).__name__}, not the address of a Redis server; {_EXPECTED}."
        )
    parsed: dict[str, Any] | None = None
    watched = None
    with suppress(ValueError):
        found = sentinels.split(url, sentinel_username, sentinel_password)
        if found is not None:
            url, watched = found
        scheme, colon, rest = url.partition(":")
        url = f"{_SCHEMES.get(scheme, scheme)}{colon}{rest}"
        _check_whole(url)
        parsed = parse_url(url)  # type: ignore[no-untyped-call]
    if parsed is None or (
        parsed.get("connection_class") is redis.UnixDomainSocketConnection and "path" not in parsed
    ):
        raise InvalidOptionError(f"url= is not the address of a Redis server; {_EXPECTED}.")
    if watched is not None and not watched.service:
        raise InvalidOptionError(
            "url= names sentinels, and no service. Give "
            "url='sentinel://host:26379,other:26379/service', with the name by which they know "
            "the server."
        )
    if watched is None and (sentinel_username is not None or sentinel_password is not None):
        raise InvalidOptionError(
            "A sentinel_ option was given, but url= names no sentinels. Begin it with sentinel://, "
            "or leave the option out."
        )
    return parsed, watched
