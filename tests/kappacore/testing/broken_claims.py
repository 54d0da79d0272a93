"""Backends that grant, keep or release claims wrongly."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

from test_folder_backend import FolderBackend


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
    timeout = 5.0  # for its tests

    def claim_many(self, keys, ttl):
        return super().claim_many(keys, 1e6)


class RunsOutInItsLoad(FolderBackend):
    def begin_load(self):
        return Path(os.devnull).open()

    def claim_many(self, keys, ttl, load=None):
        return super().claim_many(keys, ttl)


class OutlivesItsLoad(RunsOutInItsLoad):
    def claim_many(self, keys, ttl, load=None):
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
