"""Caching samples: the datasets that users call, the engine, the codec and the backends."""

from __future__ import annotations

from kappacore._lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
