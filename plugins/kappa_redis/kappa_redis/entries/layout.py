"""What the keys on a server are called.

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
import re
from functools import lru_cache
from typing import Any

from kappa_redis.entries.generations import DRAWN_FROM, parse_word
from kappacore.errors import InvalidOptionError

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


def part_in_names(word: Any) -> str | None:
    """Return the part of a generation's word that names of values have; None if there is none."""
    return drawn_part(word.decode()) if isinstance(word, bytes) and parse_word(word) else None


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
