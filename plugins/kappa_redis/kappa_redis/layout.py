"""Names of the keys on the server, and how keys are spread over a cluster.

Each name is ``<prefix><namespace>:<tag>`` followed by one of::

    g                          the generation: a random word that clearing removes
    v:<generation>:<key>       a value
    c:<key>                    a claim: the token of the process that is loading that value

A cluster places a key by the part of its name in braces. If each key had a tag of its own, each
look-up would be a request of its own; with one tag for all, one node would hold everything. So
there is a fixed number of tags, spread evenly over the cluster's slots.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

CLUSTER_TAGS = 32
_PREFIX = re.compile(r"[A-Za-z0-9:._/-]{0,64}")
_REST = re.compile(
    r"(?P<namespace>[a-z0-9._-]{1,100}):(?P<tag>\{k[0-9a-z-]+\})?"
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
        self.tags = tags
        self._heads = [f"{prefix}{namespace}:{tag}" for tag in tags]
        #: Matches all names of the namespace; neither part contains a special character of SCAN.
        self.pattern = f"{prefix}{namespace}:*"

    def generation(self, tag: int) -> str:
        """Return the name of a tag's generation."""
        return f"{self._heads[tag]}g"

    def values(self, tag: int, generation: str, keys: Iterable[int]) -> list[str]:
        """Return the names of values under one tag."""
        head = f"{self._heads[tag]}v:{generation}:"
        return [f"{head}{key}" for key in keys]

    def claim(self, tag: int, key: int) -> str:
        """Return the name of the claim on a value."""
        return f"{self._heads[tag]}c:{key}"


class Name(NamedTuple):
    """The parts of a key's name.

    Args:
        namespace: The namespace.
        tag: Its tag, braces included; empty on a single server.
        generation: Of a value; empty for other keys.
        is_claim: Whether it is a claim.
    """

    namespace: str
    tag: str
    generation: str
    is_claim: bool


def parse(prefix: str, name: bytes) -> Name | None:
    """Take the name of a key apart; None if it is not one of ours."""
    text = name.decode("ascii", "replace")
    match = _REST.fullmatch(text, len(prefix)) if text.startswith(prefix) else None
    if match is None:
        return None
    return Name(
        match["namespace"], match["tag"] or "", match["generation"] or "", bool(match["claim"])
    )


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


@cache
def cluster_tags() -> tuple[str, ...]:
    """Return the tags for a cluster, one in each of as many equal ranges of its slots."""
    tags = []
    width = REDIS_CLUSTER_HASH_SLOTS // CLUSTER_TAGS
    for part in range(CLUSTER_TAGS):
        number = 0
        while key_slot(b"k%d-%d" % (part, number)) // width != part:
            number += 1
        tags.append(f"{{k{part}-{number}}}")
    return tuple(tags)
