"""The backend ``redis``: samples in Redis or Valkey, for all machines that reach it."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from kappa_redis import embedded, inspection
from kappa_redis.address import read_address
from kappa_redis.claims import Claims
from kappa_redis.connect import PREFIX, find_server, prepare, visit
from kappa_redis.connections import LOST
from kappa_redis.layout import check_prefix
from kappa_redis.namespace import Space
from kappacore.errors import InvalidOptionError
from kappacore.plugin_api import (
    BackendInfo,
    CacheBackend,
    Scope,
    dataset_of,
    format_size,
    parse_duration,
    parse_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from kappa_redis.connections import Command
    from kappacore.plugin_api import Buffer

__all__ = ["RedisBackend"]

log = logging.getLogger("kappacore.cache")

_BATCH_KEYS, _BATCH_BYTES = 512, 32 << 20  # of one request or reply
_FIRST_BATCH = 32  # keys, as long as nobody knows how large values are
_LARGEST = 512 << 20  # bytes that the server takes in one value
_OWN_KEYS = 2  # the last ones: of the engine, see Session
_TURNS = 3  # at values that others clear meanwhile


class RedisBackend(CacheBackend):
    """Keeps samples on a Redis or Valkey server, or a cluster of them.

    Args:
        namespace: see :class:`kappacore.CacheBackend`.
        length: number of keys.
        url: ``"redis://host:6379/0"``, ``"rediss://…"`` for TLS, or ``"unix:///path/of/socket"``;
            default ``$KAPPA_REDIS_URL``, else a private server that is started here and ends with
            this process.
        cluster: whether ``url`` names a node of a cluster.
        username: who logs in.
        password: of that user, or of the server.
        tls_ca: file with the certificates of the authorities to trust; default the system's.
        tls_cert: file with this client's certificate.
        tls_key: file with its key.
        tls_verify: whether to check the server's certificate.
        ttl: how long an entry stays after its last use, as ``"3d"``; None: until it is cleared.
        max_value_bytes: larger values are not stored, as ``"64MiB"``.
        max_bytes: memory of a private server, as ``"16GiB"`` or a fraction of what is free.
        timeout: seconds to wait for a reply.
        connect_timeout: seconds to wait for a connection.
        prefix: what the names of all keys begin with.
        keep: seconds that entries stay at least after their last use.

    Raises:
        InvalidOptionError: if an option cannot be used.
    """

    scope: ClassVar[Scope] = "network"
    verify_always = True
    thread_safe: ClassVar[bool] = True

    def __init__(
        self,
        namespace: str,
        length: int,
        *,
        url: str | None = None,
        cluster: bool = False,
        username: str | None = None,
        password: str | None = None,
        tls_ca: str | Path | None = None,
        tls_cert: str | Path | None = None,
        tls_key: str | Path | None = None,
        tls_verify: bool = True,
        ttl: float | str | None = "3d",
        max_value_bytes: int | str = "64MiB",
        max_bytes: float | str | None = None,
        timeout: float = 1.5,
        connect_timeout: float = 1.0,
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
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_verify=tls_verify,
            timeout=timeout,
            connect_timeout=connect_timeout,
        )
        self._ttl = _milliseconds(ttl, keep)
        self._space = Space(
            address,
            cluster=cluster,
            prefix=check_prefix(prefix),
            namespace=namespace,
            ttl=self._ttl,
        )
        self._claims = Claims(self._space)
        self._typical = 0  # bytes of a value
        # A byte a key: whether its time to live was renewed in this period, a quarter of it long.
        self._renewed = bytearray(length)
        self._period_ends = 0.0
        self._last_info: BackendInfo | None = None
        self._leave = embedded.enter(self, address.url)

    # ---- values

    def get(self, key: int) -> Buffer | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        found: list[Buffer | None] = []
        while len(found) < len(keys):
            found += self._read(keys[len(found) : len(found) + self._batch_keys()])
        return found

    def _batch_keys(self) -> int:
        if not self._typical:
            return _FIRST_BATCH
        return max(1, min(_BATCH_KEYS, _BATCH_BYTES // self._typical))

    def _read(self, keys: Sequence[int]) -> list[Buffer | None]:
        """Look up a batch; again what lies in another generation than was thought."""
        space = self._space
        found: list[Buffer | None] = [None] * len(keys)
        pending = space.by_tag(keys)
        for _ in range(_TURNS):
            current = space.current(pending)
            commands: list[Command] = []
            for tag, generation in current.items():
                names = space.layout.values(tag, generation, [keys[p] for p in pending[tag]])
                commands.append((tag, ("MGET", space.layout.generation(tag), *names)))
            commands += self._renewals(keys, pending, current)
            moved: dict[int, list[int]] = {}
            for tag, reply in zip(current, space.run(commands), strict=False):
                if reply is LOST:
                    continue
                if space.is_current(tag, current[tag], reply[0]):
                    for place, value in zip(pending[tag], reply[1:], strict=True):
                        found[place] = value
                else:
                    moved[tag] = pending[tag]
            pending = moved
            if not pending:
                break
        for key, value in zip(keys, found, strict=True):
            if value is not None:
                self._renewed[key] = 1
                # What is large counts at once, what is small little by little.
                self._typical = max(len(value), (7 * self._typical + len(value)) // 8)
        return found

    def _renewals(
        self, keys: Sequence[int], by_tag: dict[int, list[int]], current: dict[int, str]
    ) -> Iterator[Command]:
        """Yield what renews the time to live of keys, once a period each."""
        if self._ttl is None:
            return
        if time.monotonic() > self._period_ends:
            self._period_ends = time.monotonic() + self._ttl / 4000
            self._renewed = bytearray(len(self._renewed))
        space, layout = self._space, self._space.layout
        for tag, generation in current.items():
            due = [keys[place] for place in by_tag[tag] if not self._renewed[keys[place]]]
            if due:
                yield tag, ("PEXPIRE", layout.generation(tag), 2 * self._ttl)
            for name in layout.values(tag, generation, due):
                yield tag, ("PEXPIRE", name, self._ttl)
        # The engine's own entries say whose the others are, and must not go before them.
        for key in range(max(0, len(self._renewed) - _OWN_KEYS), len(self._renewed)):
            if not self._renewed[key]:
                self._renewed[key] = 1
                tag = space.tag(key)
                for generation in space.current([tag]).values():
                    yield tag, ("PEXPIRE", *layout.values(tag, generation, [key]), self._ttl)

    def put(self, key: int, value: Sequence[Buffer]) -> bool:
        return self.put_many([(key, value)])[0]

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        return [stored for batch in _batches(items) for stored in self._write(batch)]

    def _write(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        """Store a batch; again what was stored in a generation that had just ended.

        What was claimed in it is let go instead: it was loaded before the namespace was cleared,
        and counts as stored just before that. So does what belongs to a node that is lost.
        """
        space = self._space
        stored = [False] * len(items)
        keys = [key for key, _ in items]
        pending = space.by_tag(keys)
        for tag, places in pending.items():
            pending[tag] = [place for place in places if self._fits(items[place][1])]
        expiry = () if self._ttl is None else ("PX", self._ttl)
        for _ in range(_TURNS):
            if space.is_read_only:
                break
            current = space.current(pending)
            if not space.is_read_only:
                for place in (p for tag in pending.keys() - current.keys() for p in pending[tag]):
                    stored[place] = True
            commands: list[Command] = []
            for tag, generation in current.items():
                places = pending[tag]
                pending[tag] = [
                    place for place in places if not self._claims.is_late(keys[place], generation)
                ]
                for place in set(places).difference(pending[tag]):
                    stored[place] = True
                names = space.layout.values(tag, generation, [keys[p] for p in pending[tag]])
                for place, name in zip(pending[tag], names, strict=True):
                    commands.append((tag, ("SET", name, b"".join(items[place][1]), *expiry)))
                # Behind the values: if it is as it was, they lie where others look for them.
                commands.append((tag, ("GET", space.layout.generation(tag))))
            replies = iter(space.run(commands, refusals=True))
            moved: dict[int, list[int]] = {}
            stale: list[Command] = []
            for tag, generation in current.items():
                for place in pending[tag]:
                    stored[place] = space.took(next(replies))
                    self._renewed[keys[place]] = stored[place]
                if not space.is_current(tag, generation, next(replies)):
                    moved[tag] = pending[tag]
                    names = space.layout.values(tag, generation, [keys[p] for p in pending[tag]])
                    stale += [(tag, ("UNLINK", name)) for name in names]
            space.run(stale)
            pending = moved
            if not pending:
                break
        return stored

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
        return self._claims.claim(keys, ttl)

    def release_many(self, keys: Sequence[int]) -> None:
        self._claims.release(keys)

    # ---- the namespace as a whole

    def clear(self) -> None:
        self._space.end_generations()
        self._last_info = None
        with self._space.address.errors_without_secrets():
            inspection.sweep(self._space)

    def info(self) -> BackendInfo:
        space = self._space
        if space.is_read_only and self._last_info is not None:
            return self._last_info  # nothing is stored now, and the engine asks at each refusal
        with space.address.errors_without_secrets():
            found = inspection.survey(space, space.namespace)
        info = found[space.namespace]
        self._last_info = replace(info, full=info.full or space.refused)
        return self._last_info

    def close(self) -> None:
        self._space.close()
        self._leave()

    # ---- without an instance

    @classmethod
    def prepare(cls, **options: Any) -> dict[str, Any]:
        return prepare(options)

    @classmethod
    def is_temporary(cls, **options: Any) -> bool:
        return embedded.is_private(options.get("url"))

    @classmethod
    def namespaces(cls, **options: Any) -> Iterable[BackendInfo]:
        with visit("", options) as space:
            if space is None:
                return []
            infos = inspection.survey(space)
            return [
                replace(info, dataset=dataset_of(name, partial(inspection.peek, space, name)))
                for name, info in sorted(infos.items())
            ]

    @classmethod
    def remove(cls, namespace: str, **options: Any) -> bool:
        with visit(namespace, options) as space:
            return space is not None and inspection.remove(space)


def _milliseconds(ttl: float | str | None, keep: float) -> int | None:
    """Turn the longer of two durations into milliseconds; None: for ever."""
    seconds = math.inf if ttl is None else parse_duration(ttl, "ttl")
    if not seconds:
        raise InvalidOptionError(
            f"ttl={ttl!r} would drop entries at once. Give a duration such as '3d', or None to "
            f"keep them until they are cleared."
        )
    seconds = max(seconds, keep)
    return None if seconds == math.inf else max(1, int(1000 * seconds))


def _batches(
    items: Sequence[tuple[int, Sequence[Buffer]]],
) -> Iterator[list[tuple[int, Sequence[Buffer]]]]:
    """Part values into requests of bounded size."""
    batch: list[tuple[int, Sequence[Buffer]]] = []
    size = 0
    for item in items:
        if len(batch) == _BATCH_KEYS or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += sum(map(len, item[1]))
    if batch:
        yield batch
