"""Directories of zip files without peculiarities are read quickly, and exactly as by zipfile."""

from __future__ import annotations

import os
import random
import struct
import zipfile
from contextlib import suppress

import pytest

import kappacore
from kappacore.errors import StagingError, UnsafeArchiveError
from kappacore.machine.system import opened
from kappacore.staging.sources import zip_directory
from kappacore.staging.sources.stamps import stamp_of
from support.staging import tree_of

NAMES = ["train/a/1.jpg", "Ä.txt", "top", "folder/", "train/日本.bin"]


def make_zip(path, count: int = 1, names=NAMES) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(count):
            for name in names:
                info = zipfile.ZipInfo(f"{number}/{name}", (1985 + number % 20, 2, 3, 4, 5, 6))
                info.external_attr = 0o640 << 16
                if number % 2:
                    info.extra = struct.pack("<HHBI", 0x5455, 5, 1, 1_600_000_000 + number)
                    info.compress_type = zipfile.ZIP_STORED
                archive.writestr(info, b"" if name.endswith("/") else name.encode() * 9)
    return path.read_bytes()


def read(path) -> tuple[object, object]:
    """Return what is read of a directory quickly, and by zipfile; None where that fails."""
    with opened(path, os.O_RDONLY) as fd:
        plain = by_zipfile = None
        size = path.stat().st_size
        with suppress(Exception):
            plain = zip_directory._read_plain(fd, size)
        with suppress(Exception):
            by_zipfile = zip_directory._read_by_zipfile(fd, size)
    return plain, by_zipfile


@pytest.mark.parametrize("count", [1, 30])
def test_it_is_read_as_by_zipfile(tmp_path, count):
    make_zip(tmp_path / "a.zip", count)
    plain, by_zipfile = read(tmp_path / "a.zip")
    assert plain == by_zipfile != None  # noqa: E711 - neither has failed
    assert len(plain[0]) == count * len(NAMES)


@pytest.mark.slow
def test_of_more_members_than_a_zip_file_had_at_first_it_is_read_as_by_zipfile(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", strict_timestamps=False) as archive:
        archive.writestr("1", b"")
        info = archive.infolist()[0]
        archive.filelist.extend([info] * 0xFFFF)
    plain, by_zipfile = read(tmp_path / "a.zip")
    assert plain == by_zipfile
    assert len(plain[0]) == 0x10000


def test_zipfile_reads_what_is_peculiar(tmp_path):
    data = make_zip(tmp_path / "a.zip")
    commented = data[:-2] + struct.pack("<H", 5) + b"hello"
    prefixed = b"#!/bin/sh\n" + data
    for content in (commented, prefixed):
        (tmp_path / "b.zip").write_bytes(content)
        plain, by_zipfile = read(tmp_path / "b.zip")
        assert plain is None
        assert len(by_zipfile[0]) == len(NAMES)


def test_what_is_damaged_is_never_read_differently(tmp_path):
    """KAPPACORE_FUZZ=20000 tries that many."""
    data = make_zip(tmp_path / "a.zip")
    begin = data.index(b"PK\1\2")
    equal = 0
    for seed in range(int(os.environ.get("KAPPACORE_FUZZ", "300"))):
        chance = random.Random(seed)
        broken = bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 4])):
            broken[chance.randrange(begin, len(data))] = chance.choice([0, 1, 2, 255, seed % 256])
        (tmp_path / "b.zip").write_bytes(broken)
        plain, by_zipfile = read(tmp_path / "b.zip")
        assert plain in (None, by_zipfile), seed
        equal += plain is not None
    assert equal > 20


def test_the_whole_directory_takes_two_reads(tmp_path, monkeypatch):
    make_zip(tmp_path / "a.zip", 300, ["1"])
    monkeypatch.setattr(zipfile, "ZipFile", None)
    real, reads = os.pread, []

    def counted(fd, size, offset):
        reads.append(size)
        return real(fd, size, offset)

    with opened(tmp_path / "a.zip", os.O_RDONLY) as fd:
        monkeypatch.setattr(os, "pread", counted)
        members, _ = zip_directory.read_directory(fd)
    assert (len(members), len(reads)) == (300, 2)


@pytest.mark.parametrize("name", ["/x", "../x", "a/../x", "C:x", "a\\x", "a//../../x", "a/."])
def test_a_name_is_checked_wherever_it_stands(tmp_path, name):
    """Also where all names before it were plain."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for before in ("x1", "a/x1", "a/b/x1"):
            archive.writestr(before, b"1")
        archive.writestr(name, b"2")
    with pytest.raises(UnsafeArchiveError):
        kappacore.stage(tmp_path / "a.zip", tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_names_are_cleaned_alike(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a/1", "a//2", "./a/3", "a/./4", "a/b/.hidden", "a/b/.snapshot/5", "a/b/6 7"):
            archive.writestr(name, b"x")
    kappacore.stage(tmp_path / "a.zip", tmp_path / "t")
    assert set(tree_of(tmp_path / "t")) == {"a/1", "a/2", "a/3", "a/4", "a/b/.hidden", "a/b/6 7"}


def with_comment(data: bytes, comment: bytes) -> bytes:
    """Return a zip file without a comment with one."""
    return data[:-2] + len(comment).to_bytes(2, "little") + comment


@pytest.mark.parametrize("kind", ["plain", "prefix", "extra", "empty"])
def test_a_comment_may_contain_what_looks_like_an_end(tmp_path, kind):
    data = make_zip(tmp_path / "a.zip", names=NAMES if kind != "empty" else ())
    if kind == "extra":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            info = zipfile.ZipInfo("0/top")
            info.extra = struct.pack("<HHQ", 1, 8, 9)  # of zip64, which zipfile reads
            archive.writestr(info, b"top" * 9)
        data = (tmp_path / "a.zip").read_bytes()
    data = b"#!/bin/sh\n" * (kind == "prefix") + data
    for comment in (
        b"PK\5\6",
        b"made by PK\5\6, and longer than an end is",
        b"PK\5\6" + bytes(18),
        b"PK\5\6" + bytes(16) + b"\2\0ab",
        make_zip(tmp_path / "b.zip", 2)[:-1],
        b"x" * 0xFFFF,
    ):
        path = tmp_path / "c.zip"
        path.write_bytes(with_comment(data, comment))
        if kind == "empty":
            with pytest.raises(StagingError, match="has no files"):
                kappacore.stage(path, tmp_path / "t")
            continue
        target = tmp_path / "t" / str(len(list(tmp_path.glob("t/*"))))
        assert tree_of(kappacore.stage(path, target).path)["0/top"] == b"top" * 9
        stamp = stamp_of(path, "zip")
        path.write_bytes(with_comment(data.replace(b"0/top", b"0/pot"), comment))
        assert stamp_of(path, "zip")[2] != stamp[2] != ""


def test_what_dos_marks_as_a_folder_is_one(tmp_path):
    """So do 7-Zip and bsdtar; unzip makes a file, and nothing in it."""
    members = {"sub": b"", "sub/1": b"1", "none": b"", "file": b"2", "unix": b""}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3 if name == "unix" else 0
            info.external_attr = 0x20 if "/" in name else 0x10
            archive.writestr(info, content)
    plain, by_zipfile = read(tmp_path / "a.zip")
    assert plain == by_zipfile
    target = kappacore.stage(tmp_path / "a.zip", tmp_path / "t").path
    assert tree_of(target) == {"sub/1": b"1", "file": b"2", "unix": b""}
    assert (target / "none").is_dir()
