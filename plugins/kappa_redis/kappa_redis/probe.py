"""A first look at a server: what only the user can mend is an error; that it is down is none."""

from __future__ import annotations

import logging
import os
import socket
import ssl
from contextlib import closing
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import ClusterCrossSlotError, MovedError, NoPermissionError

from kappa_redis.entries.layout import Layout
from kappa_redis.entries.namespace import WRITES
from kappa_redis.servers.connections import open_server
from kappa_redis.servers.sentinels import MisusedSentinelsError
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from kappa_redis.servers.address import Address
    from kappa_redis.servers.seeds import Place

log = logging.getLogger("kappacore.cache")

_NAME = "kappa-redis-probe"  # not one of the engine's namespaces, whose names have more parts
_TTL = 1000  # milliseconds
_LOGIN_FAILURES = ("Authentication required", "invalid username-password", "AUTH")
_CLUSTER_ERRORS = ("MOVED ", "CROSSSLOT ")
#: What a TLS server that goes down says, too.
_HUNG_UP = "EOF occurred in violation of protocol"
#: A name that exists nowhere. EAI_AGAIN, which may pass, is another number.
_UNKNOWN_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


def probe(address: Address, prefix: str) -> list[Place]:
    """Try each command once. A server that is down is not an error: it may come back.

    Args:
        address: Where the server is.
        prefix: What the names of all keys begin with.

    Returns:
        Where further nodes of a cluster are, besides those of the address.

    Raises:
        InvalidOptionError: If the server will never serve this user at this address.
    """
    nodes: list[Place] = []
    try:
        with closing(open_server(address)) as server, address.errors_without_secrets():
            layout = Layout(prefix, _NAME, server.tags)
            # Two names, which the nodes of a cluster would not take together without a tag.
            number = os.getpid() * len(server.tags)
            name, other = layout.claim(number), layout.claim(number + len(server.tags))
            commands: list[tuple[Any, ...]] = [
                ("SET", name, b"", "NX", "PX", _TTL),
                ("GET", name),
                ("MGET", name, other),
                ("TYPE", name),
                ("PEXPIRE", name, _TTL),
                ("STRLEN", name),
                ("PTTL", name),
                ("UNLINK", name),
                ("SCAN", 0, "MATCH", layout.pattern, "COUNT", 1, "TYPE", "string"),
            ]
            replies = server.run(commands)
            nodes = [node for node in server.nodes if node not in address.nodes]
    except (redis.RedisError, UnicodeError) as error:  # the latter of a name that is none
        _raise_if_final(error, address)
        _raise_if_unknown(address)
        _raise_if_misaddressed(error, address)
        log.info("the Redis server %s cannot be reached now: %s", address.url, error)
        return nodes
    lacking = [
        str(command[0])
        for command, reply in zip(commands, replies, strict=True)
        if isinstance(reply, NoPermissionError)
    ]
    # SCAN is for clearing alone, which is none of a reader's.
    if set(lacking) - {"SCAN"} == WRITES:
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
    elif ("[SSL" in text or "_ssl.c" in text) and _HUNG_UP not in text:
        advice = f"TLS with the Redis server {address.url} fails: {text}. {_advise_on_tls(text)}."
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
    elif "unknown command 'SET'" in text and address.sentinels is None:
        advice = (
            f"{where} does not keep samples ({text}). If it is a sentinel, give "
            f"url='sentinel://host:port/service', with the name by which it knows the server."
        )
    elif "unknown command" in text and address.sentinels is None:
        advice = (
            f"{where} lacks a command ({text}). If it was renamed or disabled, let an "
            f"administrator enable it; Redis before 6.0 cannot be used."
        )
    # redis-py 5 leaves the names in the text.
    elif isinstance(error, MovedError | ClusterCrossSlotError) or text.startswith(_CLUSTER_ERRORS):
        advice = f"{where} is part of a cluster. Give cluster=True."
    else:
        return
    raise InvalidOptionError(advice) from None


def _advise_on_tls(text: str) -> str:
    """Return what to do about an error of TLS."""
    if "mismatch" in text:
        return (
            "Give the name that the certificate has in url= (for nodes of a cluster, in "
            "address_remap=), or tls_verify=False"
        )
    if "expired" in text or "not yet valid" in text:
        return "Renew the certificate, or set this machine's clock"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "Give the authority that signed its certificate as tls_ca="
    if "ALERT" in text:
        return "Give a client's certificate that the server accepts as tls_cert= and tls_key="
    return "Give the port that the server has for TLS, or begin url= with redis:// if it has none"


def _places(address: Address) -> tuple[Place, ...]:
    """Return where whoever is asked first may be: a server, nodes of a cluster, or sentinels."""
    if address.sentinels is not None:
        return address.sentinels.hosts
    if issubclass(address.connection_class, redis.UnixDomainSocketConnection):
        return ()
    return address.nodes or ((address.arguments["host"], address.arguments["port"]),)


def _raise_if_unknown(address: Address) -> None:
    """Raise if no host of the address exists; return if one does, or may do so later."""
    places = _places(address)
    reasons = [_why_unresolved(*place) for place in places]
    if places and all(map(_is_unknown, reasons)):
        raise InvalidOptionError(
            f"The Redis server {address.url} does not exist: the host {places[0][0]!r} is "
            f"unknown ({reasons[0]}). Give the right host in url=."
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


def _raise_if_misaddressed(error: Exception, address: Address) -> None:
    """Raise if somebody is there who wants to be spoken to in another way.

    Without TLS, a server waits for the rest of a handshake; with it, it hangs up on others.
    """
    text, timeout = str(error), address.arguments["socket_connect_timeout"]
    with_tls = issubclass(address.connection_class, redis.SSLConnection)
    scheme = "redis" if address.sentinels is None else "sentinel"
    hung_up = not with_tls and any(word in text for word in ("closed", "reset", "Broken pipe"))
    for place in _places(address):
        advice = ""
        if with_tls and "Timeout" in text:
            if _listen(place, timeout, b"PING\r\n").startswith((b"+", b"-")):
                advice = f"has no TLS. Begin url= with {scheme}://"
        elif with_tls and _HUNG_UP in text:
            if "ALERT" in (alert := _shake_hands(place, timeout, listen=True) or ""):
                advice = f"refuses this client ({alert}). {_advise_on_tls(alert)}"
        elif hung_up and _shake_hands(place, timeout) is not None:
            advice = f"has TLS. Begin url= with {scheme}s://"
        elif hung_up and (said := _listen(place, timeout)).startswith(b"-DENIED"):
            advice = (
                f"takes no connections from other machines ({said[1:60].decode()}…). Let an "
                f"administrator set a password there, or protected-mode no"
            )
        if advice:
            raise InvalidOptionError(f"The Redis server {address.url} {advice}.") from None


def _listen(place: Place, timeout: float, say: bytes = b"") -> bytes:
    """Return what a server says without TLS, if need be after something is said to it."""
    try:
        with socket.create_connection(place, timeout) as connection:
            connection.sendall(say)
            return connection.recv(1000)
    except OSError:
        return b""


def _shake_hands(place: Place, timeout: float, *, listen: bool = False) -> str | None:
    """Return what a server has against a client of TLS without a certificate; None without TLS.

    It may say so after the handshake; one that is content waits for a request then, as do we
    if we ``listen``.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    try:
        with (
            socket.create_connection(place, timeout) as plain,
            context.wrap_socket(plain) as connection,
        ):
            try:
                if listen:
                    connection.recv(1)
            except OSError as error:
                return str(error)
            return ""
    except OSError:
        return None
