"""A folder as a source. Links in it are followed: their targets are copied."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from kappacore.errors import StagingError
from kappacore.machine.system import opened
from kappacore.staging.copying.worker import SMALL
from kappacore.staging.sources.base import DEEPEST, Block, Entry, Extent, Listing, Source, blocks_of
from kappacore.staging.sources.holes import parts_of
from kappacore.staging.target.paths import NOT_DATA, is_bookkeeping
from kappacore.staging.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from kappacore.staging.sources.base import Lister
    from kappacore.staging.sources.exclude import Exclusion

_PART = 8  # names that are looked at together
_TOGETHER = 256  # names that a process looks at together
_MANY = 512  # files and folders, after which processes list the others
# A folder to list: its relative path, (device, inode) of each folder from the top to it, and mode.
_Folder = tuple[str, tuple[tuple[int, int], ...], int]
_Contents = tuple[list[Block], list[_Folder]]
_Part = tuple[_Folder, "list[os.DirEntry[str]]"]  # some of what is in a folder


class FolderSource(Source):
    """All files and folders below a folder, including empty and hidden ones.

    Args:
        path: The folder.
        workers: Number of threads that list folders, if that is waiting.
        exclusion: What to leave out.
    """

    kind = "folder"

    def __init__(self, path: Path, workers: int, exclusion: Exclusion):
        self.path = path
        self._root = os.fspath(path)
        self._waiting = Waiting(workers, "kappacore-list")
        self._exclusion = exclusion
        self.folder = None if exclusion else self._root
        self.mode = path.stat().st_mode & 0o777

    @property
    def waits(self) -> bool:
        return self._waiting.found

    def scan(self, lister: Lister | None = None) -> Listing:
        blocks: list[Block] = []
        modes: dict[str, int] = {}
        top = self.path.stat()
        level: list[_Folder] = [("", ((top.st_dev, top.st_ino),), 0)]
        seen = 0
        while level:
            below: list[_Folder] = []
            done = 0
            while done < len(level):
                some = level[done:]
                if lister is None or self._exclusion or self.waits:
                    listed = self._listed(some)
                elif seen < _MANY or len(some) == 1:
                    some = some[:1]
                    listed = self._listed_with(lister, some[0])
                else:
                    listed = self._listed_by(lister, [(folder, []) for folder in some])
                blocks += listed[0]
                below += listed[1]
                seen += sum(map(len, listed[0])) + len(listed[1])
                done += len(some)
            modes.update((path, mode) for path, _, mode in below)
            level = below
        return Listing(modes, blocks)

    def outline(self, levels: int) -> Iterator[str]:
        folders = [""]
        for _ in range(levels):
            below = []
            for folder in folders:
                for part in self._list((folder, (), 0)):
                    files, found = self._look(part)
                    yield from (entry.path for entry in files)
                    yield from (path for path, _, _ in found)
                    below += [path for path, _, _ in found]
            folders = below

    @contextmanager
    def open(self, entry: Entry) -> Iterator[Extent]:
        # O_NONBLOCK: a pipe that has taken the file's path since must not block.
        with opened(f"{self._root}/{entry.path}", os.O_RDONLY | os.O_NONBLOCK) as fd:
            yield Extent(fd, 0, entry.size, sparse=entry.data is not None)

    def changes(self, listing: Listing) -> list[str]:
        before, after = (
            dict.fromkeys(found.folders)
            | {path: (entry.size, entry.mtime_ns) for path, entry in found.files.items()}
            for found in (listing, self.scan())
        )
        return (
            [f"'{path}' was added" for path in after if path not in before]
            + [f"'{path}' was removed" for path in before if path not in after]
            + [
                f"'{path}' was written to"
                for path in after
                if path in before and before[path] != after[path]
            ]
        )

    def close(self) -> None:
        self._waiting.close()

    def _listed(self, level: list[_Folder]) -> _Contents:
        """Return what is in folders, in their order."""
        lists = self._waiting.map(self._list, level)
        return self._looked(part for parts in lists for part in parts)

    def _listed_with(self, lister: Lister, folder: _Folder) -> _Contents:
        """Return what is in a folder, looked at by processes after the first names."""
        parts = self._list(folder)
        first = _MANY // _PART
        blocks, below = self._looked(parts[:first])
        rest = [item for _, items in parts[first:] for item in items]
        if self.waits or not rest:
            more = self._looked(parts[first:])
        else:
            starts = range(0, len(rest), _TOGETHER)
            more = self._listed_by(
                lister, [(folder, rest[start : start + _TOGETHER]) for start in starts]
            )
        return blocks + more[0], below + more[1]

    def _looked(self, parts: Iterable[_Part]) -> _Contents:
        entries: list[Entry] = []
        below: list[_Folder] = []
        for files, folders in self._waiting.map(self._look, parts):
            entries += files
            below += folders
        return blocks_of(entries), below

    def _listed_by(self, lister: Lister, parts: list[_Part]) -> _Contents:
        """Return what is in folders, in their order, looked at by processes as far as it is plain.

        Args:
            lister: The processes.
            parts: Folders, and what is in them as far as it is listed.
        """
        found: list[_Contents | None] = [None] * len(parts)
        asked = [(f"{self._root}/{path}", [i.name for i in items]) for (path, *_), items in parts]
        for number, (names, *columns, folders) in lister.look(asked, NOT_DATA):
            path, chain, _ = parts[number][0]
            prefix = f"{path}/" if path else ""
            found[number] = (
                [Block(self._root, path, names, *columns)] if names else [],
                [
                    self._folder(prefix + name, (device, inode), chain, mode)
                    for name, device, inode, mode in folders
                ],
            )
        blocks: list[Block] = []
        below: list[_Folder] = []
        for number, contents in enumerate(found):
            folder, items = parts[number]
            if contents is None:
                contents = self._looked([parts[number]]) if items else self._listed([folder])
            files, folders = contents
            blocks += files
            below += folders
        return blocks, below

    def _folder(
        self, name: str, key: tuple[int, int], chain: tuple[tuple[int, int], ...], mode: int
    ) -> _Folder:
        """Return a folder to list, after its device and inode."""
        if key in chain:
            self._refuse(name, "is a link to a folder that contains it")
        if len(chain) > DEEPEST:
            self._refuse(name, f"is deeper than {DEEPEST} levels")
        return name, (*chain, key), mode & 0o777

    def _list(self, folder: _Folder) -> list[_Part]:
        """Return the contents of a folder, in parts."""
        try:
            with os.scandir(f"{self._root}/{folder[0]}") as listed:
                found = list(listed)
        except OSError as error:
            self._refuse(folder[0], f"cannot be listed ({error.strerror})")
        return [(folder, found[start : start + _PART]) for start in range(0, len(found), _PART)]

    def _look(self, part: _Part) -> tuple[list[Entry], list[_Folder]]:
        """Return the files in a part of a folder, and the folders."""
        (path, chain, _), found = part
        entries: list[Entry] = []
        folders: list[_Folder] = []
        prefix = f"{path}/" if path else ""
        excludes = self._exclusion.names if self._exclusion else None
        for item in found:
            name = prefix + item.name
            if is_bookkeeping(item.name) or (excludes and excludes(name)):
                continue
            try:
                info = item.stat()
            except FileNotFoundError:
                self._refuse(name, "is a link to nothing" if item.is_symlink() else "is gone")
            except OSError as error:
                self._refuse(name, f"cannot be read ({error.strerror})")
            mode = info.st_mode
            kind = stat.S_IFMT(mode)
            if kind == stat.S_IFREG:
                size = info.st_size
                entry = Entry(name, size, info.st_mtime_ns, mode & 0o777, root=self._root)
                if size > SMALL and info.st_blocks * 512 < size:
                    entry = self._with_holes(entry)
                entries.append(entry)
            elif kind == stat.S_IFDIR:
                folders.append(self._folder(name, (info.st_dev, info.st_ino), chain, mode))
            else:
                self._refuse(name, "is neither a file nor a folder")
        return entries, folders

    def _with_holes(self, entry: Entry) -> Entry:
        """Return the entry of a file that takes few blocks: it has holes, or is compressed."""
        try:
            with self.open(entry) as whole:
                data = sum(part.size for part, is_hole in parts_of(whole) if not is_hole)
        except OSError:  # copying it says what is wrong
            return entry
        return entry if data == entry.size else entry._replace(data=data)

    def _refuse(self, name: str, why: str) -> NoReturn:
        name = name if len(name) < 300 else f"{name[:300]}…"
        raise StagingError(
            f"'{self._root}/{name}' {why}, so the dataset cannot be copied completely. Remove or "
            f"repair it in the source."
        )
