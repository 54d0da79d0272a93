"""Renewing: what is used lives on. Each key is renewed once a period, beside the next request."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import redis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappa_redis.entries.namespace import Group, RedisNamespace
    from kappa_redis.servers.server import Command
    from kappacore.plugin_api import Buffer

OWN_KEYS = 2  # the last ones: of the engine, see Session


class Renewals:
    """Knows which values and generations of a namespace are to be renewed.

    Args:
        namespace: The namespace; its ``ttl`` says how long an entry lives.
        length: Number of keys.
    """

    def __init__(self, namespace: RedisNamespace, length: int) -> None:
        self._namespace = namespace
        self._first_own = length - OWN_KEYS
        # A byte a key: whether its time to live was renewed in this period, a quarter of it long.
        self._renewed = bytearray(length)
        self._renewed_tags: set[int] = set()  # likewise, those whose generation was renewed
        self._period_ends = 0.0
        self._due: list[Command] = []  # what renews values that were found
        self._own: set[int] = set()  # keys of the engine that have values, as far as is known

    def is_own(self, key: int) -> bool:
        """Return whether a key is one of the engine's own."""
        return key >= self._first_own

    def note_stored(self, key: int, stored: bool) -> None:
        """Note that a value was stored, with all its time to live, or was not."""
        self._renewed[key] = stored
        if stored and self.is_own(key):
            self._own.add(key)

    def note_found(
        self, keys: Sequence[int], group: Group, values: Sequence[Buffer | None]
    ) -> None:
        """Note which values are to be renewed: those that were found, once a period each."""
        ttl = self._namespace.ttl
        if ttl is None or self._namespace.may_only_read:
            return
        renewed = self._renewed
        for position, name, value in zip(group.positions, group.names, values, strict=True):
            key = keys[position]
            if not renewed[key] and value is not None:
                renewed[key] = 1
                self._due.append(("PEXPIRE", name, ttl))
                if self.is_own(key):
                    self._own.add(key)

    def commands(self, groups: Sequence[Group]) -> list[Command]:
        """Return the commands that renew what was found by earlier requests, and generations."""
        namespace = self._namespace
        ttl = namespace.ttl
        if ttl is None or namespace.may_only_read:
            return []
        if time.monotonic() > self._period_ends:
            self._period_ends = time.monotonic() + ttl / 4000
            self._renewed = bytearray(len(self._renewed))
            self._renewed_tags = set()
            # The engine's own entries identify the others' dataset, and must not expire before
            # them, though they are hardly ever read.
            for group in namespace.group(own := sorted(self._own)):
                self.note_found(own, group, [b""] * len(group.names))
        due, self._due = self._due, []
        for tag, *_ in groups:
            if tag not in self._renewed_tags:
                self._renewed_tags.add(tag)
                if not namespace.has_just_begun(tag):
                    due.append(("PEXPIRE", namespace.layout.generation(tag), 2 * ttl))
                    due += namespace.listing()
        return due

    def send(self) -> None:
        """Renew what is left to be renewed; a server that is down has it as it is."""
        due, self._due = self._due, []
        if due and not self._namespace.is_closed:
            with suppress(redis.RedisError):
                self._namespace.run(due)
