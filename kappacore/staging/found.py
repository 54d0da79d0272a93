"""Whether something at a target that has no mark is the dataset: the source's names are looked for.

A folder that was copied by hand has them all. A stray file, a folder of somebody else, or a copy
that was killed has not.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from kappacore.staging.sources.find import has_parts, open_source
from kappacore.staging.target.state import Status, TargetState

if TYPE_CHECKING:
    from pathlib import Path

    from kappacore.staging.options import Options


def is_the_dataset(state: TargetState, source: Path | None, target: Path, options: Options) -> bool:
    """Return whether a target without a mark is to be used as it is.

    Without a source to compare it with, it is.
    """
    if state.status is Status.PARTS:
        if source is None or state.only_parts or has_parts(source, state.parts):
            return False
    elif state.status is not Status.FOUND:
        return False
    if source is None:
        return True
    levels = 1 if _is_part(state, source, target) else 2
    with closing(open_source(source, options)) as opened:
        return all(os.path.lexists(target / name) for name in opened.outline(levels))


def _is_part(state: TargetState, source: Path, target: Path) -> bool:
    """Return whether the folder around a target was staged from the folder around its source."""
    if state.above is None or state.summary is None:
        return False
    part = f"{state.summary['source']}/{target.relative_to(state.above).as_posix()}"
    return part in (str(source), str(source.with_suffix("")))
