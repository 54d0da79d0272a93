"""Digests that identify content."""

from __future__ import annotations

import xxhash

__all__ = ["digest"]


def digest(*parts: str | bytes) -> str:
    """Return the XXH3 128-bit digest of ``parts``, in hex; where one part ends matters."""
    hasher = xxhash.xxh3_128()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()
