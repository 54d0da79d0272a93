"""A progress bar for work that may take long, or lines; short work shows nothing."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kappacore.plugin_api import progress_bar as lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DELAY = 2.0  # seconds before the bar appears


@contextmanager
def progress_bar(
    title: str, total: int | None = None, *, show: bool = True
) -> Iterator[Callable[[int], object]]:
    """Show a bar on a terminal, else lines, on the first rank, once two seconds have passed.

    Args:
        title: What is being done.
        total: The number of images, where it is known.
        show: Whether to show anything.

    Yields:
        A function to call with the number of images just done.
    """
    if not show or os.environ.get("RANK", "0") != "0":
        yield lambda _: None
        return
    if not sys.stderr.isatty():  # no tqdm: it would start a thread, and workers are forked later
        with lines(title, total, "image") as counted:
            yield counted.update
        return
    from tqdm import tqdm

    with tqdm(desc=title, unit=" image", total=total, delay=DELAY, leave=False) as bar:
        yield bar.update
