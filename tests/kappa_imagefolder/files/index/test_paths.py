"""Where an index is kept, and which one is used if there are several."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

import pytest

from kappa_imagefolder import ImageFolder, IndexFileError
from kappa_imagefolder.files import open_folder as index_module
from kappa_imagefolder.files.scan import Rules
from support.image_indices import FILES, assert_same, change, index_in
from support.image_trees import make_tree


@pytest.fixture
def as_nobody():
    """As a user who may not write everywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.fixture
def readable(root):
    """The folder where any user can read it and nobody can write it."""
    base = Path(tempfile.mkdtemp(prefix="kappa-imagefolder-test-"))
    base.chmod(0o755)
    home = base / "home"
    home.mkdir()
    home.chmod(0o777)
    folder = base / "data"
    shutil.copytree(root, folder)
    time.sleep(0.02)
    folder.chmod(0o555)
    yield folder, home
    folder.chmod(0o755)
    shutil.rmtree(base)


def test_an_index_can_lie_elsewhere(root, tmp_path):
    path = tmp_path / "indices" / "train.index"
    with pytest.raises(IndexFileError, match=rf"cannot write an index of '{root}' to '{path}': "):
        ImageFolder(root, index=path)
    path.parent.mkdir()
    for _ in range(2):
        ds = ImageFolder(root, index=path)
        assert ds.index_path == str(path)
        assert_same(ds, ImageFolder(root))
    assert index_in(root) == []


def test_an_index_of_another_folder_is_not_taken_even_on_trust(root, tmp_path, caplog):
    other = make_tree(tmp_path / "other", FILES[:2])
    path = tmp_path / "x.index"
    ImageFolder(other, index=path)
    ds = ImageFolder(root, index=path, index_check="trust")
    assert_same(ds, ImageFolder(root))
    assert f"the index '{path}' is for another root; it will be replaced" in caplog.text


def test_the_index_made_last_is_the_one_to_trust(root):
    """The one in a folder that cannot be written any more is older than the one in the cache."""
    inside = Path(ImageFolder(root, index=True).index_path)
    change((root / "cat/1.jpg").unlink)
    other = index_module.index_paths(str(root), Rules())[1]
    Path(other).parent.mkdir(parents=True)
    ImageFolder(root, index=other)
    for newer, older, count in ((other, inside, 4), (inside, other, 5)):
        os.utime(older, ns=(10**9, 10**9))
        os.utime(newer, ns=(2 * 10**9, 2 * 10**9))
        ds = ImageFolder(root, index=True, index_check="trust")
        assert (ds.index_path, len(ds)) == (str(newer), count)


def test_a_relative_cache_folder_is_ignored(root, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", "/home/somebody")
    paths = index_module.index_paths(str(root), Rules())
    assert Path(paths[1]).parent == Path("/home/somebody/.cache/kappa_imagefolder")
    monkeypatch.setenv("HOME", "~")  # as for a user that the system does not know
    assert index_module.index_paths(str(root), Rules()) == paths[:1]


def test_the_index_of_a_read_only_folder_is_in_the_users_cache(readable, monkeypatch, as_nobody):
    folder, home = readable
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    for _ in range(2):
        ds = ImageFolder(folder, index=True)
        assert_same(ds, ImageFolder(folder))
        path = Path(ds.index_path)
        assert path.parent == home / "kappa_imagefolder"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(list(path.parent.iterdir())) == 1
    assert index_in(folder) == []


def test_without_a_path_for_an_index_there_is_none(readable, monkeypatch, caplog, as_nobody):
    folder, _ = readable
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    ds = ImageFolder(folder, index=True)
    assert ds.index_path is None
    assert_same(ds, ImageFolder(folder))
    assert "cannot write an index" in caplog.text
    assert "The next opening scans again" in caplog.text


def test_a_class_that_is_the_root_itself_has_its_index_in_the_users_cache(root, cache_home):
    class Flat(ImageFolder):
        def find_classes(self, directory):
            return ["all"], {"": 0}

    for _ in range(2):
        ds = Flat(root, index=True)
        assert ds.samples == Flat(root).samples
        assert Path(ds.index_path).is_relative_to(cache_home)


def test_a_path_that_is_a_folder_is_reported(root, tmp_path):
    with pytest.raises(IndexFileError, match=r"cannot write an index of .*: Is a directory"):
        ImageFolder(root, index=tmp_path)
