"""From ``device="cuda:1"`` to the plugin that brings it."""

from __future__ import annotations

from typing import Any

import torch

from kappacore.errors import BrokenPluginError, DeviceUnavailableError, InvalidOptionError
from kappacore.loading.devices.base import Device
from kappacore.plugins.registry import ref

__all__ = ["open_device"]


def open_device(device: Any) -> Device:
    """Open a device by its name.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or a ``torch.device``.

    Raises:
        InvalidOptionError: That is no device.
        UnknownPluginError: No plugin brings such a device; the message says what to install.
        DeviceUnavailableError: This machine has no such device, or not as many.
    """
    name, colon, number = str(device).partition(":")
    if not isinstance(device, (str, torch.device)) or (colon and not number.isdecimal()):
        raise InvalidOptionError(
            f"device={device!r} is no device; expected 'cpu', 'cuda', 'cuda:1' or a torch.device."
        )
    index = int(number) if colon else None
    plugin = ref("device", name, {})
    cls = plugin.load()
    if not (isinstance(cls, type) and issubclass(cls, Device)):
        raise BrokenPluginError(
            f"{plugin} is {cls!r}; expected a class derived from kappacore.plugin_api.Device."
        )
    count = cls.count()
    if (index or 0) >= count:
        there = f"{count} of {name}, from {name}:0 on" if count else f"no {name} device"
        reason = f" ({cls.why_none()})" if not count and cls.why_none() else ""
        raise DeviceUnavailableError(
            f"device={str(device)!r} is not there: this machine has {there}{reason}. Choose "
            f"another, or device='cpu'."
        )
    opened: Device = plugin.open(index)
    return opened
