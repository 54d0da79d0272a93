"""Progress bars on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def progress_bar(
    name: str, total: int, unit: str, *, show: bool | None = None, done: int = 0
) -> tqdm[Any]:
    """Return a bar, for a ``with`` statement.

    Args:
        name: Its title.
        total: Number of units in all.
        unit: What is counted; ``"B"`` for bytes, which are shown as KiB, MiB, ….
        show: Whether it is shown; None: if there is a terminal.
        done: Number of units that are done already.
    """
    from tqdm import tqdm

    return tqdm(
        total=total, initial=done, desc=name, unit=unit, unit_scale=unit == "B",
        unit_divisor=1024 if unit == "B" else 1000, disable=None if show is None else not show,
    )  # fmt: skip
