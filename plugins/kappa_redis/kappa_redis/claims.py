"""Claims: which process loads a sample while the others wait for it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from kappa_redis.connections import LOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappa_redis.connections import Command
    from kappa_redis.namespace import RedisNamespace


class Claims:
    """Claims of one instance, each a key that holds the instance's token for a while.

    Renewing and releasing compare the token first, and act in a second request. One request would
    need a script, which a user with few rights may not run. If a claim expires between the two and
    passes to another process, a third one may read the same sample; nothing worse happens.

    Args:
        namespace: The namespace.
    """

    def __init__(self, namespace: RedisNamespace) -> None:
        self._namespace = namespace
        self._token = secrets.token_hex(8).encode()
        self._held: dict[int, str] = {}  # keys, and the generation when each was claimed

    def claim(self, keys: Sequence[int], ttl: float) -> list[bool]:
        """Claim keys, or renew claims; False where another process has claimed or stored it."""
        namespace = self._namespace
        if namespace.is_read_only:  # what is loaded could not be given to waiting processes
            return [True] * len(keys)
        milliseconds = max(1, int(1000 * ttl))
        commands: list[Command] = []
        asked: list[tuple[int, str]] = []
        for _, generation, positions, names in namespace.group(keys):
            for position, value in zip(positions, names, strict=True):
                name = namespace.layout.claim(keys[position])
                commands.append(("SET", name, self._token, "NX", "PX", milliseconds))
                commands.append(("TYPE", value))  # only a string could be read
                asked.append((keys[position], generation))
        replies = namespace.run(commands, refusals=True)
        stored: list[int] = []
        refused: list[int] = []
        for (key, generation), claimed, kind in zip(
            asked, replies[::2], replies[1::2], strict=True
        ):
            if claimed is None:
                refused.append(key)
            elif not namespace.took(claimed) or claimed is LOST:
                continue
            elif kind in (b"string", "string"):
                stored.append(key)
            else:
                # An expired claim that is made anew still belongs to the generation it began in.
                self._held.setdefault(key, generation)
        self._send(stored, "UNLINK")
        mine = self._mine(refused)
        self._send(mine, "PEXPIRE", milliseconds)
        denied = {*stored, *refused}.difference(mine)
        return [key not in denied for key in keys]

    def release(self, keys: Sequence[int]) -> None:
        """Give back those of ``keys`` that this instance has claimed."""
        held = [key for key in keys if self._held.pop(key, None) is not None]
        self._send(self._mine(held), "UNLINK")

    def is_late(self, key: int, generation: str) -> bool:
        """Return whether a value was loaded in a generation that has ended; once for each value."""
        if self._held.get(key, generation) == generation:
            return False
        self._held[key] = generation  # for the next value: the claim may never be given back
        return True

    def _mine(self, keys: Sequence[int]) -> list[int]:
        """Return the keys whose claims hold this instance's token."""
        replies = self._send(keys, "GET")
        return [key for key, reply in zip(keys, replies, strict=True) if reply == self._token]

    def _send(self, keys: Sequence[int], command: str, *arguments: int) -> list[object]:
        """Send one command for the claim of each key."""
        claim = self._namespace.layout.claim
        return self._namespace.run([(command, claim(key), *arguments) for key in keys])
