"""The backend ``lmdb``: samples in one LMDB file on a local disk."""

import os
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path

import lmdb

from kappacore.plugin_api import BackendInfo, Buffer, CacheBackend, parse_size

# LMDB opens a file once in a process, and a forked child must not use its parent's.
_opened = weakref.WeakValueDictionary[tuple[int, Path], lmdb.Environment]()


class LMDBBackend(CacheBackend):
    """Keeps samples in a file that all processes of the machine and all namespaces share.

    A view of LMDB's memory ends with its transaction, and a transaction that is kept open keeps all
    pages since. So values are copied, and there is no ``locate_many``.

    Args:
        path: The file's folder, on a local disk.
        max_bytes: Limit on the file's size, as ``"64GiB"``; give the same in all processes.
    """

    scope = "machine"
    verify_always = True  # a disk may lose or change data

    def __init__(
        self, namespace: str, length: int, *, path: str | Path, max_bytes: int | str = "16GiB"
    ) -> None:
        del length  # any key may come
        self.namespace = namespace
        self.folder = Path(path).resolve()
        self.env = _open(self.folder, max_bytes)
        self.db = self.env.open_db(namespace.encode())
        self.full = False

    def get(self, key: int) -> Buffer | None:
        with self.env.begin(self.db) as transaction:
            return transaction.get(key.to_bytes(8, "big"))  # a copy, so nobody can change it

    def put(self, key: int, value: Sequence[Buffer]) -> bool:
        try:
            with self.env.begin(self.db, write=True) as transaction:
                return transaction.put(key.to_bytes(8, "big"), b"".join(value))
        except (lmdb.MapFullError, lmdb.DiskError):
            self.full = True
            return False

    def clear(self) -> None:
        with self.env.begin(write=True) as transaction:
            transaction.drop(self.db, delete=False)
        self.full = False

    def close(self) -> None:
        self.__dict__.clear()  # the environment closes when nobody holds it any more

    def info(self) -> BackendInfo:
        with self.env.begin() as transaction:
            stat = transaction.stat(self.db)
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return BackendInfo(
            namespace=self.namespace,
            entries=stat["entries"],
            bytes=pages * stat["psize"],
            capacity=self.env.info()["map_size"],
            full=self.full,
            where=str(self.folder),
        )


def _open(folder: Path, max_bytes: int | str) -> lmdb.Environment:
    for (pid, _), inherited in list(_opened.items()):
        if pid != os.getpid():
            inherited.close()
    env = _opened.get((os.getpid(), folder))
    if env is None:
        folder.mkdir(parents=True, exist_ok=True)
        size = parse_size(max_bytes, shutil.disk_usage(folder).total)
        # Without sync a crash of the machine may tear the file, and kills of processes do not.
        env = lmdb.open(str(folder), size, sync=False, mode=0o600, max_dbs=1000, max_readers=1000)
        _opened[os.getpid(), folder] = env
    return env
