"""Archives made to do harm: refused before anything leaves the work folder."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib

import pytest

import kappacore
from kappacore.errors import InvalidOptionError, StagingError, UnsafeArchiveError
from kappacore.staging import ArchiveLimits
from support.staging import tree_of

NAMES = {
    "absolute": ["/etc/evil"],
    "parent": ["ok.jpg", "../evil"],
    "parent within": ["a/../../evil"],
    "hidden parent": ["a/b/../c"],
    "drive letter": ["C:/evil"],
    "drive letter alone": ["c:evil"],
    "backslashes": ["..\\evil"],
    "a file and a folder": ["a", "a/b.jpg"],
    "a folder and a file": ["a/b.jpg", "a"],
    "case": ["a/Photo.jpg", "a/photo.JPG"],
    "case of folders": ["Train/1.jpg", "train/2.jpg"],
    "sharp s": ["strasse", "straße"],
    "Unicode forms": ["caf\u00e9", "cafe\u0301"],
    "no name": ["."],
    "a name too long": ["x" * 256],
}


def pack_zip(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, b"content")


def pack_tar(path, names):
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 7
            archive.addfile(member, io.BytesIO(b"content"))


def refused(tmp_path, source, match, **options):
    """The archive is refused, and nothing of it is anywhere."""
    local = tmp_path / "local"
    with pytest.raises(UnsafeArchiveError, match=match) as caught:
        kappacore.stage(source, local / "t", **options)
    assert "nothing was published" in str(caught.value)
    assert tree_of(local) == {}
    assert not (local / "t").exists()
    assert not (tmp_path / "evil").exists()
    assert not (local / "evil").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_that_lead_elsewhere_or_collide(tmp_path, names, suffix):
    source = tmp_path / f"a{suffix}"
    (pack_zip if suffix == ".zip" else pack_tar)(source, names)
    refused(tmp_path, source, "has a member ")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [["a.jpg", "a.jpg"], ["a/b.jpg", "./a//b.jpg"]])
def test_a_name_that_a_zip_file_has_twice(tmp_path, names):
    """Of a tar file the last one counts."""
    pack_zip(tmp_path / "a.zip", names)
    refused(tmp_path, tmp_path / "a.zip", "appears twice")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "not a plain file"),
        (tarfile.BLKTYPE, "not a plain file"),
        (tarfile.FIFOTYPE, "not a plain file"),
        (tarfile.CONTTYPE, "not a plain file"),
    ],
)
def test_links_and_devices_in_a_tar_file(tmp_path, kind, what):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "../../evil"
        archive.addfile(member)
        below = tarfile.TarInfo("link/evil")
        archive.addfile(below, io.BytesIO())
    refused(tmp_path, tmp_path / "a.tar", f"has a member 'link' that is {what}")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_file(tmp_path, mode):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (mode | 0o777) << 16
        archive.writestr(info, "../../evil")
    refused(tmp_path, tmp_path / "a.zip", "has a member 'link' that is (a link|not a plain file)")


def test_a_name_that_is_cut_off_at_a_nul(tmp_path):
    pack_zip(tmp_path / "a.zip", ["a.jpgXevil"])
    data = (tmp_path / "a.zip").read_bytes().replace(b"a.jpgXevil", b"a.jpg\0evil")
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path, tmp_path / "a.zip", "has a character with another meaning")


@pytest.mark.usefixtures("road")
def test_a_header_with_another_name_than_in_the_directory(tmp_path):
    pack_zip(tmp_path / "a.zip", ["good"])
    data = (tmp_path / "a.zip").read_bytes().replace(b"good", b"evil", 1)
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path, tmp_path / "a.zip", "'good' that has the header of another")


@pytest.mark.usefixtures("road")
def test_members_that_share_bytes(tmp_path):
    """As in the densest bombs: many members of the directory point at one."""
    body = zlib.compressobj(9, wbits=-15)
    packed = body.compress(b"\0" * 100_000) + body.flush()
    local = struct.pack(
        "<4s5H3I2H",
        b"PK\3\4",
        20,
        0,
        8,
        0,
        0,
        zlib.crc32(b"\0" * 100_000),
        len(packed),
        100_000,
        1,
        0,
    )
    directory = b"".join(
        struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, zlib.crc32(b"\0" * 100_000), len(packed),
            100_000, 1, 0, 0, 0, 0, 0, 0,
        ) + bytes([name])
        for name in b"abc"
    )  # fmt: skip
    start = len(local) + 1 + len(packed)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 3, 3, len(directory), start, 0)
    (tmp_path / "a.zip").write_bytes(local + b"a" + packed + directory + end)
    refused(tmp_path, tmp_path / "a.zip", "has members that share bytes")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".zip", ".tgz"])
def test_a_bomb_is_refused_by_its_ratio(tmp_path, suffix):
    source = tmp_path / f"bomb{suffix}"
    size = 100 << 20
    if suffix == ".zip":
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", b"\0" * size)
    else:
        with tarfile.open(source, "w:gz") as archive:
            member = tarfile.TarInfo("zeros")
            member.size = size
            archive.addfile(member, io.BytesIO(b"\0" * size))
    assert source.stat().st_size < 200_000
    refused(tmp_path, source, r"over 200 for each\b.*limits=ArchiveLimits\(max_ratio=")
    limits = ArchiveLimits(max_ratio=2000)
    assert kappacore.stage(source, tmp_path / "t", limits=limits).bytes == size


def test_16_mib_are_always_allowed_whatever_their_ratio(tmp_path):
    for size, allowed in ((16 << 20, True), ((16 << 20) + 1, False)):
        source = tmp_path / f"{size}.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", b"\0" * size)
        if allowed:
            assert kappacore.stage(source, tmp_path / "allowed").bytes == size
        else:
            refused(tmp_path, source, r"ArchiveLimits\(max_ratio=…\) of kappacore\.staging")


@pytest.mark.slow
def test_a_bomb_behind_the_end_of_a_tar_file_is_refused(tmp_path):
    with gzip.open(tmp_path / "a.tgz", "wb") as file:
        member = tarfile.TarInfo("a.jpg")
        file.write(member.tobuf() + b"\0" * (100 << 20))
    refused(tmp_path, tmp_path / "a.tgz", "over 200 for each")


def test_a_header_of_a_tar_file_that_would_fill_the_memory(tmp_path):
    member = tarfile.TarInfo("long")
    member.type, member.size = tarfile.XHDTYPE, 1 << 40
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + b"\0" * 10240)
    refused(tmp_path, tmp_path / "a.tar", "has a header of 1099511627776 bytes")


@pytest.mark.usefixtures("road")
def test_a_member_that_unpacks_to_more_than_it_declares(tmp_path):
    source = tmp_path / "a.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 1_000_000)
    data = source.read_bytes().replace(struct.pack("<I", 1_000_000), struct.pack("<I", 1000))
    source.write_bytes(data)
    with pytest.raises(StagingError, match="unpacks to more than the 1000 bytes declared"):
        kappacore.stage(source, tmp_path / "t")
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_too_many_and_too_large(tmp_path, suffix):
    source = tmp_path / f"a{suffix}"
    (pack_zip if suffix == ".zip" else pack_tar)(source, [f"{number}.jpg" for number in range(11)])
    refused(tmp_path, source, "has more than 10 members", limits=ArchiveLimits(max_members=10))
    refused(
        tmp_path, source, "more than 70 bytes|more than 70;", limits=ArchiveLimits(max_bytes=70)
    )
    assert kappacore.stage(source, tmp_path / "t").files == 11


def test_invalid_limits():
    with pytest.raises(InvalidOptionError, match="max_ratio=0 is not a limit"):
        ArchiveLimits(max_ratio=0)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_files_named_like_stagings_own_are_not_extracted(tmp_path, suffix):
    """A manifest in an archive must not make staging believe anything."""
    names = ["a.jpg", ".kappacore-manifest", "train/.kappacore-manifest", "autocopy_end.txt"]
    source = tmp_path / f"a{suffix}"
    (pack_zip if suffix == ".zip" else pack_tar)(source, names)
    target = kappacore.stage(source, tmp_path / "t").path
    assert tree_of(target) == {"a.jpg": b"content"}
    assert not (target / "autocopy_end.txt").exists()
    assert not (target / "train" / ".kappacore-manifest").exists()
    assert not kappacore.stage(source, tmp_path / "t").copied
