"""Backends that each break one promise; the suite must fail for every one of them."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from pathlib import Path

import pytest
from test_folder_backend import FolderBackend, FolderSuite

from kappacore import CacheBackend, register_cache_backend

# ---- values


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


# ---- namespaces


class OneNamespace(FolderBackend):
    def __init__(self, namespace, length, **options):
        super().__init__("all", length, **options)
        self.namespace = namespace


class ShortNamespaces(FolderBackend):
    def __init__(self, namespace, length, **options):
        super().__init__(namespace[:38], length, **options)


class ClearsByPrefix(FolderBackend):
    def clear(self):
        for path in self.folder.parent.glob(f"{self.namespace}*/*.value"):
            path.unlink()


class ClearsNothing(FolderBackend):
    def clear(self):
        pass


class ClearsOnce(FolderBackend):
    def clear(self):
        super().clear()
        self.clear = lambda: None


class CannotClear(FolderBackend):
    clear = CacheBackend.clear


class CountsPuts(FolderBackend):
    puts = 0

    def write(self, key, data):
        super().write(key, data)
        self.puts += 1

    def info(self):
        info = super().info()
        return type(info)(**{**vars(info), "entries": self.puts})


class CountsNoBytes(FolderBackend):
    def info(self):
        return type(super().info())(**{**vars(super().info()), "bytes": 0})


class NeverFull(FolderBackend):
    def info(self):
        return type(super().info())(**{**vars(super().info()), "full": False})


class RaisesWhenFull(FolderBackend):
    def put(self, key, value):
        if not super().put(key, value):
            raise OSError(28, "No space left on device")
        return True


class IgnoresTheLimit(FolderBackend):
    def sizes(self):
        return []


class EvictsWhenFull(FolderBackend):
    def put(self, key, value):
        stored = super().put(key, value)
        if not stored:
            self.file(0).unlink(missing_ok=True)
            self.limit = 0
        return stored


class StoresAPartWhenFull(FolderBackend):
    def put(self, key, value):
        stored = super().put(key, value)
        if not stored:
            self.write(key, b"".join(value)[:100])
        return stored


# ---- lifetime


class ClosesOnce(FolderBackend):
    def close(self):
        del self.folder


class ClosesForAll(FolderBackend):
    def close(self):
        for path in self.folder.glob("*.value"):
            path.unlink()


class RemembersValues(FolderBackend):
    def __init__(self, namespace, length, **options):
        super().__init__(namespace, length, **options)
        self.seen = {}

    def get(self, key):
        if key not in self.seen and (value := super().get(key)) is not None:
            self.seen[key] = value
        return self.seen.get(key)

    def write(self, key, data):
        super().write(key, data)
        self.seen.pop(key, None)

    def clear(self):
        super().clear()
        self.seen.clear()


class OpensOnce(FolderBackend):
    def __init__(self, namespace, length, **options):
        super().__init__(namespace, length, **options)
        (self.folder / "open").touch(exist_ok=False)


class KeepsForEver(FolderBackend):
    def __init__(self, namespace, length, *, keep=0, **options):
        super().__init__(namespace, length, **options)


# ---- concurrency


class TornWrites(FolderBackend):
    def write(self, key, data):
        with self.file(key).open("wb", buffering=0) as file:
            for start in range(0, len(data), 4096):
                file.write(data[start : start + 4096])


class OneBuffer(FolderBackend):
    """Says that it is thread_safe, and is not."""

    def put(self, key, value):
        self.pieces = []
        for piece in value:
            self.pieces.append(piece)
            time.sleep(0.0001)
        return super().put(key, self.pieces)


class LockOutlivesItsHolder(FolderBackend):
    timeout = 3.0  # for its tests

    def write(self, key, data):
        lock = self.folder / "held"
        while True:
            try:
                lock.touch(exist_ok=False)
                break
            except FileExistsError:
                time.sleep(0.001)
        super().write(key, data)
        lock.unlink()


# ---- claims


class GrantsAll(FolderBackend):
    def claim_many(self, keys, ttl):
        return [True] * len(keys)


class ClaimsInTwoSteps(FolderBackend):
    def claim_many(self, keys, ttl):
        granted = []
        for key in keys:
            path = self.folder / f"{key}.claim"
            granted.append(not path.exists())
            time.sleep(0.001)
            path.touch()
        return granted


class NeverRenews(FolderBackend):
    def claim_many(self, keys, ttl):
        with self.claims() as claims:
            now = time.monotonic()
            granted = [claims.get(str(key), (0, 0))[1] <= now for key in keys]
            for key in itertools.compress(keys, granted):
                claims[str(key)] = (os.getpid(), now + ttl)
        return granted


class NeverExpires(FolderBackend):
    def claim_many(self, keys, ttl):
        return super().claim_many(keys, 1e6)


class ReleasesNothing(FolderBackend):
    def release_many(self, keys):
        pass


class ReleasesForOthers(FolderBackend):
    def release_many(self, keys):
        with self.claims() as claims:
            for key in keys:
                claims.pop(str(key), None)


class GrantsWhatIsStored(FolderBackend):
    def claim_many(self, keys, ttl):
        hidden = FolderBackend(self.namespace + "-claims", 0, path=self.folder.parent)
        return hidden.claim_many(keys, ttl)

    def release_many(self, keys):
        hidden = FolderBackend(self.namespace + "-claims", 0, path=self.folder.parent)
        hidden.release_many(keys)


# ---- processes


class OneProcess(FolderBackend):
    def __init__(self, namespace, length, *, path):
        super().__init__(namespace, length, path=Path(path) / str(os.getpid()))


class OneInstance(FolderBackend):
    def __init__(self, namespace, length, *, path):
        super().__init__(namespace, length, path=tempfile.mkdtemp(dir=Path(path).parent))


class NoForks(FolderBackend):
    first = os.getpid()

    def __init__(self, namespace, length, **options):
        super().__init__(namespace, length, **options)
        if os.getpid() != self.first:
            raise RuntimeError("the connection belongs to another process")


class OneFamily(FolderBackend):
    """Its folder is known to forked processes only."""

    chosen = None

    def __init__(self, namespace, length, *, path):
        OneFamily.chosen = OneFamily.chosen or tempfile.mkdtemp(dir=Path(path).parent)
        super().__init__(namespace, length, path=OneFamily.chosen)


for _cls in [cls for cls in globals().values() if isinstance(cls, type)]:
    if issubclass(_cls, CacheBackend) and _cls not in (CacheBackend, FolderBackend):
        _name = _cls.__name__.lower()
        _settings = {"timeout": _cls.timeout} if hasattr(_cls, "timeout") else {}
        register_cache_backend(_name, _cls)
        globals()[f"Test{_cls.__name__}"] = type(
            f"Test{_cls.__name__}", (FolderSuite,), {"backend": _name, **_settings}
        )


class TestUnpicklable(FolderSuite):  # in its options
    backend = "folder"

    @pytest.fixture
    def backend_options(self, tmp_path):
        return {"path": tmp_path, "extra": lambda: None}
