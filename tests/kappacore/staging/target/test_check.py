"""Comparing a staged folder with its manifest, and repairing it."""

from __future__ import annotations

import os

import pytest

import kappacore
from kappacore.errors import StagingError
from kappacore.staging import check_staged
from support.staging import SMALL, make_tree, pack, run_stage, tree_of


def flip(path, keep_time=True):
    """Flip a bit, as a bad disk does: without a new time."""
    info = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_flipped_bit_is_found_and_repaired(tmp_path, kind):
    source = make_tree(tmp_path / "s") if kind == "folder" else pack(tmp_path / "s.zip")
    verify = "hash" if kind == "folder" else "size"  # a zip file has CRCs
    target = kappacore.stage(source, tmp_path / "t", verify=verify).path
    assert check_staged(target).ok
    flip(target / "train/a/1.jpg")
    make_tree(target, {"extra.txt": b"mine"})
    report = check_staged(target)
    assert [(problem.path, problem.what) for problem in report.problems] == [
        ("train/a/1.jpg", "has other content")
    ]
    assert report.extra == ("extra.txt",)
    done = run_stage("--check", target)
    assert done.returncode == 1
    assert "train/a/1.jpg has other content" in done.stdout
    assert "1 damaged; repair with `kappacore stage SRC DST --recheck`" in done.stdout
    done = run_stage(source, target, "--recheck", "--verify", verify)
    assert done.returncode == 0, done.stderr
    assert check_staged(target).ok
    assert tree_of(target) == {**SMALL, "extra.txt": b"mine"}
    assert run_stage("--check", target).returncode == 0


def test_without_digests_sizes_and_times_are_compared(tmp_path):
    source = make_tree(tmp_path / "s")
    os.utime(source / "train/a/1.jpg", (1_500_000_000, 1_500_000_000))
    target = kappacore.stage(source, tmp_path / "t").path
    flip(target / "train/a/1.jpg", keep_time=False)
    (target / "labels.csv").unlink()
    (target / "labels.csv").mkdir()
    (target / "val/a/4.jpg").unlink()
    os.truncate(target / "train/b/3.jpg", 17)
    report = check_staged(target)
    assert {problem.path: problem.what for problem in report.problems} == {
        "train/a/1.jpg": "was written to since it was staged",
        "train/b/3.jpg": "has 17 bytes instead of 5000",
        "val/a/4.jpg": "is missing",
        "labels.csv": "is not a file",
    }
    assert (report.ok, report.digests, report.files) == (False, 0, len(SMALL))


def test_what_cannot_be_checked_says_why(tmp_path):
    by_hand = make_tree(tmp_path / "by_hand")
    with pytest.raises(StagingError, match=r"has no manifest, so .* copied by hand cannot"):
        check_staged(by_hand)
    target = kappacore.stage(by_hand, tmp_path / "t").path
    manifest = target / ".kappacore-manifest"
    data = manifest.read_bytes()
    manifest.write_bytes(data.replace(b"labels.csv", b"labels.txt"))
    with pytest.raises(StagingError, match=r"the manifest of '.*' is damaged"):
        check_staged(target)
    manifest.write_bytes(data.replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(StagingError, match="was written by another version of kappacore"):
        kappacore.stage(by_hand, target)


def test_recheck_adds_digests_where_there_were_none(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    kappacore.stage(source, target, verify="hash", recheck=True)
    assert check_staged(target).digests == len(SMALL)
