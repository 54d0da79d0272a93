"""Draw the published results, and write their tables into README and docs/benchmarks.md.

    python -m benchmarks.plot                       # benchmarks/results/*.json -> docs/images
    python -m benchmarks.plot build/bench.json      # plots of one run, beside it

The same results give the same bytes. Text and bars are readable on white and on black.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

from benchmarks._published import FIGURES, PAGES, ROOT, amount, bars, label, page, reports, role

GREY = "#7e7e7e"  # as far from white as from black
COLOURS = {"ours": "#2f81f7", "peer": "#9a9a9a", "limit": "none"}
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "kappacore",
    "svg.fonttype": "none",  # text stays text
    "font.size": 9,
    "hatch.color": GREY,
    **dict.fromkeys(("text.color", "xtick.color", "ytick.color", "axes.edgecolor"), GREY),
}


def draw(
    name: str, panels: dict[str, list[dict[str, Any]]], title: str, log: bool, folder: Path
) -> None:
    """Draw one panel of bars for each machine.

    Args:
        name: Of the file.
        panels: The results of each machine, by its label.
        title: Of the whole.
        log: Whether the axis is logarithmic.
        folder: Where the file goes.
    """
    heights = [len(rows) + 1 for rows in panels.values()]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(panels),
            figsize=(7.2, 0.5 + 0.22 * sum(heights)),
            squeeze=False,
            gridspec_kw={"height_ratios": heights},
            layout="constrained",
        )
        unit = ""
        for axis, (machine, rows) in zip(axes[:, 0], panels.items(), strict=True):
            for place, row in enumerate(rows):
                kind, unit = role(row["name"]), row["unit"]
                hatch = {"edgecolor": GREY, "hatch": "////"} if kind == "limit" else {}
                axis.barh(place, row["value"], 0.7, color=COLOURS[kind], **hatch)
                axis.annotate(
                    " " + amount(row["value"], unit), (row["value"], place), va="center", fontsize=8
                )
            axis.set_yticks(range(len(rows)), [row["name"] for row in rows])
            axis.invert_yaxis()
            axis.set_xscale("log" if log else "linear")
            values = [row["value"] for row in rows]
            if log:
                axis.set_xlim(min(values) / 2, max(values) * (max(values) / min(values)) ** 0.25)
            else:
                axis.set_xlim(0, 1.25 * max(values))
            axis.set_xticks([], minor=False)
            axis.set_xticks([], minor=True)
            axis.spines[["top", "right", "bottom"]].set_visible(False)
            axis.set_title(machine, fontsize=8, loc="left")
        better = "more" if unit.endswith("/s") else "less"
        scale = ", logarithmic" if log else ""
        figure.suptitle(f"{title}; {better} is better{scale}", fontsize=10)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"bench-{name}.svg"
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(figure)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", nargs="?", type=Path, help="the JSON of one run")
    path: Path | None = parser.parse_args().report
    found = reports() if path is None else {path.stem: json.loads(path.read_text("utf-8"))}
    folder = ROOT / "docs" / "images" if path is None else path.parent
    for figure in FIGURES:
        panels = {label(report): bars(figure, report) for report in found.values()}
        panels = {machine: rows for machine, rows in panels.items() if rows}
        if panels:
            draw(figure.name, panels, figure.title, figure.log, folder)
    print(f"Plots: {folder}/bench-*.svg")
    if path is None:
        for each in PAGES:
            each.write_text(page(each.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
