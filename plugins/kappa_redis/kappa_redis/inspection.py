"""What is on a server: how full namespaces are, and what their clearing left behind."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from kappa_redis.layout import Layout, parse
from kappacore.plugin_api import BackendInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kappa_redis.namespace import Space

__all__ = ["peek", "remove", "survey", "sweep"]

_PAGE = 1000  # keys looked at in one request
_MEASURED = 200  # values whose size is asked; the others are taken to be like them
_OVERHEAD = 100  # bytes that the server needs for a key, about


@dataclass
class _Found:
    """What was seen of one namespace."""

    entries: int = 0
    measured: int = 0
    bytes: int = 0
    left: float = 0.0  # seconds until the last entry goes


def survey(space: Space, namespace: str | None = None) -> dict[str, BackendInfo]:
    """Look at all keys of a server; return how full each namespace is.

    Nodes of a cluster that do not answer are left out, as long as another one does.

    Args:
        space: where to look.
        namespace: look at this one only, which need not be there.
    """
    server, prefix = space.server, space.prefix
    found: dict[str, _Found] = {} if namespace is None else {namespace: _Found()}
    pattern = f"{prefix}*" if namespace is None else f"{prefix}{namespace}:*"
    clients = server.clients()
    answering = []
    for client in clients:
        try:
            for page in _pages(client, pattern):
                _look_at(client, page, prefix, found)
            answering.append(client)
        except (redis.ConnectionError, redis.TimeoutError):  # noqa: PERF203 - a few nodes
            if not answering and client is clients[-1]:
                raise
    used, capacity, policy = _memory(answering)
    full = bool(capacity) and used >= (capacity or 0)
    return {
        name: BackendInfo(
            namespace=name,
            entries=each.entries,
            bytes=(size := each.bytes * each.entries // max(1, each.measured)),
            capacity=None if capacity is None else max(capacity, size),
            full=full,
            where=space.address.url,
            kept_until=time.time() + each.left if each.entries else None,
            advice=_advice(policy) if capacity else "",
        )
        for name, each in found.items()
    }


def _advice(policy: str) -> str:
    """Say what an eviction policy does to epochs, where it does harm."""
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


def _look_at(client: Any, page: list[bytes], prefix: str, found: dict[str, _Found]) -> None:
    """Add what one page of names holds to ``found``."""
    parsed = [
        (name, parts) for name in page if (parts := parse(prefix, name)) and not parts.is_claim
    ]
    # Read after the names, so that one which differs is over and done with.
    heads = {(p.namespace, p.tag): f"{prefix}{p.namespace}:{p.tag}g" for _, p in parsed}
    generations = dict(zip(heads, _ask(client, [("GET", n) for n in heads.values()]), strict=True))
    for (namespace, _), generation in generations.items():
        if generation is not None:  # else it is what was cleared, or somebody else's
            found.setdefault(namespace, _Found())
    values = [
        (name, parts.namespace)
        for name, parts in parsed
        if parts.generation and generations[parts.namespace, parts.tag] == parts.generation.encode()
    ]
    for _, namespace in values:
        found[namespace].entries += 1
    sample = [(n, ns) for n, ns in values if found[ns].measured < _MEASURED]
    sizes = _ask(client, [("STRLEN", name) for name, _ in sample])
    left = _ask(client, [("PTTL", name) for name, _ in sample])
    for (name, namespace), size, milliseconds in zip(sample, sizes, left, strict=True):
        each = found[namespace]
        each.measured += 1
        each.bytes += (size or 0) + len(name) + _OVERHEAD
        each.left = max(each.left, math.inf if milliseconds == -1 else milliseconds / 1000)


def sweep(space: Space) -> None:
    """Remove the values of generations that have ended."""
    for client in space.server.clients():
        for page in _pages(client, space.layout.pattern):
            parsed = [(name, parse(space.prefix, name)) for name in page]
            values = [(name, parts) for name, parts in parsed if parts and parts.generation]
            tags = {p.tag: f"{space.prefix}{p.namespace}:{p.tag}g" for _, p in values}
            # Read after the names, so that one which differs has ended and does not come back.
            now = dict(zip(tags, _ask(client, [("GET", n) for n in tags.values()]), strict=True))
            _unlink(client, [n for n, p in values if p.generation.encode() != now[p.tag]])


def remove(space: Space) -> bool:
    """Remove all keys of a namespace, whoever uses it; return whether there were any."""
    some = False
    for client in space.server.clients():
        for page in _pages(client, space.layout.pattern):
            own = [(name, parts) for name in page if (parts := parse(space.prefix, name))]
            _unlink(client, [name for name, _ in own])
            some = some or any(not parts.is_claim for _, parts in own)
    return some


def peek(space: Space, namespace: str, key: int) -> bytes | None:
    """Return a value of any namespace without renewing it, or beginning anything."""
    layout = Layout(space.prefix, namespace, space.server.tags)
    tag = space.tag(key)
    generation = space.run([(tag, ("GET", layout.generation(tag)))])[0]
    if not isinstance(generation, bytes):
        return None
    names = layout.values(tag, generation.decode("ascii", "replace"), [key])
    found = space.run([(tag, ("GET", names[0]))])[0]
    return found if isinstance(found, bytes) else None


def _pages(client: Any, pattern: str) -> Iterator[list[bytes]]:
    """Yield the names of keys, some at a time; each that stays meanwhile at least once."""
    cursor = None
    while cursor != 0:
        cursor, page = client.scan(cursor or 0, match=pattern, count=_PAGE)
        if page:
            yield list(page)


def _ask(client: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
    """Send commands that each concern one key; None where it is of a type that is not ours."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies = list(pipeline.execute(raise_on_error=False)) if commands else []
    for place, reply in enumerate(replies):
        if isinstance(reply, Exception):
            if not str(reply).startswith("WRONGTYPE"):
                raise reply
            replies[place] = None
    return replies


def _unlink(client: Any, names: list[bytes]) -> None:
    # One name a command: in a cluster a page has keys of many slots.
    _ask(client, [("UNLINK", name) for name in names])


def _memory(clients: list[Any]) -> tuple[int, int | None, str]:
    """Return the memory used, the limit on it (None: none is known), and what happens there."""
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
