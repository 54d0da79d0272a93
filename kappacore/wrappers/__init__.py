"""Dataset manipulation, one wrapper a file."""

from __future__ import annotations

from kappacore.wrappers.transform import TransformWrapper

__all__ = ["TransformWrapper"]
