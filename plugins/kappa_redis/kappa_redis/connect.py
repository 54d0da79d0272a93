"""Which server to use, and a first look at whether it can be used at all."""

from __future__ import annotations

import inspect
import logging
import os
import socket
import ssl
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import redis
from redis.exceptions import ClusterCrossSlotError, MovedError, NoPermissionError

from kappa_redis import embedded, seeds
from kappa_redis.address import Address, read_address
from kappa_redis.connections import open_server
from kappa_redis.credentials import NoCredentialsError
from kappa_redis.namespace import WRITES, Layout, RedisNamespace, check_prefix
from kappa_redis.sentinels import MisusedSentinelsError
from kappacore.errors import InvalidOptionError
from kappacore.plugin_api import count_ranks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kappa_redis.seeds import Place

    #: One address, or those of several nodes of a cluster.
    Url = str | Sequence[str]

log = logging.getLogger("kappacore.cache")

ENVIRONMENT = "KAPPA_REDIS_URL"
PREFIX = "kappa:"
_ADDRESS_OPTIONS = inspect.signature(read_address).parameters.keys() - {"url"}
#: Options that do not belong in what is shown, and redis-py's names, which a URL may have.
_SECRETS = {"username": "username", "password": "password", "tls_key_password": "ssl_password"}
_SENTINEL_SECRETS = {"sentinel_username": "username", "sentinel_password": "password"}
_PROBE = "kappa-redis-probe"  # not one of the engine's namespaces, whose names have more parts
_PROBE_TTL = 1000  # milliseconds
_LOGIN_FAILURES = ("Authentication required", "invalid username-password", "AUTH")
_CLUSTER_ERRORS = ("MOVED ", "CROSSSLOT ")
#: A name that exists nowhere. EAI_AGAIN, which may pass, is another number.
_UNKNOWN_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


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
    nodes = _probe(address, check_prefix(options.get("prefix", PREFIX)))
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


def _probe(address: Address, prefix: str) -> list[Place]:
    """Try each command once. A server that is down is not an error: it may come back.

    Returns:
        Where further nodes of a cluster are, besides those of the address.
    """
    nodes: list[Place] = []
    try:
        with closing(open_server(address)) as server, address.errors_without_secrets():
            layout = Layout(prefix, _PROBE, server.tags)
            # Two names, which the nodes of a cluster would not take together without a tag.
            number = os.getpid() * len(server.tags)
            name, other = layout.claim(number), layout.claim(number + len(server.tags))
            commands: list[tuple[Any, ...]] = [
                ("SET", name, b"", "NX", "PX", _PROBE_TTL),
                ("GET", name),
                ("MGET", name, other),
                ("TYPE", name),
                ("PEXPIRE", name, _PROBE_TTL),
                ("STRLEN", name),
                ("PTTL", name),
                ("UNLINK", name),
                ("SCAN", 0, "MATCH", layout.pattern, "COUNT", 1, "TYPE", "string"),
            ]
            replies = server.run(commands)
            nodes = [node for node in server.nodes if node not in address.nodes]
    except (redis.RedisError, UnicodeError) as error:  # the latter of a name that is none
        _raise_if_final(error, address)
        _raise_if_misaddressed(error, address)
        log.info("the Redis server %s cannot be reached now: %s", address.url, error)
        return nodes
    lacking = [
        str(command[0])
        for command, reply in zip(commands, replies, strict=True)
        if isinstance(reply, NoPermissionError)
    ]
    if set(lacking) == WRITES:
        log.warning(
            "This user of the Redis server %s may only read: what others store is used, and "
            "nothing is stored.",
            address.url,
        )
    elif lacking:
        raise InvalidOptionError(
            f"This user of the Redis server {address.url} may not run {', '.join(lacking)} on keys "
            f"that begin with {prefix!r}. Let an administrator allow it: ACL SETUSER <name> "
            f"~{prefix}* {' '.join(f'+{command.lower()}' for command in lacking)}."
        )
    for reply in replies:
        if isinstance(reply, Exception) and not isinstance(reply, NoPermissionError):
            _raise_if_final(address.without_secrets(reply), address)
    return nodes


def _raise_if_final(error: Exception, address: Address) -> None:
    """Raise an error that the user has to act on; return where waiting may help."""
    # By the text, too: redis-py wraps errors that it meets while it connects to a cluster.
    text = str(error)
    where = f"The Redis server {address.url}"
    if isinstance(error, MisusedSentinelsError):
        advice = f"The address {address.url} cannot be used: {text}"
    elif isinstance(error, redis.AuthenticationError) or any(
        word in text for word in _LOGIN_FAILURES
    ):
        advice = (
            f"{where} rejects this login ({text}). Give the right password= (and username=), in "
            f"the options or in the URL."
        )
    elif isinstance(error, NoPermissionError):
        advice = (
            f"{where} refuses this user ({text}). Let an administrator allow it with ACL SETUSER."
        )
    elif "[SSL" in text or "_ssl.c" in text:
        advice = (
            f"TLS with the Redis server {address.url} fails: {text}. Give the authority that "
            f"signed its certificate as tls_ca=, or use redis:// if it has no TLS."
        )
    elif address.cluster and "cluster support disabled" in text:
        advice = (
            f"cluster=True was given, but the Redis server {address.url} is not part of a cluster "
            f"({text}). Leave cluster= out."
        )
    elif "DB index is out of range" in text or "invalid DB index" in text:
        advice = (
            f"{where} has no such database ({text}). Give another number at the end of url=, or "
            f"raise databases in the server's configuration."
        )
    elif isinstance(error, redis.InvalidResponse):
        advice = f"{where} does not answer as Redis does ({text}). Give the right host and port."
    elif "unknown command" in text and address.sentinels is None:
        advice = (
            f"{where} does not keep samples ({text}). If it is a sentinel, give "
            f"url='sentinel://host:port/service', with the name by which it knows the server."
        )
    # redis-py 5 leaves the names in the text.
    elif isinstance(error, MovedError | ClusterCrossSlotError) or text.startswith(_CLUSTER_ERRORS):
        advice = f"{where} is part of a cluster. Give cluster=True."
    else:
        return
    raise InvalidOptionError(advice) from None


def _raise_if_misaddressed(error: Exception, address: Address) -> None:
    """Raise if no server can ever answer at this address; return if it is down for now."""
    if issubclass(address.connection_class, redis.UnixDomainSocketConnection):
        return
    watched = address.sentinels
    alone = (address.arguments.get("host"), address.arguments.get("port"))
    hosts = address.nodes or (alone,) if watched is None else watched.hosts
    unresolved = [_why_unresolved(*each) for each in hosts]
    if all(unresolved):
        if all(map(_is_unknown, unresolved)):
            raise InvalidOptionError(
                f"The Redis server {address.url} does not exist: the host {hosts[0][0]!r} is "
                f"unknown ({unresolved[0]}). Give the right host in url=."
            ) from None
        return  # a name cannot be resolved now
    if watched is not None:
        return
    text = str(error)
    with_tls = issubclass(address.connection_class, redis.SSLConnection)
    # Without TLS a server waits for the rest of a handshake; with it, it hangs up.
    sign = ("Timeout",) if with_tls else ("closed", "reset")
    if any(word in text for word in sign) and _answers(address, not with_tls):
        has, scheme = ("no TLS", "redis") if with_tls else ("TLS", "rediss")
        raise InvalidOptionError(
            f"The Redis server {address.url} has {has}. Begin url= with {scheme}://."
        ) from None


def _why_unresolved(host: str, port: int) -> Exception | None:
    """Return why there is no address of that name; None if there is one."""
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        return error
    return None


def _is_unknown(error: Exception | None) -> bool:
    """Return whether a name exists nowhere, now and later."""
    return isinstance(error, UnicodeError) or getattr(error, "errno", None) in _UNKNOWN_HOST


def _answers(address: Address, with_tls: bool) -> bool:
    """Return whether a server answers with TLS, or without."""
    arguments = address.arguments
    timeout = arguments["socket_connect_timeout"]
    try:
        with socket.create_connection((arguments["host"], arguments["port"]), timeout) as plain:
            if with_tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                context.wrap_socket(plain).close()  # nothing is sent, so nobody need be trusted
                return True
            plain.sendall(b"PING\r\n")
            return plain.recv(1) in (b"+", b"-")
    except OSError:
        return False


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
