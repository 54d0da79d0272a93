"""Backends that lose or change values, or the buffers that somebody holds."""

from __future__ import annotations

from test_folder_backend import FolderBackend

from kappacore import CacheBackend


class AbsentIsEmpty(FolderBackend):
    def get(self, key):
        return super().get(key) or b""


class EmptyIsAbsent(FolderBackend):
    def get(self, key):
        return super().get(key) or None


class TextMode(FolderBackend):
    def write(self, key, data):
        super().write(key, data.rstrip())


class SixteenBitSizes(FolderBackend):
    def write(self, key, data):
        super().write(key, data[: 2**16 - 1])


class TwentyFourBitSizes(FolderBackend):
    def write(self, key, data):
        super().write(key, data[: 2**24 - 1])


class FirstPieceOnly(FolderBackend):
    def put(self, key, value):
        return super().put(key, value[:1])


class ThousandPieces(FolderBackend):
    def put(self, key, value):
        return super().put(key, value[:1024])  # as many as one system call takes


class KeepsPieces(CacheBackend):
    scope = "process"

    def __init__(self, namespace, length, *, path):
        self.values = {}

    def get(self, key):
        return b"".join(self.values[key]) if key in self.values else None

    def put(self, key, value):
        self.values[key] = value
        return True


class KeepsTheFirst(FolderBackend):
    def write(self, key, data):
        if not self.file(key).exists():
            super().write(key, data)


class KeepsTheRest(FolderBackend):
    def write(self, key, data):
        super().write(key, data + (self.get(key) or b"")[len(data) :])


class LosesRepeats(FolderBackend):
    def get_many(self, keys):
        return [self.get(key) for key in dict.fromkeys(keys)]


class StoresTheFirstOfTwo(FolderBackend):
    def put_many(self, items):
        stored = {key: self.put(key, value) for key, value in reversed(items)}
        return [stored[key] for key, _ in items]


class SortsKeys(FolderBackend):
    def get_many(self, keys):
        return [self.get(key) for key in sorted(keys)]


class NeedsKeys(FolderBackend):
    def get_many(self, keys):
        if not keys:
            raise ValueError("wrong number of arguments for 'mget' command")
        return super().get_many(keys)


class ReusesBuffers(FolderBackend):
    buffer = bytearray(2**25)

    def get(self, key):
        value = super().get(key)
        if value is None:
            return None
        self.buffer[: len(value)] = value
        return memoryview(self.buffer)[: len(value)]


class ViewsOfWhatIsReplaced(CacheBackend):
    """As a mapping is that others write to."""

    scope = "process"

    def __init__(self, namespace, length, *, path):
        self.values = {}

    def get(self, key):
        return memoryview(self.values[key]) if key in self.values else None

    def put(self, key, value):
        data = b"".join(value)
        if len(self.values.get(key, b"")) == len(data):
            self.values[key][:] = data
        else:
            self.values[key] = bytearray(data)
        return True
