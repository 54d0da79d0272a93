"""The figures that README and docs/benchmarks.md show, and their tables.

Every figure comes from `benchmarks/results/*.json`, one file for each machine. A table stands
between two comments of its page (`<!-- figure NAME -->` and `<!-- end -->`) and is written there by
`python -m benchmarks.plot`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")

OURS = re.compile(
    r"Loader|kappacore|shared|memory|redis,|stage|ImageFolder$|index_check"
    r"|(raw|shrunk|decoded) cached"
)
LIMIT = re.compile(r"limit|bare socket|plain dict")
BLOCK = re.compile(r"(<!-- figure ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """One plot with its table: the cases of a benchmark whose name matches."""

    name: str
    title: str
    benchmark: str
    case: str
    log: bool = False  # the axis


FIGURES = (
    Figure(
        "batches-256",
        "Batches of 256 images of 256x256x3, hot cache",
        "loader",
        "images of 256x256x3 uint8 in batches of 256",
    ),
    Figure(
        "batches-32",
        "Batches of 512 images of 32x32x3, hot cache",
        "loader",
        "images of 32x32x3 uint8 in batches of 512",
    ),
    Figure("jpegs", "JPEGs of 500x375, decoded and cropped", "loader", "JPEGs of 500x375"),
    Figure("hit", "A hit: a tensor of 100,000 bytes", "shared", "^A hit, tensors of 100,000", True),
    Figure(
        "workers",
        "Hot epoch, DataLoader with 2 workers, tensors of 100,000 bytes",
        "shared",
        "^2 workers, tensors of 100,000",
        True,
    ),
    Figure("redis", "A sample of 100,000 bytes from a Redis server", "redis", "^One process", True),
    Figure(
        "folder-epochs",
        "Photos of 500x375, resized and cropped, 2 workers",
        "imagefolder",
        "^Epochs with a random crop",
    ),
    Figure(
        "folder-scan",
        "Finding the files of an image folder",
        "imagefolder",
        "^Scanning .* in the page cache|^Opening by index",
        True,
    ),
    Figure(
        "wrappers",
        "Making a wrapper, 1,281,167 samples",
        "wrappers",
        "^(ClassFilter|Oversampling|PercentFilter|Shuffle)Wrapper, 1,281,167|^All labels through 3",
        True,
    ),
    Figure(
        "samplers",
        "One epoch of indices, 1,281,167 samples",
        "samplers",
        "^(Weighted|Distributed)Sampler.*whole epoch",
    ),
    Figure(
        "staging",
        "Copying 20,000 files of 30,000 bytes, in memory",
        "staging",
        "^Staging 20,000 files of 30,000 bytes in memory, (folder|zip)",
    ),
)


@dataclass(frozen=True)
class Row:
    """A line of README's table: a figure of ours on one machine, beside others of its run."""

    what: str
    machine: str  # a file in results, without .json
    figure: str
    ours: str
    beside: tuple[tuple[str, str], ...]  # a name in the results, and what the table calls it


README = (
    Row(
        "Batches of 256 images of 256x256, into the GPU",
        "h100",
        "batches-256",
        "Loader",
        (
            ("DataLoader, 14 workers", "DataLoader of 14 workers, same cache"),
            ("DataLoader, 14 workers, stocaching", "stocaching, 14 workers"),
            ("limit", "limit by way of the CPU"),
        ),
    ),
    Row(
        "JPEGs of 500x375, decoded and cropped on the GPU",
        "h100",
        "jpegs",
        "Loader, decode='device'",
        (("DataLoader, 14 workers, torchvision", "torchvision with 14 workers"),),
    ),
    Row(
        "Batches of 256 images of 256x256, no GPU",
        "epyc",
        "batches-256",
        "Loader",
        (
            ("DataLoader, 2 workers", "DataLoader of 2 workers, same cache"),
            ("DataLoader, 2 workers, stocaching", "stocaching, 2 workers"),
            ("limit", "limit"),
        ),
    ),
    Row(
        "One cached tensor of 100 KB, copied out",
        "epyc",
        "hit",
        "shared",
        (
            ("stocaching (views)", "stocaching (not copied)"),
            ("KappaData 0.0.8 SharedDict", "KappaData"),
        ),
    ),
    Row(
        "Opening an image folder of 50,000 files by its index",
        "epyc",
        "folder-scan",
        "index_check='trust', 50,000 files",
        (("torchvision's os.walk, sorted", "torchvision's scan"), ("ImageFolder", "our scan")),
    ),
    Row(
        "Oversampling 1.28 million labelled samples",
        "epyc",
        "wrappers",
        "OversamplingWrapper: kappacore",
        (("OversamplingWrapper: KappaData 0.0.8", "KappaData"),),
    ),
)

Report = dict[str, Any]
Bar = dict[str, Any]


def reports(folder: Path = RESULTS) -> dict[str, Report]:
    """Read the published results by the name of their machine."""
    return {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))
    }


def label(report: Report) -> str:
    """Name a machine in a few words."""
    machine = report["machine"]
    chip = machine["gpu"] or machine["cpu"]
    return f"{chip}, {machine['cores']} cores"


def bars(figure: Figure, report: Report) -> list[Bar]:
    """Return the results that a figure shows; where it has several cases, their names say which."""
    found = [
        result
        for result in report["results"]
        if result["benchmark"] == figure.benchmark and re.search(figure.case, result["case"])
    ]
    if len({result["case"] for result in found}) == 1:
        return found
    named: dict[str, Bar] = {}
    for result in found:
        case = short(result["case"])
        name = f"{case}: {result['name']}" if case else result["name"]
        named.setdefault(name, {**result, "name": name})
    return list(named.values())


def short(case: str) -> str:
    """Return what tells a case from the others of its figure."""
    if case.startswith(("Scanning", "Opening")):
        return ""
    return re.sub(r"^Staging .*, |(, whole epoch)?, 1,281,167 samples$", "", case)


def role(name: str) -> str:
    """Say whether a result is ours, a peer's, or a limit that no cache can pass."""
    name = name.rpartition(": ")[2]  # without its case
    if LIMIT.match(name):
        return "limit"
    return "ours" if OURS.match(name) else "peer"


def amount(value: float, unit: str) -> str:
    """Write a value with three digits."""
    rounded = float(f"{value:.3g}")
    if unit == "ms" and rounded >= 1000:
        return amount(value / 1000, "s")
    return f"{rounded:,.0f} {unit}" if rounded >= 100 else f"{rounded:g} {unit}"


def table(figure: Figure, found: dict[str, Report]) -> str:
    """Return the plot and the table of a figure, in Markdown."""
    lines = [f"![{figure.title}](images/bench-{figure.name}.svg)"]
    for report in found.values():
        rows = bars(figure, report)
        if not rows:
            continue
        lines += ["", f"| {label(report)} | | times as fast as its peer |", "|---|---|---|"]
        for row in rows:
            name = f"**{row['name']}**" if role(row["name"]) == "ours" else row["name"]
            ratio = f"{row['ratio']:.3g}" if "ratio" in row else ""
            lines.append(f"| {name} | {amount(row['value'], row['unit'])} | {ratio} |")
    return "\n".join(lines) + "\n"


def readme_table(found: dict[str, Report]) -> str:
    """Return README's table, in Markdown."""
    named = {figure.name: figure for figure in FIGURES}
    lines = ["| | kappacore | others, in the same run | machine |", "|---|---|---|---|"]
    for row in README:
        if row.machine not in found:
            continue
        rows = {bar["name"]: bar for bar in bars(named[row.figure], found[row.machine])}
        unit = rows[row.ours]["unit"]
        ours = amount(rows[row.ours]["value"], unit)
        others = [
            f"{called}: {amount(rows[name]['value'], unit)}"
            for name, called in row.beside
            if name in rows
        ]
        lines.append(f"| {row.what} | **{ours}** | {'<br>'.join(others)} | {row.machine} |")
    return "\n".join(lines) + "\n"


def machines(found: dict[str, Report]) -> str:
    """Return a table of the machines, in Markdown."""
    lines = ["| | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for key in ("cpu", "cores", "memory", "gpu", "kernel", "python", "torch", "date"):
        cells = [report["machine"].get(key) for report in found.values()]
        lines.append(
            f"| {key} | "
            + " | ".join(
                ("none" if key == "gpu" else "not noted") if c is None else str(c) for c in cells
            )
            + " |"
        )
    loads = [[run["load_before"] for run in report["runs"].values()] for report in found.values()]
    cells = [f"{min(load)} to {max(load)}" if load else "not noted" for load in loads]
    lines.append("| load before each benchmark | " + " | ".join(cells) + " |")
    peers = [
        ", ".join(f"{name} {number}" for name, number in report["machine"]["peers"].items())
        for report in found.values()
    ]
    lines.append("| peers | " + " | ".join(peers) + " |")
    return "\n".join(lines) + "\n"


def page(text: str, found: dict[str, Report]) -> str:
    """Return a page with its tables written anew."""
    blocks = {figure.name: table(figure, found) for figure in FIGURES}
    blocks |= {"readme": readme_table(found), "machines": machines(found)}
    return BLOCK.sub(lambda block: block[1] + blocks[block[2]] + block[3], text)
