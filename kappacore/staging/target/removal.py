"""Removing a folder with all that is in it, however deep it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def remove_tree(folder: Path | str) -> None:
    """Remove a folder and all that is in it; links are not followed.

    shutil.rmtree calls itself for each level (before Python 3.13), and fails at about 1000.
    """
    folders = [os.fspath(folder)]
    for path in folders:  # which grows meanwhile: each folder precedes those in it
        with os.scandir(path) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.path)
                else:
                    os.unlink(item.path)  # noqa: PTH108
    for path in reversed(folders):
        os.rmdir(path)  # noqa: PTH106
