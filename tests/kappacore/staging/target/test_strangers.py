"""Targets that hold something, without a mark: is it the dataset, or a stranger?"""

from __future__ import annotations

import os
import shutil

import pytest

import kappacore
from kappacore.errors import StagingError
from support.staging import SMALL, make_tree, pack, run_stage, tree_of

STRANGERS = {
    ".gitkeep": b"",
    ".DS_Store": b"x",
    ".nfs0000001": b"",
    ".cache/more": b"x",
    "other/log.txt": b"x",
    "notes.txt": b"x",
    "train/a/1.jpg.part": b"x",
    "train/.1.jpg.Xk3vQz": b"x",
}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tgz"])
@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_does_not_make_a_target_complete(tmp_path, name, kind):
    source = make_tree(tmp_path / "s") if kind == "folder" else pack(tmp_path / f"s.{kind}")
    strangers = {name: STRANGERS[name]}
    target = make_tree(tmp_path / "t", strangers)
    assert kappacore.stage(source, target).copied
    assert tree_of(target) == {**SMALL, **strangers}
    assert not kappacore.stage(source, target).copied


def test_nor_do_all_of_them_on_the_command_line(tmp_path):
    source, target = make_tree(tmp_path / "s"), make_tree(tmp_path / "t", STRANGERS)
    done = run_stage(source, target)
    assert (done.returncode, tree_of(target)) == (0, {**SMALL, **STRANGERS}), done.stderr


def test_nor_another_dataset_that_was_staged_there(tmp_path):
    source = make_tree(tmp_path / "s")
    other = make_tree(tmp_path / "cifar", {"1.jpg": b"1"})
    scratch = tmp_path / "scratch"
    kappacore.stage(other, scratch / "cifar")
    make_tree(scratch, {"notes.txt": b"x"})
    assert kappacore.stage(source, scratch).copied
    assert tree_of(scratch) == {**SMALL, "notes.txt": b"x", "cifar/1.jpg": b"1"}
    assert not kappacore.stage(other, scratch / "cifar").copied


def test_nor_is_a_folder_within_another_dataset_a_part_of_it(tmp_path):
    source = make_tree(tmp_path / "s")
    other = make_tree(tmp_path / "cifar", {"1.jpg": b"1"})
    target = kappacore.stage(other, tmp_path / "t").path
    make_tree(target, {"more/notes.txt": b"x"})
    assert kappacore.stage(source, target / "more").copied
    assert tree_of(target / "more") == {**SMALL, "notes.txt": b"x"}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tgz"])
def test_what_was_copied_by_hand_and_has_all_names_is_left_as_it_is(tmp_path, kind):
    source = make_tree(tmp_path / "s") if kind == "folder" else pack(tmp_path / f"s.{kind}")
    target = make_tree(tmp_path / "t", {**SMALL, "notes.txt": b"x", "labels.csv": b"mine"})
    result = kappacore.stage(source, target)
    assert (result.copied, result.found) == (False, True)
    assert tree_of(target)["labels.csv"] == b"mine"


def test_without_its_source_what_is_there_is_used(tmp_path):
    target = make_tree(tmp_path / "t", {"train/a/1.jpg": b"mine"})
    assert kappacore.stage(tmp_path / "unmounted", target).found
    hidden = make_tree(tmp_path / "u", {".gitkeep": b"", ".cache/x": b""})
    (hidden / "lost+found").mkdir()
    with pytest.raises(StagingError, match="there is no source"):
        kappacore.stage(tmp_path / "unmounted", hidden)


def test_a_copy_by_hand_that_was_killed_is_completed(tmp_path):
    """Also by a level or two below the top; what is equal stays."""
    files = {f"{split}/{number}.jpg": b"x" for split in ("train", "val") for number in range(9)}
    source = make_tree(tmp_path / "s", files)
    for gone in ("val", "val/8.jpg", "train"):
        target = shutil.copytree(source, tmp_path / gone.replace("/", "-"))
        (shutil.rmtree if (target / gone).is_dir() else os.unlink)(target / gone)
        assert kappacore.stage(source, target).copied
        assert tree_of(target) == files


def test_what_differs_there_is_an_error_before_anything_is_copied(tmp_path):
    source = make_tree(tmp_path / "s")
    target = make_tree(tmp_path / "t", {"train/a/1.jpg": b"mine"})
    lines = []
    with pytest.raises(StagingError, match=r"1\.jpg' is in the way: it differs from the source"):
        kappacore.stage(source, target, log=lines.append)
    assert tree_of(target) == {"train/a/1.jpg": b"mine"}
    assert not any(line.startswith("copying") for line in lines)


def test_lost_and_found_of_another_user_is_no_hindrance(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    (target / "lost+found").mkdir(parents=True)
    (target / "lost+found").chmod(0)
    assert kappacore.stage(source, target).copied
    assert tree_of(target) == SMALL


def test_the_root_is_no_target(tmp_path):
    source = make_tree(tmp_path / "s")
    with pytest.raises(StagingError, match="'/' is the root of all file systems"):
        kappacore.stage(source, "/")
    done = run_stage(source, "/")
    assert done.returncode == 1
    assert "is the root" in done.stderr


def test_a_target_around_its_source_is_refused_whatever_it_holds(tmp_path):
    make_tree(tmp_path / "s")
    with pytest.raises(StagingError, match="contain each other"):
        kappacore.stage(tmp_path / "s", tmp_path)
    with pytest.raises(StagingError, match="contain each other"):
        kappacore.stage(tmp_path / "s", tmp_path / "s" / "train")


def test_kappadatas_function_copies_there_too(tmp_path):
    source = make_tree(tmp_path / "ImageNet")
    local = make_tree(tmp_path / "local", {"other/log.txt": b"x"})
    result = kappacore.copy_folder_from_global_to_local(source, local)
    assert result.was_copied
    assert tree_of(local) == {**SMALL, "other/log.txt": b"x"}
