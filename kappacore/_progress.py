"""The progress bar of long operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["progress_bar"]


def progress_bar(title: str, total: int, *, show: bool | None, **options: Any) -> tqdm[Any]:
    """Return a bar for a ``with`` statement.

    Args:
        title: The text before the bar.
        total: Number of units when it is full.
        show: Whether to show it; None: on a terminal only.
        **options: Those of ``tqdm``.
    """
    from tqdm import tqdm

    return tqdm(desc=title, total=total, disable=None if show is None else not show, **options)
