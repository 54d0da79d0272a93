"""Claims: which process loads a sample while the others wait for it."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING

from kappa_redis.servers.server import LOST
from kappacore.plugin_api import Claimant, ProcessId, command_of, host_name, own_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappa_redis.entries.namespace import RedisNamespace
    from kappa_redis.servers.server import Command


class Claims:
    """Claims of one instance, each a key that holds the instance's token for a while.

    After the token it says for how long, and who claims it since when, for those who wait. A claim
    that is to last longer than that, as one whose time to live was lost, is void.

    Renewing and releasing compare the token first, and act in a second request. One request would
    need a script, which a user with few rights may not run. If a claim expires between the two and
    passes to another process, a third one may read the same sample; nothing worse happens.

    Args:
        namespace: The namespace.
    """

    def __init__(self, namespace: RedisNamespace) -> None:
        self._namespace = namespace
        self._token = secrets.token_hex(8).encode()
        own = own_id()
        self._who = {
            "pid": own.pid,
            "space": own.space,
            "started": own.started,
            "host": host_name(),
            "command": command_of(own.pid),
        }
        self._held: dict[int, str] = {}  # keys, and the generation when each was claimed

    def claim(self, keys: Sequence[int], ttl: float) -> list[bool]:
        """Claim keys, or renew claims; False where another process has claimed or stored it."""
        namespace = self._namespace
        if namespace.is_read_only:  # what is loaded could not be given to waiting processes
            return [True] * len(keys)
        milliseconds = max(1, int(1000 * ttl))
        claim = self._value(milliseconds)
        commands: list[Command] = []
        asked: list[tuple[int, str]] = []
        for _, generation, positions, names in namespace.group(keys):
            for position, value in zip(positions, names, strict=True):
                name = namespace.layout.claim(keys[position])
                commands.append(("SET", name, claim, "NX", "PX", milliseconds))
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
        mine = self._renew(refused, milliseconds)
        denied = {*stored, *refused}.difference(mine)
        return [key not in denied for key in keys]

    def _renew(self, keys: Sequence[int], milliseconds: int) -> list[int]:
        """Renew those claims that are this instance's; remove those that are void.

        Returns:
            The keys of this instance's.
        """
        name, mine = self._namespace.layout.claim, []
        asked: list[Command] = [(what, name(key)) for key in keys for what in ("GET", "PTTL")]
        replies = self._namespace.run(asked)
        commands: list[Command] = []
        for key, claim, left in zip(keys, replies[::2], replies[1::2], strict=True):
            ttl, _ = _read(claim)
            if self._is_mine(claim):
                mine.append(key)
                if ttl is not None and ttl < milliseconds:
                    longer = self._value(milliseconds)
                    commands.append(("SET", name(key), longer, "XX", "PX", milliseconds))
                else:
                    commands.append(("PEXPIRE", name(key), milliseconds))
            elif isinstance(left, int) and (left == -1 or (ttl is not None and left > ttl)):
                commands.append(("UNLINK", name(key)))  # free when it is asked for next
        self._namespace.run(commands)
        return mine

    def release(self, keys: Sequence[int]) -> None:
        """Give back those of ``keys`` that this instance has claimed."""
        held = [key for key in keys if self._held.pop(key, None) is not None]
        self._send(self._mine(held), "UNLINK")

    def held(self, keys: Sequence[int]) -> list[int]:
        """Return those of ``keys`` that this instance has claimed.

        Whoever stores their values may remove the claims at the same time without a look at the
        token. Should one have expired, and passed to another process, the next one who asks for it
        finds the value.
        """
        return [key for key in keys if key in self._held]

    def forget(self, keys: Sequence[int]) -> None:
        """Forget claims that were removed."""
        for key in keys:
            self._held.pop(key, None)

    def is_late(self, key: int, generation: str) -> bool:
        """Return whether a value was loaded in a generation that has ended; once for each value."""
        if self._held.get(key, generation) == generation:
            return False
        self._held[key] = generation  # for the next value: the claim may never be given back
        return True

    def claimants(self, keys: Sequence[int]) -> list[Claimant | None]:
        """Return who has claimed keys; None where nobody is known to have."""
        return [_read(claim)[1] for claim in self._send(keys, "GET")]

    def _value(self, milliseconds: int) -> bytes:
        who = {**self._who, "ttl": milliseconds, "since": round(time.time(), 3)}
        return self._token + b" " + json.dumps(who).encode()

    def _is_mine(self, claim: object) -> bool:
        return isinstance(claim, bytes) and claim.partition(b" ")[0] == self._token

    def _mine(self, keys: Sequence[int]) -> list[int]:
        """Return the keys whose claims hold this instance's token."""
        replies = self._send(keys, "GET")
        return [key for key, reply in zip(keys, replies, strict=True) if self._is_mine(reply)]

    def _send(self, keys: Sequence[int], command: str, *arguments: int) -> list[object]:
        """Send one command for the claim of each key."""
        claim = self._namespace.layout.claim
        return self._namespace.run([(command, claim(key), *arguments) for key in keys])


def _read(claim: object) -> tuple[int | None, Claimant | None]:
    """Return for how many milliseconds a claim is made, and by whom; None where it is not said."""
    if not isinstance(claim, bytes):
        return None, None
    try:
        who = json.loads(claim.partition(b" ")[2])
        process = ProcessId(int(who["pid"]), int(who["space"]), int(who["started"]))
        ttl, since = int(who["ttl"]), float(who["since"])
        host, command = str(who["host"]), str(who["command"])
    except (ValueError, TypeError, KeyError):  # of a version that did not say
        return None, None
    state = process.state() if host == host_name() else "?"
    state = {"": "gone", "T": "stopped", "t": "stopped"}.get(state, "")
    return ttl, Claimant(pid=process.pid, host=host, since=since, command=command, state=state)
