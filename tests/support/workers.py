"""Workers of a DataLoader, however they are started."""

from __future__ import annotations

from typing import Any

__all__ = ["workers"]


def workers(method: str) -> dict[str, Any]:
    """Return the options for workers: of forked ones two, of a new Python, which is slow, one."""
    return {"num_workers": 2 if method == "fork" else 1, "multiprocessing_context": method}
