"""A folder to make indices of, and a user's cache where they may lie too."""

from __future__ import annotations

import time

import pytest

from kappa_imagefolder.files import scan as scan_module
from support.image_indices import FILES
from support.image_trees import make_tree


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    home = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder that counts as settled, although it was made just now."""
    monkeypatch.setattr(scan_module, "SETTLED", 0)
    root = make_tree(tmp_path / "data", FILES)
    time.sleep(0.02)  # the clock of a file system ticks a few times in a hundredth of a second
    return root
