"""Archives as sources: what comes out, and how they are recognised."""

from __future__ import annotations

import os
import struct
import subprocess
import tarfile
import zipfile

import pytest

import kappacore
from kappacore.errors import StagingError
from kappacore.staging import check_staged
from kappacore.staging.copying.digests import CHUNK
from support.staging import SMALL, make_tree, pack, tree_of

KINDS = [
    ("a.zip", zipfile.ZIP_STORED, "zip"),
    ("a.zip", zipfile.ZIP_DEFLATED, "zip"),
    ("a.tar", 0, "tar"),
    ("a.tar.gz", 0, "tar.gz"),
]


@pytest.mark.parametrize(("name", "compression", "kind"), KINDS)
@pytest.mark.parametrize("verify", ["none", "size", "hash", "reread"])
def test_an_archive_comes_out_as_a_folder(tmp_path, name, compression, kind, verify):
    files = {**SMALL, "long.bin": bytes(range(256)) * 20000, "zeros": b"\0" * 3_000_000}
    source = pack(tmp_path / name, files, compression)
    result = kappacore.stage(source, tmp_path / "t", verify=verify)
    assert tree_of(result.path) == files
    assert (result.kind, result.copied_bytes) == (kind, sum(map(len, files.values())))
    assert int((result.path / "labels.csv").stat().st_mtime) == 1577934246
    assert not kappacore.stage(source, tmp_path / "t").copied
    report = check_staged(result.path)
    assert report.ok
    assert report.digests == (len(files) if kind == "zip" or verify in ("hash", "reread") else 0)


@pytest.mark.parametrize(("name", "compression", "kind"), KINDS)
def test_an_archive_is_recognised_by_content_not_name(tmp_path, name, compression, kind):
    packed = pack(tmp_path / name, SMALL, compression).rename(tmp_path / "dataset.bin")
    result = kappacore.stage(packed, tmp_path / "t")
    assert (result.kind, tree_of(result.path)) == (kind, SMALL)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz"])
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


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_an_incomplete_tar_file_is_an_error(tmp_path, name, share):
    files = {f"{number}.jpg": os.urandom(2000) for number in range(20)}
    whole = pack(tmp_path / name, files).read_bytes()
    end = len(whole) if name.endswith("gz") else len(files) * 2560
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


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
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


def test_a_zip_file_with_something_before_it_is_read(tmp_path):
    packed = pack(tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(b"#!/bin/sh\nexit\n" + packed)
    assert tree_of(kappacore.stage(tmp_path / "a.zip", tmp_path / "t").path) == SMALL


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
    with zipfile.ZipFile(tmp_path / "bz.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("1.jpg", b"1" * 100)
    with pytest.raises(StagingError, match=r"compressed by method 12; only stored"):
        kappacore.stage(tmp_path / "bz.zip", tmp_path / "t")
    data = bytearray(pack(tmp_path / "locked.zip", {"1.jpg": b"1"}).read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    with pytest.raises(StagingError, match="is encrypted"):
        kappacore.stage(tmp_path / "locked.zip", tmp_path / "t")
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "bz.zip", "bz.zip")
    with pytest.raises(StagingError, match="is not a known kind of archive"):
        kappacore.stage(tmp_path / "a.tar.xz", tmp_path / "t")
