"""One namespace on a server: its names, its generations, and commands sent within it.

The name of each key is the prefix, followed by one of::

    namespaces                     a hash: all namespaces, and how many keys each may hold
    <namespace>:<tag>g             the generation: a word that clearing removes
    <namespace>:<tag>c:<key>       a claim: the token of the process that is loading a value
    <short>:<tag>v:<word>:<key>    a value

A server keeps the name of a key beside its value. As there are millions of values, their names hold
a short digest of the namespace's name, and the part of the generation's word that was drawn. Should
those of two namespaces be the same, clearing one of them costs the other its values.

A single server has one empty tag, a cluster a fixed number of them, spread evenly over its slots.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError

from kappa_redis.connections import open_server
from kappa_redis.generations import DRAWN_FROM, end, has_ended, new_word, parse_word
from kappa_redis.server import LOST
from kappacore.errors import CacheClosedError, InvalidOptionError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kappa_redis.address import Address
    from kappa_redis.server import Command, Server

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
_PREFIX = re.compile(r"[A-Za-z0-9:._/-]{0,64}")
_SHORT = 5  # characters of 6 bits: the digest of a namespace's name
_WORD = 6  # likewise: of a generation's word


class Layout:
    """Names of one namespace's keys.

    Args:
        prefix: What all names begin with.
        namespace: The namespace.
        tags: The tags that keys are spread over; one empty tag for a single server.
    """

    def __init__(self, prefix: str, namespace: str, tags: tuple[str, ...]) -> None:
        short = f"{prefix}{_base64(hashlib.sha256(namespace.encode()).digest())[:_SHORT]}"
        self._heads = [f"{prefix}{namespace}:{tag}" for tag in tags]
        self._short_heads = [f"{short}:{tag}v:" for tag in tags]
        #: The name of the hash of all namespaces.
        self.index = f"{prefix}namespaces"
        #: Matches the names of all values; it holds no special character of SCAN's.
        self.pattern = f"{short}:*"
        #: Matches what stands before the last colon of a value's name.
        self.stem = re.compile(
            f"{re.escape(short)}:(?P<tag>{'|'.join(map(re.escape, tags))})"
            f"v:(?P<word>[A-Za-z0-9_-]{{{_WORD}}})"
        )

    def generation(self, tag: int) -> str:
        """Return the name of a tag's generation."""
        return f"{self._heads[tag]}g"

    def tag(self, key: int) -> int:
        """Return the tag of a key, as a position in ``tags``."""
        return key % len(self._heads)

    def values(self, tag: int, generation: str) -> str:
        """Return what the names of a tag's values begin with; the key follows."""
        return f"{self._short_heads[tag]}{drawn_part(generation)}:"

    def value(self, key: int, generation: str) -> str:
        """Return the name of a value."""
        return f"{self.values(self.tag(key), generation)}{key}"

    def claim(self, key: int) -> str:
        """Return the name of the claim on a value."""
        return f"{self._heads[self.tag(key)]}c:{key}"


@lru_cache(maxsize=256)
def drawn_part(generation: str) -> str:
    """Return that part of a generation's word that the names of its values have."""
    return _base64(bytes.fromhex(generation[DRAWN_FROM:]))[:_WORD]


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii")


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
