"""The values of a namespace, read and stored in requests of a bounded size."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kappa_redis.entries.renewals import Renewals
from kappa_redis.servers.pace import SlowValues, TooSlowError
from kappa_redis.servers.server import LOST
from kappacore.plugin_api import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kappa_redis.entries.claims import Claims
    from kappa_redis.entries.namespace import Group, RedisNamespace
    from kappa_redis.servers.server import Command
    from kappacore.plugin_api import Buffer

    #: A key, and the pieces of its value.
    Item = tuple[int, Sequence[Buffer]]

log = logging.getLogger("kappacore.cache")

_BATCH_KEYS, _BATCH_BYTES = 512, 8 << 20  # of one request or reply
_SLOW_BATCH_BYTES = 1 << 20  # of one where something was too slow a while ago
_FIRST_BATCH = 8  # keys, until the size of a value is known
_ATTEMPTS = 3  # at values that others clear meanwhile


class Values:
    """Reads and stores values; those that were too slow are left alone for a while.

    Args:
        namespace: The namespace.
        claims: The claims of the instance that stores, which end when their values are stored.
        length: Number of keys.
        largest: Limit on a value's size, in bytes.
    """

    def __init__(
        self, namespace: RedisNamespace, claims: Claims, length: int, largest: int
    ) -> None:
        self._namespace = namespace
        self._claims = claims
        self._largest = largest
        self._largest_warned = False
        self._typical = 0  # bytes of a value
        self.renewals = Renewals(namespace, length)
        self.slow = SlowValues()

    def look_up(self, keys: Sequence[int]) -> list[Any]:
        """Return the values of keys; a :class:`TooSlowError` for each that is left alone."""
        if not self.slow:
            return self._read_in_batches(keys)
        sizes = self._sizes(keys) if self.slow.has_limit else [0] * len(keys)
        found: list[Any] = list(map(self.slow.why_not, keys, sizes))
        tried = [position for position, error in enumerate(found) if error is None]
        values = self._read_in_batches([keys[position] for position in tried])
        for position, value in zip(tried, values, strict=True):
            found[position] = value
        return found

    def _read_in_batches(self, keys: Sequence[int]) -> list[Any]:
        found: list[Any] = []
        while len(found) < len(keys):
            batch = 1 if self.slow else _FIRST_BATCH
            if self._typical:
                batch = max(1, min(_BATCH_KEYS, self._batch_bytes // self._typical))
            part = keys[len(found) : len(found) + batch]
            try:
                found += self._read(part)
            except TooSlowError as error:
                if len(part) == 1:
                    self.slow.note(part[0], *self._sizes(part))
                    found.append(error)
                else:  # one at a time: one of them may be to blame
                    for key in part:
                        found += self.look_up([key])
        return found

    @property
    def _batch_bytes(self) -> int:
        return _SLOW_BATCH_BYTES if self.slow else _BATCH_BYTES

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
            commands += self.renewals.commands(groups)
            pending = []
            for group, reply in zip(groups, namespace.run(commands), strict=False):
                if reply is LOST:
                    continue
                if namespace.is_current(group.tag, group.generation, reply[0]):
                    self.renewals.note_found(keys, group, reply[1:])
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
        if not self.renewals.is_own(key):
            # A large value counts at once, small ones little by little.
            self._typical = max(size, (7 * self._typical + size) // 8)
        if self.slow:
            self.slow.note_success(size)

    def store(self, items: Sequence[Item]) -> list[Any]:
        """Store values; a :class:`TooSlowError` for each that is left alone."""
        batches = _batches(items, self._batch_bytes)
        return [stored for batch in batches for stored in self._write(batch)]

    def _write(self, items: Sequence[Item]) -> list[Any]:
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
            if error := self.slow and self.slow.why_not(key, sum(map(len, value))):
                stored[position] = error
            elif self._fits(value):
                pending.append(position)
        expiry = () if namespace.ttl is None else ("PX", namespace.ttl)
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
                    self.renewals.note_stored(keys[position], stored[position])
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

    def _write_apart(self, item: Item, error: TooSlowError, number: int) -> Any:
        """Store a value that was among a number of values that were too slow together."""
        if number > 1:
            return self.store([item])[0]
        self.slow.note(item[0], sum(map(len, item[1])))
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


def _batches(items: Sequence[Item], limit: int) -> Iterator[list[Item]]:
    """Split values into requests of at most ``limit`` bytes, or one value each."""
    batch: list[Item] = []
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
