"""Samples as bytes and back, exactly: see ``docs/format.md`` for the layout."""

from __future__ import annotations

from kappacore.caching.codec.codec import Codec, check_copy, default_codec, register_type
from kappacore.caching.codec.layout import FORMAT_VERSION, MAX_DEPTH, MAX_NODES, MAX_VALUE_BYTES

__all__ = [
    "Codec",
    "check_copy",
    "default_codec",
    "register_type",
    "FORMAT_VERSION",
    "MAX_DEPTH",
    "MAX_NODES",
    "MAX_VALUE_BYTES",
]
