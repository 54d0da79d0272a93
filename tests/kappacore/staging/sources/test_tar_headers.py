"""Plain headers of tar files are read quickly, and exactly as by tarfile."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile

import pytest

import kappacore
from kappacore.errors import StagingError
from kappacore.staging.sources import tar_headers
from kappacore.staging.sources.tar_headers import Headers
from support.staging import SMALL, make_tree, tree_of

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
NAMES = ["a/1.jpg", "a/empty", "Ä/日本.txt", f"{'deep/' * 25}x", f"{'n' * 120}.bin", "b.txt"]


def make_tar(form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for number, name in enumerate(["a", *NAMES]):
            member = tarfile.TarInfo(name)
            member.mode, member.uname = 0o640, "somebody"
            member.mtime = 1_600_000_000 + number + (0.25 if number % 2 else 0)
            member.type = tarfile.DIRTYPE if name == "a" else tarfile.REGTYPE
            member.size = 0 if name in ("a", "a/empty") else 512 * number
            try:
                archive.addfile(member, io.BytesIO(b"x" * member.size))
            except ValueError:  # the oldest format has no room for it
                assert form == tarfile.USTAR_FORMAT
    return file.getvalue()


def refused(why: object) -> None:
    raise ValueError(why)


def read(data: bytes, monkeypatch: pytest.MonkeyPatch, *, quickly: bool) -> tuple[list[tuple], int]:
    """Return what is read of the members, and how many of them tarfile read."""
    calls = []
    next_ = tarfile.TarFile.next
    found: list[tuple] = []
    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "next", lambda self: calls.append(1) or next_(self))
        if not quickly:
            patch.setattr(tar_headers, "_plain_header", lambda _: None)
        try:
            headers = Headers(io.BytesIO(data), lambda _: None, refused)
            while (member := headers.next()) is not None:
                what = member.name, member.size, member.mtime, member.mode, member.type
                found.append((*what, member.linkname, member.offset_data, headers.offset))
            found.append(("end", headers.offset))
        except Exception as error:
            found.append((type(error), str(error)))
    return found, len(calls)


@pytest.mark.parametrize("form", FORMATS)
def test_they_are_read_as_by_tarfile(monkeypatch, form):
    data = make_tar(form)
    found, calls = read(data, monkeypatch, quickly=True)
    by_tarfile, all_calls = read(data, monkeypatch, quickly=False)
    assert found == by_tarfile
    assert len(found) > 4
    assert calls < all_calls - 2


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_damaged_is_never_read_differently(monkeypatch, form):
    """KAPPACORE_FUZZ=20000 tries that many."""
    data = make_tar(form)
    blocks = range(0, len(data) - 1024, 512)
    for seed in range(int(os.environ.get("KAPPACORE_FUZZ", "200"))):
        chance = random.Random(seed)
        broken = bytearray(data)
        start = chance.choice(blocks)
        for _ in range(chance.choice([1, 1, 2, 5])):
            value = chance.choice([*b"\0\xff 05x79./", seed % 256])
            broken[start + chance.randrange(512)] = value
        if seed % 2:  # with a checksum that is right
            broken[start + 148 : start + 156] = b" " * 8
            total = sum(broken[start : start + 512])
            broken[start + 148 : start + 156] = b"%06o\0 " % total
        if seed % 7 == 0:
            del broken[chance.randrange(len(broken)) :]
        content = bytes(broken)
        found, _ = read(content, monkeypatch, quickly=True)
        assert found == read(content, monkeypatch, quickly=False)[0], seed


def test_an_incremental_archive_is_read_as_a_plain_one(tmp_path):
    """tar --listed-incremental puts times where other formats have the beginning of long names."""
    source = make_tree(tmp_path / "s")
    command = ["tar", "-c", "--format=gnu", "-g", tmp_path / "list", "-f", tmp_path / "a.tar"]
    subprocess.run([*command, "-C", source, "."], check=True)
    assert tree_of(kappacore.stage(tmp_path / "a.tar", tmp_path / "t").path) == SMALL


def test_a_part_of_a_split_archive_is_named(tmp_path):
    make_tree(tmp_path, {"s/big": os.urandom(50_000)})
    command = ["tar", "-cM", "-L", "40", "-f", tmp_path / "1.tar", "-f", tmp_path / "2.tar"]
    subprocess.run([*command, "-C", tmp_path / "s", "big"], check=True)
    for name in ("1.tar", "2.tar"):
        with pytest.raises(StagingError, match=r"incomplete|of another volume"):
            kappacore.stage(tmp_path / name, tmp_path / "t")


def test_permissions_are_those_of_the_member(tmp_path):
    """As of files in folders: its owner may read and write it, and nobody else."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for mode in (0, 0o200, 0o711):
            member = tarfile.TarInfo(f"{mode:o}")
            member.mode = mode
            archive.addfile(member)
    target = kappacore.stage(tmp_path / "a.tar", tmp_path / "t").path
    modes = {path.name: path.stat().st_mode & 0o777 for path in target.glob("[0-9]*")}
    assert modes == {"0": 0o600, "200": 0o600, "711": 0o711}
