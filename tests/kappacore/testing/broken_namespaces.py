"""Backends whose namespaces mix, or that clear, count or limit their entries wrongly."""

from __future__ import annotations

from test_folder_backend import FolderBackend

from kappacore import CacheBackend


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


# ---- size


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
