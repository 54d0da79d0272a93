"""A backend that misbehaves: chosen methods raise, answer nonsense or take long, from some call on.

Everything here can be imported in a spawned worker.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kappacore.caching.backends.base import BackendInfo, Buffer, CacheBackend, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Hostile", "HostileClaims", "HostileOnNetwork"]

#: What methods answer when they answer nonsense.
NONSENSE: dict[str, Any] = {
    "get": "text",
    "put": None,
    "get_many": [],
    "put_many": [None],
    "claim_many": None,
    "info": {"entries": 1},
    "namespaces": ["text"],
    "prepare": "text",
}


class Hostile(CacheBackend):
    """Keeps each value in a file.

    Args:
        path: Where they lie; a file ``down`` there makes every call raise.
        method: The method that misbehaves.
        how: ``"raises"``, ``"nonsense"``, ``"corrupt"`` or ``"slow"``.
        after: The number of calls in each process that are fine.
    """

    scope: ClassVar[Scope] = "machine"

    def __init__(
        self,
        namespace: str,
        length: int,
        *,
        path: str,
        method: str = "",
        how: str = "raises",
        after: int = 0,
    ) -> None:
        self.namespace = namespace
        self._path, self._method, self._how, self._after = Path(path), method, how, after
        self._folder = Path(path, namespace)
        self._call("__init__", lambda: self._folder.mkdir(parents=True, exist_ok=True))

    def _call(self, method: str, work: Callable[[], Any]) -> Any:
        if (self._path / "down").exists():
            raise ConnectionError("connection refused")
        if method != self._method:
            return work()
        self._after -= 1
        if self._after >= 0:
            return work()
        if self._how == "raises":
            raise RuntimeError(f"{method} does not work today")
        if self._how == "nonsense":
            return NONSENSE.get(method, 7)
        if self._how == "slow":
            time.sleep(0.005)
        answer = work()
        if self._how == "corrupt" and answer is not None:
            return answer[:-1] + bytes([answer[-1] ^ 1])
        return answer

    def get(self, key: int) -> Buffer | None:
        return self._call("get", lambda: self._read(key))  # type: ignore[no-any-return]

    def _read(self, key: int) -> bytes | None:
        try:
            return (self._folder / f"{key}.value").read_bytes()
        except FileNotFoundError:
            return None

    def put(self, key: int, value: Sequence[Buffer]) -> bool:
        return self._call("put", lambda: self._write(key, value))  # type: ignore[no-any-return]

    def _write(self, key: int, value: Sequence[Buffer]) -> bool:
        temporary = self._folder / uuid.uuid4().hex
        temporary.write_bytes(b"".join(value))
        temporary.replace(self._folder / f"{key}.value")
        return True

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        return self._call("get_many", lambda: super(Hostile, self).get_many(keys))  # type: ignore[no-any-return]

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        return self._call("put_many", lambda: super(Hostile, self).put_many(items))  # type: ignore[no-any-return]

    def info(self) -> BackendInfo | None:
        return self._call("info", self._info)  # type: ignore[no-any-return]

    def _info(self) -> BackendInfo:
        entries = len(list(self._folder.glob("*.value")))
        return BackendInfo(
            namespace=self.namespace,
            entries=entries,
            bytes=entries,
            capacity=None,
            full=False,
            where=str(self._folder),
        )

    def clear(self) -> None:
        def remove() -> None:
            for file in self._folder.glob("*.value"):
                file.unlink(missing_ok=True)

        self._call("clear", remove)

    def close(self) -> None:
        self._call("close", lambda: None)

    @classmethod
    def prepare(cls, **options: Any) -> dict[str, Any]:
        if options.get("method") == "prepare":
            if options.get("how", "raises") == "raises":
                raise RuntimeError("prepare does not work today")
            return NONSENSE["prepare"]  # type: ignore[no-any-return]
        return options

    @classmethod
    def is_temporary(cls, **options: Any) -> bool:
        if options.get("method") == "is_temporary":
            raise RuntimeError("is_temporary does not work today")
        return False

    @classmethod
    def namespaces(cls, **options: Any) -> Any:
        if options.get("method") == "namespaces":
            if options.get("how", "raises") == "raises":
                raise RuntimeError("namespaces does not work today")
            return NONSENSE["namespaces"]
        return []


class HostileOnNetwork(Hostile):
    """The same, seen by all machines."""

    scope: ClassVar[Scope] = "network"


class HostileClaims(HostileOnNetwork):
    """The same, with claims of its own: granted, always."""

    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:
        return self._call("claim_many", lambda: [True] * len(keys))  # type: ignore[no-any-return]

    def release_many(self, keys: Sequence[int]) -> None:
        self._call("release_many", lambda: None)
