"""Comparing and changing image folders that are opened by an index."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kappa_imagefolder import ImageFolder

__all__ = ["CHECKS", "FILES", "assert_same", "change", "index_in"]

FILES = ["cat/1.jpg", "cat/2.png", "cat/deep/3.jpg", "dog/4.jpg", "dog/größe.jpg"]
CHECKS = ["trust", "dirs", "full"]


def change(action: Callable[[], Any]) -> None:
    """Do something at a time that folders can tell from those before and after it."""
    time.sleep(0.02)
    action()
    time.sleep(0.02)


def index_in(folder: Path) -> list[Path]:
    """Return the indices that lie in a folder."""
    return sorted(folder.glob(".kappa_imagefolder-*"))


def assert_same(ds: ImageFolder, other: ImageFolder) -> None:
    """Check that two datasets have the same classes, files and identity."""
    for name in ("classes", "class_to_idx", "samples", "targets"):
        found, expected = getattr(ds, name), getattr(other, name)
        assert found == expected, (name, found, expected)
    assert ds.fingerprint("x") == other.fingerprint("x")
