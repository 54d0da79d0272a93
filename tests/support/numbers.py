"""Small datasets of numbers that note how they are read; importable in spawned workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.datasets import KDDataset, KDWrapper

if TYPE_CHECKING:
    from collections.abc import Sequence


class Numbers(KDDataset):
    """Item x is ten times the index, item y its last digit; each sample by itself."""

    def __init__(self, length: int = 10):
        self.length = length
        self.calls: list[Any] = []

    def __len__(self) -> int:
        return self.length

    def getitem_x(self, idx: int, ctx: dict[str, Any] | None = None) -> int:
        self.calls.append(("x", idx))
        if ctx is not None:
            ctx["seen"] = idx
        return 10 * idx

    def getitem_y(self, idx: int) -> int:
        self.calls.append(("y", idx))
        return idx % 10


class BatchNumbers(KDDataset):
    """The same numbers, with every form that an item can have."""

    def __init__(self, length: int = 10):
        self.length = length
        self.calls: list[Any] = []

    def __len__(self) -> int:
        return self.length

    def getitem_x(self, idx: int, ctx: dict[str, Any] | None = None) -> int:
        self.calls.append(("getitem", idx))
        return 10 * idx

    def getitems_x(self, indices: Sequence[int]) -> list[int]:
        self.calls.append(("getitems", list(indices)))
        return [10 * idx for idx in indices]

    def getall_x(self) -> list[int]:
        self.calls.append(("getall",))
        return [10 * idx for idx in range(self.length)]

    def getraw_x(self, idx: int) -> bytes:
        self.calls.append(("getraw", idx))
        return str(10 * idx).encode()

    def decode_x(self, raw: bytes) -> int:
        return int(raw)

    def getitem_y(self, idx: int) -> int:
        return idx % 10

    def fingerprint(self, item: str, raw: bool = False) -> str | None:
        return f"numbers-{self.length}-{item}-{raw}"


class PlusOne(KDWrapper):
    """Adds one to x, and defines nothing but the plain form of it."""

    def getitem_x(self, idx: int, ctx: dict[str, Any] | None = None) -> Any:
        return self.dataset.getitem_x(idx, ctx) + 1


class Overridden(BatchNumbers):
    """A subclass that overrides nothing but the plain form of x."""

    def getitem_x(self, idx: int, ctx: dict[str, Any] | None = None) -> int:
        return -idx


def add_one(value: int) -> int:
    """Add one, as a transform that pickles."""
    return value + 1
