"""Which server to use: from options, the environment, or a private one."""

from __future__ import annotations

import inspect
import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from kappa_redis import embedded
from kappa_redis.entries.layout import check_prefix
from kappa_redis.entries.namespace import RedisNamespace
from kappa_redis.probe import probe
from kappa_redis.servers import seeds
from kappa_redis.servers.address import Address, read_address
from kappa_redis.servers.credentials import NoCredentialsError
from kappacore.errors import InvalidOptionError
from kappacore.plugin_api import count_ranks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    #: One address, or those of several nodes of a cluster.
    Url = str | Sequence[str]

ENVIRONMENT = "KAPPA_REDIS_URL"
PREFIX = "kappa:"
_ADDRESS_OPTIONS = inspect.signature(read_address).parameters.keys() - {"url"}
#: Options that do not belong in what is shown, and redis-py's names, which a URL may have.
_SECRETS = {"username": "username", "password": "password", "tls_key_password": "ssl_password"}
_SENTINEL_SECRETS = {"sentinel_username": "username", "sentinel_password": "password"}


def find_server(url: Url | None, max_bytes: float | str | None = None) -> Url:
    """Return the server's address: the one given, the environment's, or a private server's.

    Raises:
        InvalidOptionError: If several ranks would each start a private server, or a limit is given
            for a server that runs already.
    """
    if url is None or url == "":
        url = os.environ.get(ENVIRONMENT) or None
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


def prepare(options: dict[str, Any]) -> dict[str, Any]:
    """Return options that name the server and keep credentials apart, after a first look at it.

    Raises:
        InvalidOptionError: If an option cannot be used, or the server refuses this user.
    """
    prepared = dict(options)
    url: Any = find_server(options.get("url"), prepared.pop("max_bytes", None))
    address = _address(url, options)
    if address.provider is not None:
        try:
            address.provider.get_credentials()
        except NoCredentialsError as error:
            raise InvalidOptionError(
                f"There is no password for the Redis server {address.url}: {error}."
            ) from error
    nodes = probe(address, check_prefix(options.get("prefix", PREFIX)))
    if nodes:  # workers begin with all of them, as the first may be dead by then
        scheme = address.url.partition("://")[0]
        url = [*seeds.split(url), *(f"{scheme}://{seeds.show(node)}" for node in nodes)]
    prepared["url"] = url
    secrets = {name: address.arguments.get(argument) for name, argument in _SECRETS.items()}
    if address.provider is not None:
        secrets["username"] = address.provider.username
    if address.sentinels is not None:
        for name, argument in _SENTINEL_SECRETS.items():
            secrets[name] = address.sentinels.arguments.get(argument)
    given = {name: value for name, value in secrets.items() if value}
    if given:
        urls = [_without_credentials(each) for each in seeds.split(url)]
        prepared.update(url=urls if len(urls) > 1 else urls[0], **given)
    return prepared


@contextmanager
def visit(name: str, options: dict[str, Any]) -> Iterator[RedisNamespace]:
    """Open a namespace without counting as one of its users.

    Raises:
        InvalidOptionError: If nothing names a server; none is started to be looked into.
    """
    url = options.get("url") or os.environ.get(ENVIRONMENT) or embedded.running_url()
    if url is None:
        raise InvalidOptionError(
            f"Nothing names the Redis server to look into. Give its URL: --opt "
            f"url=redis://host:6379 on the command line, url='redis://host:6379' in Python, or "
            f"${ENVIRONMENT}."
        )
    address = _address(url, options)
    prefix = options.get("prefix", PREFIX)
    with (
        closing(RedisNamespace(address, prefix, name, ttl=None)) as namespace,
        address.errors_without_secrets(),
    ):
        yield namespace


def _address(url: Url, options: dict[str, Any]) -> Address:
    return read_address(url, **{name: options[name] for name in options.keys() & _ADDRESS_OPTIONS})


def _without_credentials(url: str) -> str:
    """Return a URL without user and password, and otherwise unchanged."""
    # Not urlsplit, which takes no list of sentinels that has an IPv6 address.
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    authority, slash, path = place.partition("/")
    secret = {*_SECRETS.values(), *_SENTINEL_SECRETS}
    kept = [(name, value) for name, value in parse_qsl(query) if name not in secret]
    options = f"?{urlencode(kept)}" if kept else ""
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}{options}"
