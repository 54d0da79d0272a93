"""Other content of the same size and time, as zip and tar writers give constant times."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import kappacore
from kappacore.errors import StagingError
from kappacore.staging import check_staged
from kappacore.staging.copying.digests import CHUNK
from kappacore.staging.target.paths import UNFINISHED, StagePaths
from support.staging import SMALL, make_tree, pack, tree_of

OTHER = {**SMALL, "labels.csv": SMALL["labels.csv"][::-1]}
ARCHIVES = ["a.zip", "a.tar", "a.tar.gz"]


def repacked(source, files=OTHER, *, keep_time=False):
    """Replace an archive by one of the same size."""
    before = source.stat()
    pack(source, files)
    if keep_time:
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        os.utime(source, (1_700_000_000, 1_700_000_000))
    return source


@pytest.mark.parametrize("verify", ["size", "hash"])
@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("recheck", [False, True])
def test_an_archive_that_was_packed_anew_is_copied(tmp_path, name, verify, recheck):
    source, target = pack(tmp_path / name), tmp_path / "t"
    kappacore.stage(source, target, verify=verify)
    result = kappacore.stage(repacked(source), target, verify=verify, recheck=recheck)
    assert (result.copied_files, tree_of(target)) == (1, OTHER)
    assert check_staged(target).ok
    assert not kappacore.stage(source, target, verify=verify).copied


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_also_where_its_own_time_was_set_back(tmp_path, name):
    source, target = pack(tmp_path / name), tmp_path / "t"
    kappacore.stage(source, target)
    size = source.stat().st_size
    assert repacked(source, keep_time=True).stat().st_size == size
    assert kappacore.stage(source, target).copied
    assert tree_of(target) == OTHER


def test_a_zip_file_in_a_folder_of_zip_files(tmp_path):
    source, target = tmp_path / "s", tmp_path / "t"
    source.mkdir()
    pack(source / "train.zip")
    kappacore.stage(source, target)
    repacked(source / "train.zip", keep_time=True)
    assert kappacore.stage(source, target).copied
    assert tree_of(target / "train") == OTHER


@pytest.mark.parametrize(
    "many",
    [
        pytest.param(False, id="directory"),
        pytest.param(True, id="long directory", marks=pytest.mark.slow),
    ],
)
def test_the_second_call_of_a_zip64_file_compares_its_directory(tmp_path, many):
    """The long one is not at the end that is read first."""
    source, target = tmp_path / "a.zip", tmp_path / "t"
    names = [f"{number}.jpg" for number in range(2000 if many else 3)]

    def write(content):
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr(zipfile.ZipInfo("first"), content)
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), b"1")
        data = bytearray(source.read_bytes())
        end = data.rfind(b"PK\5\6")
        size, offset = (int.from_bytes(data[end + at : end + at + 4], "little") for at in (12, 16))
        count = len(names) + 1
        zip64 = b"PK\6\6" + (44).to_bytes(8, "little") + bytes([45, 0, 45, 0]) + bytes(8)
        zip64 += b"".join(part.to_bytes(8, "little") for part in (count, count, size, offset))
        locator = b"PK\6\7" + bytes(4) + end.to_bytes(8, "little") + (1).to_bytes(4, "little")
        data[end + 8 : end + 20] = b"\xff" * 12
        source.write_bytes(data[:end] + zip64 + locator + data[end:])
        os.utime(source, (1_700_000_000, 1_700_000_000))

    write(b"one")
    kappacore.stage(source, target)
    assert not kappacore.stage(source, target).copied
    write(b"two")
    assert kappacore.stage(source, target).copied_files == 1
    assert (target / "first").read_bytes() == b"two"


def test_an_archive_that_was_only_touched_is_read_and_nothing_is_copied(tmp_path):
    for name in ARCHIVES:
        source, target = pack(tmp_path / name), tmp_path / f"t-{name}"
        kappacore.stage(source, target)
        os.utime(source)
        assert not kappacore.stage(source, target).copied
        lines = []
        assert not kappacore.stage(source, target, log=lines.append).copied
        assert lines == [f"using '{target}', which is complete"]


@pytest.mark.parametrize("verify", ["size", "hash"])
@pytest.mark.parametrize("kind", ["folder", *ARCHIVES])
@pytest.mark.parametrize("other", ["folder", *ARCHIVES])
def test_another_source_for_the_same_target_is_noticed(tmp_path, kind, other, verify):
    def made(where, kind, files):
        if kind != "folder":
            where.mkdir()
            return pack(where / kind, files)
        tree = make_tree(where, files)
        for name in files:
            os.utime(tree / name, (1577934246, 1577934246))  # as packed
        return tree

    source, target = made(tmp_path / "v1", kind, SMALL), tmp_path / "t"
    kappacore.stage(source, target, verify=verify)
    same = made(tmp_path / "moved", other, SMALL)
    assert not kappacore.stage(same, target, verify=verify).copied
    second = made(tmp_path / "v2", other, OTHER)
    with pytest.raises(StagingError, match=r"or other versions of them \(by sizes, times or cont"):
        kappacore.stage(second, target, verify=verify)
    assert tree_of(target) == SMALL
    assert kappacore.stage(second, target, verify=verify, recheck=True).copied_files == 1
    assert tree_of(target) == OTHER


@pytest.mark.parametrize("large", [False, True])
def test_recheck_reads_a_folder_where_there_are_digests(tmp_path, large):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    if large:
        with (source / "labels.csv").open("wb") as file:
            file.truncate(CHUNK + 10)
    kappacore.stage(source, target, verify="hash")
    info = (source / "labels.csv").stat()
    with (source / "labels.csv").open("r+b") as file:
        file.write(b"3,2,1")
    os.utime(source / "labels.csv", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert not kappacore.stage(source, target).copied
    assert kappacore.stage(source, target, recheck=True, verify="hash").copied_files == 1
    assert subprocess.run(["cmp", source / "labels.csv", target / "labels.csv"]).returncode == 0
    assert check_staged(target).ok


class StopError(Exception):
    pass


def stopped(source, target, **options):
    """Stage, and stop when everything is copied but not published."""

    def log(line):
        if line.startswith("copying"):
            seen.append(line)

    def progress(now):
        if now.files == now.total_files:
            raise StopError

    seen: list[str] = []
    with pytest.raises(StopError):
        kappacore.stage(source, target, log=log, progress=progress, **options)
    assert seen


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("keep_time", [False, True])
def test_a_half_staged_archive_is_never_mixed_with_what_was_packed_anew(tmp_path, name, keep_time):
    source, target = pack(tmp_path / name), tmp_path / "t"
    stopped(source, target)
    assert tree_of(StagePaths(target).tree) == SMALL
    if keep_time and name == "a.tar.gz":
        pytest.skip("compressed, the two differ in size")
    repacked(source, keep_time=keep_time)
    kappacore.stage(source, target)
    assert tree_of(target) == OTHER


@pytest.mark.slow
def test_nor_is_a_large_member_of_it(tmp_path):
    source, target = tmp_path / "a.zip", tmp_path / "t"

    def write(last):
        with zipfile.ZipFile(source, "w") as archive:
            info = zipfile.ZipInfo("big.bin")
            info.file_size = CHUNK + 10
            with archive.open(info, "w") as member:
                member.write(bytes(CHUNK + 9))
                member.write(last)

    write(b"1")
    stopped(source, target)
    tree, large = StagePaths(target).tree, StagePaths(target).large
    shutil.move(tree / "big.bin", large / "moved")  # nothing of it may be used
    write(b"2")
    kappacore.stage(source, target)
    with (target / "big.bin").open("rb") as file:
        file.seek(CHUNK + 9)
        assert file.read() == b"2"


def test_a_merge_of_another_version_that_lost_its_work_folder_starts_anew(tmp_path):
    """The mark in the target lists the new version, but some files there are still the old ones."""
    source, target = pack(tmp_path / "a.zip"), tmp_path / "t"
    kappacore.stage(source, target)
    repacked(source)
    script = (
        "import os, sys, kappacore\n"
        "def hook(event, args):\n"
        "    if event == 'os.rename' and str(args[0]).endswith('tree/labels.csv'):\n"
        "        os._exit(9)\n"
        "sys.addaudithook(hook)\n"
        "kappacore.stage(*sys.argv[1:])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(source), str(target)])
    assert done.returncode == 9
    assert (target / UNFINISHED).exists()
    assert tree_of(target) == SMALL
    shutil.rmtree(StagePaths(target).work)  # a restart of the machine has the same effect
    kappacore.stage(source, target)
    assert tree_of(target) == OTHER


def test_a_part_from_elsewhere_is_not_taken_for_a_part_of_the_whole(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    elsewhere = shutil.copytree(source / "train", tmp_path / "elsewhere")
    info = (elsewhere / "a/1.jpg").stat()
    (elsewhere / "a/1.jpg").write_bytes(b"ONE" * 1000)
    os.utime(elsewhere / "a/1.jpg", ns=(info.st_atime_ns, info.st_mtime_ns))
    kappacore.stage(elsewhere, target / "train")
    result = kappacore.stage(source, target)
    assert tree_of(target) == SMALL
    assert result.copied_files == 3  # that file, and those that are not in the part


def test_recheck_reads_what_an_earlier_try_left_of_a_folder(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    stopped(source, target, verify="hash")
    info = (source / "labels.csv").stat()
    (source / "labels.csv").write_bytes(OTHER["labels.csv"])
    os.utime(source / "labels.csv", ns=(info.st_atime_ns, info.st_mtime_ns))
    flipped = StagePaths(target).tree / "train/a/1.jpg"
    info = flipped.stat()
    flipped.write_bytes(b"ONE" * 1000)
    os.utime(flipped, ns=(info.st_atime_ns, info.st_mtime_ns))
    result = kappacore.stage(source, target, verify="hash", recheck=True)
    assert tree_of(target) == OTHER
    assert check_staged(target).ok
    assert result.kept_bytes > 0


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_folder_and_a_tar_file_of_it_are_the_same(tmp_path, format_):
    """Times in tar files are cut to seconds, or rounded by what reads them."""
    source, target = make_tree(tmp_path / "s", {"1": b"one", "2": b"two"}), tmp_path / "t"
    os.utime(source / "1", ns=(0, 1_700_000_000_987_654_321))
    os.utime(source / "2", ns=(0, 1_000_000_000_123_456_789))
    kappacore.stage(source, target)
    with tarfile.open(tmp_path / "s.tar", "w", format=format_) as archive:
        archive.add(source, ".")
    assert not kappacore.stage(tmp_path / "s.tar", target).copied
