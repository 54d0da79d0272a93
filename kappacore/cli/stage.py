"""``kappacore stage``."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from kappacore.staging.result import StageResult
    from kappacore.staging.target.check import CheckReport

__all__ = ["add_stage"]

_SHOWN = 20  # problems that are listed


def add_stage(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of ``kappacore stage``."""
    parser = subparsers.add_parser(
        "stage",
        help="bring a dataset to the local disk, or check one that is there",
        description=(
            "Bring a dataset from global storage to the local disk, unless it is there: a folder, "
            "or a zip, tar or tar.gz file. What was copied before an interruption is kept. "
            "Exits with 0 when the dataset is there, 1 if not, 130 when interrupted."
        ),
    )
    parser.add_argument("source", metavar="SRC", nargs="?", help="the dataset on global storage")
    parser.add_argument("target", metavar="DST", help="where it is to be on the local disk")
    parser.add_argument("--relative", metavar="PART", help="stage SRC/PART to DST/PART only")
    parser.add_argument(
        "--verify", choices=["none", "size", "hash", "reread"], default="size",
        help="hash: keep digests of what was read; reread: and compare the disk with them",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, metavar="N", help="number of threads")
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="how long to wait for another process"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare DST with its manifest; nothing is copied"
    )
    parser.add_argument(
        "--recheck", action="store_true", help="compare all files, and copy what differs"
    )
    for name, kind in (("ratio", float), ("bytes", int), ("members", int)):
        parser.add_argument(
            f"--max-{name}", type=kind, metavar="N", help="limit for what an archive holds"
        )
    parser.add_argument("--quiet", action="store_true", help="no bar, no messages")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run, usage_error=parser.error)


def _run(args: argparse.Namespace) -> int:
    if args.check:
        return _check(args)
    if args.source is None:
        args.usage_error("SRC is missing (only --check goes without)")
    from kappacore.staging.api import stage
    from kappacore.staging.sources.archive_safety import ArchiveLimits

    limits = {
        name: value
        for name in ("max_ratio", "max_bytes", "max_members")
        if (value := getattr(args, name)) is not None
    }
    try:
        result = stage(
            args.source,
            args.target,
            relative=args.relative,
            verify=args.verify,
            workers=args.workers,
            progress=False if args.quiet else None,
            log=None if args.quiet else _say,
            timeout=args.timeout,
            recheck=args.recheck,
            limits=ArchiveLimits(**limits),
        )
    except KeyboardInterrupt:
        return 130  # what was kept has been said
    print(_as_json(result) if args.json else _as_text(result))
    return 0


def _check(args: argparse.Namespace) -> int:
    from kappacore.staging.target.check import check_staged

    target = os.path.join(args.target, args.relative or "")  # noqa: PTH118
    report = check_staged(target, workers=args.workers, progress=False if args.quiet else None)
    print(_as_json(report) if args.json else _report_text(report))
    return 0 if report.ok else 1


def _say(line: str) -> None:
    print(f"kappacore: {line}", file=sys.stderr)


def _as_json(result: StageResult | CheckReport) -> str:
    fields: dict[str, Any] = dataclasses.asdict(result)
    return json.dumps(fields, indent=2, default=os.fspath)


def _as_text(result: StageResult) -> str:
    from kappacore.sizes import format_size

    if not result.copied:
        return f"{result.path}: nothing to copy"
    rate = result.copied_bytes / max(result.seconds, 1e-9)
    kept = f", {format_size(result.kept_bytes)} kept from before" if result.kept_bytes else ""
    return (
        f"{result.path}: copied {result.copied_files:,} files, {format_size(result.copied_bytes)} in "
        f"{result.seconds:.1f} s ({format_size(rate)}/s, {result.sync_seconds:.1f} s of it for the "
        f"disk){kept}"
    )


def _report_text(report: CheckReport) -> str:
    lines = [f"{report.path / problem.path} {problem.what}" for problem in report.problems[:_SHOWN]]
    if len(report.problems) > _SHOWN:
        lines.append(f"… and {len(report.problems) - _SHOWN} more")
    by_content = (
        "by content"
        if report.digests == report.files
        else f"{report.digests:,} by content, the others by size and time (--verify hash keeps "
        "digests)"
    )
    lines.append(
        f"{report.path}: {report.files:,} files, {by_content}: "
        + (f"{len(report.problems)} are damaged; repair them with `kappacore stage SRC DST "
           f"--recheck`" if report.problems else "all as they were staged")
    )  # fmt: skip
    if report.extra:
        lines.append(f"{len(report.extra)} files there were not staged, e.g. '{report.extra[0]}'")
    return "\n".join(lines)
