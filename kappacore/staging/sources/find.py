"""Finding the source of a dataset, and opening it by what it contains."""

from __future__ import annotations

import os
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING

from kappacore.errors import StagingError
from kappacore.staging.sources.archive_safety import BROKEN
from kappacore.staging.sources.base import Source, visible_names
from kappacore.staging.sources.exclude import Exclusion
from kappacore.staging.sources.folder import FolderSource
from kappacore.staging.sources.tar import TarSource
from kappacore.staging.sources.unpacking import check_unpacker, open_unpacked
from kappacore.staging.sources.zip import ZipSource, ZipsSource
from kappacore.staging.sources.zip_end import END, find_end
from kappacore.staging.target.paths import KAPPADATA_END, KAPPADATA_START, UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import BinaryIO

    from kappacore.staging.options import Options

_SUFFIXES = (
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz", ".tar.bz2", ".tbz2",
    ".tbz",
)  # fmt: skip
_PACKINGS = {  # by the first bytes of the file: its packing, its name, and what unpacks it
    b"\x1f\x8b": ("gz", "gzip", "gunzip"),
    b"BZh": ("bz2", "bzip2", "bunzip2"),
    b"\xfd7zXZ\0": ("xz", "xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zst", "zstd", "unzstd"),
    # A frame to be skipped, as pzstd begins with.
    **{bytes((0x50 + kind, 0x2A, 0x4D, 0x18)): ("zst", "zstd", "unzstd") for kind in range(16)},
}
_SPLIT = "a part of a split zip file (zip -s 0 joins them)"
_NOT_READ = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"\x1f\x9d": "compressed by compress (.Z)",
    b"\x04\x22\x4d\x18": "compressed by lz4",
    b"\x5d\0\0": "compressed by lzma (.lzma)",
    b"LZIP": "compressed by lzip",
    b"hsqs": "a squashfs image",
    b"!<arch>\n": "an ar archive",
    b"070701": "a cpio archive",
    b"070707": "a cpio archive",
    b"MSCF": "a cabinet (.cab)",
    b"PK\7\x08PK": _SPLIT,
}
_DISC = 32769, b"CD001"  # the mark of a disc image, and where it is


def find_source(path: Path) -> Path | None:
    """Return the path itself, or the archive that is there instead; None if there is neither."""
    archives = [path.with_name(path.name + suffix) for suffix in _SUFFIXES if path.name]
    return next((found.resolve() for found in (path, *archives) if found.exists()), None)


def without_suffix(name: str) -> str:
    """Return a name without the suffix of an archive."""
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def has_parts(source: Path, parts: Iterable[str]) -> bool:
    """Return whether any of ``parts`` is a folder of a source, without listing it.

    For an archive this is not known, and assumed.
    """
    if not source.is_dir():
        return True
    return any((source / part).is_dir() or (source / f"{part}.zip").is_file() for part in parts)


def open_source(path: Path, options: Options) -> Source:
    """Open a source by its content.

    Args:
        path: The folder or archive.
        options: Those of staging, for its limits and number of threads.

    Raises:
        StagingError: If it cannot be staged, or is itself incomplete.
    """
    limits, exclusion = options.limits, Exclusion(options.exclude, options.part)
    if path.is_dir():
        names = {KAPPADATA_START, KAPPADATA_END, UNFINISHED} & set(os.listdir(path))  # noqa: PTH208
        if UNFINISHED in names or names == {KAPPADATA_START}:
            raise StagingError(
                f"the source '{path}' is itself an unfinished copy (it has '{min(names)}'). "
                f"Complete it first, or stage from where it was copied from."
            )
        zips = _zips_in(path)
        if zips:
            return ZipsSource(path, zips, limits, exclusion)
        return FolderSource(path, options.waiting_threads, exclusion)
    kind = _kind_of_file(path)
    if kind == "zip":
        return ZipSource(path, limits, exclusion)
    if kind.startswith("tar"):
        return TarSource(path, limits, exclusion, kind[len("tar.") :] or None)
    raise StagingError(
        f"'{path}' is {kind}, which cannot be staged. Give a folder, or an archive: zip, tar, "
        f"tar.gz, tar.zst, tar.xz or tar.bz2. What is of another kind can be unpacked to a folder "
        f"first."
    )


def _zips_in(path: Path) -> list[Path]:
    """Return the zip files of a folder that contains nothing else, by content and name alike."""
    zips = [path / name for name in visible_names(path)]
    if not all(file.name.lower().endswith(".zip") and not file.is_dir() for file in zips):
        return []
    for file in zips:
        if _kind_of_file(file) != "zip":
            raise StagingError(
                f"'{file}' is not a zip file, though all files in '{path}' have that suffix. It "
                f"may be incomplete: copy or pack it again."
            )
    return zips


def _is_one_file(file: BinaryIO, packing: str) -> bool:
    """Return whether a compressed file holds something else than a tar file."""
    try:
        head: bytes = open_unpacked(file, packing).read(tarfile.BLOCKSIZE)
        if head.strip(b"\0"):
            tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return True
    except BROKEN:  # reading it as a tar file says how
        pass
    return False


def _is_zero(file: BinaryIO) -> bool:
    """Return whether the rest of a file is zeros."""
    while block := file.read(1 << 20):
        if block.strip(b"\0"):
            return False
    return True


def _is_part(file: BinaryIO) -> bool:
    """Return whether a zip file is the last part of several."""
    size = file.seek(0, os.SEEK_END)
    end = find_end(file.fileno(), size)
    if end is None:
        return False
    _, part, first, *_, comment = END.unpack(os.pread(file.fileno(), END.size, end))
    if end + END.size + comment != size:  # something that only looks like an end
        return False
    return (part, first) not in ((0, 0), (0xFFFF, 0xFFFF))  # zip64 has them elsewhere


def _kind_of_file(path: Path) -> str:
    if not path.is_file():
        return "neither a file nor a folder"
    with path.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
        if head.startswith((b"PK\3\4", b"PK\5\6")):
            return _SPLIT if _is_part(file) else "zip"
        for first, (packing, name, command) in _PACKINGS.items():
            if head.startswith(first):
                check_unpacker(packing, path)
                file.seek(0)
                if _is_one_file(file, packing):
                    raise StagingError(
                        f"'{path}' is one file compressed by {name}, not a packed folder "
                        f"(tar.{packing}), so it cannot be extracted to a folder. Stage the folder "
                        f"that contains it, which copies it as it is, or unpack it ({command}) "
                        f"before."
                    )
                return f"tar.{packing}"
        for first, kind in _NOT_READ.items():
            if head.startswith(first):
                return kind
        if head[257:262] == b"ustar":
            return "tar"
        if find_end(file.fileno(), path.stat().st_size) is not None:  # with something before it
            return _SPLIT if _is_part(file) else "zip"
        file.seek(_DISC[0])
        if file.read(len(_DISC[1])) == _DISC[1]:
            return "a disc image (.iso)"
        with suppress(*BROKEN):
            file.seek(0)
            if head.strip(b"\0") or (head and _is_zero(file)):  # zeros: it has no member
                file.seek(0)
                tarfile.open(fileobj=file, mode="r:").close()  # of before 1988, without a mark
                return "tar"
    return "not a known kind of archive"
