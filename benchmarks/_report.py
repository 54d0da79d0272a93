"""Results as data, beside what a benchmark prints; `python -m benchmarks` collects them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

COLLECTED = "KAPPACORE_BENCH_RESULTS"  # the environment variable that names the file


def record(case: str, values: Mapping[str, float], unit: str, peer: str | None = None) -> None:
    """Add the results of one comparison to the file that is being collected, if there is one.

    Args:
        case: What was measured: data, sizes, device.
        values: The figure of each of those compared, by name.
        unit: "µs", "ms" and "s", where less is better, or a rate ("images/s").
        peer: Which of the names the others are compared with. The ratio of a result says how many
            times as fast as the peer it is.
    """
    path = os.environ.get(COLLECTED)
    if path is None:
        return
    with Path(path).open("a", encoding="utf-8") as file:
        for name, value in values.items():
            result: dict[str, object] = {"case": case, "name": name}
            result |= {"value": rounded(value), "unit": unit}
            if peer is not None:
                better = value / values[peer] if unit.endswith("/s") else values[peer] / value
                result |= {"peer": peer, "ratio": rounded(better)}
            file.write(json.dumps(result, ensure_ascii=False) + "\n")


def rounded(value: float) -> float:
    """Keep four digits, which is more than a second run agrees on."""
    return float(f"{value:.4g}")
