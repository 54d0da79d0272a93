"""What staging gives back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["StageResult"]


@dataclass(frozen=True)
class StageResult:
    """Where a dataset is now, and what that took. Usable as a path.

    Attributes:
        path: the folder that the dataset is in.
        copied: whether this call copied anything.
        repaired: whether there was an incomplete or outdated one that was completed.
        found: whether it was there and was left as it is, because it was copied by hand or by
            KappaData, or is part of a larger folder that was staged.
        kind: what the source is: ``"folder"``, ``"zip"``, ``"zips"`` (a folder of zip files),
            ``"tar"`` or ``"tar.gz"``; None where that was not looked at.
        files: number of files in the dataset; None where it was not staged by kappacore.
        bytes: their bytes.
        copied_files: number of files that this call copied.
        copied_bytes: the bytes it copied.
        kept_bytes: bytes that earlier tries had left and were used.
        seconds: how long it took, waiting for others included.
        sync_seconds: how much of that the disk took to have everything written.
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
