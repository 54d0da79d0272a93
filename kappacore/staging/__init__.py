"""Copying datasets from global storage to the local disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore._lazy import lazy_names

if TYPE_CHECKING:
    from kappacore.staging.api import stage
    from kappacore.staging.kappadata import CopyResult, copy_folder_from_global_to_local
    from kappacore.staging.progress import StageProgress
    from kappacore.staging.result import StageResult
    from kappacore.staging.sources.archive_safety import ArchiveLimits
    from kappacore.staging.target.check import CheckReport, Problem, check_staged

__all__ = [
    "ArchiveLimits",
    "CheckReport",
    "CopyResult",
    "Problem",
    "StageProgress",
    "StageResult",
    "check_staged",
    "copy_folder_from_global_to_local",
    "stage",
]

__getattr__ = lazy_names(
    __name__,
    {
        "kappacore.staging.target.check": "CheckReport Problem check_staged",
        "kappacore.staging.kappadata": "CopyResult copy_folder_from_global_to_local",
        "kappacore.staging.sources.archive_safety": "ArchiveLimits",
        "kappacore.staging.progress": "StageProgress",
        "kappacore.staging.result": "StageResult",
        "kappacore.staging.api": "stage",
    },
)
