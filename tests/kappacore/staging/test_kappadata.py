"""Scripts written for KappaData's ``copy_folder_from_global_to_local``, and what it left behind."""

from __future__ import annotations

import zipfile

import pytest

import kappacore
from kappacore import copy_folder_from_global_to_local as copy_folder
from kappacore.errors import StagingError
from support.staging import SMALL, make_tree, pack, tree_of

TRAIN = {name[len("train/") :]: data for name, data in SMALL.items() if name.startswith("train/")}


@pytest.fixture
def paths(tmp_path):
    return make_tree(tmp_path / "system" / "ImageNet"), tmp_path / "local" / "data"


def test_the_whole_comes_to_the_local_path(paths):
    source, local = paths
    lines = []
    result = copy_folder(source, local, log=lines.append)
    assert result == (True, False, False, local)
    assert tree_of(local) == SMALL
    assert lines[1].startswith(f"copying '{source}' to '{local}'")
    assert lines[-1] == f"finished copying '{source}' to '{local}'"
    assert copy_folder(str(source), str(local)) == (False, False, False, local)


def test_a_part_comes_below_the_name_of_the_dataset(paths):
    source, local = paths
    result = copy_folder(source, local, relative_path="train")
    assert result.path == local / "ImageNet" / "train"
    assert tree_of(local) == {f"ImageNet/train/{name}": data for name, data in TRAIN.items()}
    assert not copy_folder(source, local, relative_path="train").was_copied


def test_the_whole_after_a_part_completes_what_the_part_is_in(paths):
    source, local = paths
    part = copy_folder(source, local, "train")
    inode = (part.path / "b/3.jpg").stat().st_ino
    for copied in (True, False):
        result = copy_folder(source, local)
        assert (result.was_copied, result.path) == (copied, local / "ImageNet")
        assert tree_of(result.path) == SMALL
    assert (part.path / "b/3.jpg").stat().st_ino == inode
    assert copy_folder(source, local, "train") == (False, False, False, part.path)


def test_parts_of_other_datasets_do_not_count(paths):
    source, local = paths
    other = make_tree(source.parent / "elsewhere" / "ImageNet", {"train/x.jpg": b"x"})
    copy_folder(other, local, "train")
    result = copy_folder(source, local)
    assert result.path == local
    assert tree_of(local) == {**SMALL, "ImageNet/train/x.jpg": b"x"}


@pytest.mark.parametrize("relative", ["train", "train.zip"])
def test_a_zip_file_instead_of_a_folder(tmp_path, relative):
    source = tmp_path / "system" / "ImageNet"
    source.mkdir(parents=True)
    pack(source / "train.zip", TRAIN, zipfile.ZIP_DEFLATED)
    result = copy_folder(source, tmp_path / "local", relative)
    assert result == (True, False, True, tmp_path / "local" / "ImageNet" / "train")
    assert tree_of(result.path) == TRAIN


def test_the_whole_as_a_zip_file(tmp_path):
    pack(tmp_path / "ImageNet.zip")
    result = copy_folder(tmp_path / "ImageNet", tmp_path / "local")
    assert result == (True, False, True, tmp_path / "local")
    assert tree_of(tmp_path / "local") == SMALL


def test_a_folder_of_zip_files_comes_out_as_folders(tmp_path):
    source = tmp_path / "ImageNet"
    source.mkdir()
    pack(source / "train.zip", TRAIN)
    pack(source / "val.zip", {"a/4.jpg": b"four"})
    result = copy_folder(source, tmp_path / "local")
    assert (result.was_copied, result.was_zip) == (True, True)
    assert sorted(path.name for path in tmp_path.joinpath("local").iterdir() if path.is_dir()) == [
        "train", "val",
    ]  # fmt: skip
    assert tree_of(result.path / "train") == TRAIN


def test_what_was_copied_by_hand_is_left_alone(paths):
    source, local = paths
    mine = {**SMALL, "train/mine.jpg": b"mine", "labels.csv": b"mine"}
    make_tree(local, mine)
    assert copy_folder(source, local) == (False, False, False, local)
    assert tree_of(local) == mine


def test_what_kappadata_finished_is_used(paths):
    source, local = paths
    make_tree(local, {"x.jpg": b"x", "autocopy_start.txt": b"", "autocopy_end.txt": b""})
    assert copy_folder(source, local) == (False, False, False, local)
    assert tree_of(local) == {"x.jpg": b"x"}


def test_what_kappadata_left_unfinished_is_replaced(paths):
    source, local = paths
    make_tree(local, {"autocopy_start.txt": b"", "train/a/1.jpg": b"half", "train/gone.jpg": b"x"})
    assert copy_folder(source, local) == (True, True, False, local)
    assert tree_of(local) == SMALL
    assert not (local / "autocopy_start.txt").exists()
    assert [path.name for path in local.parent.iterdir() if path.name.endswith("-work")] == []


def test_what_was_staged_within_an_unfinished_copy_of_kappadata_stays(paths):
    source, local = paths
    part = copy_folder(source, local, "train").path
    inode = (part / "b/3.jpg").stat().st_ino
    make_tree(local, {"autocopy_start.txt": b"", "ImageNet/half.jpg": b"half"})
    result = kappacore.stage(source, local)
    assert result.repaired
    assert (part / "b/3.jpg").stat().st_ino == inode
    assert not (local / "ImageNet" / "half.jpg").exists()


def test_a_failure_leaves_what_kappadata_left_unfinished_marked_or_gone(paths):
    """Never unmarked and half there."""
    source, local = paths
    make_tree(local, {"autocopy_start.txt": b"", "train/a/1.jpg": b"half"})

    def fail(now):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        copy_folder(source, local, progress=fail)
    assert tree_of(local) == {}
    assert copy_folder(source, local).was_copied
    assert tree_of(local) == SMALL


def test_an_empty_folder_is_not_taken_for_a_finished_copy(paths):
    """What KappaData leaves when it is killed between making the folder and marking it."""
    source, local = paths
    local.mkdir(parents=True)
    assert copy_folder(source, local).was_copied
    assert tree_of(local) == SMALL


def test_a_folder_in_an_unfinished_copy_of_kappadata_is_not_taken_for_finished(paths):
    source, local = paths
    make_tree(local, {"autocopy_start.txt": b"", "train/a/1.jpg": b"half"})
    with pytest.raises(StagingError, match="which KappaData began to copy and never fin"):
        kappacore.stage(source, local, relative="train")


def test_a_missing_source_says_what_was_looked_for(tmp_path):
    with pytest.raises(StagingError, match=r"there is no source '.*ImageNet', neither a"):
        copy_folder(tmp_path / "ImageNet", tmp_path / "local")


def test_kappadata_itself_and_staging_agree_on_what_is_complete(paths):
    kappadata = pytest.importorskip("kappadata.copying.copy_folder_from_global_to_local")
    source, local = paths
    theirs = kappadata.copy_folder_from_global_to_local(source, local / "theirs")
    assert theirs.was_copied
    assert copy_folder(source, local / "theirs") == (False, False, False, local / "theirs")
