"""Where the server is and how to talk to it: from options as people write them."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import redis
from redis.backoff import FullJitterBackoff
from redis.connection import (
    AbstractConnection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.exceptions import NoPermissionError, RedisClusterException
from redis.retry import Retry

from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Address", "read_address"]

_READ_SIZE = 1 << 20  # bytes asked of the socket at once; values are large
_RETRIES = 2  # of a connection that was lost, not of a server that does not answer
_BACKOFF = {"base": 0.01, "cap": 0.1}  # seconds
#: What redis-py calls the files.
_TLS_FILES = {"tls_ca": "ssl_ca_certs", "tls_cert": "ssl_certfile", "tls_key": "ssl_keyfile"}
_EXPECTED = (
    "expected redis://host:6379/0, rediss://host:6379/0 (TLS) or unix:///path/of/the/socket, with "
    "special characters of a password percent-encoded, or the password as password=…"
)


#: Errors that say nothing but their text.
_MADE_OF_TEXT = (
    redis.AuthenticationError, redis.ConnectionError, redis.ResponseError, NoPermissionError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Address:
    """How to reach a server.

    Args:
        url: the address, without credentials.
        kind: redis-py's class of connection.
        arguments: what redis-py opens connections with, credentials included.
    """

    url: str
    kind: type[AbstractConnection]
    arguments: dict[str, Any] = field(repr=False)

    @property
    def username(self) -> str | None:
        """Who logs in; None for the server's default user."""
        name: str | None = self.arguments.get("username")
        return name

    @property
    def password(self) -> str | None:
        """What nobody else should see."""
        word: str | None = self.arguments.get("password")
        return word

    @contextmanager
    def errors_without_secrets(self) -> Iterator[None]:
        """Take the password out of errors: a server repeats what it did not understand."""
        try:
            yield
        except (redis.RedisError, RedisClusterException) as error:
            raise self.without_secrets(error) from None

    def without_secrets(self, error: Exception) -> Exception:
        """Return an error as it may be shown and logged, one of redis-py's in any case."""
        text = str(error)
        shown = text.replace(self.password, "***") if self.password else text
        if self.username:
            shown = re.sub(rf"\b{re.escape(self.username)}\b", "***", shown)
        if shown == text and isinstance(error, redis.RedisError):
            return error
        if type(error) in _MADE_OF_TEXT:
            return type(error)(shown)
        return redis.RedisError(f"{type(error).__name__}: {shown}")


def read_address(
    url: object,
    *,
    username: str | None = None,
    password: str | None = None,
    tls_ca: str | Path | None = None,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    tls_verify: bool = True,
    timeout: float = 1.5,
    connect_timeout: float = 1.0,
    cluster: bool = False,
) -> Address:
    """Turn options into an address; see :class:`kappa_redis.backend.RedisBackend`.

    Raises:
        InvalidOptionError: if one cannot be used; the message repeats no credentials.
    """
    for name, seconds in (("timeout", timeout), ("connect_timeout", connect_timeout)):
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise InvalidOptionError(f"{name}={seconds!r} is not a positive number of seconds.")
    parsed = _parse(url)
    kind: type[AbstractConnection] = parsed.pop("connection_class", redis.Connection)
    if kind is UnixDomainSocketConnection:
        where = f"unix://{quote(parsed['path'])}"
        if cluster:
            raise InvalidOptionError(
                f"cluster=True needs a node's host and port, but url={where!r} is a socket of one "
                f"server. Give url='redis://node:6379'."
            )
    else:
        parsed.setdefault("host", "localhost")
        parsed.setdefault("port", 6379)
        host = f"[{parsed['host']}]" if ":" in parsed["host"] else parsed["host"]
        where = f"redis{'s' * (kind is SSLConnection)}://{host}:{parsed['port']}"
        parsed["socket_keepalive"] = True
    database = int(parsed.get("db") or 0)
    if database and cluster:
        raise InvalidOptionError(
            f"url={where!r} names the database {database}, but a cluster has only database 0. "
            f"Leave it out, and use prefix= to keep apart from others."
        )
    if database:
        where += f"?db={database}" if kind is UnixDomainSocketConnection else f"/{database}"
    parsed.update(
        {
            name: value.decode() if isinstance(value, bytes) else str(value)  # YAML has numbers
            for name, value in (("username", username), ("password", password))
            if value is not None
        },
        socket_timeout=timeout,
        socket_connect_timeout=connect_timeout,
        socket_read_size=_READ_SIZE,
        decode_responses=False,
        protocol=2,  # the newer one only adds notices that are of no use here
        retry=Retry(
            FullJitterBackoff(**_BACKOFF), _RETRIES, supported_errors=(redis.ConnectionError,)
        ),
    )
    files = {"tls_ca": tls_ca, "tls_cert": tls_cert, "tls_key": tls_key}
    parsed.update(_tls(where, kind is SSLConnection, files, tls_verify))
    try:
        kind(**parsed)  # connects to nothing yet
    except TypeError:
        raise InvalidOptionError(
            f"url= names the server {where!r}, and behind the question mark something that "
            f"redis-py does not know; {_EXPECTED}."
        ) from None
    return Address(url=where, kind=kind, arguments=parsed)


def _parse(url: object) -> dict[str, Any]:
    """Take a URL apart. What is wrong with it is not repeated: it may hold a password."""
    if isinstance(url, str):
        try:
            parsed: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
        except ValueError:
            pass
        else:
            if parsed.get("connection_class") is not UnixDomainSocketConnection or "path" in parsed:
                return parsed
    what = "url= is no address of a Redis server"
    if not isinstance(url, str):
        what = f"url= is a {type(url).__name__}, not the address of a Redis server"
    raise InvalidOptionError(f"{what}; {_EXPECTED}.") from None


def _tls(
    where: str, is_used: bool, files: dict[str, str | Path | None], verify: bool
) -> dict[str, Any]:
    given = {_TLS_FILES[name]: str(path) for name, path in files.items() if path is not None}
    if not is_used:
        if given or not verify:
            raise InvalidOptionError(
                f"A tls_ option was given, but url={where!r} does not use TLS. Begin the URL with "
                f"rediss://, or leave the option out."
            )
        return {}
    for name, path in files.items():
        if path is not None and not Path(path).is_file():
            raise InvalidOptionError(
                f"The TLS file {str(path)!r} does not exist or is no file. Give {name}= the path "
                f"of a file in PEM form."
            )
    return {
        **given,
        "ssl_cert_reqs": "required" if verify else "none",
        "ssl_check_hostname": verify,
    }
