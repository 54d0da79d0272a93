"""Which node of a cluster holds which slots, and the tags that spread keys over the slots."""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot

if TYPE_CHECKING:
    from kappa_redis.servers.address import Address
    from kappa_redis.servers.seeds import Place

# A cluster places a key by the part of its name in braces, its tag. If each key had one of its own,
# each look-up would be a request of its own; with one tag for all, one node would hold everything.
# A node that holds 1/20 of the slots holds 6 or 7 of these tags: at most 1.1 of its fair part.
CLUSTER_TAGS = 128
_STRIDE = 79  # from one tag's range to the next one's, so that a few keys lie evenly, too
_OFF_CENTRE = 2  # slots between a tag's and the middle of its range
#: What a node says instead of a host that it does not know.
_NO_HOST = ("", "?", None)

#: By the address, the last answer to CLUSTER SLOTS and who gave it. Caches that are opened later
#: begin with it, above all in forked workers, for whom the first nodes may be dead.
_last_answers: dict[str, tuple[list[Any], Place]] = {}


class Topology:
    """What is known of a cluster's nodes.

    Args:
        address: A few nodes, and how others are reached.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._holders: list[Place | None] = [None] * SLOTS
        #: The nodes that hold slots; none before :meth:`read`.
        self.primaries: frozenset[Place] = frozenset()
        #: All nodes that may be asked, replicas and those of the address included.
        self.nodes: tuple[Place, ...] = address.nodes
        if address.url in _last_answers:
            self.read(*_last_answers[address.url])

    def holder(self, slot: int) -> Place | None:
        """Return the node that holds a slot; None if none does."""
        return self._holders[slot]

    def move(self, slot: int, holder: Place) -> None:
        """Remember that a slot has moved to another node."""
        self._holders[slot] = holder
        self.primaries |= {holder}

    def read(self, answer: list[Any], asked: Place) -> None:
        """Remember what a node has answered to CLUSTER SLOTS.

        Args:
            answer: The answer: ranges of slots, each with its primary and replicas.
            asked: The node, whose host stands for one that it does not know.
        """
        holders: list[Place | None] = [None] * SLOTS
        found: dict[Place, None] = {}
        primaries = set()
        for first, last, *nodes in answer:
            places = [self.place(node[0], node[1], asked) for node in nodes]
            found.update(dict.fromkeys(places))
            primaries.add(places[0])
            holders[first : last + 1] = [places[0]] * (last + 1 - first)
        self._holders = holders
        self.primaries = frozenset(primaries)
        self.nodes = (*found, *(node for node in self._address.nodes if node not in found))
        _last_answers[self._address.url] = answer, asked

    def place(self, host: Any, port: int, asked: Place) -> Place:
        """Return where a node is, seen from here.

        Args:
            host: Its host, as another node says.
            port: Its port, likewise.
            asked: The node that says it.
        """
        name = host.decode() if isinstance(host, bytes) else host
        named = (asked[0] if name in _NO_HOST else name, int(port))
        return self._address.remap(named)


@cache
def cluster_tags() -> tuple[str, ...]:
    """Return the tags for a cluster, one in the middle of each of as many equal ranges of slots.

    Any few that follow each other are far apart.
    """
    width = SLOTS // CLUSTER_TAGS
    tags: dict[int, str] = {}
    for number in count():
        tag = f"k{number:x}"
        part, offset = divmod(key_slot(tag.encode()), width)
        if abs(offset - width // 2) <= _OFF_CENTRE and part not in tags:
            tags[part] = f"{{{tag}}}"
            if len(tags) == CLUSTER_TAGS:
                return tuple(tags[place * _STRIDE % CLUSTER_TAGS] for place in range(CLUSTER_TAGS))
    raise AssertionError("unreachable")
