"""Backends that several threads or processes cannot share."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from test_folder_backend import FolderBackend


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
