"""Bringing datasets from global storage to the local disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore._lazy import lazy_names

if TYPE_CHECKING:
    from kappacore.staging.check import CheckReport, Problem, check_staged
    from kappacore.staging.kappadata import CopyResult, copy_folder_from_global_to_local
    from kappacore.staging.names import ArchiveLimits
    from kappacore.staging.progress import StageProgress
    from kappacore.staging.result import StageResult
    from kappacore.staging.staging import stage

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
        "kappacore.staging.check": "CheckReport Problem check_staged",
        "kappacore.staging.kappadata": "CopyResult copy_folder_from_global_to_local",
        "kappacore.staging.names": "ArchiveLimits",
        "kappacore.staging.progress": "StageProgress",
        "kappacore.staging.result": "StageResult",
        "kappacore.staging.staging": "stage",
    },
)
