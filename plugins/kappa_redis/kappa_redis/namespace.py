"""One namespace on a server: its names, its generations, and commands sent within it.

Each key's name is ``<prefix><namespace>:<tag>`` followed by one of::

    g                          the generation: a random word that clearing removes
    v:<generation>:<key>       a value
    c:<key>                    a claim: the token of the process that is loading that value

A single server has one empty tag, a cluster a fixed number of them, spread evenly over its slots.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from kappa_redis.connections import LOST, open_server
from kappacore.errors import CacheClosedError, InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kappa_redis.address import Address
    from kappa_redis.connections import Command, Server

log = logging.getLogger("kappacore.cache")

_READ_ONLY = 30.0  # seconds without writing after the server had no room
# Errors of a server that stores nothing more but can still be read.
_REFUSALS = ("MISCONF", "NOREPLICAS")
_PREFIX = re.compile(r"[A-Za-z0-9:._/-]{0,64}")
_REST = re.compile(
    r"(?P<namespace>[a-z0-9._-]{1,100}):(?P<tag>(?:\{k[0-9a-z-]+\})?)"
    r"(?:g|(?P<claim>c):\d+|v:(?P<generation>[0-9a-f]+):\d+)"
)


class Layout:
    """Names of one namespace's keys.

    Args:
        prefix: What all names begin with.
        namespace: The namespace.
        tags: The tags that keys are spread over; one empty tag for a single server.
    """

    def __init__(self, prefix: str, namespace: str, tags: tuple[str, ...]) -> None:
        self._heads = [f"{prefix}{namespace}:{tag}" for tag in tags]
        #: Matches all names of the namespace; neither part contains a special character of SCAN.
        self.pattern = f"{prefix}{namespace}:*"

    def generation(self, tag: int) -> str:
        """Return the name of a tag's generation."""
        return f"{self._heads[tag]}g"

    def tag(self, key: int) -> int:
        """Return the tag of a key, as a position in ``tags``."""
        return key % len(self._heads)

    def value(self, key: int, generation: str) -> str:
        """Return the name of a value."""
        return f"{self._heads[key % len(self._heads)]}v:{generation}:{key}"

    def claim(self, key: int) -> str:
        """Return the name of the claim on a value."""
        return f"{self._heads[key % len(self._heads)]}c:{key}"


def parse(prefix: str, name: bytes) -> re.Match[str] | None:
    """Take the name of a key apart; None if it is not one of ours.

    Returns:
        Groups ``namespace``, ``tag`` (braces included; empty on a single server), ``generation``
        (of a value, else None) and ``claim`` (None for other keys).
    """
    text = name.decode("ascii", "replace")
    return _REST.fullmatch(text, len(prefix)) if text.startswith(prefix) else None


def check_prefix(prefix: object) -> str:
    """Return ``prefix`` if names can begin with it.

    Raises:
        InvalidOptionError: If they cannot.
    """
    if isinstance(prefix, str) and _PREFIX.fullmatch(prefix):
        return prefix
    raise InvalidOptionError(
        f"prefix={prefix!r} is not valid. Use up to 64 characters out of letters, digits and "
        f"':', '.', '_', '/', '-', such as 'kappa:'."
    )


class Group(NamedTuple):
    """Those keys of a batch that lie under one tag.

    Args:
        tag: The tag, as a position in the server's tags.
        generation: The tag's generation, as far as this process knows.
        positions: The positions of the keys in the batch.
        names: The names of their values.
    """

    tag: int
    generation: str
    positions: list[int]
    names: list[str]


class RedisNamespace:
    """Sends commands, knows the generations, and remembers for a while that there is no room.

    Args:
        address: Where the server is.
        prefix: What the names of all keys begin with.
        name: The namespace's name.
        ttl: Milliseconds that values live after their last use; None: for ever.

    Raises:
        InvalidOptionError: If no name can begin with ``prefix``.
    """

    def __init__(self, address: Address, prefix: str, name: str, ttl: int | None) -> None:
        self.address = address
        self.prefix = check_prefix(prefix)
        self.name = name
        self.ttl = ttl
        self._server: Server | None = open_server(address)
        self.layout = Layout(prefix, name, self._server.tags)
        # The generation of each tag that its values were last seen in; None: not known.
        self._generations: list[str | None] = [None] * len(self._server.tags)
        self._read_only_until = 0.0
        self.refused = False

    @property
    def server(self) -> Server:
        """The connections.

        Raises:
            CacheClosedError: After :meth:`close`.
        """
        if self._server is None:
            raise CacheClosedError(
                f"The Redis cache {self.name!r} was closed. Open a new one to use it."
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
            commands: What to send.
            refusals: Whether the replies may include a server's refusals to store more.

        Raises:
            redis.RedisError: If no reply comes, or one is an error.
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
        """Return whether a value was stored; after a refusal, none is tried for a while."""
        if not isinstance(reply, Exception):
            return True
        if not self.is_read_only:
            log.warning("The Redis server %s takes no samples now: %s", self.address.url, reply)
        self.refused = True
        self._read_only_until = time.monotonic() + _READ_ONLY
        return False

    # ---- generations

    def group(self, keys: Sequence[int], positions: Iterable[int] | None = None) -> list[Group]:
        """Group keys by tag, and begin the generations that do not exist yet.

        Keys are left out if the server neither has their generation nor stores it.

        Args:
            keys: A batch of keys.
            positions: Those to group; default all.
        """
        by_tag: dict[int, list[int]] = {}
        for position in range(len(keys)) if positions is None else positions:
            by_tag.setdefault(self.layout.tag(keys[position]), []).append(position)
        # Read once: another thread may find that a generation has ended.
        known = {tag: self._generations[tag] for tag in by_tag}
        unknown = [tag for tag, generation in known.items() if generation is None]
        commands: list[Command] = []
        expiry = () if self.ttl is None else ("PX", 2 * self.ttl)
        for tag in unknown:
            name = self.layout.generation(tag)
            commands.append(("SET", name, secrets.token_hex(6), "NX", *expiry))
            commands.append(("GET", name))
        replies = self.run(commands, refusals=True)
        for tag, begun, found in zip(unknown, replies[::2], replies[1::2], strict=True):
            self.took(begun)
            if found is not LOST:
                self.is_current(tag, None, found)
                known[tag] = _word(found)
        return [
            Group(
                tag,
                generation,
                by_tag[tag],
                [self.layout.value(keys[position], generation) for position in by_tag[tag]],
            )
            for tag, generation in known.items()
            if generation is not None
        ]

    def is_current(self, tag: int, generation: str | None, found: Any) -> bool:
        """Remember the generation found; return whether it is the one that was used."""
        if found is LOST:
            return True
        self._generations[tag] = word = _word(found)
        return generation is not None and generation == word

    def end_generations(self) -> None:
        """Empty the namespace for all its users; a server without room does this too.

        Raises:
            redis.RedisError: If a server cannot be reached.
        """
        tags = range(len(self._generations))
        replies = self.run([("UNLINK", self.layout.generation(tag)) for tag in tags])
        self._generations = [None] * len(tags)
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
