"""Copying a dataset to a target that is locked, and publishing it there."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import kappacore
from kappacore.errors import NotEnoughSpaceError, SourceChangedError, StagingError
from kappacore.sizes import counted, format_size
from kappacore.staging.copying.processes import Workers
from kappacore.staging.copying.transfer import Transfer, may_use_processes
from kappacore.staging.copying.worker import lines_of
from kappacore.staging.progress import Progress, display
from kappacore.staging.sources.base import blocks_of
from kappacore.staging.sources.find import open_source
from kappacore.staging.sources.stamps import stamp_of
from kappacore.staging.target.check import problems_in
from kappacore.staging.target.manifest import (
    Dataset,
    FileRecord,
    Journal,
    dataset_of,
    is_unchanged,
    read_lines,
    read_manifest,
)
from kappacore.staging.target.paths import MANIFEST, StagePaths, has_work
from kappacore.staging.target.publish import (
    check_way,
    publish,
    replace_manifest,
    set_aside,
    sync_disk,
)
from kappacore.staging.target.removal import remove_tree
from kappacore.staging.target.state import Status, TargetState, known_files
from kappacore.staging.target.work_folder import WorkFolder, is_same, remove_leftovers
from kappacore.staging.versions import Versions, looks_like

if TYPE_CHECKING:
    from pathlib import Path

    from kappacore.staging.options import Options
    from kappacore.staging.sources.base import Source


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
            ``"tar"``, ``"tar.gz"``, ``"tar.zst"``, …; None if the source was not opened.
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


def run(source_path: Path, paths: StagePaths, state: TargetState, options: Options) -> StageResult:
    """Copy what a target lacks of a source, and publish it.

    Args:
        source_path: The source, without symlinks.
        paths: Those of the target, whose lock is held.
        state: The state of the target.
        options: How.
    """
    if state.status is Status.FOUND:
        options.report(
            f"'{paths.target}' has something else than '{source_path}': that stays, and the "
            f"dataset is copied beside it"
        )
    with closing(open_source(source_path, options)) as source:
        options.report(f"listing '{source_path}'")
        with closing(Workers(options.processes, with_digest=options.with_digest)) as workers:
            copy = _Copy(source, paths, options, workers)
            with closing(copy.work):
                result = None
                if state.status is Status.COMPLETE and not options.recheck:
                    result = copy.still_complete()
                return result or copy.complete(state)


def is_still_complete(source_path: Path, paths: StagePaths, options: Options) -> StageResult | None:
    """Return the result if a complete target of another user needs nothing copied.

    Args:
        source_path: The source, without symlinks, which looks different.
        paths: Those of the target, where nothing can be written.
        options: How.
    """
    with (
        closing(open_source(source_path, options)) as source,
        closing(Workers(options.processes, with_digest=False)) as workers,
    ):
        return _Copy(source, paths, options, workers).still_complete(write=False)


class _Copy:
    """A copy of a source to a target.

    Args:
        source: The source, which is listed.
        paths: Those of the target.
        options: How.
        workers: Processes that may list and copy files.
    """

    def __init__(self, source: Source, paths: StagePaths, options: Options, workers: Workers):
        self.workers = workers
        self.source = source
        self.paths = paths
        self.options = options
        self.work = WorkFolder(paths)
        # Before the listing: what is added in between is seen by the next call.
        self.about: dict[str, Any] = {
            "source": os.fspath(source.path),
            "kind": source.kind,
            "stamp": stamp_of(source.path, source.kind),
            "exclude": list(options.exclude),
            "staged": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "kappacore": kappacore.__version__,
        }
        self.listing = source.scan(workers if may_use_processes(options) else None)
        if not self.listing.count:
            but = " but for what is excluded" if options.exclude else ""
            raise StagingError(
                f"the source '{source.path}' has no files{but}. Is the storage mounted, and is "
                f"this the right path?"
            )
        self.versions = Versions(source, self.about, self.listing, paths.target, options)

    def _result(self, **attributes: Any) -> StageResult:
        listing = self.listing
        return StageResult(
            self.paths.target,
            kind=self.source.kind,
            files=listing.count,
            bytes=listing.size,
            **attributes,
        )

    def still_complete(self, *, write: bool = True) -> StageResult | None:
        """Return the result if the target is complete, though its source looked different.

        Args:
            write: Whether to write down how the source looks now.

        Raises:
            StagingError: If the target contains another dataset.
        """
        target, source, listing = self.paths.target, self.source, self.listing
        found = read_manifest(target / MANIFEST)
        if found is None or found.summary is None:
            return None
        moved = found.summary["source"] != self.about["source"]
        same = listing.files.keys() == found.files.keys() and all(
            looks_like(entry, found.files[path], exactly=not moved)
            for path, entry in listing.files.items()
        )
        if same and not self.versions.is_from(found.summary):
            same = not self.versions.other_contents(found.files, listing.files)
        if moved and not same:
            raise StagingError(
                f"'{target}' was staged from '{found.summary['source']}', and '{source.path}' "
                f"contains other files, or other versions of them (by sizes, times or contents). "
                f"Choose another target, or replace it by recheck=True (--recheck)."
            )
        if not same or listing.folders.keys() != found.folders:
            return None
        if write:
            self.work.open(source, self.about["stamp"], self.options.report)
            replace_manifest(self.paths, dataset_of(found.files, listing.folders, self.about))
            self.work.remove()
        self.options.report(f"using '{target}', which is complete")
        return self._result()

    def complete(self, state: TargetState) -> StageResult:
        """Copy what the target lacks, and publish it."""
        paths, source, options, listing = self.paths, self.source, self.options, self.listing
        target = paths.target
        self.work.open(source, self.about["stamp"], options.report)
        if state.status is Status.KAPPADATA_UNFINISHED:
            options.report(
                f"setting aside '{target}', which KappaData began to copy and never finished"
            )
            set_aside(self.paths)
        known, foreign = known_files(target, state, listing.folders, self.versions.is_from)
        present = {
            path: record
            for path, record in known.files.items()
            if (entry := listing.files.get(path)) is not None
            and is_same(entry, record, with_digest=options.with_digest)
            and is_unchanged(f"{target}/{path}", entry)
        }
        if options.recheck:
            for problem in problems_in(target, dict(present), options.threads):
                options.report(f"'{target / problem.path}' {problem.what}")
                del present[problem.path]
        doubtful = [
            path
            for path, record in present.items()
            if path in foreign or (options.recheck and record.digest)
        ]
        for path in self.versions.other_contents(present, doubtful):
            del present[path]
        if state.status is not Status.MISSING:
            check_way(target, listing.files, known.files)
        kept = self.work.complete_files(listing, with_digest=options.with_digest)
        if options.recheck:
            self._recheck_kept(kept)
        with closing(Journal(paths.journal)) as journal:
            progress = Progress(listing.count, listing.size)
            transfer = Transfer(
                source, paths, journal, progress, options, self.work.lock, self.workers
            )
            there = self._copy(transfer, kept, present)
            lines = [lines_of(present.items()), lines_of(kept.items()), *transfer.lines]
            if options.verify != "none":
                self._verify(lines[1:], len(present), transfer)
        if len(present) + len(kept) + transfer.count != listing.count:
            raise RuntimeError(f"{transfer.count} files were copied of {listing.count}")
        about = {"files": listing.count, "bytes": listing.size, **self.about}
        dataset = Dataset(lines, listing.folders, about)
        seconds = publish(self.paths, dataset, known, present)
        self.work.remove()
        for folder in listing.folders:  # left by kills that staged a part separately
            if has_work(f"{target}/{folder}"):
                remove_leftovers(target / folder)
        options.report(f"finished copying '{source.path}' to '{target}'")
        return self._result(
            copied=bool(transfer.count or kept),
            repaired=state.status not in (Status.MISSING, Status.FOUND, Status.PARTS),
            copied_files=transfer.count,
            copied_bytes=listing.size - there,
            kept_bytes=there,
            sync_seconds=seconds,
        )

    def _recheck_kept(self, kept: dict[str, FileRecord]) -> None:
        """Remove what an earlier try left and that is not, or no more, what the source has."""
        known = {path: record for path, record in kept.items() if record.digest}
        damaged = {
            problem.path for problem in problems_in(self.paths.tree, known, self.options.threads)
        }
        versions = Versions(self.source, self.about, self.listing, self.paths.tree, self.options)
        for path in damaged | versions.other_contents(known, known):
            (self.paths.tree / path).unlink()
            del kept[path]

    def _copy(
        self, transfer: Transfer, kept: dict[str, FileRecord], present: dict[str, FileRecord]
    ) -> int:
        """Copy into the work folder what neither it nor the target has.

        Returns:
            The bytes of the dataset that were there already.
        """
        paths, options, listing = self.paths, self.options, self.listing
        todo = listing.blocks
        if kept or present:
            left = listing.files.keys() - kept.keys() - present.keys()
            todo = blocks_of(entry for path, entry in listing.files.items() if path in left)
        for path in sorted(listing.folders):
            (paths.tree / path).mkdir(mode=listing.folders[path] | 0o700, exist_ok=True)
        partial = transfer.plan(todo)
        try:
            self.work.check_room(todo, len(listing.folders), kept=partial)
        except NotEnoughSpaceError:
            if not paths.aside.exists():
                raise
            remove_tree(paths.aside)
            self.work.check_room(todo, len(listing.folders), kept=partial)
        there = listing.size - sum(sum(block.sizes) for block in todo) + partial
        transfer.progress.add(len(kept) + len(present), there)
        options.report(
            f"copying '{self.source.path}' to '{paths.target}': "
            f"{counted(sum(map(len, todo)), 'file')}, {format_size(listing.size - there)}"
            + (f"; {format_size(there)} are there already" if there else "")
        )
        name = f"Staging {paths.target.name}"
        with display(transfer.progress, options.progress, name) as tick:
            transfer.run(tick)
        return there

    def _verify(self, lines: list[bytes], present: int, transfer: Transfer) -> None:
        """Check the files in the tree, and that the source is as it was when it was listed.

        Args:
            lines: Those of the files in the tree.
            present: Number of files that are not there, but in the target.
            transfer: What copied them.

        Raises:
            SourceChangedError: If it is not.
            StagingError: If a file is not as it was read; it is removed.
        """
        tree = self.paths.tree
        reread = self.options.verify == "reread"
        # All is in the tree: the processes that copied it look at it, too.
        whole = not (present or reread)
        is_good = whole and transfer.check(self.listing)
        changes = [] if is_good and self.source.folder else self.source.changes(self.listing)
        if changes:
            more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
            raise SourceChangedError(
                f"'{self.source.path}' changed while it was copied: {', '.join(changes[:3])}"
                f"{more}. Stage again when nobody writes to it any more; what was copied is kept."
            )
        if is_good:
            return
        if reread:
            sync_disk(tree)
        threads = self.options.threads if reread else self.options.waiting_threads
        files = read_lines(b"".join(lines)).files
        problems = list(problems_in(tree, files, threads, contents=reread))
        for problem in problems:
            (tree / problem.path).unlink(missing_ok=True)
        if problems:
            raise StagingError(
                f"the disk of '{self.paths.target}' does not return what was written: "
                f"'{problems[0].path}' {problems[0].what}, one of {len(problems)}. They were "
                f"removed; stage again, and do not trust this disk."
            )
