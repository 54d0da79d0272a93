"""What an ImageFolder says of folders that it cannot use."""

from __future__ import annotations

import os
import re

import pytest

from kappa_imagefolder import (
    EmptyClassError,
    ImageFolder,
    NoClassesError,
    RootNotFolderError,
    RootNotFoundError,
    UnreadableFolderError,
)
from kappacore import KappaError
from kappacore.errors import InvalidOptionError
from support.image_trees import make_tree, names


def test_empty_classes_are_an_error_unless_allowed(tmp_path):
    make_tree(tmp_path, ["full/a.jpg"])
    (tmp_path / "bare").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("no image")
    with pytest.raises(EmptyClassError) as error:
        ImageFolder(tmp_path)
    assert isinstance(error.value, FileNotFoundError)
    assert re.fullmatch(
        rf"2 of the 3 classes in '{tmp_path}' have no image: 'bare', 'text' \(files ending with "
        r"\.jpg, .*\.webp\)\. Remove these folders, or pass allow_empty=True",
        str(error.value),
    )
    ds = ImageFolder(tmp_path, allow_empty=True)
    assert ds.classes == ["bare", "full", "text"]
    assert names(ds, tmp_path) == [("full/a.jpg", 1)]


def test_a_dataset_without_any_image_is_empty_if_allowed(tmp_path):
    (tmp_path / "bare").mkdir()
    ds = ImageFolder(tmp_path, allow_empty=True)
    assert len(ds) == 0
    assert ds.samples == []
    assert list(ds) == []
    assert ds.getall_class().tolist() == []
    assert ds.fingerprint("x")


def test_the_error_about_many_empty_classes_stays_short(tmp_path):
    for number in range(25):
        (tmp_path / f"c{number:02}").mkdir()
    with pytest.raises(EmptyClassError, match=r"25 of the 25 .*'c09' and 15 more \(files"):
        ImageFolder(tmp_path)


def test_a_root_that_does_not_exist_says_so(tmp_path):
    with pytest.raises(RootNotFoundError) as error:
        ImageFolder(tmp_path / "missing")
    assert isinstance(error.value, FileNotFoundError)
    assert isinstance(error.value, KappaError)
    assert f"the image folder '{tmp_path}/missing' does not exist (the current folder is " in str(
        error.value
    )
    assert "one subfolder per class" in str(error.value)


def test_a_root_that_is_a_file_says_so(tmp_path):
    make_tree(tmp_path, ["a.jpg"])
    with pytest.raises(RootNotFolderError, match=r"a\.jpg' is a file; give the folder") as error:
        ImageFolder(tmp_path / "a.jpg")
    assert isinstance(error.value, NotADirectoryError)
    with pytest.raises(RootNotFoundError, match="does not exist"):
        ImageFolder(tmp_path / "a.jpg" / "train")


def test_a_root_without_class_folders_says_what_is_expected(tmp_path):
    make_tree(tmp_path, ["a.jpg", "b.jpg"])
    with pytest.raises(NoClassesError) as error:
        ImageFolder(tmp_path)
    assert isinstance(error.value, FileNotFoundError)
    assert str(error.value) == (
        f"the image folder '{tmp_path}' holds no class folder (2 files directly in it); images are "
        f"expected in one subfolder per class, such as '{tmp_path}/cat/1.jpg'"
    )


def test_a_folder_that_cannot_be_listed_is_an_error_not_a_gap(tmp_path):
    make_tree(tmp_path, ["x/a.jpg"])
    # a folder whose path is longer than the system can open; works for root too
    deep = os.open(tmp_path / "x", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=deep)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    with pytest.raises(UnreadableFolderError) as error:
        ImageFolder(tmp_path)
    assert isinstance(error.value, OSError)
    assert re.match(
        rf"cannot list the folder '{tmp_path}/x/ddd.*': File name too", str(error.value)
    )
    assert "nothing was loaded" in str(error.value)
    assert isinstance(error.value.__cause__, OSError)


@pytest.mark.parametrize("root", [None, 3, b"/data"])
def test_a_root_that_is_no_path_is_refused(root):
    with pytest.raises(InvalidOptionError, match=r"root must be the path of a folder .*, got "):
        ImageFolder(root)
