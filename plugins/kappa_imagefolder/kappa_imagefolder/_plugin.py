"""The plugin: what this distribution adds to kappacore."""

from __future__ import annotations

from kappacore.plugin_api import SourceSpec, hookimpl


@hookimpl
def kappacore_sources() -> list[SourceSpec]:
    """Return the source ``imagefolder``."""
    spec = SourceSpec(
        name="imagefolder",
        target="kappa_imagefolder.dataset:ImageFolder",
        api=1,
        summary="A folder of images, one subfolder per class.",
        requires=("pillow>=9.5",),
    )
    return [spec]
