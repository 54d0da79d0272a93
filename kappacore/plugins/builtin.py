"""The core's own plugins, registered through the same hooks as everyone else's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import kappacore
from kappacore._lazy import stub_names
from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.options import plain
from kappacore.plugins.specs import CacheBackendSpec, DeviceSpec, WrapperSpec

if TYPE_CHECKING:
    from collections.abc import Iterator


@hookimpl
def kappacore_cache_backends() -> Iterator[CacheBackendSpec]:
    """Return the backend that needs nothing but this process."""
    yield CacheBackendSpec(
        name="memory",
        target="kappacore.caching.backends.memory:MemoryBackend",
        scope="process",
        api=1,
        summary="Memory of one process, with a budget.",
    )


@hookimpl
def kappacore_wrappers() -> Iterator[WrapperSpec]:
    """Return the wrapper of the caches, and every wrapper that `kappacore.wrappers` lists."""
    yield WrapperSpec(
        name="cache",
        target="kappacore.caching.datasets:cache",
        api=1,
        summary="Reads every sample once and keeps it in a cache backend.",
    )
    for class_name, module in stub_names("kappacore.wrappers").items():
        if class_name.endswith("Wrapper"):
            yield WrapperSpec(
                name=re.sub(r"(?<!^)(?=[A-Z])", "_", class_name.removesuffix("Wrapper")).lower(),
                target=f"{module}:{class_name}",
                api=1,
                summary=_summary(module, class_name),
            )


@hookimpl
def kappacore_devices() -> Iterator[DeviceSpec]:
    """Return the device that every machine has."""
    yield DeviceSpec(
        name="cpu",
        target="kappacore.loading.devices.cpu:CPU",
        api=1,
        summary="The memory of this process.",
    )


def _summary(module: str, class_name: str) -> str:
    """Return the first line of a class's docstring from its source: an import would take torch."""
    path = Path(kappacore.__path__[0], *module.split(".")[1:]).with_suffix(".py")
    source = path.read_text(encoding="utf-8")
    found = re.search(rf'^class {class_name}\b.*?:\n    """(.+?)(?:"""|$)', source, re.M | re.S)
    return plain(found[1]) if found else ""
