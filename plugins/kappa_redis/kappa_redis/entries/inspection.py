"""Inspecting a server: how full namespaces are.

What a namespace holds is counted by asking for its own keys, however many others the server has.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from kappa_redis.entries.layout import Layout, part_in_names
from kappa_redis.entries.namespace import is_denied
from kappa_redis.servers.server import LOST
from kappacore.plugin_api import BackendInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappa_redis.entries.namespace import RedisNamespace
    from kappa_redis.servers.server import Command, Server

_PAGE = 1000  # keys per request
#: Keys that are looked for in one namespace and in each of all; of more, as many drawn ones.
COUNTED, COUNTED_IN_ALL = 200_000, 20_000
_MEASURED, _PAGES_MEASURED = 200, 5  # values whose size is asked for; pages to find them in
_OVERHEAD = 130  # bytes that the server needs for a key, about


@dataclass
class _Found:
    """What was seen of one namespace."""

    entries: int = 0
    measured: int = 0
    bytes: int = 0
    left: float = 0.0  # seconds until the last entry expires


def listed(namespace: RedisNamespace) -> dict[str, int]:
    """Return the namespaces of a server, and how many keys each may hold."""
    [fields] = namespace.run([("HGETALL", namespace.layout.index)])
    if fields is LOST:
        raise redis.ConnectionError("a node of the Redis cluster does not answer")
    return {
        name.decode("ascii", "replace"): int(length)
        for name, length in zip(fields[::2], fields[1::2], strict=True)
        if length.isdigit()
    }


def survey(
    namespace: RedisNamespace, lengths: dict[str, int], counted: int
) -> dict[str, BackendInfo]:
    """Return how full namespaces are; those that were cleared or have expired are left out.

    The namespace that asks is never left out. Keys on nodes of a cluster that do not answer are not
    counted.

    Args:
        namespace: Any namespace of the server.
        lengths: The names of those to look at, and how many keys each may hold.
        counted: How many keys of each to look for, at most. If there are more, the number of
            entries is an estimate.
    """
    found = {name: _look(namespace, name, length, counted) for name, length in lengths.items()}
    gone = [name for name, each in found.items() if each is None and name != namespace.name]
    if gone:  # they have expired; who still uses one of them lists it again
        namespace.server.run([("HDEL", namespace.layout.index, *gone)])
    used, capacity, policy = _memory(namespace.server.clients())
    full = bool(capacity) and used >= (capacity or 0)
    return {
        name: BackendInfo(
            namespace=name,
            entries=each.entries,
            bytes=(size := each.bytes * each.entries // max(1, each.measured)),
            capacity=None if capacity is None else max(capacity, size),
            full=full,
            where=namespace.address.url,
            kept_until=time.time() + each.left if each.entries else None,
            advice=_advice(policy) if capacity else "",
        )
        for name, each in found.items()
        if each is not None or name == namespace.name
        for each in [each or _Found()]
    }


def _look(namespace: RedisNamespace, name: str, length: int, counted: int) -> _Found | None:
    """Count the values of a namespace; None if it has no generation."""
    server = namespace.server
    layout = Layout(namespace.prefix, name, server.tags)
    words = _ask(server, [("GET", layout.generation(tag)) for tag in range(len(server.tags))])
    stems = {
        tag: layout.values(tag, word.decode())
        for tag, word in enumerate(words)
        if part_in_names(word) is not None
    }
    if not stems:
        return None
    keys: Sequence[int] = range(length)
    if length > counted:
        keys = random.Random(0).sample(keys, counted)  # noqa: S311 - no secret
    found = _Found()
    pages = -(-len(keys) // _PAGE)
    for number in range(pages):
        by_tag: dict[int, list[str]] = {}
        for key in keys[number::pages]:  # from all over the namespace, so that any is typical
            tag = layout.tag(key)
            if tag in stems:
                by_tag.setdefault(tag, []).append(f"{stems[tag]}{key}")
        present = _count(server, list(by_tag.values()))
        if present and number < _PAGES_MEASURED and found.measured < _MEASURED:
            _measure(server, [each for names in by_tag.values() for each in names], found)
        found.entries += present
    found.entries = round(found.entries * length / max(1, len(keys)))
    return found


def _count(server: Server, names: list[list[str]]) -> int:
    """Return how many keys there are, of names that are grouped by their tag."""
    try:
        return sum(filter(None, _ask(server, [("EXISTS", *each) for each in names])))
    except redis.ResponseError as error:
        if not is_denied(error):  # as for a user with the fewest rights
            raise
        return len(_sizes(server, [name for each in names for name in each]))


def _measure(server: Server, names: list[str], found: _Found) -> None:
    """Add the sizes of some values, of those there are, to what was found."""
    there = _sizes(server, names)[: _MEASURED - found.measured]
    left = _ask(server, [("PTTL", name) for name, _ in there])
    for (name, size), milliseconds in zip(there, left, strict=True):
        if milliseconds is not None:
            found.measured += 1
            found.bytes += size + len(name) + _OVERHEAD
            found.left = max(found.left, math.inf if milliseconds == -1 else milliseconds / 1000)


def _sizes(server: Server, names: list[str]) -> list[tuple[str, int]]:
    """Return those of the keys that there are, and the sizes of their values."""
    sizes = _ask(server, [("STRLEN", name) for name in names])
    return [(name, size) for name, size in zip(names, sizes, strict=True) if size]


def _advice(policy: str) -> str:
    """Explain the harm that an eviction policy does to epochs; empty if it does none."""
    if policy == "noeviction":
        return ""
    if policy.endswith("-random"):
        return (
            f"maxmemory-policy {policy} may evict the small key that says which entries are "
            f"valid, and all of them are loaded anew; set noeviction (what does not fit is read "
            f"from the source)"
        )
    return (
        f"maxmemory-policy {policy} evicts what an epoch reads next, so a data set that does not "
        f"fit hardly ever hits; set noeviction (the rest is read from the source)"
    )


def peek(namespace: RedisNamespace, name: str, key: int) -> bytes | None:
    """Return a value of any namespace, without renewing it or beginning a generation."""
    layout = Layout(namespace.prefix, name, namespace.server.tags)
    generation = namespace.run([("GET", layout.generation(layout.tag(key)))])[0]
    if part_in_names(generation) is None:
        return None
    value = layout.value(key, generation.decode())
    found = namespace.run([("GET", value)])[0]
    return found if isinstance(found, bytes) else None


def _ask(server: Server, commands: Sequence[Command]) -> list[Any]:
    """Send commands; None where the key is of a type that is not ours, or its node is lost."""
    try:
        replies = server.run(commands)
    except (redis.ConnectionError, redis.TimeoutError):
        if len(server.tags) == 1:
            raise
        replies = server.run(commands)  # by the other nodes of the cluster
    return [None if reply is LOST else reply for reply in checked(replies)]


def checked(replies: list[Any]) -> list[Any]:
    """Raise what is an error among replies; None for keys of a type that is not ours."""
    for position, reply in enumerate(replies):
        if isinstance(reply, Exception):
            if not str(reply).startswith("WRONGTYPE"):
                raise reply
            replies[position] = None
    return replies


def _memory(clients: list[Any]) -> tuple[int, int | None, str]:
    """Return the memory used, its limit (None if unknown), and the eviction policy.

    Nodes of a cluster that do not answer are left out, as long as another one does.
    """
    used = limit = 0
    policy = ""
    lost = 0
    for client in clients:
        try:
            memory: dict[str, Any] = client.info("memory")
        except redis.ResponseError:  # a user with few rights may not ask
            return 0, None, ""
        except (redis.ConnectionError, redis.TimeoutError):
            lost += 1
            if lost == len(clients):
                raise
            continue
        used += memory.get("used_memory", 0)
        limit += memory.get("maxmemory", 0)
        policy = memory.get("maxmemory_policy", "")
    return used, limit or None, policy
