"""An arena for the tests of its parts."""

from __future__ import annotations

import pytest

from support.arenas import MIB, open_arena


@pytest.fixture
def folder(cache_folder):
    """A folder on memory, as arenas have."""
    path = cache_folder / "arena"
    path.mkdir()
    return path


@pytest.fixture
def arena(folder):
    """An arena for 20 values with a limit of 1 MiB."""
    return open_arena(folder, 20, MIB)
