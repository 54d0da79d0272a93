"""Sources that change: while they are copied, and afterwards."""

from __future__ import annotations

import os
import shutil

import pytest

import kappacore
from kappacore.errors import SourceChangedError, StagingError
from kappacore.staging.copying.digests import CHUNK
from kappacore.staging.sources.folder import FolderSource
from kappacore.staging.target.paths import MANIFEST, UNFINISHED, StagePaths
from kappacore.staging.target.work_folder import WorkFolder
from support.staging import SMALL, leave_work, left_beside, make_tree, pack, tree_of


def staged_while(source, target, change, **options):
    """Stage, and change the source when the copy begins."""
    done = []

    def log(line):
        if line.startswith("copying") and not done:
            done.append(change())

    return kappacore.stage(source, target, log=log, **options)


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: (s / "labels.csv").write_bytes(b"3,2,1\n"), "'labels.csv' was written to"),
        (lambda s: (s / "train/a/1.jpg").write_bytes(b"short"), "'train/a/1.jpg'"),
        (lambda s: (s / "train/new.jpg").write_bytes(b"new"), "'train/new.jpg' was added"),
        (lambda s: (s / "labels.csv").unlink(), "'labels.csv'"),
        (lambda s: (s / "more").mkdir(), "'more' was added"),
    ],
    ids=["content", "size", "new file", "no file", "new folder"],
)  # fmt: skip
def test_a_source_that_changes_while_it_is_copied_is_noticed(tmp_path, change, message):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    with pytest.raises(SourceChangedError, match=message):
        staged_while(source, target, lambda: change(source))
    assert not target.exists()
    result = kappacore.stage(source, target)  # it is quiet now
    assert tree_of(result.path) == tree_of(source)


def test_a_large_file_that_is_gone_before_it_is_copied_is_noticed(tmp_path, monkeypatch):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    with (source / "big.bin").open("wb") as file:
        file.truncate(CHUNK + 1)
    complete_files = WorkFolder.complete_files

    def gone(*args, **options):
        (source / "big.bin").unlink()
        return complete_files(*args, **options)

    monkeypatch.setattr(WorkFolder, "complete_files", gone)
    with pytest.raises(SourceChangedError, match=r"'big\.bin' of .* changed while"):
        kappacore.stage(source, target)


def test_a_file_that_comes_when_the_source_was_just_listed_is_seen_by_the_next_call(
    tmp_path, monkeypatch
):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    os.utime(source)  # so that it is listed again
    scan = FolderSource.scan

    def then_added(self, *given):
        found = scan(self, *given)
        (source / "new.jpg").write_bytes(b"new")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "scan", then_added)
        assert not kappacore.stage(source, target).copied
    assert kappacore.stage(source, target).copied
    assert tree_of(target) == {**SMALL, "new.jpg": b"new"}


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_an_archive_that_is_replaced_while_it_is_extracted_is_noticed(tmp_path, suffix):
    source, target = pack(tmp_path / f"a{suffix}"), tmp_path / "t"
    fresh = {"labels.csv": b"other"}

    def replace():
        pack(tmp_path / f"b{suffix}", fresh).replace(source)

    with pytest.raises(SourceChangedError, match=r"a\.\w+' was written to"):
        staged_while(source, target, replace)
    assert not target.exists()
    assert tree_of(kappacore.stage(source, target).path) == fresh


@pytest.mark.usefixtures("road")
def test_what_the_next_try_finds_changed_is_copied_anew(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    with pytest.raises(SourceChangedError):
        staged_while(source, target, lambda: (source / "new.jpg").write_bytes(b"new"))
    (source / "train/a/1.jpg").write_bytes(b"ONE" * 1000)
    (source / "val/a/4.jpg").unlink()
    result = kappacore.stage(source, target)
    assert tree_of(target) == tree_of(source)
    assert result.copied_files == 2  # new.jpg and 1.jpg


def test_a_source_whose_top_changed_is_compared_and_what_differs_is_copied(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    make_tree(target, {"train/notes.txt": b"mine"})
    inode = (target / "train/b/3.jpg").stat().st_ino
    (source / "test").mkdir()
    make_tree(source, {"test/5.jpg": b"five", "train/a/1.jpg": b"ONE" * 1000})
    (source / "val/a/4.jpg").unlink()
    (source / "val/a").rmdir()
    result = kappacore.stage(source, target)
    assert tree_of(target) == {**tree_of(source), "train/notes.txt": b"mine"}
    assert (result.copied_files, result.repaired) == (2, True)
    assert (target / "train/b/3.jpg").stat().st_ino == inode
    assert not (target / "val/a").exists()
    assert not (target / UNFINISHED).exists()
    assert left_beside(target) == []
    assert not kappacore.stage(source, target).copied


def test_a_file_that_became_a_folder_and_a_folder_that_became_a_file(tmp_path):
    source, target = (
        make_tree(tmp_path / "s", {"a": b"1", "b/c/2": b"2", "d": b"3"}),
        tmp_path / "t",
    )
    kappacore.stage(source, target)
    (source / "a").unlink()
    (source / "b/c/2").unlink()
    (source / "b/c").rmdir()
    (source / "b").rmdir()
    make_tree(source, {"a/x": b"x", "b": b"y"})
    kappacore.stage(source, target)
    assert tree_of(target) == {"a/x": b"x", "b": b"y", "d": b"3"}


def test_a_change_below_the_top_is_found_by_recheck(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    (source / "train/a/1.jpg").write_bytes(b"ONE" * 1000)
    assert not kappacore.stage(source, target).copied
    assert kappacore.stage(source, target, recheck=True).copied_files == 1
    assert tree_of(target) == tree_of(source)


def test_a_dataset_that_was_moved_is_recognised(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    for name in SMALL:
        os.utime(source / name, ns=(0, 1_577_934_246_789_000_000))  # an archive has no fractions
    kappacore.stage(source, target)
    moved = source.rename(tmp_path / "moved")
    result = kappacore.stage(moved, target)
    assert (result.copied, result.files) == (False, len(SMALL))
    packed = pack(tmp_path / "s.zip")
    assert not kappacore.stage(packed, target).copied
    assert left_beside(target) == []


def test_files_of_the_same_sizes_elsewhere_are_not_taken_for_the_same(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    other = shutil.copytree(source, tmp_path / "v2")
    (other / "labels.csv").write_bytes(SMALL["labels.csv"][::-1])
    os.utime(other / "labels.csv", (1_700_000_000, 1_700_000_000))
    with pytest.raises(StagingError, match="or other versions of them"):
        kappacore.stage(other, target)
    assert kappacore.stage(other, target, recheck=True).copied_files == 1
    assert tree_of(target) == tree_of(other)


def test_another_dataset_does_not_replace_one_unasked(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    other = make_tree(tmp_path / "other", {"labels.csv": b"others"})
    kappacore.stage(source, target)
    with pytest.raises(StagingError, match=r"was staged from '.*s', and '.*other' contains other"):
        kappacore.stage(other, target)
    assert tree_of(target) == SMALL
    assert kappacore.stage(other, target, recheck=True).copied
    assert tree_of(target) == {"labels.csv": b"others"}


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_target_whose_manifest_is_damaged_is_repaired(tmp_path, left):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    data = (target / MANIFEST).read_bytes()
    (target / MANIFEST).write_bytes(data[: int(len(data) * left)])
    (target / "labels.csv").unlink()
    result = kappacore.stage(source, target)
    assert (result.copied, result.repaired) == (True, True)
    assert tree_of(target) == SMALL
    assert not kappacore.stage(source, target).copied


def test_a_merge_that_was_killed_goes_on(tmp_path):
    """The moment when the target is marked and half of it is moved."""
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    (target / MANIFEST).rename(target / UNFINISHED)
    (target / "val/a/4.jpg").unlink()
    (target / "train/a/1.jpg").write_bytes(b"half")
    with pytest.raises(StagingError, match="is unfinished, so there is nothing"):
        kappacore.staging.check_staged(target)
    # A part of it is as unfinished as the whole.
    part = kappacore.stage(source, target, relative="train")
    assert (part.copied_files, part.repaired) == (1, True)
    result = kappacore.stage(source, target)
    assert tree_of(target) == SMALL
    assert (result.copied_files, result.repaired) == (1, True)
    assert not kappacore.stage(source, target).copied


def test_after_a_restart_of_the_machine_what_was_not_published_is_copied_again(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    with pytest.raises(SourceChangedError):
        staged_while(source, target, lambda: (source / "new.jpg").write_bytes(b"new"))
    state = StagePaths(target).state
    state.write_text(state.read_text().replace('"boot": "', '"boot": "before-'))
    lines = []
    result = kappacore.stage(source, target, log=lines.append)
    assert any(line.startswith("removing what an earlier try left in") for line in lines)
    assert (result.kept_bytes, result.copied_files) == (0, len(SMALL) + 1)


def test_what_a_kill_after_publishing_left_is_removed_by_the_next_call(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    leave_work(StagePaths(target), {"journal": b""})
    assert not kappacore.stage(source, target).copied
    assert left_beside(target) == []


def test_what_a_kill_left_of_a_part_is_removed_once_the_whole_is_there(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    target.mkdir()
    work = leave_work(StagePaths(target / "train"), {"tree/a/1.jpg": b"half"})
    kappacore.stage(source, target)
    assert not work.exists()


def test_what_lies_in_the_work_folder_by_other_hands_is_not_published(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    with pytest.raises(SourceChangedError):
        staged_while(source, target, lambda: (source / "new.jpg").write_bytes(b"new"))
    tree = StagePaths(target).tree
    outside = make_tree(tmp_path / "outside", {"1.jpg": b"precious"})
    (tree / "train/a/1.jpg").unlink()
    (tree / "train/a/1.jpg").symlink_to(outside / "1.jpg")
    (tree / "val/a/4.jpg").unlink()
    (tree / "val/a").rmdir()
    (tree / "val/a").symlink_to(outside)
    make_tree(tree, {"evil.jpg": b"evil", "more/evil.jpg": b"evil"})
    os.truncate(tree / "labels.csv", 2)
    kappacore.stage(source, target)
    assert tree_of(target) == tree_of(source)
    assert tree_of(outside) == {"1.jpg": b"precious"}
