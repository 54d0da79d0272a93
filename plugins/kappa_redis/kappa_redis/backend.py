"""The backend ``redis``: samples in Redis or Valkey, for all machines that reach it."""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import redis

from kappa_redis import embedded, inspection
from kappa_redis.address import read_address
from kappa_redis.claims import Claims
from kappa_redis.connect import PREFIX, find_server, prepare, visit
from kappa_redis.namespace import RedisNamespace
from kappa_redis.pace import SlowValues, TooSlowError
from kappa_redis.server import LOST
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
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from kappa_redis.credentials import Login
    from kappa_redis.namespace import Group
    from kappa_redis.seeds import Place
    from kappa_redis.server import Command
    from kappacore.plugin_api import Buffer, Claimant

log = logging.getLogger("kappacore.cache")

_BATCH_KEYS, _BATCH_BYTES = 512, 8 << 20  # of one request or reply
_SLOW_BATCH_BYTES = 1 << 20  # of one where something was too slow a while ago
_FIRST_BATCH = 8  # keys, until the size of a value is known
_LARGEST = 512 << 20  # bytes; the server's limit on one value
_OWN_KEYS = 2  # the last ones: of the engine, see Session
_ASK_AGAIN = 0.5  # seconds until a cluster, or sentinels, are asked again after a failure
_NO_HEADER = "the node of the Redis cluster that holds the cache's header does not answer"
_ATTEMPTS = 3  # at values that others clear meanwhile


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
        self._largest = parse_size(max_value_bytes, _LARGEST, "max_value_bytes")
        if self._largest > _LARGEST:
            raise InvalidOptionError(
                f"max_value_bytes={max_value_bytes!r} is more than the {format_size(_LARGEST)} "
                f"that a Redis server takes in one value."
            )
        self._largest_warned = False
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
        self._ttl = _milliseconds(ttl, keep)
        self._namespace = RedisNamespace(address, prefix, namespace, self._ttl, length)
        self._length = length
        self._claims = Claims(self._namespace)
        self._typical = 0  # bytes of a value
        # A byte a key: whether its time to live was renewed in this period, a quarter of it long.
        self._renewed = bytearray(length)
        self._renewed_tags: set[int] = set()  # likewise, those whose generation was renewed
        self._period_ends = 0.0
        self._slow = SlowValues()
        self._due: list[Command] = []  # what renews values that were found
        self._own: set[int] = set()  # keys of the engine that have values, as far as is known
        self._last_info: BackendInfo | None = None
        self._header_key = length - _OWN_KEYS
        self._header: Buffer | None = None  # as it was last read
        self._private_server = embedded.use(address.url)  # runs as long as it is held

    # ---- values

    def get(self, key: int) -> Buffer | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        found = self._look_up(keys)
        if keys and keys[-1] == self._header_key and not isinstance(found[-1], Exception):
            found[-1] = self._found_header(found[-1])
        return _without_failures(found) if self._slow else found

    def _look_up(self, keys: Sequence[int]) -> list[Any]:
        """Return the values of keys; a :class:`TooSlowError` for each that is left alone."""
        if not self._slow:
            return self._read_in_batches(keys)
        sizes = self._sizes(keys) if self._slow.has_limit else [0] * len(keys)
        found: list[Any] = list(map(self._slow.why_not, keys, sizes))
        tried = [position for position, error in enumerate(found) if error is None]
        values = self._read_in_batches([keys[position] for position in tried])
        for position, value in zip(tried, values, strict=True):
            found[position] = value
        return found

    def _read_in_batches(self, keys: Sequence[int]) -> list[Any]:
        found: list[Any] = []
        while len(found) < len(keys):
            batch = 1 if self._slow else _FIRST_BATCH
            if self._typical:
                batch = max(1, min(_BATCH_KEYS, self._batch_bytes // self._typical))
            part = keys[len(found) : len(found) + batch]
            try:
                found += self._read(part)
            except TooSlowError as error:
                if len(part) == 1:
                    self._slow.note(part[0], *self._sizes(part))
                    found.append(error)
                else:  # one at a time: one of them may be to blame
                    for key in part:
                        found += self._look_up([key])
        return found

    @property
    def _batch_bytes(self) -> int:
        return _SLOW_BATCH_BYTES if self._slow else _BATCH_BYTES

    def _sizes(self, keys: Sequence[int]) -> list[int]:
        """Return the size of each value in bytes; 0 where there is none."""
        sizes = [0] * len(keys)
        groups = self._namespace.group(keys)
        names = [name for group in groups for name in group.names]
        replies = iter(self._namespace.run([("STRLEN", name) for name in names]))
        for group in groups:
            for position in group.positions:
                reply = next(replies)
                sizes[position] = 0 if reply is LOST else reply
        return sizes

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

    def _read(self, keys: Sequence[int]) -> list[Buffer | None]:
        """Look up a batch; again those keys whose generation has changed."""
        namespace = self._namespace
        found: list[Buffer | None] = [None] * len(keys)
        pending = list(range(len(keys)))
        for _ in range(_ATTEMPTS):
            groups = namespace.group(keys, pending)
            commands: list[Command] = [
                ("MGET", namespace.layout.generation(group.tag), *group.names) for group in groups
            ]
            commands += self._renewals(groups)
            pending = []
            for group, reply in zip(groups, namespace.run(commands), strict=False):
                if reply is LOST:
                    continue
                if namespace.is_current(group.tag, group.generation, reply[0]):
                    self._note_found(keys, group, reply[1:])
                    for position, value in zip(group.positions, reply[1:], strict=True):
                        found[position] = value
                else:
                    pending += group.positions
            if not pending:
                break
        for key, value in zip(keys, found, strict=True):
            if value is not None:
                self._note_size(key, len(value))
        return found

    def _note_size(self, key: int, size: int) -> None:
        """Note the size of a value that came or went."""
        if key < len(self._renewed) - _OWN_KEYS:
            # A large value counts at once, small ones little by little.
            self._typical = max(size, (7 * self._typical + size) // 8)
        if self._slow:
            self._slow.note_success(size)

    def _note_found(
        self, keys: Sequence[int], group: Group, values: Sequence[Buffer | None]
    ) -> None:
        """Note which values are to be renewed: those that were found, once a period each."""
        if self._ttl is None or self._namespace.may_only_read:
            return
        renewed = self._renewed
        for position, name, value in zip(group.positions, group.names, values, strict=True):
            key = keys[position]
            if not renewed[key] and value is not None:
                renewed[key] = 1
                self._due.append(("PEXPIRE", name, self._ttl))
                if key >= len(renewed) - _OWN_KEYS:
                    self._own.add(key)

    def _renewals(self, groups: Sequence[Group]) -> list[Command]:
        """Return the commands that renew what was found by earlier requests, and generations."""
        namespace = self._namespace
        if self._ttl is None or namespace.may_only_read:
            return []
        if time.monotonic() > self._period_ends:
            self._period_ends = time.monotonic() + self._ttl / 4000
            self._renewed = bytearray(len(self._renewed))
            self._renewed_tags = set()
            # The engine's own entries identify the others' dataset, and must not expire before
            # them, though they are hardly ever read.
            for group in namespace.group(own := sorted(self._own)):
                self._note_found(own, group, [b""] * len(group.names))
        due, self._due = self._due, []
        for tag, *_ in groups:
            if tag not in self._renewed_tags:
                self._renewed_tags.add(tag)
                if not namespace.has_just_begun(tag):
                    due.append(("PEXPIRE", namespace.layout.generation(tag), 2 * self._ttl))
                    due += namespace.listing()
        return due

    def put(self, key: int, value: Sequence[Buffer]) -> bool:
        return self.put_many([(key, value)])[0]

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        if items and items[-1][0] == self._header_key and self._loses_header():
            raise redis.ConnectionError(_NO_HEADER)
        stored = self._store(items)
        return _without_failures(stored) if self._slow else stored

    def _store(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[Any]:
        """Store values; a :class:`TooSlowError` for each that is left alone."""
        batches = _batches(items, self._batch_bytes)
        return [stored for batch in batches for stored in self._write(batch)]

    def _write(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[Any]:
        """Store a batch; again those values whose generation had just ended.

        A value claimed in an ended generation is dropped instead: it was loaded before the
        namespace was cleared, and counts as stored just before that. So does a value of a lost
        node.
        """
        namespace = self._namespace
        stored: list[Any] = [False] * len(items)
        keys = [key for key, _ in items]
        pending = []
        for position, (key, value) in enumerate(items):
            if error := self._slow and self._slow.why_not(key, sum(map(len, value))):
                stored[position] = error
            elif self._fits(value):
                pending.append(position)
        expiry = () if self._ttl is None else ("PX", self._ttl)
        for _ in range(_ATTEMPTS):
            if namespace.is_read_only:
                break
            groups = namespace.group(keys, pending)
            if not namespace.is_read_only:
                for position in set(pending).difference(*(group.positions for group in groups)):
                    stored[position] = True
            commands: list[Command] = []
            sent: list[tuple[Group, list[tuple[int, str]], list[int]]] = []
            for group in groups:
                values = []
                for position, name in zip(group.positions, group.names, strict=True):
                    if self._claims.is_late(keys[position], group.generation):
                        stored[position] = True
                        continue
                    values.append((position, name))
                    commands.append(("SET", name, b"".join(items[position][1]), *expiry))
                # After the values: if it has not changed, they lie where others look for them.
                commands.append(("GET", namespace.layout.generation(group.tag)))
                # After the value, which shows to everybody who might claim it next.
                held = self._claims.held([keys[position] for position, _ in values])
                commands += [("UNLINK", *map(namespace.layout.claim, held))] if held else []
                sent.append((group, values, held))
            try:
                replies = iter(namespace.run(commands, refusals=True))
            except TooSlowError as error:
                tried = [position for _, values, _ in sent for position, _ in values]
                for position in tried:
                    stored[position] = self._write_apart(items[position], error, len(tried))
                break
            pending = []
            stale: list[Command] = []
            for group, values, held in sent:
                for position, _ in values:
                    stored[position] = namespace.took(next(replies))
                    self._note_size(keys[position], sum(map(len, items[position][1])))
                    self._renewed[keys[position]] = stored[position]
                    if stored[position] and keys[position] >= len(self._renewed) - _OWN_KEYS:
                        self._own.add(keys[position])
                if not namespace.is_current(group.tag, group.generation, next(replies)):
                    pending += [position for position, _ in values]
                    stale += [("UNLINK", name) for _, name in values]
                elif held:
                    self._claims.forget(held)
                if held:
                    next(replies)
            namespace.run(stale)
            if not pending:
                break
        return stored

    def _write_apart(
        self, item: tuple[int, Sequence[Buffer]], error: TooSlowError, number: int
    ) -> Any:
        """Store a value that was among a number of values that were too slow together."""
        if number > 1:
            return self._store([item])[0]
        self._slow.note(item[0], sum(map(len, item[1])))
        return error

    def _fits(self, value: Sequence[Buffer]) -> bool:
        size = sum(map(len, value))
        if size > self._largest and not self._largest_warned:
            self._largest_warned = True
            log.warning(
                "A sample of %s is not stored: max_value_bytes is %s.",
                format_size(size),
                format_size(self._largest),
            )
        return size <= self._largest

    # ---- claims

    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:
        if not self._slow:
            return self._claims.claim(keys, ttl)
        # What is left alone may be stored, and a claim on it would be refused as long as it is.
        asked = [key for key in keys if not self._slow.leaves_alone(key)]
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
        self._slow.forget()
        with self._namespace.address.errors_without_secrets():
            inspection.sweep(self._namespace)

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
        if self._due and not self._namespace.is_closed:
            with suppress(redis.RedisError):  # a server that is down has them as they are
                self._namespace.run(self._due)
            self._due = []
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
            return inspection.remove(visited)


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


def _batches(
    items: Sequence[tuple[int, Sequence[Buffer]]], limit: int
) -> Iterator[list[tuple[int, Sequence[Buffer]]]]:
    """Split values into requests of at most ``limit`` bytes, or one value each."""
    batch: list[tuple[int, Sequence[Buffer]]] = []
    size = 0
    for item in items:
        added = sum(map(len, item[1]))
        if batch and (len(batch) == _BATCH_KEYS or size + added > limit):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += added
    if batch:
        yield batch
