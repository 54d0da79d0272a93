"""Links below an image folder: followed as torchvision follows them, unless they lead back."""

from __future__ import annotations

import contextlib
import errno
import logging
import os

import pytest

from kappa_imagefolder import ImageFolder, UnreadableFolderError
from kappa_imagefolder.files import scan
from support.image_trees import make_tree, names


def test_links_to_files_and_folders_are_followed(tmp_path):
    store = make_tree(tmp_path / "store", ["dogs/1.jpg", "more/2.jpg", "single.jpg"])
    root = tmp_path / "root"
    (root / "cat").mkdir(parents=True)
    (root / "dog").symlink_to(store / "dogs")
    (root / "cat" / "linked.jpg").symlink_to(store / "single.jpg")
    (root / "cat" / "more").symlink_to(store / "more")
    (root / "cat" / "again").symlink_to(store / "more")  # twice the same is no loop
    assert names(ImageFolder(root), root) == [
        ("cat/linked.jpg", 0),
        ("cat/again/2.jpg", 0),
        ("cat/more/2.jpg", 0),
        ("dog/1.jpg", 1),
    ]


@pytest.mark.parametrize("target", ["x", "x/deep", "."])
def test_a_link_that_leads_back_is_not_followed_but_reported(tmp_path, caplog, target):
    make_tree(tmp_path, ["x/a.jpg", "x/deep/b.jpg"])
    (tmp_path / "x" / "deep" / "back").symlink_to(tmp_path / target)
    with caplog.at_level(logging.WARNING):
        ds = ImageFolder(tmp_path)
    assert names(ds, tmp_path) == [("x/a.jpg", 0), ("x/deep/b.jpg", 0)]
    assert "'x/deep/back' leads back to a folder around it" in caplog.text


def test_two_folders_that_link_to_each_other_end(tmp_path):
    make_tree(tmp_path, ["x/a.jpg", "y/b.jpg"])
    (tmp_path / "x" / "to_y").symlink_to(tmp_path / "y")
    (tmp_path / "y" / "to_x").symlink_to(tmp_path / "x")
    assert names(ImageFolder(tmp_path), tmp_path) == [
        ("x/a.jpg", 0),
        ("x/to_y/b.jpg", 0),
        ("y/b.jpg", 1),
        ("y/to_x/a.jpg", 1),
    ]


def test_a_link_to_itself_is_no_folder(tmp_path):
    make_tree(tmp_path, ["x/a.jpg"])
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert ImageFolder(tmp_path).classes == ["x"]


@pytest.mark.parametrize("target", ["a.jpg/nothing", "n" * 300, "nowhere"])
@pytest.mark.parametrize("allow_empty", [False, True])
def test_a_link_to_nowhere_is_a_file_and_hides_no_other(tmp_path, target, allow_empty):
    make_tree(tmp_path, ["x/a.jpg", "x/deep/b.jpg"])
    (tmp_path / "x" / "link.jpg").symlink_to(target)
    (tmp_path / "link").symlink_to(tmp_path / "x" / target)
    ds = ImageFolder(tmp_path, allow_empty=allow_empty)
    assert names(ds, tmp_path) == [("x/a.jpg", 0), ("x/link.jpg", 0), ("x/deep/b.jpg", 0)]


def test_a_link_that_cannot_be_followed_is_named(tmp_path, monkeypatch):
    make_tree(tmp_path, ["x/a.jpg"])
    refused = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(scan, "os", _Refusing("a.jpg", refused))
    message = rf"cannot follow the link '{tmp_path}/x/a.jpg': Permission denied\. If it leads to"
    with pytest.raises(UnreadableFolderError, match=message) as error:
        ImageFolder(tmp_path)
    assert error.value.__cause__ is refused


class _Refusing:
    """The module os, but for an entry that may not be looked at."""

    def __init__(self, name, error):
        self._name, self._error = name, error

    def __getattr__(self, name):
        return getattr(os, name)

    @contextlib.contextmanager
    def scandir(self, path):
        with os.scandir(path) as entries:
            yield (
                _Refused(entry, self._error) if entry.name == self._name else entry
                for entry in entries
            )


class _Refused:
    def __init__(self, entry, error):
        self.name, self.path, self._error = entry.name, entry.path, error

    def is_dir(self):
        raise self._error
