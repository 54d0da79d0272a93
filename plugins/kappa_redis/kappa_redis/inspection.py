"""Inspecting a server: how full namespaces are, and what clearing them left behind."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from kappa_redis.connections import LOST
from kappa_redis.namespace import Layout, parse
from kappacore.plugin_api import BackendInfo

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from kappa_redis.connections import Server
    from kappa_redis.namespace import RedisNamespace

    #: Names of keys, their parts, and whether each is a current generation or a value of it.
    Page = list[tuple[bytes, re.Match[str], bool]]

_PAGE = 1000  # keys per SCAN request
_MEASURED = 200  # values whose size is measured; the others are assumed to be like them
_OVERHEAD = 100  # bytes that the server needs for a key, about


@dataclass
class _Found:
    """What was seen of one namespace."""

    entries: int = 0
    measured: int = 0
    bytes: int = 0
    left: float = 0.0  # seconds until the last entry expires


def survey(namespace: RedisNamespace, name: str | None = None) -> dict[str, BackendInfo]:
    """Scan all keys of a server; return how full each namespace is.

    Nodes of a cluster that do not answer are left out, as long as another one does.

    Args:
        namespace: Any namespace of the server.
        name: Scan the namespace of this name only, which need not exist.
    """
    prefix = namespace.prefix
    found: dict[str, _Found] = {} if name is None else {name: _Found()}
    pattern = f"{prefix}*" if name is None else f"{prefix}{name}:*"
    clients = namespace.server.clients()
    answering = []
    for client in clients:
        try:
            for page in _pages(namespace, client, pattern):
                _add_page(namespace.server, page, found)
            answering.append(client)
        except (redis.ConnectionError, redis.TimeoutError):  # noqa: PERF203 - a few nodes
            if not answering and client is clients[-1]:
                raise
    used, capacity, policy = _memory(answering)
    full = bool(capacity) and used >= (capacity or 0)
    return {
        found_name: BackendInfo(
            namespace=found_name,
            entries=each.entries,
            bytes=(size := each.bytes * each.entries // max(1, each.measured)),
            capacity=None if capacity is None else max(capacity, size),
            full=full,
            where=namespace.address.url,
            kept_until=time.time() + each.left if each.entries else None,
            advice=_advice(policy) if capacity else "",
        )
        for found_name, each in found.items()
    }


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


def _add_page(server: Server, page: Page, found: dict[str, _Found]) -> None:
    """Add one page of keys to ``found``."""
    values = []
    for name, parts, is_current in page:
        if is_current:
            each = found.setdefault(parts["namespace"], _Found())
            if parts["generation"]:
                each.entries += 1
                values.append((name, each))
    sample = [(name, each) for name, each in values if each.measured < _MEASURED]
    sizes = _ask(server, [("STRLEN", name) for name, _ in sample])
    left = _ask(server, [("PTTL", name) for name, _ in sample])
    for (name, each), size, milliseconds in zip(sample, sizes, left, strict=True):
        each.measured += 1
        each.bytes += (size or 0) + len(name) + _OVERHEAD
        each.left = max(each.left, math.inf if milliseconds == -1 else (milliseconds or 0) / 1000)


def sweep(namespace: RedisNamespace) -> None:
    """Remove the values of generations that have ended."""
    for client in namespace.server.clients():
        for page in _pages(namespace, client, namespace.layout.pattern):
            ended = [name for name, parts, current in page if parts["generation"] and not current]
            _unlink(namespace.server, ended)


def remove(namespace: RedisNamespace) -> bool:
    """Remove all keys of a namespace, whoever uses it; return whether there were any."""
    found = False
    for client in namespace.server.clients():
        for page in _pages(namespace, client, namespace.layout.pattern):
            _unlink(namespace.server, [name for name, _, _ in page])
            found = found or not all(parts["claim"] for _, parts, _ in page)
    return found


def peek(namespace: RedisNamespace, name: str, key: int) -> bytes | None:
    """Return a value of any namespace, without renewing it or beginning a generation."""
    layout = Layout(namespace.prefix, name, namespace.server.tags)
    generation = namespace.run([("GET", layout.generation(layout.tag(key)))])[0]
    if not isinstance(generation, bytes):
        return None
    value = layout.value(key, generation.decode("ascii", "replace"))
    found = namespace.run([("GET", value)])[0]
    return found if isinstance(found, bytes) else None


def _pages(namespace: RedisNamespace, client: Any, pattern: str) -> Iterator[Page]:
    """Yield our keys on a node, a page at a time; each that stays there comes at least once."""
    prefix = namespace.prefix
    cursor = None
    while cursor != 0:
        # Strings alone: what is of another type is not ours, whatever its name.
        cursor, names = client.scan(cursor or 0, match=pattern, count=_PAGE, _type="string")
        page = [(name, parts) for name in names if (parts := parse(prefix, name))]
        tags = list(dict.fromkeys(parts.group("namespace", "tag") for _, parts in page))
        # Read after the page, so that a value of another generation has ended for good.
        found = _ask(namespace.server, [("GET", f"{prefix}{name}:{tag}g") for name, tag in tags])
        current = dict(zip(tags, found, strict=True))
        yield [
            (name, parts, _is_current(parts, current[parts.group("namespace", "tag")]))
            for name, parts in page
        ]


def _is_current(parts: re.Match[str], generation: bytes | None) -> bool:
    if generation is None or parts["claim"]:
        return False  # it was cleared, or is not a namespace
    return (parts["generation"] or "").encode() in (b"", generation)


def _ask(server: Server, commands: list[tuple[Any, ...]]) -> list[Any]:
    """Send commands of one key each, to where it is: a page was read before its slot has moved.

    Returns:
        The replies; None where the key is of a type that is not ours, or its node does not answer.
    """
    replies = server.run(commands)
    for position, reply in enumerate(replies):
        if isinstance(reply, Exception):
            if not str(reply).startswith("WRONGTYPE"):
                raise reply
            replies[position] = None
    return [None if reply is LOST else reply for reply in replies]


def _unlink(server: Server, names: list[bytes]) -> None:
    # One name a command: in a cluster a page has keys of many slots.
    _ask(server, [("UNLINK", name) for name in names])


def _memory(clients: list[Any]) -> tuple[int, int | None, str]:
    """Return the memory used, its limit (None if unknown), and the eviction policy."""
    used = limit = 0
    policy = ""
    for client in clients:
        try:
            memory: dict[str, Any] = client.info("memory")
        except redis.ResponseError:  # a user with few rights may not ask
            return 0, None, ""
        used += memory.get("used_memory", 0)
        limit += memory.get("maxmemory", 0)
        policy = memory.get("maxmemory_policy", "")
    return used, limit or None, policy
