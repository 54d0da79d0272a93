"""What this distribution provides to kappacore."""

from __future__ import annotations

from kappacore.plugin_api import DeviceSpec, hookimpl


@hookimpl
def kappacore_devices() -> list[DeviceSpec]:
    """Return the device ``cuda``."""
    spec = DeviceSpec(
        name="cuda",
        target="kappa_cuda.device:CUDA",
        api=1,
        summary="NVIDIA GPUs, which gather batches from the memory of a cache.",
    )
    return [spec]
