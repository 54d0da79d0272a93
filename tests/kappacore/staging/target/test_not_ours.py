"""What staging did not put there: it is not removed, not overwritten, and not followed."""

from __future__ import annotations

import os
import subprocess

import pytest

import kappacore
from kappacore.errors import StagingError
from kappacore.staging import check_staged
from kappacore.staging.target.manifest import (
    FileRecord,
    dataset_of,
    read_manifest,
    write_manifest,
)
from kappacore.staging.target.paths import MANIFEST, UNFINISHED, StagePaths
from support.staging import SMALL, left_beside, make_tree, small_disk, tree_of


def test_what_was_copied_by_hand_is_left_alone(tmp_path):
    source = make_tree(tmp_path / "s")
    mine = {**SMALL, "train/a/1.jpg": b"mine"}
    target = make_tree(tmp_path / "t", mine)
    lines = []
    result = kappacore.stage(source, target, log=lines.append)
    assert (result.copied, result.found, result.path) == (False, True, target)
    assert tree_of(target) == mine
    assert lines == [f"using '{target}' as it is: staging did not put it there"]


def test_what_is_in_the_way_of_the_whole_is_not_overwritten(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target, relative="train")
    make_tree(target, {"val/a/4.jpg": b"mine!", "labels.csv": SMALL["labels.csv"]})
    with pytest.raises(StagingError, match=r"4\.jpg' is in the way: it differs"):
        kappacore.stage(source, target)
    assert (target / "val/a/4.jpg").read_bytes() == b"mine!"
    assert not (target / UNFINISHED).exists()  # nothing was begun
    (target / "val/a/4.jpg").unlink()
    assert kappacore.stage(source, target).copied
    assert tree_of(target) == SMALL


def test_a_link_placed_in_the_target_leads_nothing_outside(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    outside = tmp_path / "outside"
    outside.mkdir()
    kappacore.stage(source, target, relative="train")
    (target / "val").symlink_to(outside)
    with pytest.raises(StagingError, match="val' is in the way: it is a link"):
        kappacore.stage(source, target)
    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_the_work_folder_is_refused(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    outside = tmp_path / "outside"
    outside.mkdir()
    StagePaths(target).work.symlink_to(outside)
    with pytest.raises(kappacore.errors.StagingError, match="kappacore-work' is in the way"):
        kappacore.stage(source, target)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["holder", "lock"])
def test_a_link_in_the_place_of_a_file_of_staging_is_not_followed(tmp_path, name):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    outside = tmp_path / "outside"
    outside.write_text("mine")
    getattr(StagePaths(target), name).symlink_to(outside)
    if name == "lock":
        with pytest.raises(StagingError, match="kappacore-lock' is in the way"):
            kappacore.stage(source, target)
    else:
        assert kappacore.stage(source, target).copied
    assert outside.read_text() == "mine"


def test_a_file_that_was_edited_stays_where_the_source_no_longer_has_it(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    (target / "labels.csv").write_text("my labels")
    for name in ("labels.csv", "val/a/4.jpg"):
        (source / name).unlink()
    kappacore.stage(source, target)
    assert (target / "labels.csv").read_text() == "my labels"
    assert not (target / "val/a/4.jpg").exists()
    assert kappacore.staging.check_staged(target).extra == ("labels.csv",)


def test_a_folder_of_the_same_disk_can_be_mounted_at_the_target(tmp_path):
    """Nothing tells such a mount by its device, and nothing can be renamed into it."""
    with small_disk(tmp_path / "disk", "8m") as disk:
        source, target, real = make_tree(disk / "s"), disk / "t", disk / "real"
        target.mkdir()
        real.mkdir()
        subprocess.run(["mount", "--bind", real, target], check=True)
        try:
            assert not os.path.ismount(target)
            kappacore.stage(source, target)
            assert tree_of(target) == SMALL
            assert left_beside(target) == []
        finally:
            subprocess.run(["umount", target], check=True)


def test_empty_folders_are_no_dataset(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    for name in ("train", "test"):
        (target / name).mkdir(parents=True)
    assert kappacore.stage(source, target).copied
    assert tree_of(target) == SMALL
    assert (target / "test").is_dir()


def test_a_disk_within_the_target_is_an_error_that_says_so(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    target.mkdir()
    with small_disk(target / "train", "8m"):
        with pytest.raises(StagingError, match=r"a disk is mounted within it .*train"):
            kappacore.stage(source, target)
        assert kappacore.stage(source, target, relative="train").copied


@pytest.mark.parametrize("mark", [MANIFEST, UNFINISHED])
def test_a_manifest_that_lists_what_is_outside(tmp_path, mark):
    """Whoever may write to the target may have written it: staging removes nothing outside."""
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    make_tree(tmp_path, {"precious": b"mine"})
    (tmp_path / "empty").mkdir()
    names = [
        "../precious",
        f"{tmp_path}/precious",
        "train/../../precious",
        "train//a/1.jpg",
        "",
        "/",
    ]
    names += ["a\0b", "\ud800", "x" * 300, "../empty", "..", ".", "/", "train/./a"]
    found = read_manifest(target / MANIFEST)
    time_ns = (tmp_path / "precious").stat().st_mtime_ns
    files = {**found.files, **{name: FileRecord(4, time_ns, None) for name in names}}
    (target / mark).unlink(missing_ok=True)
    summary = {key: found.summary[key] for key in ("source", "kind", "stamp")}
    write_manifest(target / mark, dataset_of(files, [*found.folders, *names], summary))
    os.utime(source)
    for options in ({}, {"recheck": True}):
        kappacore.stage(source, target, **options)
        assert (tmp_path / "precious").read_bytes() == b"mine"
        assert (tmp_path / "empty").is_dir()
    assert check_staged(target).ok
