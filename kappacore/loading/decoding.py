"""Stored JPEGs that a device decodes: ``items={"x": {"decode": "device"}}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from kappacore.datasets.ctx import SampleCtx
from kappacore.errors import InvalidOptionError
from kappacore.loading.columns import as_column, plain_tensor
from kappacore.loading.gathering import buffers_of
from kappacore.loading.reader import read_values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kappacore.datasets.indexing import IntArray
    from kappacore.datasets.mode import ModeWrapper
    from kappacore.loading.devices.base import Device
    from kappacore.loading.options import ItemOptions
    from kappacore.loading.reader import Reader
    from kappacore.locations import BatchLocation

__all__ = ["check_decoding", "decode_images"]


def check_decoding(mode: ModeWrapper, options: dict[str, ItemOptions]) -> None:
    """Raise InvalidOptionError unless what a device is to decode are plain JPEGs."""
    names = mode.mode.split()
    for position, item in mode._plan:
        name = names[position]
        if options[name].decode is None or item.raw_format == "jpeg":
            continue
        why = "it has no stored form"
        if item.raw_format is not None:
            why = f"its stored form is {item.raw_format!r}"
        elif item.has_raw:
            why = "nothing says that its stored form is that"
        raise InvalidOptionError(
            f"items={{{name!r}: {{'decode': 'device'}}}}: a device decodes plain JPEGs, and of "
            f"item {name!r} {why}. Leave decode out; or, if all are plain JPEGs, let the class "
            f"that defines getraw_{name} declare raw_formats = {{{name!r}: 'jpeg'}}."
        )


def decode_images(
    device: Device,
    reader: Reader,
    position: int,
    indices: IntArray,
    location: BatchLocation | None,
    read: Iterable[Any],
) -> Any:
    """Return images that a device decodes, and those that it cannot from the CPU.

    Args:
        device: The device.
        reader: What reads samples.
        position: That of the item in the mode.
        indices: The rows' indices in the dataset.
        location: Where stored values lie in memory; None: nowhere.
        read: The stored values of the other rows.
    """
    name, item, others = reader.names[position], reader.item(position), iter(read)
    found = [None] * len(indices) if location is None else buffers_of(location)
    # Copies: decoders refuse memory that is registered for gathering.
    files = [
        torch.frombuffer(bytearray(next(others) if file is None else file), dtype=torch.uint8)
        for file in found
    ]
    images: list[Any] = list(device.decode(files) or [None] * len(files))
    left = [row for row, image in enumerate(images) if image is None]
    values = read_values(item, name, indices[left].tolist(), [SampleCtx() for _ in left])
    for row, value in zip(left, values, strict=True):
        images[row] = device.upload(plain_tensor(value))
    return as_column(images, reader.options[name], name, indices.tolist())
