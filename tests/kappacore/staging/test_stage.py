"""Staging a folder: the result, and what a second call does."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

import kappacore
from kappacore.errors import InvalidOptionError, StagingError
from kappacore.staging import check_staged
from kappacore.staging.target.paths import MANIFEST
from support.staging import SMALL, left_beside, make_tree, small_disk, tree_of


@pytest.mark.usefixtures("road")
def test_a_folder_is_copied_completely_and_nothing_else_is_left(tmp_path):
    source, target = make_tree(tmp_path / "global" / "ds"), tmp_path / "local" / "ds"
    (source / "empty" / "deep").mkdir(parents=True)
    result = kappacore.stage(source, target)
    assert tree_of(target) == SMALL
    assert (target / "empty" / "deep").is_dir()
    assert left_beside(target) == []
    assert (result.path, result.copied, result.kind) == (target, True, "folder")
    assert (result.files, result.bytes) == (len(SMALL), sum(map(len, SMALL.values())))
    assert (result.copied_files, result.copied_bytes) == (result.files, result.bytes)


def test_the_result_is_a_path(tmp_path):
    result = kappacore.stage(make_tree(tmp_path / "s"), tmp_path / "t")
    assert sorted(os.listdir(result)) == [MANIFEST, "labels.csv", "train", "val"]  # noqa: PTH208
    assert Path(result) == tmp_path / "t"


def test_the_second_call_copies_nothing_and_needs_no_source(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    inode = (target / "labels.csv").stat().st_ino
    lines = []
    result = kappacore.stage(source, target, log=lines.append)
    assert (result.copied, result.files) == (False, len(SMALL))
    assert lines == [f"using '{target}', which is complete"]
    source.rename(tmp_path / "unmounted")
    assert kappacore.stage(source, target).path == target
    assert (target / "labels.csv").stat().st_ino == inode


def test_the_second_call_takes_no_lock_and_lists_no_files(tmp_path):
    """Counted by the kernel: a call opens the manifest and no folder."""
    files = {f"{number}.jpg": b"x" for number in range(300)}
    source, target = make_tree(tmp_path / "s", files), tmp_path / "t"
    kappacore.stage(source, target)
    script = (
        "import os, sys, kappacore\n"
        "kappacore.stage; import kappacore.staging.api\n"
        "seen = []\n"
        "sys.addaudithook(lambda name, args: seen.append((name, *map(str, args[:1])))"
        " if name in ('open', 'os.listdir', 'os.scandir', 'fcntl.flock') else None)\n"
        f"kappacore.stage({str(source)!r}, {str(target)!r})\n"
        f"print([event for event in seen if {str(tmp_path)!r} in event[1]])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([("open", str(target / MANIFEST))])


def test_of_a_long_manifest_only_the_end_is_read(tmp_path):
    """The first lines may be anything: a call does not read them."""
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    manifest = target / MANIFEST
    manifest.write_bytes(b'["nothing that is read"]\n' * 1_000_000 + manifest.read_bytes())
    assert not kappacore.stage(source, target).copied


def test_staging_imports_no_torch_and_no_numpy(tmp_path):
    make_tree(tmp_path / "s")
    script = (
        "import sys, kappacore\n"
        f"kappacore.stage({str(tmp_path / 's')!r}, {str(tmp_path / 't')!r}, progress=True)\n"
        "print([name for name in ('torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.usefixtures("road")
def test_times_are_kept_and_permissions_are_not_widened(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    os.utime(source / "labels.csv", ns=(1_500_000_000_123_456_789,) * 2)
    (source / "labels.csv").chmod(0o440)
    (source / "val").chmod(0o500)
    (source / "train" / "b").chmod(0o700)
    old = os.umask(0o022)
    try:
        kappacore.stage(source, target)
    finally:
        os.umask(old)
        (source / "val").chmod(0o700)
    assert (target / "labels.csv").stat().st_mtime_ns == 1_500_000_000_123_456_789
    modes = {
        name: stat.S_IMODE((target / name).stat().st_mode)
        for name in ("labels.csv", "val", "train/b", "train/b/3.jpg")
    }
    # The owner can always write: else nobody could go on after a kill, or clean up.
    assert modes == {"labels.csv": 0o640, "val": 0o700, "train/b": 0o700, "train/b/3.jpg": 0o644}


def test_a_folder_that_is_private_stays_private(tmp_path):
    source = make_tree(tmp_path / "s")
    source.chmod(0o700)
    target = kappacore.stage(source, tmp_path / "t").path
    assert stat.S_IMODE(target.stat().st_mode) == 0o700


@pytest.mark.usefixtures("road")
def test_links_in_the_source_are_followed(tmp_path):
    source = make_tree(tmp_path / "s")
    elsewhere = make_tree(tmp_path / "elsewhere", {"x.jpg": b"x", "more/y.jpg": b"y"})
    (source / "linked").symlink_to(elsewhere)
    (source / "one.jpg").symlink_to(elsewhere / "x.jpg")
    result = kappacore.stage(source, tmp_path / "t")
    assert tree_of(result.path) == {
        **SMALL, "linked/x.jpg": b"x", "linked/more/y.jpg": b"y", "one.jpg": b"x",
    }  # fmt: skip
    assert not any(path.is_symlink() for path in result.path.rglob("*"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: (s / "gone.jpg").symlink_to("nowhere"), "gone.jpg' is a link to nothing"),
        (
            lambda s: (s / "train" / "up").symlink_to(s),
            "up' is a link to a folder that contains it",
        ),
        (lambda s: os.mkfifo(s / "pipe"), "pipe' is neither a file nor a folder"),
    ],
    ids=["dangling", "loop", "pipe"],
)
def test_what_cannot_be_copied_is_an_error_before_anything_is(tmp_path, spoil, message):
    source = make_tree(tmp_path / "s")
    spoil(source)
    with pytest.raises(StagingError, match=message):
        kappacore.stage(source, tmp_path / "t")
    assert not (tmp_path / "t").exists()


@pytest.mark.usefixtures("road")
def test_names_that_are_not_utf8_and_other_odd_ones_survive(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    names = [
        b"caf\xe9.jpg",
        b"new\nline",
        b' "quoted" \\ ',
        b"\xf0\x9f\x8d\x8e",
        b"-rf",
        b"x" * 255,
    ]
    for name in names:
        (source / os.fsdecode(name)).write_bytes(name)
    target = kappacore.stage(source, tmp_path / "t", verify="hash").path
    found = {os.fsencode(path.name): path.read_bytes() for path in target.iterdir()}
    found.pop(os.fsencode(MANIFEST))
    assert found == {name: name for name in names}
    from kappacore.staging import check_staged

    report = check_staged(target)
    assert (report.ok, report.digests, report.extra) == (True, len(names), ())


def test_a_long_name_of_the_target_is_fine(tmp_path):
    target = tmp_path / ("x" * 250)
    assert tree_of(kappacore.stage(make_tree(tmp_path / "s"), target).path) == SMALL


@pytest.mark.slow
def test_files_of_several_chunks_are_copied_completely(tmp_path):
    source = make_tree(tmp_path / "s")
    size = 150 * 2**20
    with (source / "big.bin").open("wb") as file:
        file.truncate(size)
        for at in (0, 2**26 - 3, 2**27 + 5, size - 7):
            file.seek(at)
            file.write(b"content"[: size - at])
    for verify in ("size", "reread"):
        target = kappacore.stage(source, tmp_path / verify, verify=verify).path
        assert (target / "big.bin").stat().st_size == size
        assert subprocess.run(["cmp", source / "big.bin", target / "big.bin"]).returncode == 0


def test_a_part_and_then_the_whole(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    part = kappacore.stage(source, target, relative="train")
    assert part.path == target / "train"
    assert set(tree_of(target)) == {name for name in SMALL if name.startswith("train/")}
    inode = (target / "train/b/3.jpg").stat().st_ino
    (target / "notes.txt").write_text("mine")
    whole = kappacore.stage(source, target)
    assert tree_of(target) == {**SMALL, "notes.txt": b"mine"}
    assert (target / "train/b/3.jpg").stat().st_ino == inode  # not copied again
    assert whole.copied_files == len(SMALL) - part.copied_files
    assert whole.kept_bytes == part.bytes
    assert not kappacore.stage(source, target).copied
    assert not kappacore.stage(source, target, relative="train").copied
    assert left_beside(target) == []
    assert not (target / "train" / MANIFEST).exists()


def test_a_part_of_a_part_is_found_too(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target, relative="train/a")
    kappacore.stage(source, target)
    assert tree_of(target) == SMALL


def test_a_target_that_is_a_link_to_another_disk_is_followed(tmp_path):
    (tmp_path / "nvme").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "nvme")
    result = kappacore.stage(make_tree(tmp_path / "s"), tmp_path / "data" / "ds")
    assert result.path == tmp_path / "nvme" / "ds"
    assert tree_of(result.path) == SMALL


def test_a_staged_folder_can_be_staged_on(tmp_path):
    first = kappacore.stage(make_tree(tmp_path / "s"), tmp_path / "t").path
    second = kappacore.stage(first, tmp_path / "u").path
    assert tree_of(second) == SMALL
    assert not kappacore.stage(first, tmp_path / "u").copied


@pytest.mark.parametrize("mark", ["autocopy_start.txt", ".kappacore-manifest.unfinished"])
def test_a_source_that_is_itself_unfinished_is_refused(tmp_path, mark):
    source = make_tree(tmp_path / "s", {**SMALL, mark: b""})
    with pytest.raises(StagingError, match="is itself an unfinished copy"):
        kappacore.stage(source, tmp_path / "t")


def test_invalid_sources_and_targets(tmp_path):
    source = make_tree(tmp_path / "s")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    cases = [
        (tmp_path / "none", tmp_path / "t", "there is no source .*mounted"),
        (tmp_path / "empty", tmp_path / "t", "has no files. Is the storage mounted"),
        (tmp_path / "file", tmp_path / "t", "is not a known kind of archive"),
        (source, source / "train" / "copy", "contain each other"),
        (source, tmp_path / "file", "the target '.*file' is a file"),
        (source, tmp_path / "file" / "t", "cannot stage to '.*Not a directory|is a file"),
        (source, Path("/proc/nothing/t"), "cannot stage to '/proc/nothing/t'"),
    ]
    for given, target, message in cases:
        with pytest.raises(StagingError, match=message):
            kappacore.stage(given, target)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"verify": "md5"}, "verify='md5' is unknown. Use 'none', 'size', 'hash'"),
        ({"workers": 0}, "workers=0 is not a number of threads"),
        ({"recheck": "no"}, "recheck='no' is neither True nor False"),
        ({"progress": 5}, "progress=5 is neither"),
        ({"timeout": "soon"}, "timeout='soon' is not a number of seconds"),
        ({"relative": "../other"}, "leads out of the dataset"),
        ({"relative": "/etc"}, "leads out of the dataset"),
        ({"relative": 3}, "relative=3 is not a path. Give one below the dataset"),
        ({"limits": 3}, "limits=3 are not limits"),
        ({"log": True}, "log=True cannot be called. Give a function of one line"),
    ],
)
def test_invalid_options(tmp_path, options, message):
    with pytest.raises(InvalidOptionError, match=message):
        kappacore.stage(make_tree(tmp_path / "s"), tmp_path / "t", **options)


@pytest.mark.parametrize("path", ["", None, 3])
def test_an_invalid_path_is_not_taken_for_the_current_folder(tmp_path, path):
    source = make_tree(tmp_path / "s")
    for options in ({"source": path, "target": tmp_path / "t"}, {"source": source, "target": path}):
        with pytest.raises(InvalidOptionError, match=r"=.* is not a path\. Give that of a f"):
            kappacore.stage(**options)
    with pytest.raises(InvalidOptionError, match=r"^local_path=.* is not a path"):
        kappacore.copy_folder_from_global_to_local(source, path)
    with pytest.raises(InvalidOptionError, match=r"^target=.* is not a path"):
        check_staged(path)
    assert not (tmp_path / "t").exists()


@pytest.mark.usefixtures("road")
def test_progress_is_passed_to_a_function(tmp_path):
    seen = []
    kappacore.stage(make_tree(tmp_path / "s"), tmp_path / "t", progress=seen.append)
    total = sum(map(len, SMALL.values()))
    assert seen[-1].files == seen[-1].total_files == len(SMALL)
    assert seen[-1].bytes == seen[-1].total_bytes == total


@pytest.mark.usefixtures("road")
def test_a_failing_progress_function_stops_the_copy_and_nothing_is_published(tmp_path):
    def fail(now):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        kappacore.stage(make_tree(tmp_path / "s"), tmp_path / "t", progress=fail)
    assert not (tmp_path / "t").exists()
    assert kappacore.stage(tmp_path / "s", tmp_path / "t").copied


@pytest.fixture
def scratch():
    """A folder of another user's, and in it one that is user 65534's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_target_below_a_folder_that_cannot_be_written_to(tmp_path, scratch):
    """Staging works in the target where its parent is somebody else's, as /scratch mostly is."""
    source = make_tree(scratch / "source")
    mine = scratch / "mine"
    mine.mkdir()
    os.chown(mine, 65534, 65534)
    script = (
        "import os, kappacore, sys\n"
        f"kappacore.stage({str(source)!r}, sys.argv[1])\n"  # imports what root alone may read
        "os.setgid(65534); os.setuid(65534)\n"
        f"for target in sys.argv[2:]: print(kappacore.stage({str(source)!r}, target).copied)\n"
    )

    def run(*targets: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, tmp_path / f"warm{len(targets)}", *targets]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True)

    done = run(mine, mine, mine / "deeper")
    assert done.stdout.split() == ["True", "False", "True"], done.stderr
    assert tree_of(mine) == {**SMALL, **{f"deeper/{name}": data for name, data in SMALL.items()}}
    refused = run(scratch / "other")
    assert "StagingError: cannot stage to" in refused.stderr
    assert "Permission denied" in refused.stderr
    assert sorted(path.name for path in scratch.iterdir()) == ["mine", "source"]


YEAR_3000 = 32_503_680_000 * 10**9  # nanoseconds


@pytest.mark.usefixtures("road")
def test_times_that_a_disk_cannot_keep(tmp_path):
    """Memory keeps the year 3000; ext4 ends in 2446 or 2038."""
    with small_disk(tmp_path / "memory", "8m") as memory:
        source, target = make_tree(memory / "s"), tmp_path / "t"
        os.utime(source / "labels.csv", ns=(YEAR_3000, YEAR_3000))
        os.utime(source / "val/a/4.jpg", ns=(-3 * 10**18, -3 * 10**18))  # 1874
        kappacore.stage(source, target)
        assert check_staged(target).ok
        os.utime(source)
        assert not kappacore.stage(source, target).copied
        assert not kappacore.stage(source, target, recheck=True).copied
        (source / "labels.csv").write_bytes(b"4,5,6\n")
        os.utime(source)
        assert kappacore.stage(source, target).copied_files == 1


def test_the_year_3000_in_a_tar_file(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("1.jpg")
        member.mtime = YEAR_3000 // 10**9
        tar.addfile(member)
    with small_disk(tmp_path / "memory", "8m") as memory:
        target = kappacore.stage(tmp_path / "a.tar", memory / "t").path
        assert (target / "1.jpg").stat().st_mtime_ns == YEAR_3000
