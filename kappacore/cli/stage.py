"""``kappacore stage``."""

from __future__ import annotations

import dataclasses
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kappacore._printable import printable
from kappacore.cli.parsers import add_command
from kappacore.cli.streams import complain, show

if TYPE_CHECKING:
    import argparse

    from kappacore.cli.parsers import Subparsers
    from kappacore.staging.run import StageResult
    from kappacore.staging.target.check import CheckReport

_SHOWN = 20  # problems that are listed
#: Name -> its type, and what an archive may contain at most.
_LIMITS: dict[str, tuple[type, str]] = {
    "max_ratio": (float, "unpacked bytes for each byte of an archive, at most; default 200"),
    "max_bytes": (str, "unpacked bytes of an archive, at most, such as 64GiB"),
    "max_members": (int, "files and folders of an archive, at most; default 50,000,000"),
}
#: What only copying takes, and how it is written.
_OF_COPYING = {
    "source": "SRC",
    **{
        name: f"--{name.replace('_', '-')}"
        for name in ("verify", "timeout", "recheck", "exclude", *_LIMITS, "similar_names")
    },
}


def add_stage(subparsers: Subparsers) -> None:
    """Add the parser of ``kappacore stage``."""
    parser = add_command(
        subparsers,
        "stage",
        "copy a dataset to the local disk, or check a copy",
        details=(
            "The dataset is a folder, or a zip or tar file, which may be compressed. Nothing is "
            "copied if it is there already, and what was copied before an interruption is kept."
        ),
        examples="""
            kappacore stage /global/imagenet /local/imagenet
            kappacore stage /global/imagenet.zip /local/imagenet --verify hash
            kappacore stage --check /local/imagenet
        """,
        exit_codes=(
            "0 the dataset is there, and with --check undamaged; 1 it is not; 2 wrong usage; 130 "
            "interrupted: what was copied is kept."
        ),
    )
    add = parser.add_argument
    add("source", metavar="SRC", nargs="?", help="the dataset on global storage")
    add("target", metavar="DST", help="the folder for it on the local disk")
    add("--relative", metavar="PART", help="stage SRC/PART to DST/PART only")
    add(
        "--verify", choices=["none", "size", "hash", "reread"],
        help=(
            "size (default): compare sizes; hash: and store digests of what was read; reread: and "
            "compare the disk with them"
        ),
    )  # fmt: skip
    add("--workers", type=int, metavar="N", help="number of processes or threads")
    add("--timeout", type=float, metavar="SECONDS", help="how long to wait for another process")
    add("--check", action="store_true", help="compare DST with its manifest; nothing is copied")
    add("--recheck", action="store_true", help="compare all files, and copy what differs")
    for name, (kind, text) in _LIMITS.items():
        add(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=text)
    add(
        "--similar-names", action="store_true",
        help="allow names in an archive that differ in case only",
    )  # fmt: skip
    add(
        "--exclude", action="append", metavar="GLOB",
        help="leave out files and folders, such as '*.tmp' or 'train/masks'; repeatable",
    )  # fmt: skip
    add("--quiet", action="store_true", help="show no progress and no messages")
    add("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if not args.check:
        if args.source is None:
            args.usage("SRC is missing (only --check goes without)")
        return _stage(args)
    for name, written in _OF_COPYING.items():
        given = getattr(args, name)
        if given is not None and given is not False:
            args.usage(f"{written} does not go with --check, which only looks at DST")
    return _check(args)


def _stage(args: argparse.Namespace) -> int:
    from kappacore.staging.api import stage
    from kappacore.staging.sources.archive_safety import ArchiveLimits

    limits = {name: getattr(args, name) for name in _LIMITS if getattr(args, name) is not None}
    result = stage(
        args.source,
        args.target,
        relative=args.relative,
        verify=args.verify or "size",
        workers=args.workers,
        progress=False if args.quiet else None,
        log=None if args.quiet else _log,
        timeout=args.timeout,
        recheck=args.recheck,
        limits=ArchiveLimits(**limits, similar_names=args.similar_names),
        exclude=args.exclude,
    )
    show(_as_json(result) if args.json else _as_text(result))
    return 0


def _check(args: argparse.Namespace) -> int:
    from kappacore.staging.options import as_path, checked_relative
    from kappacore.staging.target.check import check_staged

    target = as_path(args.target, "target") / checked_relative(args.relative)
    report = check_staged(target, workers=args.workers, progress=False if args.quiet else None)
    show(_as_json(report) if args.json else _report_text(report))
    return 0 if report.ok else 1


def _log(line: str) -> None:
    with suppress(OSError):  # a message that nobody can read must not stop a copy
        complain(line)


def _as_json(result: StageResult | CheckReport) -> str:
    fields: dict[str, Any] = dataclasses.asdict(result)
    return json.dumps(fields, indent=2, default=os.fspath)


def _as_text(result: StageResult) -> str:
    from kappacore.sizes import counted, format_size

    path = printable(str(result.path))
    if not result.copied:
        return f"{path}: nothing to copy"
    rate = result.copied_bytes / max(result.seconds, 1e-9)
    kept = f", {format_size(result.kept_bytes)} kept from before" if result.kept_bytes else ""
    return (
        f"{path}: copied {counted(result.copied_files, 'file')}, "
        f"{format_size(result.copied_bytes)} in {result.seconds:.1f} s ({format_size(rate)}/s, "
        f"{result.sync_seconds:.1f} s of it for the disk){kept}"
    )


def _report_text(report: CheckReport) -> str:
    from kappacore.sizes import counted

    lines = [
        f"{printable(str(report.path / problem.path))} {problem.what}"
        for problem in report.problems[:_SHOWN]
    ]
    if len(report.problems) > _SHOWN:
        lines.append(f"… and {len(report.problems) - _SHOWN} more")
    how = "by content"
    if report.digests < report.files:
        how = (
            f"{report.digests:,} by content, the others by size and time (--verify hash stores "
            f"digests)"
        )
    files = counted(report.files, "file")
    found = "all as they were staged"
    if report.problems:
        found = f"{len(report.problems):,} damaged; repair with `kappacore stage SRC DST --recheck`"
    lines.append(f"{printable(str(report.path))}: {files}, {how}: {found}")
    if report.extra:
        first = printable(report.extra[0])
        extra = counted(len(report.extra), "file")
        lines.append(f"{extra} that staging did not put there, e.g. '{first}'")
    return "\n".join(lines)
