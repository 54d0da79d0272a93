"""Copying a dataset to a target that is locked, and publishing it there."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import kappacore
from kappacore.errors import NotEnoughSpaceError, SourceChangedError, StagingError
from kappacore.staging.copying.journal import Journal
from kappacore.staging.copying.transfer import Transfer
from kappacore.staging.progress import Progress, display
from kappacore.staging.result import StageResult
from kappacore.staging.sources.find import has_parts, open_source, stamp_of
from kappacore.staging.target.check import problems_in
from kappacore.staging.target.manifest import FileRecord, read_manifest
from kappacore.staging.target.paths import MANIFEST, has_work, stage_paths
from kappacore.staging.target.publish import publish, replace_manifest, set_aside, sync_disk
from kappacore.staging.target.space import check_room, human
from kappacore.staging.target.state import Status, TargetState, known_files
from kappacore.staging.target.work_folder import (
    is_version,
    kept_in,
    open_work,
    present_in,
    remove_work,
    tidy,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kappacore.staging.options import Options
    from kappacore.staging.sources.base import Entry
    from kappacore.staging.sources.find import Source
    from kappacore.staging.target.paths import StagePaths

__all__ = ["run"]


class _Wanted(NamedTuple):
    """What the source lists."""

    entries: list[Entry]
    files: dict[str, Entry]
    folders: dict[str, Entry]


class _Copied(NamedTuple):
    """What is in the work folder in the end."""

    kept: dict[str, FileRecord]
    fresh: dict[str, FileRecord]
    kept_bytes: int
    moved_bytes: int


def run(
    source_path: Path,
    paths: StagePaths,
    state: TargetState,
    options: Options,
    log: Callable[[str], None],
) -> StageResult:
    """Copy what a target lacks of a source, and publish it.

    Args:
        source_path: the source, without symlinks.
        paths: the target's, whose lock is held.
        state: what the target is.
        options: how.
        log: called with a line about each thing that is done.
    """
    if state.status is Status.PARTS and not (
        state.only_parts or has_parts(source_path, state.parts)
    ):
        log(f"using '{paths.target}' as it is: it was not put there by staging")
        return StageResult(paths.target, found=True)
    source = open_source(source_path, options.limits, options.threads)
    try:
        log(f"listing '{source_path}'")
        about = _about(source)  # before it is listed: what comes in between is seen the next time
        wanted = _listed(source)
        complete = state.status is Status.COMPLETE and not options.recheck
        if complete and (result := _still_same(source, wanted, paths, about, log)) is not None:
            log(f"using '{paths.target}', which is complete")
            return result
        return _complete(source, wanted, paths, state, options, about, log)
    finally:
        source.close()


def _complete(
    source: Source,
    wanted: _Wanted,
    paths: StagePaths,
    state: TargetState,
    options: Options,
    about: dict[str, Any],
    log: Callable[[str], None],
) -> StageResult:
    target = paths.target
    repaired = state.status not in (Status.MISSING, Status.PARTS)
    open_work(paths, os.fspath(source.path), source.kind, source.mode, log)
    if state.status is Status.KAPPADATA_UNFINISHED:
        log(f"setting aside '{target}', which KappaData began to copy and never finished")
        set_aside(paths)
    known, known_folders = known_files(target, state, wanted.folders)
    present = present_in(target, wanted.files, known, with_digest=options.with_digest)
    if options.recheck:
        for problem in problems_in(target, dict(present), options.threads):
            log(f"'{target / problem.path}' {problem.what}")
            del present[problem.path]
    copied = _copy(source, wanted, paths, present, options, log)
    if options.verify != "none":
        _verify(source, wanted, paths, copied, options)
    files = {**present, **copied.kept, **copied.fresh}
    seconds = publish(
        paths,
        {path: files[path] for path in wanted.files},
        list(wanted.folders),
        about,
        known=known,
        known_folders=known_folders,
    )
    remove_work(paths)
    for folder in wanted.folders:  # what kills left that staged a part by itself
        if has_work(f"{target}/{folder}"):
            tidy(stage_paths(target / folder))
    log(f"finished copying '{source.path}' to '{target}'")
    return StageResult(
        target,
        copied=bool(copied.fresh or copied.kept),
        repaired=repaired,
        kind=source.kind,
        files=len(files),
        bytes=sum(entry.size for entry in wanted.files.values()),
        copied_files=len(copied.fresh),
        copied_bytes=copied.moved_bytes,
        kept_bytes=copied.kept_bytes + sum(record.size for record in present.values()),
        sync_seconds=seconds,
    )


def _listed(source: Source) -> _Wanted:
    entries = source.scan()
    files = {entry.path: entry for entry in entries if not entry.is_folder}
    folders = {entry.path: entry for entry in entries if entry.is_folder}
    if not files:
        raise StagingError(
            f"the source '{source.path}' has no files. Is the storage mounted, and is this the "
            f"right path?"
        )
    return _Wanted(entries, files, folders)


def _about(source: Source) -> dict[str, Any]:
    return {
        "source": os.fspath(source.path),
        "kind": source.kind,
        "stamp": stamp_of(source.path, source.kind),
        "staged": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kappacore": kappacore.__version__,
    }


def _still_same(
    source: Source,
    wanted: _Wanted,
    paths: StagePaths,
    about: dict[str, Any],
    log: Callable[[str], None],
) -> StageResult | None:
    """Return the result if a target is complete though the first look at its source said no.

    Raises:
        StagingError: if the target holds another dataset.
    """
    found = read_manifest(paths.target / MANIFEST)
    if found.summary is None:
        return None
    moved = found.summary["source"] != about["source"]
    same = wanted.files.keys() == found.files.keys() and all(
        is_version(entry, found.files[path], exactly=not moved)
        for path, entry in wanted.files.items()
    )
    if not same and moved:
        raise StagingError(
            f"'{paths.target}' was staged from '{found.summary['source']}', and '{source.path}' "
            f"holds other files, or other versions of them (by sizes and times). Choose another "
            f"target, or replace it by recheck=True (--recheck)."
        )
    if not same or set(wanted.folders) != found.folders:
        return None
    open_work(paths, about["source"], about["kind"], source.mode, log)
    replace_manifest(paths, found.files, list(wanted.folders), about)
    remove_work(paths)
    return StageResult(
        paths.target,
        files=len(found.files),
        bytes=sum(record.size for record in found.files.values()),
        kind=source.kind,
    )


def _copy(
    source: Source,
    wanted: _Wanted,
    paths: StagePaths,
    present: dict[str, FileRecord],
    options: Options,
    log: Callable[[str], None],
) -> _Copied:
    """Copy into the work folder what neither it nor the target has."""
    kept = kept_in(paths, wanted.files, set(wanted.folders), with_digest=options.with_digest)
    todo = [
        entry for path, entry in wanted.files.items() if path not in kept and path not in present
    ]
    total = sum(entry.size for entry in wanted.files.values())
    progress = Progress(len(wanted.files), total)
    for path in sorted(wanted.folders):
        (paths.tree / path).mkdir(mode=wanted.folders[path].mode | 0o700, exist_ok=True)
    with Journal(paths.journal) as journal:
        transfer = Transfer(
            source, paths, journal, progress,
            workers=options.threads, with_digest=options.with_digest,
        )  # fmt: skip
        half = transfer.plan(todo)
        to_make = [*todo, *wanted.folders.values()]
        try:
            check_room(paths.work, to_make, kept=half, target=paths.target)
        except NotEnoughSpaceError:
            if not paths.aside.exists():
                raise
            shutil.rmtree(paths.aside)
            check_room(paths.work, to_make, kept=half, target=paths.target)
        there = sum(wanted.files[path].size for path in (*kept, *present)) + half
        progress.add(len(kept) + len(present), there)
        log(
            f"copying '{source.path}' to '{paths.target}': {len(todo):,} files, "
            f"{human(total - there)}" + (f"; {human(there)} are there already" if there else "")
        )
        with display(progress, options.progress, paths.target.name) as tick:
            transfer.run(tick)
    kept_bytes = sum(record.size for record in kept.values()) + half
    return _Copied(kept, transfer.records, kept_bytes, total - there)


def _verify(
    source: Source, wanted: _Wanted, paths: StagePaths, copied: _Copied, options: Options
) -> None:
    """Check what was copied, and that the source is still what it was when it was listed.

    Raises:
        SourceChangedError: if it is not.
        StagingError: if something was not copied as it was read; it is removed.
    """
    changes = source.changes(wanted.entries)
    if changes:
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise SourceChangedError(
            f"'{source.path}' changed while it was copied: {', '.join(changes[:3])}{more}. Stage "
            f"again when nobody writes to it any more; what was copied is kept."
        )
    files = {**copied.kept, **copied.fresh}
    reread = options.verify == "reread"
    if reread:
        sync_disk(paths.tree)
    problems = list(problems_in(paths.tree, files, options.threads, contents=reread))
    for problem in problems:
        (paths.tree / problem.path).unlink(missing_ok=True)
    if problems:
        raise StagingError(
            f"the disk of '{paths.target}' does not give back what was written: "
            f"'{problems[0].path}' {problems[0].what}, one of {len(problems)}. They were removed; "
            f"stage again, and do not trust this disk."
        )
