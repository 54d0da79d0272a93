"""KappaData 0.0.8, the peer of most benchmarks."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def kappadata() -> Any:
    """Return the module; None, and say so once, if it is not installed."""
    try:
        import kappadata as module
    except ImportError:
        print("KappaData 0.0.8 is not installed (`make bench` does it): no ratios against it.")
        return None
    return module
