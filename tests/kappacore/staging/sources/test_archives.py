"""Archives as sources: what comes out, and how they are recognised."""

from __future__ import annotations

import bz2
import functools
import gzip
import itertools
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import pytest

import kappacore
from kappacore.errors import MissingDependencyError, StagingError, UnsafeArchiveError
from kappacore.staging import check_staged
from kappacore.staging.copying.digests import CHUNK
from kappacore.staging.target.manifest import same_time
from kappacore.staging.target.paths import MANIFEST
from support.staging import SMALL, make_tree, pack, tree_of, zstd

KINDS = [
    ("a.zip", zipfile.ZIP_STORED, "zip"),
    ("a.zip", zipfile.ZIP_DEFLATED, "zip"),
    ("a.tar", 0, "tar"),
    ("a.tar.gz", 0, "tar.gz"),
    ("a.zip", zipfile.ZIP_BZIP2, "zip"),
    ("a.zip", zipfile.ZIP_LZMA, "zip"),
    ("a.tar.bz2", 0, "tar.bz2"),
    ("a.tar.xz", 0, "tar.xz"),
    ("a.tar.zst", 0, "tar.zst"),
]
FILES = {**SMALL, "long.bin": bytes(range(256)) * 5000, "zeros": b"\0" * 3_000_000}


@functools.cache
def archive_of(name: str, compression: int) -> bytes:
    """Pack the files once for all tests of a kind: bzip2 takes a third of a second."""
    with tempfile.TemporaryDirectory() as folder:
        return pack(Path(folder) / name, FILES, compression).read_bytes()


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize(("name", "compression", "kind"), KINDS)
@pytest.mark.parametrize("verify", ["none", "size", "hash", "reread"])
def test_an_archive_comes_out_as_a_folder(tmp_path, name, compression, kind, verify):
    source = tmp_path / name
    source.write_bytes(archive_of(name, compression))
    result = kappacore.stage(source, tmp_path / "t", verify=verify)
    assert tree_of(result.path) == FILES
    assert (result.kind, result.copied_bytes) == (kind, sum(map(len, FILES.values())))
    assert int((result.path / "labels.csv").stat().st_mtime) == 1577934246
    assert not kappacore.stage(source, tmp_path / "t").copied
    report = check_staged(result.path)
    assert report.ok
    assert report.digests == (len(FILES) if kind == "zip" or verify in ("hash", "reread") else 0)


@pytest.mark.parametrize(("name", "compression", "kind"), KINDS)
def test_an_archive_is_recognised_by_content_not_name(tmp_path, name, compression, kind):
    packed = pack(tmp_path / name, SMALL, compression).rename(tmp_path / "dataset.bin")
    result = kappacore.stage(packed, tmp_path / "t")
    assert (result.kind, tree_of(result.path)) == (kind, SMALL)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst"])
def test_an_archive_stands_in_for_a_folder(tmp_path, suffix):
    pack(tmp_path / f"ImageNet.v1{suffix}")
    result = kappacore.stage(tmp_path / "ImageNet.v1", tmp_path / "t")
    assert tree_of(result.path) == SMALL


def test_a_part_may_be_an_archive_in_a_folder(tmp_path):
    make_tree(tmp_path / "s", {"labels.csv": b"1"})
    pack(tmp_path / "s" / "train.zip", {"a/1.jpg": b"1"})
    for relative in ("train", "train.zip"):
        result = kappacore.stage(tmp_path / "s", tmp_path / "t", relative=relative)
        assert result.path == tmp_path / "t" / "train"
        assert tree_of(result.path) == {"a/1.jpg": b"1"}


@pytest.mark.usefixtures("road")
def test_a_folder_that_holds_only_zip_files_comes_out_as_folders(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    pack(source / "train.zip", {"a/1.jpg": b"1"}, zipfile.ZIP_DEFLATED)
    pack(source / "val.zip", {"a/2.jpg": b"2"})
    (source / ".hidden").symlink_to("nothing")
    result = kappacore.stage(source, tmp_path / "t")
    assert tree_of(result.path) == {"train/a/1.jpg": b"1", "val/a/2.jpg": b"2"}
    assert result.kind == "zips"
    assert not kappacore.stage(source, tmp_path / "t").copied
    pack(source / "val.zip", {"a/2.jpg": b"22"})  # noticed, though the folder's own time is not new
    assert kappacore.stage(source, tmp_path / "t").copied
    assert tree_of(result.path) == {"train/a/1.jpg": b"1", "val/a/2.jpg": b"22"}


def test_zip_files_among_others_and_shards_stay_as_they_are(tmp_path):
    zips = make_tree(tmp_path / "zips", {"labels.csv": b"1"})
    pack(zips / "train.zip")
    shards = make_tree(tmp_path / "shards", {})
    shards.mkdir()
    pack(shards / "00000.tar")
    pack(shards / "00001.zip").rename(shards / "00001.npz")
    for source in (zips, shards):
        result = kappacore.stage(source, tmp_path / "t" / source.name)
        assert tree_of(result.path) == tree_of(source)


def test_an_incomplete_zip_file_is_an_error(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    pack(source / "train.zip")
    whole = pack(source / "val.zip").read_bytes()
    (source / "val.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StagingError, match=r"val\.zip' cannot be read as a zip file"):
        kappacore.stage(source, tmp_path / "t")
    (source / "val.zip").write_bytes(b"")
    with pytest.raises(StagingError, match=r"val\.zip' is not a zip file, though all"):
        kappacore.stage(source, tmp_path / "t")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.tar.zst"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_an_incomplete_tar_file_is_an_error(tmp_path, name, share):
    files = {f"{number}.jpg": os.urandom(2000) for number in range(20)}
    whole = pack(tmp_path / name, files).read_bytes()
    end = len(files) * 2560 if name == "a.tar" else len(whole)
    (tmp_path / name).write_bytes(whole[: int(end * share)])
    with pytest.raises(StagingError, match="cannot be read as a tar"):
        kappacore.stage(tmp_path / name, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_a_tar_file_cut_between_two_members_is_an_error(tmp_path):
    """As tarfile itself takes that for the end."""
    source = pack(tmp_path / "a.tar", {"1": b"1", "2": b"2"})
    source.write_bytes(source.read_bytes()[:1024])
    with pytest.raises(StagingError, match="its end is missing"):
        kappacore.stage(source, tmp_path / "t")


def test_damage_within_a_tar_file_is_not_its_end(tmp_path):
    source = pack(tmp_path / "a.tar", {"1": b"1", "2": b"2", "3": b"3"})
    data = bytearray(source.read_bytes())
    data[1024:1034] = b"~" * 10  # the header of the second member
    source.write_bytes(data)
    with pytest.raises(StagingError, match="neither a member nor the end follows"):
        kappacore.stage(source, tmp_path / "t")


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize(
    "compression",
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA],
)
def test_damaged_content_of_a_zip_file_is_found(tmp_path, compression):
    source = pack(tmp_path / "a.zip", {"1.jpg": os.urandom(50000), "2.jpg": b"2"}, compression)
    data = bytearray(source.read_bytes())
    data[20000] ^= 1
    source.write_bytes(data)
    with pytest.raises(StagingError, match=r"'1\.jpg' of '.*a\.zip' is damaged: its (byt|com)"):
        kappacore.stage(source, tmp_path / "t")
    assert not (tmp_path / "t").exists()


@pytest.mark.slow
def test_a_large_stored_member_is_checked_over_its_chunks(tmp_path):
    noise = os.urandom(1 << 20)
    size = CHUNK + (CHUNK >> 1)
    source = tmp_path / "a.zip"
    with zipfile.ZipFile(source, "w") as archive, archive.open("big.bin", "w") as member:
        for _ in range(size >> 20):
            member.write(noise)
    result = kappacore.stage(source, tmp_path / "t", verify="hash")
    with (result.path / "big.bin").open("rb") as file:
        assert all(file.read(1 << 20) == noise for _ in range(size >> 20))
        assert file.read() == b""
    assert check_staged(result.path).ok
    with source.open("r+b") as file:
        file.seek(CHUNK + 5000)
        file.write(b"damage")
    with pytest.raises(StagingError, match="do not have the CRC"):
        kappacore.stage(source, tmp_path / "u")


def test_a_zip_file_of_more_than_4_gib_of_directory_fields_is_read(tmp_path):
    """Zip64: written where sizes are not known beforehand."""
    source = tmp_path / "a.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in SMALL.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    assert struct.pack("<HH", 1, 16) in source.read_bytes()  # the field for 64-bit sizes
    assert tree_of(kappacore.stage(source, tmp_path / "t").path) == SMALL


@pytest.mark.usefixtures("road")
def test_a_zip_file_with_something_before_it_is_read(tmp_path):
    packed = pack(tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(b"#!/bin/sh\nexit\n" + packed)
    assert tree_of(kappacore.stage(tmp_path / "a.zip", tmp_path / "t").path) == SMALL


@pytest.mark.usefixtures("road")
@pytest.mark.skipif(not os.path.exists("/usr/bin/zip"), reason="zip is not installed")  # noqa: PTH110
def test_what_other_programs_packed_comes_out(tmp_path):
    files = {**SMALL, "ä/ö.jpg": b"umlaut"}
    source = make_tree(tmp_path / "s", files)
    (source / "empty").mkdir()
    subprocess.run(["zip", "-qr", tmp_path / "a.zip", "."], cwd=source, check=True)
    subprocess.run(["tar", "-cf", tmp_path / "a.tar", "."], cwd=source, check=True)
    subprocess.run(["tar", "-czf", tmp_path / "a.tgz", "--format=pax", "."], cwd=source, check=True)
    for number, name in enumerate(["a.zip", "a.tar", "a.tgz"]):
        target = kappacore.stage(tmp_path / name, tmp_path / f"t{number}").path
        assert tree_of(target) == files, name
        assert (target / "empty").is_dir()
        wanted = int((source / "labels.csv").stat().st_mtime)
        assert int((target / "labels.csv").stat().st_mtime) == wanted


@pytest.mark.usefixtures("road")
def test_permissions_are_no_wider_than_the_archives_own(tmp_path):
    source = pack(tmp_path / "a.zip")
    source.chmod(0o640)
    old = os.umask(0)
    try:
        target = kappacore.stage(source, tmp_path / "t").path
    finally:
        os.umask(old)
    assert (target / "labels.csv").stat().st_mode & 0o777 == 0o640
    assert (target / "train").stat().st_mode & 0o777 == 0o750


def test_what_cannot_be_extracted_is_an_error(tmp_path):
    data = pack(tmp_path / "d64.zip", {"1.jpg": b"1" * 100}, zipfile.ZIP_DEFLATED).read_bytes()
    data = data.replace(b"\x08\0", b"\x09\0")
    (tmp_path / "d64.zip").write_bytes(data)
    with pytest.raises(StagingError, match=r"compressed by method 9 \(Deflate64\); only stored"):
        kappacore.stage(tmp_path / "d64.zip", tmp_path / "t")
    data = bytearray(pack(tmp_path / "locked.zip", {"1.jpg": b"1"}).read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    with pytest.raises(StagingError, match="is encrypted"):
        kappacore.stage(tmp_path / "locked.zip", tmp_path / "t")


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0", "a rar archive"),
        (b"Rar!\x1a\x07\0", "a rar archive"),
        (b"\x04\x22\x4d\x18", "compressed by lz4"),
        (b"\x89HDF\r\n\x1a\n", "not a known kind of archive"),
    ],
)
def test_an_archive_of_a_kind_that_is_not_read_is_named(tmp_path, head, what):
    (tmp_path / "a").write_bytes(head + bytes(1000))
    with pytest.raises(
        StagingError, match=f"is {what}, which cannot .* unpacked to a folder first"
    ):
        kappacore.stage(tmp_path / "a", tmp_path / "t")


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("content", [b"\0\0\x08\x03" + bytes(2000), b"", b"short"])
def test_one_compressed_file_says_what_to_do(tmp_path, packing, content):
    """As MNIST is given: train-images-idx3-ubyte.gz."""
    pack_one = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}[packing]
    file = tmp_path / "s" / f"train-images-idx3-ubyte.{packing}"
    file.parent.mkdir()
    file.write_bytes(pack_one(content))
    if content == b"":
        match = "empty file"
    else:
        match = "is one file compressed by .* Stage the folder that contains it.* or unpack it"
    with pytest.raises(StagingError, match=match):
        kappacore.stage(file, tmp_path / "t")
    assert tree_of(kappacore.stage(tmp_path / "s", tmp_path / "t").path) == {
        file.name: file.read_bytes()
    }


@pytest.mark.parametrize("packing", ["bz2", "xz", "zst"])
def test_several_streams_in_one_file(tmp_path, packing):
    """As parallel packers write them; xz allows zeros between them."""
    pack_one = {"bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}[packing]
    whole = pack(tmp_path / "a.tar").read_bytes()
    padding = bytes(8) if packing == "xz" else b""
    source = tmp_path / f"a.tar.{packing}"
    cuts = [0, 700, 5000, len(whole)]
    source.write_bytes(
        b"".join(pack_one(whole[a:b]) + padding for a, b in itertools.pairwise(cuts))
    )
    assert tree_of(kappacore.stage(source, tmp_path / "t").path) == SMALL


def test_members_of_a_zip_file_compressed_by_zstd(tmp_path):
    """By hand: zipfile writes them from Python 3.14 on."""
    content = bytes(range(256)) * 20_000
    packed = zstd(content)
    data = pack(tmp_path / "a.zip", {"1.jpg": packed, "2.jpg": b"2"}).read_bytes()
    method, sizes = struct.pack("<H", 93), struct.pack("<II", len(packed), len(content))
    at = data.index(b"PK\1\2")
    crc = struct.pack("<I", zlib.crc32(content))
    data = data[:8] + method + data[10:14] + crc + sizes + data[26:]
    data = data[: at + 10] + method + data[at + 12 : at + 16] + crc + sizes + data[at + 28 :]
    (tmp_path / "a.zip").write_bytes(data)
    target = kappacore.stage(tmp_path / "a.zip", tmp_path / "t").path
    assert tree_of(target) == {"1.jpg": content, "2.jpg": b"2"}
    assert check_staged(target).ok


def test_without_its_package_zstd_says_what_to_install(tmp_path, monkeypatch):
    source = tmp_path / "a.tar.zst"
    source.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    for name in ("zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'kappacore\[zstd\]'"):
        kappacore.stage(source, tmp_path / "t")


@pytest.mark.parametrize("packing", ["bz2", "xz", "zst"])
def test_a_compressed_tar_file_that_is_a_bomb(tmp_path, packing):
    source = tmp_path / f"a.tar.{packing}"
    pack(source, {"zeros": bytes(20 << 20)})
    with pytest.raises(UnsafeArchiveError, match="over 200 for each"):
        kappacore.stage(source, tmp_path / "t")


def test_what_would_take_too_much_memory_to_unpack(tmp_path):
    data = bytearray(pack(tmp_path / "a.tar.xz", {"1.jpg": b"1"}).read_bytes())
    size = 4 * data[12] + 4  # of the block's header, which says how large the dictionary is
    data[data.index(b"\x21\1", 12) + 2] = 36  # 1 GiB
    data[8 + size : 12 + size] = struct.pack("<I", zlib.crc32(data[12 : 8 + size]))
    (tmp_path / "a.tar.xz").write_bytes(data)
    with pytest.raises(StagingError, match="Memory usage limit"):
        kappacore.stage(tmp_path / "a.tar.xz", tmp_path / "t")
    source = pack(tmp_path / "a.zip", {"1.jpg": b"1" * 100}, zipfile.ZIP_LZMA)
    data = source.read_bytes()
    at = data.index(b"1.jpg") + len("1.jpg") + 5
    source.write_bytes(data[:at] + b"\xff" * 4 + data[at + 4 :])
    with pytest.raises(StagingError, match="too much memory"):
        kappacore.stage(source, tmp_path / "u")
    source.write_bytes(data[: at - 1] + b"\x2c" + data[at:])  # options that exclude each other
    with pytest.raises(StagingError, match=r"'1\.jpg' of .* is damaged: its compressed bytes"):
        kappacore.stage(source, tmp_path / "u")


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
def test_folders_of_disks_are_not_even_made(tmp_path, suffix):
    """An image folder would take one for a class without images."""
    files = {"train/@eaDir/a/1.jpg": b"1", ".snapshot/2": b"2", "train/a/3.jpg": b"3"}
    target = kappacore.stage(pack(tmp_path / f"a.{suffix}", files), tmp_path / "t").path
    assert sorted(path.name for path in target.rglob("*")) == [MANIFEST, "3.jpg", "a", "train"]


@pytest.mark.parametrize("time", [-100_000_000, 0, 32_503_680_000])
def test_times_before_1970_and_in_the_year_3000_are_kept(tmp_path, time):
    for format_ in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        source = tmp_path / f"{format_}.tar"
        with tarfile.open(source, "w", format=format_) as archive:
            member = tarfile.TarInfo("1")
            member.mtime = time
            archive.addfile(member)
        target = kappacore.stage(source, tmp_path / f"t{format_}").path
        assert same_time((target / "1").stat().st_mtime_ns, time * 10**9)
        assert not kappacore.stage(source, target, recheck=True).copied
    if time < 1 << 31:
        extra = struct.pack("<HHBi", 0x5455, 5, 1, time)
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            info = zipfile.ZipInfo("1")
            info.extra = extra
            archive.writestr(info, b"")
        target = kappacore.stage(tmp_path / "a.zip", tmp_path / "t").path
        assert (target / "1").stat().st_mtime_ns == time * 10**9


@pytest.mark.slow
def test_names_are_stored_in_utf8_whatever_the_locale(tmp_path):
    """As tar and unzip do; another locale has other bytes for them, or none."""
    files = {"Ä/日本.txt": b"1", "plain": b"2"}
    script = (
        "import sys, kappacore\n"
        "assert sys.getfilesystemencoding() == 'ascii'\n"
        "for name in sys.argv[1:]: kappacore.stage(name, name[2:])\n"
    )
    names = ["a.zip", "a.tar", "a.tgz", "a.gnu"]
    for name in names[:-1]:
        pack(tmp_path / name, files)
    tree = make_tree(tmp_path / "s", files)
    subprocess.run(["tar", "--format=gnu", "-cf", tmp_path / "a.gnu", "-C", tree, "."], check=True)
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", script, *names], cwd=tmp_path, env=env, check=True)
    for name in names:
        assert tree_of(tmp_path / name[2:]) == files


def test_a_time_that_no_clock_has(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", pax_headers={"mtime": "1e400"}) as archive:
        archive.addfile(tarfile.TarInfo("1"))
    assert kappacore.stage(tmp_path / "a.tar", tmp_path / "t").files == 1


def test_a_zstd_file_of_frames_that_pzstd_marks(tmp_path):
    """A frame that is skipped tells the length of the next one, so threads find it."""
    packed = zstd(pack(tmp_path / "a.tar").read_bytes())
    for kind in (0x50, 0x5F):  # the first and the last of those that may be skipped
        mark = bytes([kind, 0x2A, 0x4D, 0x18]) + struct.pack("<II", 4, len(packed))
        archive = tmp_path / f"{kind}.tar.zst"
        archive.write_bytes(mark + packed + mark + zstd(bytes(512)))
        assert tree_of(kappacore.stage(archive, tmp_path / f"{kind}").path) == SMALL


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (bytes(32768) + b"\1CD001" + b"x" * 4000, "a disc image"),
        (bytes(1080) + b"\x53\xef" + b"x" * 4000, "not a known kind"),
        (b"070701" + b"0" * 600, "a cpio archive"),
        (b"\x5d\0\0\x80\0" + b"x" * 600, "compressed by lzma"),
        (b"MSCF" + bytes(600), "a cabinet"),
        (b"PK\7\x08PK\3\4" + bytes(600), "a part of a split zip"),
    ],
)
def test_what_is_not_read_is_not_taken_for_a_damaged_tar_file(tmp_path, content, what):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(StagingError, match=f"is {what}.* unpacked to a folder first"):
        kappacore.stage(tmp_path / "a", tmp_path / "t")


def test_the_last_part_of_a_split_zip_file(tmp_path):
    source = pack(tmp_path / "a.zip")
    data = bytearray(source.read_bytes())
    end = data.rindex(b"PK\5\6")
    data[end + 4 : end + 8] = b"\2\0\2\0"  # numbers of this part and of the directory's first
    source.write_bytes(data)
    with pytest.raises(StagingError, match=r"a part of a split zip .*zip -s 0"):
        kappacore.stage(source, tmp_path / "t")
    source.write_bytes(data + b"more")  # then it is not the end
    assert kappacore.stage(source, tmp_path / "t").copied
