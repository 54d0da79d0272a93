"""Removing the values of a namespace.

This alone looks at all keys of a server, as it also finds what nobody else can find any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import AskError, TryAgainError

from kappa_redis.entries.inspection import checked
from kappa_redis.entries.layout import Layout, part_in_names
from kappa_redis.servers.server import LOST, send

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Sequence

    from kappa_redis.entries.namespace import RedisNamespace
    from kappa_redis.servers.server import Command, Server

_PAGE = 1000  # keys per request


def sweep(namespace: RedisNamespace) -> None:
    """Remove the values of generations that have ended."""
    layout, server = namespace.layout, namespace.server
    numbers = {tag: number for number, tag in enumerate(server.tags)}

    def has_ended(parts: re.Match[str]) -> bool:
        # Asked after the value was seen, so that another generation has ended for good. One that
        # has not is left to whoever ends it.
        [word] = namespace.run([("GET", layout.generation(numbers[parts["tag"]]))])
        return word is not LOST and parts["word"] != part_in_names(word)

    for client in server.clients():
        _remove(server, client, layout, has_ended)


def remove(namespace: RedisNamespace) -> bool:
    """Remove all keys of a namespace, whoever uses it; return whether there were any.

    Claims stay with those who are loading, whose values are late then.
    """
    layout, server = namespace.layout, namespace.server
    names = [layout.generation(tag) for tag in range(len(server.tags))]
    unlist = ("HDEL", layout.index, namespace.name)
    removed = namespace.run([*(("UNLINK", name) for name in names), unlist])
    found = any(reply == 1 for reply in removed)

    def is_any(_: re.Match[str]) -> bool:
        nonlocal found
        found = True
        return True

    for client in server.clients():
        _remove(server, client, layout, is_any)
    return found


def _remove(
    server: Server, client: Any, layout: Layout, choose: Callable[[re.Match[str]], bool]
) -> None:
    """Look at all keys of a server, and remove those values of a namespace that are chosen.

    Args:
        server: The server, or the cluster that it is a node of.
        client: The server itself.
        layout: The names of the namespace's keys.
        choose: Called once for all values of one tag and generation; returns whether to remove
            them.
    """
    chosen: dict[bytes, bool] = {}
    cursor = 0
    commands: list[Command] = []
    while True:
        # Strings alone: what is of another type is not ours, whatever its name.
        page = ("SCAN", cursor, "MATCH", layout.pattern, "COUNT", _PAGE, "TYPE", "string")
        *_, (cursor, names) = checked(_send_on(server, client, [*commands, page]))
        by_stem: dict[bytes, list[bytes]] = {}
        for name in names:
            stem, _, key = name.rpartition(b":")
            if key.isdigit():
                by_stem.setdefault(stem, []).append(name)
        for stem in by_stem.keys() - chosen.keys():
            parts = layout.stem.fullmatch(stem.decode("ascii", "replace"))
            chosen[stem] = parts is not None and choose(parts)
        # The names of one command have the same tag, as a cluster demands.
        commands = [("UNLINK", *some) for stem, some in by_stem.items() if chosen[stem]]
        if not int(cursor):
            checked(_send_on(server, client, commands))
            return


def _send_on(server: Server, client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands to a node; again those whose keys have moved, to where they are now."""
    replies = send(client, commands)
    moved = [i for i, each in enumerate(replies) if isinstance(each, AskError | TryAgainError)]
    for position, reply in zip(moved, server.run([commands[i] for i in moved]), strict=True):
        replies[position] = reply
    return replies
