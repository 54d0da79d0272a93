"""A folder as a source. Links in it are followed: what they lead to is copied."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NoReturn

from kappacore.errors import StagingError
from kappacore.staging.sources.base import Deflated, Entry, Extent, Stream
from kappacore.staging.target.paths import is_bookkeeping

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FolderSource"]

_Chain = tuple[tuple[int, int], ...]  # (device, inode) of each folder from the top to this one


class FolderSource:
    """All files and folders below a folder, empty ones and hidden ones too.

    Args:
        path: the folder.
        workers: number of threads that list folders.
    """

    kind = "folder"
    ordered = False

    def __init__(self, path: Path, workers: int):
        self.path = path
        self._root = os.fspath(path)
        self._workers = workers
        self.mode = path.stat().st_mode & 0o777

    def scan(self) -> list[Entry]:
        found: list[Entry] = []
        top = os.stat(self._root)  # noqa: PTH116
        level: list[tuple[str, _Chain]] = [("", ((top.st_dev, top.st_ino),))]
        with ThreadPoolExecutor(self._workers, "kappacore-scan") as pool:
            while level:
                below: list[tuple[str, _Chain]] = []
                for entries, folders in pool.map(self._list, level, chunksize=1):
                    found += entries
                    below += folders
                level = below
        return found

    def open(self, entry: Entry) -> Extent:
        # O_NONBLOCK: what has become a pipe since it was listed must not block.
        fd = os.open(f"{self._root}/{entry.path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        return Extent(fd, 0, entry.size)

    def release(self, content: Extent | Deflated | Stream) -> None:
        if isinstance(content, Extent):
            os.close(content.fd)

    def changes(self, entries: list[Entry]) -> list[str]:
        before = {entry.path: (entry.size, entry.mtime_ns) for entry in entries}
        after = {entry.path: (entry.size, entry.mtime_ns) for entry in self.scan()}
        if before == after:
            return []
        added = [path for path in after if path not in before]
        removed = [path for path in before if path not in after]
        written = [path for path in after if path in before and before[path] != after[path]]
        return (
            [f"'{path}' was added" for path in added]
            + [f"'{path}' was removed" for path in removed]
            + [f"'{path}' was written to" for path in written]
        )

    def close(self) -> None:
        pass

    def _list(self, place: tuple[str, _Chain]) -> tuple[list[Entry], list[tuple[str, _Chain]]]:
        """List one folder: its entries, and which of them are folders."""
        path, chain = place
        entries: list[Entry] = []
        folders: list[tuple[str, _Chain]] = []
        prefix = f"{path}/" if path else ""
        try:
            with os.scandir(f"{self._root}/{path}") as listed:
                found = list(listed)
        except OSError as error:
            self._refuse(path, f"cannot be listed ({error.strerror})")
        for item in found:
            if is_bookkeeping(item.name):
                continue
            name = prefix + item.name
            try:
                info = item.stat()
            except FileNotFoundError:
                self._refuse(name, "is a link to nothing" if item.is_symlink() else "is gone")
            except OSError as error:
                self._refuse(name, f"cannot be read ({error.strerror})")
            if stat.S_ISDIR(info.st_mode):
                key = (info.st_dev, info.st_ino)
                if key in chain:
                    self._refuse(name, "is a link to a folder that it lies in")
                entries.append(Entry(name, -1, 0, info.st_mode & 0o777))
                folders.append((name, (*chain, key)))
            elif stat.S_ISREG(info.st_mode):
                entries.append(Entry(name, info.st_size, info.st_mtime_ns, info.st_mode & 0o777))
            else:
                self._refuse(name, "is neither a file nor a folder")
        return entries, folders

    def _refuse(self, name: str, why: str) -> NoReturn:
        raise StagingError(
            f"'{self._root}/{name}' {why}, so the dataset cannot be copied whole. Remove it from "
            f"the source, or mend it."
        )
