"""A backend that does all that there is to do, and does it right: one file a value."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import uuid
from pathlib import Path

import pytest

from kappacore import CacheBackend, register_cache_backend
from kappacore.plugin_api import BackendInfo
from kappacore.testing import CacheBackendSuite


@register_cache_backend("folder")
class FolderBackend(CacheBackend):
    scope = "machine"
    thread_safe = True

    def __init__(self, namespace, length, *, path, max_bytes=2**30, extra=None):
        self.namespace = namespace
        self.folder = Path(path) / namespace
        self.limit = max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)

    def file(self, key):
        return self.folder / f"{key}.value"

    def get(self, key):
        try:
            return self.file(key).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, key, value):
        data = b"".join(value)
        with self.lock():
            if sum(self.sizes()) + len(data) > self.limit:
                (self.folder / "full").touch()
                return False
            self.write(key, data)
        return True

    def write(self, key, data):
        temporary = self.folder / uuid.uuid4().hex
        temporary.write_bytes(data)
        temporary.replace(self.file(key))

    @contextlib.contextmanager
    def lock(self):
        with (self.folder / "lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def sizes(self):
        return [path.stat().st_size for path in self.folder.glob("*.value")]

    def claim_many(self, keys, ttl):
        with self.claims() as claims:
            granted = []
            for key in keys:
                owner, until = claims.get(str(key), (0, 0))
                free = owner == os.getpid() or until <= time.monotonic()
                granted.append(free and not self.file(key).exists())
                if granted[-1]:
                    claims[str(key)] = (os.getpid(), time.monotonic() + ttl)
        return granted

    def release_many(self, keys):
        with self.claims() as claims:
            for key in keys:
                if claims.get(str(key), (0, 0))[0] == os.getpid():
                    del claims[str(key)]

    @contextlib.contextmanager
    def claims(self):
        path = self.folder / "claims"
        with self.lock():
            claims = json.loads(path.read_text()) if path.exists() else {}
            yield claims
            path.write_text(json.dumps(claims))

    def clear(self):
        with self.lock():
            for path in [*self.folder.glob("*.value"), self.folder / "full"]:
                path.unlink(missing_ok=True)

    def info(self):
        sizes = self.sizes()
        return BackendInfo(
            namespace=self.namespace,
            entries=len(sizes),
            bytes=sum(sizes),
            capacity=self.limit,
            full=(self.folder / "full").exists(),
            where=str(self.folder),
        )


class FolderSuite(CacheBackendSuite):
    @pytest.fixture
    def backend_options(self, tmp_path):
        yield {"path": tmp_path / "values"}
        shutil.rmtree(tmp_path)


class TestFolder(FolderSuite):
    backend = "folder"
