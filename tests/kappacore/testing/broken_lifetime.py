"""Backends whose entries or instances live too short or too long."""

from __future__ import annotations

from test_folder_backend import FolderBackend


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
