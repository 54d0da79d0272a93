"""Copying datasets from global storage to the local disk."""

from __future__ import annotations

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
