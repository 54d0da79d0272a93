"""Backends that say where values lie, and are wrong about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kappacore.caching.backends.memory import MemoryBackend


class Locating(MemoryBackend):
    def __init__(self, namespace, length, *, path):
        super().__init__(namespace, length)


class OffByOne(Locating):
    def locate_many(self, keys):
        located = super().locate_many(keys)
        return replace(located, offset=located.offset + 1, size=located.sizes() - 1)


class AbsentIsFirst(Locating):
    def locate_many(self, keys):
        located = super().locate_many(keys)
        return replace(located, region=np.maximum(located.region, 0))


class OverwritesInPlace(Locating):
    def put(self, key, value):
        data = b"".join(value)
        old = self._store.get(key)
        if old is None or len(old) != len(data):
            return super().put(key, value)
        start = self._store.places.item(key)
        self._store._last[start : start + len(data)] = np.frombuffer(data, np.uint8)
        return True


class NewRegions(Locating):
    def locate_many(self, keys):
        located = super().locate_many(keys)
        return replace(located, regions=tuple(map(memoryview, located.regions)))
