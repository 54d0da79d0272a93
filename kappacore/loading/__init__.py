"""From the cache into the model: whole batches, read ahead, on the device that trains."""

from __future__ import annotations

from kappacore._lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
