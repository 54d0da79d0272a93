"""Claims: who is loading a sample while the others wait for it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from kappa_redis.connections import LOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappa_redis.connections import Command
    from kappa_redis.namespace import Space

__all__ = ["Claims"]


class Claims:
    """Claims of one instance, each a key that holds the instance's token for a while.

    Renewing and releasing compare the token first, and act in a second request. Doing it in one
    would need scripts, which a user with few rights may not run. If a claim runs out just in
    between and becomes another process's, a third one may read the same sample; no more than that.

    Args:
        space: the namespace.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._token = secrets.token_hex(8).encode()
        self._held: dict[int, str] = {}  # and the generation when each was claimed

    def claim(self, keys: Sequence[int], ttl: float) -> list[bool]:
        """Claim keys, or renew claims; False where another process has claimed or stored it."""
        space = self._space
        if space.is_read_only:  # what is loaded could not be given to those who wait
            return [True] * len(keys)
        milliseconds = max(1, int(1000 * ttl))
        by_tag = space.by_tag(keys)
        commands: list[Command] = []
        places: list[int] = []
        current = space.current(by_tag)
        for tag, generation in current.items():
            values = space.layout.values(tag, generation, [keys[place] for place in by_tag[tag]])
            for place, value in zip(by_tag[tag], values, strict=True):
                name = space.layout.claim(tag, keys[place])
                commands.append((tag, ("SET", name, self._token, "NX", "PX", milliseconds)))
                commands.append((tag, ("TYPE", value)))  # what is no string, nobody could read
                places.append(place)
        replies = space.run(commands, refusals=True)
        stored: list[int] = []
        refused: list[int] = []
        for place, claimed, kind in zip(places, replies[::2], replies[1::2], strict=True):
            if claimed is None:
                refused.append(keys[place])
            elif not space.took(claimed) or claimed is LOST:
                continue
            elif kind in (b"string", "string"):
                stored.append(keys[place])
            else:
                # One that ran out and is claimed anew is still of the generation it began in.
                key = keys[place]
                self._held.setdefault(key, current[space.tag(key)])
        self._send(stored, "UNLINK")
        mine = self._mine(refused)
        self._send(mine, "PEXPIRE", milliseconds)
        denied = {*stored, *refused}.difference(mine)
        return [key not in denied for key in keys]

    def release(self, keys: Sequence[int]) -> None:
        """Give back those of ``keys`` that this instance has claimed."""
        held = [key for key in keys if key in self._held]
        for key in held:
            del self._held[key]
        self._send(self._mine(held), "UNLINK")

    def is_late(self, key: int, generation: str) -> bool:
        """Return whether a value was loaded for a generation that has ended since; once a value."""
        if self._held.get(key, generation) == generation:
            return False
        self._held[key] = generation  # for the next one: the claim may never have been given back
        return True

    def _mine(self, keys: Sequence[int]) -> list[int]:
        """Return the keys whose claims hold this instance's token."""
        replies = self._send(keys, "GET")
        return [key for key, reply in zip(keys, replies, strict=True) if reply == self._token]

    def _send(self, keys: Sequence[int], command: str, *arguments: int) -> list[object]:
        """Send one command for the claim of each key."""
        space = self._space
        return space.run(
            [
                (tag, (command, space.layout.claim(tag, key), *arguments))
                for tag, key in ((space.tag(key), key) for key in keys)
            ]
        )
