"""Where the numbers of a stored value lie among its bytes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.caching.codec.layout import HEADER, HEADER_SIZE, SIGNATURE, aligned
from kappacore.locations import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["locate_array", "locate_image"]

#: Kinds of dtypes that are numbers.
_NUMBERS = "biufc"
_SCALARS = {bool: np.bool_, int: np.int64, float: np.float64}


def locate_array(value: Any, view: memoryview) -> tuple[Layout, int | bytes, int] | None:
    """Return the layout of an array, tensor or byte string, its offset in a buffer and its size.

    A number has its bytes in place of an offset, as its stored form is another.

    Args:
        value: A value that was decoded from ``view``.
        view: The stored value.

    Returns:
        None if the value is something else, or does not lie in ``view``.
    """
    torch = sys.modules.get("torch")
    if type(value) in _SCALARS or (
        isinstance(value, np.generic) and value.dtype.kind in _NUMBERS and value.dtype.isnative
    ):
        return _locate_number(value)
    if type(value) is np.ndarray:
        if value.dtype.kind not in _NUMBERS or not value.dtype.isnative:
            return None
        axes = _order(value.shape, [step // value.itemsize for step in value.strides])
        layout = Layout("numpy", value.dtype.str, value.shape, axes or None)
        address, size = value.__array_interface__["data"][0], value.nbytes
    elif torch is not None and type(value) is torch.Tensor:
        shape = tuple(value.shape)
        axes = _order(shape, value.stride())
        layout = Layout("torch", str(value.dtype).removeprefix("torch."), shape, axes or None)
        address, size = value.data_ptr(), value.nbytes
    elif type(value) is memoryview:
        axes = ()
        layout = Layout("bytes", "|u1", ())
        address, size = address_of(value), len(value)
    else:
        return None
    if axes is None:
        return None
    offset = address - address_of(view) if size else 0
    return (layout, offset, size) if 0 <= offset <= len(view) - size else None


def _locate_number(value: Any) -> tuple[Layout, bytes, int] | None:
    try:
        data = np.array(value, _SCALARS.get(type(value)))
    except OverflowError:  # beyond 64 bits
        return None
    return Layout("numpy", data.dtype.str, ()), data.tobytes(), data.nbytes


def locate_image(image: Any, view: memoryview) -> tuple[Layout, int, int] | None:
    """Return the layout of a PIL image, the offset and size of its pixels; None if packed.

    Args:
        image: The image that was decoded from ``view``.
        view: The stored value, as :class:`Codec` writes it.
    """
    from PIL import ImageMode

    mode = ImageMode.getmode(image.mode)
    if mode.typestr.startswith("|b"):  # eight pixels a byte
        return None
    palette = None
    if image.palette is not None:
        palette = image.palette.mode, bytes(image.getpalette(image.palette.mode) or ())
    width, height = image.size
    shape = (height, width, len(mode.bands))
    signature, _, _, _, _, structure_size, _, array_bytes = HEADER.unpack_from(view)
    if signature != SIGNATURE:  # a short header: nothing that lies in this machine's memory
        return None
    pixels = aligned(aligned(HEADER_SIZE + structure_size) + array_bytes)
    size = height * width * len(mode.bands) * np.dtype(mode.typestr).itemsize
    return Layout("image", mode.typestr, shape, None, image.mode, palette), pixels, size


def address_of(view: memoryview) -> int:
    """Return the address of a buffer; 0 if it is empty."""
    if not len(view):
        return 0
    address: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address


def _order(shape: tuple[int, ...], strides: Sequence[int]) -> tuple[int, ...] | None:
    """Return the order of axes in memory: ``()`` for C order, None if there are gaps."""
    places = [axis for axis in range(len(shape)) if shape[axis] != 1]
    step = 1
    order = sorted(places, key=lambda axis: -strides[axis])
    if 0 in shape:
        return ()
    for axis in reversed(order):
        if strides[axis] != step:
            return None
        step *= shape[axis]
    if order == places:
        return ()
    ones = [axis for axis in range(len(shape)) if shape[axis] == 1]
    return (*ones, *order)
