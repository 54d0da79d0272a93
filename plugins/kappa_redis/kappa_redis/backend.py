"""The backend ``redis``: samples in Redis or Valkey, for all machines that reach it."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import redis

from kappa_redis import embedded
from kappa_redis.connect import PREFIX, find_server, prepare, visit
from kappa_redis.entries import clearing, inspection
from kappa_redis.entries.claims import Claims
from kappa_redis.entries.namespace import RedisNamespace
from kappa_redis.entries.renewals import OWN_KEYS
from kappa_redis.entries.values import Values
from kappa_redis.servers.address import read_address
from kappacore.errors import InvalidOptionError
from kappacore.plugin_api import (
    BackendInfo,
    CacheBackend,
    FailedKeysError,
    Scope,
    dataset_of,
    format_size,
    parse_duration,
    parse_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from kappa_redis.servers.credentials import Login
    from kappa_redis.servers.seeds import Place
    from kappacore.plugin_api import Buffer, Claimant

_LARGEST = 512 << 20  # bytes; the server's limit on one value
_ASK_AGAIN = 0.5  # seconds until a cluster, or sentinels, are asked again after a failure
_NO_HEADER = "the node of the Redis cluster that holds the cache's header does not answer"


class RedisBackend(CacheBackend):
    """Keeps samples on a Redis or Valkey server, or on a cluster of them.

    Args:
        namespace: See :class:`kappacore.CacheBackend`.
        length: Number of keys.
        url: ``"redis://host:6379/0"``, ``"rediss://…"`` for TLS, or ``"unix:///path/of/socket"``
            (``"valkey://…"`` and ``"valkeys://…"`` are the same as the first two), or
            ``"sentinel://host:26379,other:26379/service"`` (``"sentinels://…"`` for TLS); default
            ``$KAPPA_REDIS_URL``, else a private server that is started here and ends with this
            process. Of a cluster it may name several nodes, of which one must answer: a list, or
            ``"redis://node1:6379,node2:6379"``.
        cluster: Whether ``url`` names nodes of a cluster.
        username: Who logs in.
        password: Of that user, or of the server.
        password_file: File that holds the password. It is read at each connection, so that the
            password may change.
        credentials: Function that returns the password, or a pair of user and password; called at
            each connection. Workers that are spawned call it too, so it must be a module's.
        tls_ca: File with the certificates of the authorities to trust, or a folder of such files
            after ``openssl rehash``; default the system's.
        tls_cert: File with this client's certificate.
        tls_key: File with its key; default that with the certificate.
        tls_key_password: Pass phrase of that key.
        tls_verify: Whether to check the server's certificate; default as the URL says
            (``?ssl_cert_reqs=none``), else True.
        ttl: How long an entry stays after its last use, as ``"3d"``; None: until it is cleared.
        max_value_bytes: Limit on a value's size, as ``"64MiB"``; larger ones are not stored.
        max_bytes: Memory of a private server, as ``"16GiB"`` or a fraction of what is free.
        timeout: Seconds to wait for a reply; default as the URL says (``?socket_timeout=3``),
            else 1.5.
        connect_timeout: Seconds to wait for a connection; default as the URL says
            (``?socket_connect_timeout=3``), else 1.
        sentinel_username: Who logs in at the sentinels.
        sentinel_password: Of that user; ``username`` and ``password`` are for the server.
        address_remap: Where the nodes of a cluster are that others name as they know them, which
            are behind NAT or a tunnel: ``{"10.0.0.5:6379": "cache.example.org:7001"}``, or as
            ``"10.0.0.5:6379=cache.example.org:7001,…"``, which may also stand in the URL
            (``?address_remap=…``), or a module's function that takes and returns a pair of host and
            port.
        prefix: What the names of all keys begin with.
        keep: Seconds that entries stay at least after their last use.

    Raises:
        InvalidOptionError: If an option cannot be used.
    """

    scope: ClassVar[Scope] = "network"
    verify_always = True
    thread_safe: ClassVar[bool] = True

    def __init__(
        self,
        namespace: str,
        length: int,
        *,
        url: str | Sequence[str] | None = None,
        cluster: bool = False,
        username: str | None = None,
        password: str | None = None,
        password_file: str | Path | None = None,
        credentials: Callable[[], Login] | None = None,
        tls_ca: str | Path | None = None,
        tls_cert: str | Path | None = None,
        tls_key: str | Path | None = None,
        tls_key_password: str | None = None,
        tls_verify: bool | None = None,
        ttl: float | str | None = "3d",
        max_value_bytes: int | str = "64MiB",
        max_bytes: float | str | None = None,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
        address_remap: Mapping[str, str] | str | Callable[[Place], Place] | None = None,
        prefix: str = PREFIX,
        keep: float = 0.0,
    ) -> None:
        largest = parse_size(max_value_bytes, _LARGEST, "max_value_bytes")
        if largest > _LARGEST:
            raise InvalidOptionError(
                f"max_value_bytes={max_value_bytes!r} is more than the {format_size(_LARGEST)} "
                f"that a Redis server takes in one value."
            )
        address = read_address(
            find_server(url, max_bytes),
            cluster=cluster,
            username=username,
            password=password,
            password_file=password_file,
            credentials=credentials,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_key_password=tls_key_password,
            tls_verify=tls_verify,
            timeout=timeout,
            connect_timeout=connect_timeout,
            sentinel_username=sentinel_username,
            sentinel_password=sentinel_password,
            address_remap=address_remap,
        )
        if address.cluster or address.sentinels is not None:  # which say who has taken over
            self.retry_after = _ASK_AGAIN
        self._namespace = RedisNamespace(
            address, prefix, namespace, _milliseconds(ttl, keep), length
        )
        self._length = length
        self._claims = Claims(self._namespace)
        self._values = Values(self._namespace, self._claims, length, largest)
        self._last_info: BackendInfo | None = None
        self._header_key = length - OWN_KEYS
        self._header: Buffer | None = None  # as it was last read
        self._private_server = embedded.use(address.url)  # runs as long as it is held

    # ---- values

    def get(self, key: int) -> Buffer | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        found = self._values.look_up(keys)
        if keys and keys[-1] == self._header_key and not isinstance(found[-1], Exception):
            found[-1] = self._found_header(found[-1])
        return _without_failures(found) if self._values.slow else found

    def _found_header(self, found: Buffer | None) -> Buffer | None:
        """Return the engine's header, as it was last read if the node that holds it fails.

        Were it absent, the engine would take the namespace for a cleared one, and store all samples
        anew.
        """
        if found is None and self._loses_header():
            if self._header is None:
                raise redis.ConnectionError(_NO_HEADER)
            return self._header
        self._header = found
        return found

    def _loses_header(self) -> bool:
        namespace = self._namespace
        return namespace.server.is_lost(namespace.layout.claim(self._header_key))

    def put(self, key: int, value: Sequence[Buffer]) -> bool:
        return self.put_many([(key, value)])[0]

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        if items and items[-1][0] == self._header_key and self._loses_header():
            raise redis.ConnectionError(_NO_HEADER)
        stored = self._values.store(items)
        return _without_failures(stored) if self._values.slow else stored

    # ---- claims

    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:
        if not self._values.slow:
            return self._claims.claim(keys, ttl)
        # What is left alone may be stored, and a claim on it would be refused as long as it is.
        asked = [key for key in keys if not self._values.slow.leaves_alone(key)]
        granted = dict(zip(asked, self._claims.claim(asked, ttl), strict=True))
        return [granted.get(key, True) for key in keys]

    def release_many(self, keys: Sequence[int]) -> None:
        self._claims.release(keys)

    def claimants(self, keys: Sequence[int]) -> list[Claimant | None]:
        return self._claims.claimants(keys)

    # ---- the namespace as a whole

    def clear(self) -> None:
        self._namespace.end_generations()
        self._last_info = None
        self._values.slow.forget()
        with self._namespace.address.errors_without_secrets():
            clearing.sweep(self._namespace)

    def generation(self) -> object:
        return self._namespace.generations

    def info(self) -> BackendInfo:
        namespace = self._namespace
        if namespace.is_read_only and self._last_info is not None:
            return self._last_info  # nothing is stored now, and the engine asks at each refusal
        with namespace.address.errors_without_secrets():
            lengths = {namespace.name: self._length}
            info = inspection.survey(namespace, lengths, inspection.COUNTED)[namespace.name]
        if namespace.may_only_read:  # however much room there is
            info = replace(info, capacity=None)
        self._last_info = replace(info, full=info.full or namespace.refused)
        return self._last_info

    def close(self) -> None:
        self._values.renewals.send()
        self._namespace.close()
        self._private_server = None

    # ---- without an instance

    @classmethod
    def prepare(cls, **options: Any) -> dict[str, Any]:
        return prepare(options)

    @classmethod
    def is_temporary(cls, **options: Any) -> bool:
        return embedded.is_private(options.get("url"))

    @classmethod
    def namespaces(cls, **options: Any) -> Iterable[BackendInfo]:
        with visit("", options) as visited:
            infos = inspection.survey(
                visited, inspection.listed(visited), inspection.COUNTED_IN_ALL
            )
            return [
                replace(info, dataset=dataset_of(name, partial(inspection.peek, visited, name)))
                for name, info in sorted(infos.items())
            ]

    @classmethod
    def remove(cls, namespace: str, **options: Any) -> bool:
        with visit(namespace, options) as visited:
            return clearing.remove(visited)


def _without_failures(answers: list[Any]) -> list[Any]:
    """Return answers if there is no error among them.

    Raises:
        FailedKeysError: If there is.
    """
    if any(isinstance(answer, Exception) for answer in answers):
        raise FailedKeysError(answers)
    return answers


def _milliseconds(ttl: float | str | None, keep: float) -> int | None:
    """Return the longer of two durations in milliseconds; None: for ever."""
    seconds = math.inf if ttl is None else parse_duration(ttl, "ttl")
    if not seconds:
        raise InvalidOptionError(
            f"ttl={ttl!r} would drop entries at once. Give a duration such as '3d', or None to "
            f"keep them until they are cleared."
        )
    seconds = max(seconds, keep)
    return None if seconds == math.inf else max(1, int(1000 * seconds))
