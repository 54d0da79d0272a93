"""The plugin: what this distribution adds to kappacore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore.plugin_api import SourceSpec, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable


@hookimpl
def kappacore_sources() -> Iterable[SourceSpec]:
    """Return the source ``imagefolder``."""
    yield SourceSpec(
        name="imagefolder",
        target="kappa_imagefolder.dataset:ImageFolder",
        api=1,
        summary="A folder of images, one subfolder per class.",
        requires=("pillow>=9.5",),
    )
