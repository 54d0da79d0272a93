"""What tests of the engine do with the recording backend beside reading through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.caching import RecordingBackend

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["load", "spoil"]


def load(indices: list[int]) -> list[Any]:
    """Read samples, and note it among the calls of the backend."""
    RecordingBackend.calls.append(("load", indices))
    return [[idx, b"x" * 50] for idx in indices]


def spoil(values: MutableMapping[int, bytes], key: int) -> None:
    """Change a bit in the middle of a stored value."""
    value = bytearray(values[key])
    value[-len(value) // 4] ^= 1
    values[key] = bytes(value)
