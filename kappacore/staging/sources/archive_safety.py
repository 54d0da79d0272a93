"""The names in an archive, which anybody may have made: only plain ones get past here."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from typing import NoReturn

from kappacore.errors import InvalidOptionError, UnsafeArchiveError
from kappacore.staging.sources.base import parent_of

__all__ = ["ArchiveLimits", "Names", "refuse"]

_DRIVE = re.compile(r"[A-Za-z]:")
_SMALL = 1 << 24  # bytes that an archive may always give, however well they are compressed


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold at most; more is taken for an attack.

    Args:
        max_ratio: bytes that come out for each byte of the archive, over all members; 16 MiB are
            always allowed. Images come to about 1, text to 10, empty masks to a few hundred;
            deflate cannot exceed 1032.
        max_bytes: bytes that come out, over all members; None: as many as there is room for.
        max_members: number of files and folders.
    """

    max_ratio: float = 200.0
    max_bytes: int | None = None
    max_members: int = 50_000_000

    def __post_init__(self) -> None:
        for name in ("max_ratio", "max_bytes", "max_members"):
            value = getattr(self, name)
            if not (value is None and name == "max_bytes") and not (
                isinstance(value, (int, float)) and value > 0
            ):
                raise InvalidOptionError(f"{name}={value!r} is no limit. Give a positive number.")

    def check(self, archive: str, packed: int, size: int, members: int) -> None:
        """Refuse an archive of ``packed`` bytes that gives too many bytes or members."""
        if members > self.max_members:
            refuse(archive, f"has more than {self.max_members} members", "max_members")
        if self.max_bytes is not None and size > self.max_bytes:
            refuse(archive, f"gives {size} bytes, more than {self.max_bytes}", "max_bytes")
        if size > max(_SMALL, self.max_ratio * packed):
            refuse(
                archive,
                f"gives {size} bytes or more out of {packed}, over {self.max_ratio:g} for each",
                "max_ratio",
            )


def refuse(archive: str, why: str, limit: str = "") -> NoReturn:
    """Raise the error of an archive that must not be extracted.

    Raises:
        UnsafeArchiveError: always.
    """
    advice = (
        f"If it is meant so, raise the limit: limits=ArchiveLimits({limit}=…) of "
        f"kappacore.staging, which the command line calls --{limit.replace('_', '-')}."
        if limit
        else "Pack it anew from plain files and folders with relative names."
    )
    raise UnsafeArchiveError(f"'{archive}' {why}; nothing was published. {advice}")


class Names:
    """The names of one archive's members, checked one by one and against each other.

    Args:
        archive: the archive, for messages.
    """

    def __init__(self, archive: str):
        self.archive = archive
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._spellings: dict[str, str] = {}

    def take(self, name: str, folder: bool) -> str:
        """Return the relative path of a member, ``""`` for the top itself.

        Raises:
            UnsafeArchiveError: if the name leads elsewhere, or to where another member is.
        """
        parts = self._parts(name)
        path = "/".join(parts)
        if not path:
            if not folder:
                self._refuse(name, "is no name of a file")
            return path
        if path in self._files or (not folder and path in self._folders):
            self._refuse(name, "is there twice")
        above = path if folder else parent_of(path)
        while above and above not in self._folders:
            if above in self._files:
                self._refuse(name, f"lies in '{above}', which is a file")
            self._folders.add(above)
            self._spell(name, above)
            above = parent_of(above)
        if not folder:
            self._files.add(path)
            self._spell(name, path)
        return path

    @property
    def folders(self) -> set[str]:
        """All folders that members are or lie in."""
        return self._folders

    def _parts(self, name: str) -> list[str]:
        if "\0" in name or "\\" in name:
            self._refuse(name, "has a character that means something else on other systems")
        if name.startswith("/"):
            self._refuse(name, "is absolute")
        if _DRIVE.match(name):
            self._refuse(name, "has a drive letter")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            self._refuse(name, "leads out of the folder")
        if any(len(os.fsencode(part)) > 255 for part in parts) or len(os.fsencode(name)) > 3000:
            self._refuse(f"{name[:60]}…", "is too long for a file system")
        return parts

    def _spell(self, name: str, path: str) -> None:
        """Refuse what would be one file on a disk that ignores case or normalises Unicode."""
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        other = self._spellings.setdefault(key, path)
        if other != path:
            self._refuse(name, f"differs from '{other}' only in case or in how it is encoded")

    def _refuse(self, name: str, why: str) -> NoReturn:
        refuse(self.archive, f"has a member {name!r} that {why}")
