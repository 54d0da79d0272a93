"""The result of staging."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class StageResult:
    """Where a dataset is now, and what that took. Usable as a path.

    Attributes:
        path: The folder that contains the dataset.
        copied: Whether this call copied anything.
        repaired: Whether an incomplete or outdated copy was completed.
        found: Whether it was there and was left as it is, because it was copied by hand or by
            KappaData, or is part of a larger folder that was staged.
        kind: What the source is: ``"folder"``, ``"zip"``, ``"zips"`` (a folder of zip files),
            ``"tar"`` or ``"tar.gz"``; None if the source was not opened.
        files: Number of files in the dataset; None if kappacore did not stage it.
        bytes: Their bytes.
        copied_files: Number of files copied by this call.
        copied_bytes: Bytes copied by this call.
        kept_bytes: Bytes left by earlier tries and used.
        seconds: How long it took, including the wait for others.
        sync_seconds: How much of that the disk took to write everything.
    """

    path: Path
    copied: bool = False
    repaired: bool = False
    found: bool = False
    kind: str | None = None
    files: int | None = None
    bytes: int | None = None
    copied_files: int = 0
    copied_bytes: int = 0
    kept_bytes: int = 0
    seconds: float = 0.0
    sync_seconds: float = 0.0

    def __fspath__(self) -> str:
        return os.fspath(self.path)
