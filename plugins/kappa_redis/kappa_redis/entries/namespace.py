"""One namespace on a server: its generations, and commands sent within it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError

from kappa_redis.entries.generations import end, has_ended, new_word, parse_word
from kappa_redis.entries.layout import Layout, check_prefix
from kappa_redis.servers.connections import open_server
from kappa_redis.servers.server import LOST
from kappacore.errors import CacheClosedError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kappa_redis.servers.address import Address
    from kappa_redis.servers.server import Command, Server

log = logging.getLogger("kappacore.cache")

#: The commands that a user who may only read does not need.
WRITES = {"SET", "PEXPIRE", "UNLINK"}
#: Those without which namespaces are not listed, and otherwise work.
LISTS = {"HSET", "HDEL"}
#: Those that a server may refuse without harm to what was asked with them.
_MINOR = {*LISTS, "PEXPIRE"}
_READ_ONLY = 30.0  # seconds without writing after the server had no room
# Errors of a server that stores nothing more but can still be read.
_REFUSALS = ("MISCONF", "NOREPLICAS")


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
        length: Number of keys; None for one that only visits.

    Raises:
        InvalidOptionError: If no name can begin with ``prefix``.
    """

    def __init__(
        self,
        address: Address,
        prefix: str,
        name: str,
        ttl: int | None,
        length: int | None = None,
    ) -> None:
        self.address = address
        self.length = length
        self.prefix = check_prefix(prefix)
        self.name = name
        self.ttl = ttl
        self._server: Server | None = open_server(address)
        self.layout = Layout(prefix, name, self._server.tags)
        # The generation of each tag that its values were last seen in; None: not known.
        self._generations: list[str | None] = [None] * len(self._server.tags)
        self._begun: set[int] = set()  # tags
        self._read_only_until = 0.0
        self.refused = False
        #: Whether this user has no right to write, as far as is known.
        self.may_only_read = False

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

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._server is None

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
            StorageError: If a key is not of the type that ours are.
        """
        if not commands:
            return []
        with self.address.errors_without_secrets():
            replies = self.server.run(commands)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception) and not (
                (refusals or command[0] in _MINOR) and _is_refusal(reply)
            ):
                if command[0] in LISTS and is_denied(reply):
                    continue
                if isinstance(reply, NoPermissionError):
                    self.may_only_read = self.may_only_read or command[0] in WRITES
                    if refusals and command[0] in WRITES:
                        continue
                if str(reply).startswith("WRONGTYPE"):
                    raise self._foreign(command[1], "is of another type")
                raise self.address.without_secrets(reply)
        return replies

    def _foreign(self, name: str, what: str) -> StorageError:
        return StorageError(
            f"The key {name!r} on the Redis server {self.address.url} {what} than a cache stores "
            f"there. Remove it, or give the cache another prefix=."
        )

    # ---- room

    @property
    def is_read_only(self) -> bool:
        """Whether the server had no room a moment ago, or this user may not write."""
        return self.may_only_read or time.monotonic() < self._read_only_until

    def took(self, reply: Any) -> bool:
        """Return whether a value was stored; after a refusal, none is tried for a while."""
        if not isinstance(reply, Exception):
            return True
        if self.may_only_read:
            return False
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
        if unknown:
            known.update(self._begin(unknown))
        groups = []
        for tag, generation in known.items():
            if generation is not None:
                stem = self.layout.values(tag, generation)
                names = [f"{stem}{keys[position]}" for position in by_tag[tag]]
                groups.append(Group(tag, generation, by_tag[tag], names))
        return groups

    def _begin(self, tags: Sequence[int]) -> dict[int, str | None]:
        """Return the generation of each tag, begun if there is none; None where none could be."""
        found = self._find_or_begin(tags)
        # A server that came back with what it saved earlier has generations that ended since.
        restored = [tag for tag, word in found.items() if word is None]
        if restored:
            # Before they are begun: a full server refuses that, and others must not use these.
            names = [self.layout.generation(tag) for tag in restored]
            self.run([("UNLINK", name) for name in names], refusals=True)
            found.update(self._find_or_begin(restored))
        return found

    def _find_or_begin(self, tags: Sequence[int]) -> dict[int, str | None]:
        """Do it once; None where a generation has ended, or the server takes none."""
        commands: list[Command] = []
        expiry = () if self.ttl is None else ("PX", 2 * self.ttl)
        for tag in tags:
            name = self.layout.generation(tag)
            commands.append(("SET", name, new_word(self.address.url, name), "NX", *expiry))
            commands.append(("GET", name))
        replies = self.run([*commands, *self.listing()], refusals=True)
        words: dict[int, str | None] = {}
        for tag, begun, found in zip(tags, replies[::2], replies[1::2], strict=False):
            if self.took(begun) and begun is not None and begun is not LOST:
                self._begun.add(tag)
            words[tag] = None if found is LOST else self._remember(tag, found)
        return words

    def listing(self) -> list[Command]:
        """Return the command that lists the namespace among all others."""
        if self.length is None:
            return []
        return [("HSET", self.layout.index, self.name, self.length)]

    def _remember(self, tag: int, found: bytes | None) -> str | None:
        """Remember what was found as a tag's generation; return it unless it has ended."""
        url, name = self.address.url, self.layout.generation(tag)
        word = None if found is None else parse_word(found)
        if found is not None and word is None:
            raise self._foreign(name, "holds another value")
        if word is not None and has_ended(url, name, word):
            word = None
        self._generations[tag] = word
        return word

    @property
    def generations(self) -> tuple[str | None, ...]:
        """The generation of each tag, as the last request has found it; None: not known."""
        return tuple(self._generations)

    def has_just_begun(self, tag: int) -> bool:
        """Return once whether this process has begun the generation of a tag."""
        begun = tag in self._begun
        self._begun.discard(tag)
        return begun

    def is_current(self, tag: int, generation: str, found: Any) -> bool:
        """Remember the generation found; return whether it is the one that was used."""
        if found is LOST:
            return True
        if found != generation.encode():
            end(self.address.url, self.layout.generation(tag), generation)
        return self._remember(tag, found) == generation

    def end_generations(self) -> None:
        """Empty the namespace for all its users; a server without room does this too.

        Raises:
            redis.RedisError: If a server cannot be reached.
        """
        names = [self.layout.generation(tag) for tag in range(len(self._generations))]
        # Known first: a server that forgets this clear may bring them back.
        found = self.run([("GET", name) for name in names])
        words = [
            None if each is LOST else self._remember(tag, each) for tag, each in enumerate(found)
        ]
        unlist = ("HDEL", self.layout.index, self.name)
        replies = self.run([*(("UNLINK", name) for name in names), unlist])
        self._generations = [None] * len(names)
        for name, word, reply in zip(names, words, replies, strict=False):
            if word is not None and reply is not LOST:
                end(self.address.url, name, word)
        if LOST in replies:
            raise redis.ConnectionError("a node of the Redis cluster does not answer")
        self.refused = False
        self._read_only_until = 0.0


def is_denied(reply: Exception) -> bool:
    """Return whether a command is not for this user, or for nobody: it may have been renamed."""
    return isinstance(reply, NoPermissionError) or "unknown command" in str(reply)


def _is_refusal(reply: Exception) -> bool:
    # redis-py knows the first two and takes them out of the text; the others are in it.
    return isinstance(reply, OutOfMemoryError | ReadOnlyError) or (
        isinstance(reply, redis.ResponseError) and str(reply).startswith(_REFUSALS)
    )
