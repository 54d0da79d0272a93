"""One namespace on a server: its names, its generations, and commands sent within it."""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from kappa_redis.connections import LOST, open_server
from kappa_redis.layout import Layout
from kappacore.errors import CacheClosedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kappa_redis.address import Address
    from kappa_redis.connections import Command, Server

__all__ = ["Space"]

log = logging.getLogger("kappacore.cache")

_READ_ONLY = 30.0  # seconds without writing after the server had no room
# What a server says that takes nothing more but still reads.
_REFUSALS = ("MISCONF", "NOREPLICAS")


class Space:
    """Sends commands, knows the generations, and remembers for a while that there is no room.

    Args:
        address: where the server is.
        cluster: whether it is one of a cluster.
        prefix: what the names of all keys begin with.
        namespace: the namespace.
        ttl: milliseconds that values live after their last use; None: for ever.
    """

    def __init__(
        self, address: Address, *, cluster: bool, prefix: str, namespace: str, ttl: int | None
    ) -> None:
        self.address = address
        self.prefix = prefix
        self.namespace = namespace
        self.ttl = ttl
        self._server: Server | None = open_server(address, cluster=cluster)
        tags = self._server.tags
        self._parts = len(tags)
        self.layout = Layout(prefix, namespace, tags)
        # Of each tag the one that its values were last seen in; None: not known.
        self._generations: list[str | None] = [None] * len(tags)
        self._read_only_until = 0.0
        self.refused = False

    @property
    def server(self) -> Server:
        """The connections.

        Raises:
            CacheClosedError: after :meth:`close`.
        """
        if self._server is None:
            raise CacheClosedError(
                f"The Redis cache {self.namespace!r} was closed. Open a new one to use it."
            )
        return self._server

    def close(self) -> None:
        """Close the connections; idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    # ---- commands

    def run(self, commands: Sequence[Command], *, refusals: bool = False) -> list[Any]:
        """Send commands at once and return their replies.

        Args:
            commands: what to send.
            refusals: whether a server's refusals to take more may be among the replies.

        Raises:
            redis.RedisError: if no reply comes, or one is an error.
        """
        if not commands:
            return []
        with self.address.errors_without_secrets():
            replies = self.server.run(commands)
        for reply in replies:
            if isinstance(reply, Exception) and not (refusals and _is_refusal(reply)):
                raise self.address.without_secrets(reply)
        return replies

    # ---- room

    @property
    def is_read_only(self) -> bool:
        """Whether the server had no room a moment ago."""
        return time.monotonic() < self._read_only_until

    def took(self, reply: Any) -> bool:
        """Return whether something was stored; if there was no room, none is tried for a while."""
        if not isinstance(reply, Exception):
            return True
        if not self.is_read_only:
            log.warning("The Redis server %s takes no samples now: %s", self.address.url, reply)
        self.refused = True
        self._read_only_until = time.monotonic() + _READ_ONLY
        return False

    # ---- tags and generations

    def tag(self, key: int) -> int:
        """Return the tag of a key."""
        return key % self._parts

    def by_tag(self, keys: Sequence[int]) -> dict[int, list[int]]:
        """Return the places of ``keys``, by their tags."""
        if self._parts == 1:
            return {0: list(range(len(keys)))}
        by_tag: dict[int, list[int]] = {}
        for place, key in enumerate(keys):
            by_tag.setdefault(key % self._parts, []).append(place)
        return by_tag

    def current(self, tags: Iterable[int]) -> dict[int, str]:
        """Return the generations of ``tags``, begun where there is none yet.

        One is left out if the server neither has it nor takes it.
        """
        # Looked at once: another thread may find a generation ended meanwhile.
        known = {tag: self._generations[tag] for tag in tags}
        unknown = [tag for tag, generation in known.items() if generation is None]
        commands: list[Command] = []
        expiry = () if self.ttl is None else ("PX", 2 * self.ttl)
        for tag in unknown:
            name = self.layout.generation(tag)
            commands.append((tag, ("SET", name, secrets.token_hex(6), "NX", *expiry)))
            commands.append((tag, ("GET", name)))
        replies = self.run(commands, refusals=True)
        for tag, begun, found in zip(unknown, replies[::2], replies[1::2], strict=True):
            self.took(begun)
            if found is not LOST:
                self.is_current(tag, None, found)
                known[tag] = _word(found)
        return {tag: generation for tag, generation in known.items() if generation is not None}

    def is_current(self, tag: int, generation: str | None, found: Any) -> bool:
        """Take note of the generation found; return whether it is the one that was used."""
        if found is LOST:
            return True
        self._generations[tag] = word = _word(found)
        return generation is not None and generation == word

    def end_generations(self) -> None:
        """Let everybody find the namespace empty from now on; also where there is no more room.

        Raises:
            redis.RedisError: if a server cannot be reached.
        """
        names = map(self.layout.generation, range(self._parts))
        replies = self.run([(tag, ("UNLINK", name)) for tag, name in enumerate(names)])
        self._generations = [None] * self._parts
        if LOST in replies:
            raise redis.ConnectionError("a node of the Redis cluster does not answer")
        self.refused = False
        self._read_only_until = 0.0


def _word(found: bytes | None) -> str | None:
    return None if found is None else found.decode("ascii", "replace")


def _is_refusal(reply: Exception) -> bool:
    # redis-py knows the first two and takes them out of the text; the others are in it.
    return isinstance(reply, OutOfMemoryError | ReadOnlyError) or (
        isinstance(reply, redis.ResponseError) and str(reply).startswith(_REFUSALS)
    )
