"""Run benchmarks, each in a process of its own, and write their results to one JSON file.

    python -m benchmarks                   # all, small: some minutes
    python -m benchmarks loader shared     # these; results of others in the file stay
    python -m benchmarks --full            # all sizes and rounds: allow an hour, and 25 GB of disk

Run it on a machine that does nothing else. `python -m benchmarks.plot` draws the results.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._machine import machine
from benchmarks._report import COLLECTED

# By name: the options of a small run. Without options, each measures everything.
SMALL = {
    "cache_hit": ["--samples", "1000"],
    "loader": ["--brief"],
    "shared": ["--brief"],
    "imagefolder": ["--brief"],
    "wrappers": ["--rounds", "3"],
    "samplers": [],
    "staging": ["--small"],
    "redis": ["--rounds", "3"],
    "engine": ["--rounds", "3"],
    "codec": [],
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(SMALL)}")
    parser.add_argument("--full", action="store_true", help="all sizes and rounds")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(SMALL):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(SMALL)}")

    names = arguments.names or [*SMALL]
    report = started_report(arguments.out, names, arguments.full)
    failed = []
    with tempfile.TemporaryDirectory(prefix="kappacore-bench-") as folder:
        for name in names:
            collected = Path(folder, name)
            collected.touch()
            print(f"\n=== {name}", flush=True)
            load = os.getloadavg()[0]  # others' too: on a busy machine, figures are too slow
            started = time.perf_counter()
            options = [] if arguments.full else SMALL[name]
            done = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{name}", *options],
                env={**os.environ, COLLECTED: str(collected)},
            )
            seconds = time.perf_counter() - started
            report["runs"][name] = {"seconds": round(seconds), "load_before": round(load, 1)}
            print(f"({seconds:.0f} s)")
            if done.returncode:
                failed.append(name)
            lines = collected.read_text(encoding="utf-8").splitlines()
            report["results"] += [{"benchmark": name, **json.loads(line)} for line in lines]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text(report), encoding="utf-8")
    print(f"\n{len(report['results'])} results: {arguments.out}")
    if failed:
        print(f"Failed: {', '.join(failed)}; see above.", file=sys.stderr)
    return 1 if failed else 0


def started_report(path: Path, names: list[str], full: bool) -> dict[str, Any]:
    """Return a report without results of ``names``; those of others on this machine stay in it."""
    report: dict[str, Any] = {"machine": machine(), "full": full, "runs": {}, "results": []}
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        same = before["machine"] | {"date": None} == report["machine"] | {"date": None}
        if same and before["full"] == full:
            runs = before["runs"]
            report["runs"] = {name: run for name, run in runs.items() if name not in names}
            report["results"] = [r for r in before["results"] if r["benchmark"] not in names]
    return report


def text(report: dict[str, Any]) -> str:
    """Lay a report out with one line for each result, so that versions of it can be compared."""
    head = json.dumps({**report, "results": None}, indent=1, ensure_ascii=False)
    lines = ",\n".join(
        "  " + json.dumps(result, ensure_ascii=False) for result in report["results"]
    )
    return head.replace('"results": null', f'"results": [\n{lines}\n ]') + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
