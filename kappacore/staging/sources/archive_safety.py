"""Archives may come from anybody: only plain members with plain names are extracted."""

from __future__ import annotations

import os
import re
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, cast

from kappacore.errors import InvalidOptionError, StagingError, UnsafeArchiveError
from kappacore.sizes import parse_size
from kappacore.staging.sources.base import DEEPEST, Entry, Listing, Source, blocks_of, parent_of
from kappacore.staging.sources.stamps import stamp_of
from kappacore.staging.target.paths import NOT_DATA, is_bookkeeping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kappacore.staging.sources.base import Lister
    from kappacore.staging.sources.exclude import Exclusion

_DRIVE = re.compile(r"[A-Za-z]:")
_PLAIN = re.compile(r"\w[\w .,+=()-]*", re.ASCII)  # a name that needs no closer look
# Names that need none, with a zero after each but the last, and what may be in some that do.
_PLAIN_NAMES = re.compile(rf"{_PLAIN.pattern}(?:[/\0]{_PLAIN.pattern})*", re.ASCII)
_PERHAPS_BOOKKEEPING = re.compile("|".join(map(re.escape, NOT_DATA)))
_SMALL = 1 << 24  # bytes that any archive may unpack to, whatever its ratio
# What the readers of zip and tar files raise for damaged ones.
BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError,
    ValueError, OverflowError, NotImplementedError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class ArchiveLimits:
    """The most an archive may contain; an archive with more is taken for an attack.

    Args:
        max_ratio: Unpacked bytes for each byte of the archive, over all members; 16 MiB are always
            allowed. Images come to about 1, text to 10, empty masks to a few hundred; deflate
            cannot exceed 1032.
        max_bytes: Unpacked bytes over all members, or a size such as ``"64GiB"``; None: as many as
            the disk has room for.
        max_members: Number of files and folders.
        similar_names: Whether names may differ in case or Unicode form only, as in folders. A disk
            that takes such names for the same cannot hold them.
    """

    max_ratio: float = 200.0
    max_bytes: int | str | None = None
    max_members: int = 50_000_000
    similar_names: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.max_bytes, str):
            object.__setattr__(self, "max_bytes", parse_size(self.max_bytes, 0))
        for name, value in vars(self).items():
            if name == "similar_names":
                if not isinstance(value, bool):
                    raise InvalidOptionError(f"{name}={value!r} is neither True nor False.")
            elif not (value is None and name == "max_bytes") and not (
                isinstance(value, (int, float)) and value > 0
            ):
                raise InvalidOptionError(
                    f"{name}={value!r} is not a limit. Give a positive number."
                )


class Archive(Source):
    """What zip and tar files have in common: limits, permissions, refusals.

    Args:
        path: The archive.
        limits: The most it may contain.
        exclusion: What to leave out.

    Attributes:
        packed: Bytes of the archive.
    """

    def __init__(self, path: Path, limits: ArchiveLimits, exclusion: Exclusion):
        found = path.stat()
        mode = found.st_mode
        self.path = path
        self.packed = found.st_size
        self.mode = 0o700 | mode & 0o666 | (mode & 0o444) >> 2  # who may read it may enter
        self._mask = mode & 0o666
        self._limits = limits
        most = max(_SMALL, limits.max_ratio * self.packed)
        self._most = most if limits.max_bytes is None else min(most, cast("int", limits.max_bytes))
        self._exclusion = exclusion
        self._stamp = stamp_of(path, self.kind)

    @abstractmethod
    def _members(self) -> Iterator[Entry]:
        """Yield the members that are plain files and folders, by the names that they have there."""

    def scan(self, lister: Lister | None = None) -> Listing:  # noqa: ARG002
        """List all folders, and the files that are not staging's own."""
        with self._damage_explained():
            members = list(self._members())
        if self._exclusion:
            members = [entry for entry in members if not self._leaves_out(entry.path)]
        files = [entry for entry in members if entry.size >= 0]
        paths = [entry.path for entry in files]
        folders = plain_folders(paths, [entry.path for entry in members if entry.size < 0])
        if folders is None:
            files, folders = self._checked(members)
        return Listing(dict.fromkeys(sorted(folders), self.mode), blocks_of(files))

    def _checked(self, members: list[Entry]) -> tuple[list[Entry], set[str]]:
        """Return files and folders with clean paths, after a look at each name."""
        names = MemberNames(self.path, similar=self._limits.similar_names)
        files = []
        for entry in members:
            path = names.add(entry.path, entry.is_folder)
            if not (entry.is_folder or names.are_bookkeeping(path)):
                files.append(entry if path == entry.path else entry._replace(path=path))
        return files, {path for path in names.folders if not names.are_bookkeeping(path)}

    def outline(self, levels: int) -> Iterator[str]:
        with self._damage_explained():
            for name in self._names():
                parts = clean_parts(self.path, name)
                path = "/".join(parts[:levels])
                if path and not (any(map(is_bookkeeping, parts)) or self._exclusion.covers(path)):
                    yield path

    def _names(self) -> Iterator[str]:
        """Yield the names of members, as far as they are quickly read."""
        return (entry.path for entry in self._members())

    def _leaves_out(self, name: str) -> bool:
        """Return whether a member is excluded. Then it may be anything, as in a folder."""
        if not self._exclusion:
            return False
        return self._exclusion.covers("/".join(clean_parts(self.path, name)))

    def changes(self, listing: Listing) -> list[str]:  # noqa: ARG002 - the stamp covers all
        same = self.path.exists() and stamp_of(self.path, self.kind) == self._stamp
        return [] if same else [f"'{self.path}' was written to"]

    @contextmanager
    def _damage_explained(self) -> Iterator[None]:
        """Turn what readers raise for a damaged archive into an error that says what to do."""
        try:
            yield
        except StagingError:
            raise
        except BROKEN as error:
            raise StagingError(
                f"'{self.path}' cannot be read as a {self.kind} file: {error}. It may be "
                f"incomplete: copy or pack it again."
            ) from error

    def _permissions(self, mode: int, *, is_known: bool) -> int:
        """Return the permission bits of a member, no wider than the archive's own."""
        return mode & 0o777 & (self._mask | 0o111) if is_known else self._mask

    def check_size(self, size: int, members: int = 0) -> None:
        """Refuse the archive if it unpacks to too many bytes or members."""
        limits, packed = self._limits, self.packed
        if size <= self._most and members <= limits.max_members:
            return
        most = cast("int | None", limits.max_bytes)  # no text any more
        if members > limits.max_members:
            why, limit = f"has more than {limits.max_members} members", "max_members"
        elif most is not None and size > most:
            why, limit = f"unpacks to {size} bytes, more than {most}", "max_bytes"
        else:
            why = (
                f"unpacks to {size} bytes or more from {packed}, over {limits.max_ratio:g} for each"
            )
            limit = "max_ratio"
        _refuse(
            self.path,
            why,
            f"If this is intended, raise the limit: limits=ArchiveLimits({limit}=…) of "
            f"kappacore.staging, or --{limit.replace('_', '-')} on the command line.",
        )

    def refuse(self, why: str) -> NoReturn:
        _refuse(self.path, why)

    def _refuse_member(self, name: str, why: str) -> NoReturn:
        _refuse(self.path, f"has a member {name!r} that {why}")


def plain_folders(files: list[str], folders: list[str]) -> set[str] | None:
    """Return all folders of an archive whose names are plain; None: each needs a closer look.

    It says what :class:`MemberNames` says, in a tenth of the time.

    Args:
        files: The names of all files.
        folders: Those of the members that are folders.
    """
    folders = [name.removesuffix("/") for name in folders]
    text = "\0".join([*files, *folders])
    if not _PLAIN_NAMES.fullmatch(text) or _PERHAPS_BOOKKEEPING.search(text):
        return None
    if max(map(len, files), default=0) > 255 or max(map(len, folders), default=0) > 255:
        return None
    found = set(folders)
    for folder in {parent_of(name) for name in files}.union(map(parent_of, folders)):
        while folder and folder not in found:
            found.add(folder)
            folder = parent_of(folder)
    paths = [*files, *found]
    alone = len(set(paths)) == len(paths) == len(set("\0".join(paths).casefold().split("\0")))
    return found if alone else None


class CleanNames:
    """Cleans the names of one archive's members; a folder above several is looked at once.

    Args:
        archive: The archive, for messages.
    """

    def __init__(self, archive: Path):
        self._archive = archive
        self._folders: dict[str, str] = {"": ""}  # clean paths by their spelling

    def clean(self, name: str) -> str:
        """Return the relative path of a member, ``""`` for the top itself.

        Raises:
            UnsafeArchiveError: If it leads out of the archive, or cannot be a name everywhere.
        """
        folder, _, last = name.rpartition("/")
        known = None if name.startswith("/") else self._folders.get(folder)
        if known is not None and len(name) < 256 and _PLAIN.fullmatch(last):
            return f"{known}/{last}" if known else last
        parts = clean_parts(self._archive, name)
        path = "/".join(parts)
        if last in parts[-1:] and len(parts) < DEEPEST:
            self._folders[folder] = parent_of(path)
        return path


class MemberNames:
    """The names of one archive's members, checked one by one and against each other.

    Args:
        archive: The archive, for messages.
        similar: Whether names may differ in case or Unicode form only.
    """

    def __init__(self, archive: Path, *, similar: bool):
        self.folders: set[str] = set()  # all that are members or contain some
        self._archive = archive
        self._clean = CleanNames(archive).clean
        self._similar = similar
        self._files: set[str] = set()
        self._spellings: dict[str, str] = {}
        self._bookkeeping: dict[str, bool] = {"": False}  # folders

    def add(self, name: str, is_folder: bool) -> str:
        """Return the relative path of a member, ``""`` for the top itself.

        Raises:
            UnsafeArchiveError: If the name leads out of the folder or collides with another.
        """
        path = self._clean(name)
        if not path:
            if not is_folder:
                self._refuse(name, "is not the name of a file")
            return path
        if path in self._files or (not is_folder and path in self.folders):
            self._refuse(name, "appears twice")
        above = path if is_folder else parent_of(path)
        while above and above not in self.folders:
            if above in self._files:
                self._refuse(name, f"lies in '{above}', which is a file")
            self.folders.add(above)
            self._check_spelling(name, above)
            above = parent_of(above)
        if not is_folder:
            self._files.add(path)
            self._check_spelling(name, path)
        return path

    def are_bookkeeping(self, path: str) -> bool:
        """Return whether a path, or a folder above it, is staging's, KappaData's or the disk's."""
        folder, _, name = path.rpartition("/")
        known = self._bookkeeping.get(folder)
        if known is None:
            known = self._bookkeeping[folder] = self.are_bookkeeping(folder)
        return known or is_bookkeeping(name)

    def _check_spelling(self, name: str, path: str) -> None:
        """Refuse two paths that a disk ignoring case or normalising Unicode would merge."""
        if self._similar:
            return
        if path.isascii():  # as most are, which no normalization changes
            key = path.casefold()
        else:
            key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        other = self._spellings.setdefault(key, path)
        if other != path:
            _refuse(
                self._archive,
                f"has a member {name!r} that differs from '{other}' only in case or Unicode form",
                "If the target's disk tells them apart, allow it: "
                "limits=ArchiveLimits(similar_names=True) of kappacore.staging, or --similar-names "
                "on the command line.",
            )

    def _refuse(self, name: str, why: str) -> NoReturn:
        _refuse(self._archive, f"has a member {name!r} that {why}")


def clean_parts(archive: Path, name: str) -> list[str]:
    """Return the parts of a member's name, without empty ones and dots.

    Raises:
        UnsafeArchiveError: If it leads out of the archive, or cannot be a name everywhere.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if why := _fault_of(name, parts):
        short = name if len(name) < 300 else f"{name[:60]}…"
        _refuse(archive, f"has a member {short!r} that {why}")
    return parts


def _fault_of(name: str, parts: list[str]) -> str | None:
    if "\0" in name or "\\" in name:
        return "has a character with another meaning on other systems"
    if name.startswith("/"):
        return "is absolute"
    if _DRIVE.match(name):
        return "has a drive letter"
    if ".." in parts:
        return "leads out of the folder"
    if len(parts) > DEEPEST:
        return f"is deeper than {DEEPEST} levels of folders"
    is_short = len(name) <= 255 and name.isascii()
    if not is_short and (
        any(len(os.fsencode(part)) > 255 for part in parts) or len(os.fsencode(name)) > 3000
    ):
        return "is too long for a file system"
    return None


def _refuse(
    archive: Path,
    why: str,
    advice: str = "Pack it again from plain files and folders with relative names.",
) -> NoReturn:
    raise UnsafeArchiveError(f"'{archive}' {why}; nothing was published. {advice}")
