"""What is done with a whole column of images or numbers, on any device."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it

from kappacore.errors import LoadingError
from kappacore.loading.buffers import Allocate, allocate_new

if TYPE_CHECKING:
    from kappacore.loading.options import ItemOptions

__all__ = ["convert", "crop_images", "resize_images"]

_CHANNELS = (1, 3, 4)


def convert(
    column: torch.Tensor, options: ItemOptions, allocate: Allocate = allocate_new
) -> torch.Tensor:
    """Return a column resized, cropped, cast, normalised and laid out, as the options say.

    Casting, normalising and laying out are one pass over the column.

    Args:
        column: Images ``(N, H, W, C)``, ``(N, C, H, W)`` or ``(N, H, W)``, or anything else where
            it is only cast.
        options: What to do.
        allocate: Returns the memory for the result.
    """
    if options.resize is not None:
        column = resize_images(column, options.resize)
    if options.crop is not None:
        column = crop_images(column, options.crop)
    if options.layout is not None:
        column = as_nchw(column)
    dtype = options.dtype or column.dtype
    normalised = options.mean is not None or options.std is not None
    if normalised and options.dtype is None:
        dtype = torch.float32
    memory_format = torch.contiguous_format
    if column.ndim == 4 and options.layout == "channels_last":
        memory_format = torch.channels_last
    out = allocate(column.shape, dtype, column.device, memory_format)
    if normalised:
        scale, shift = _affine(column, options)
        return torch.addcmul(shift, column, scale, out=out)
    return out.copy_(column)


def as_nchw(images: torch.Tensor) -> torch.Tensor:
    """Return a view ``(N, C, H, W)`` of images: the last dimension is the channels if it can be.

    Raises:
        LoadingError: They are no images.
    """
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4:
        if images.shape[3] in _CHANNELS:
            return images.permute(0, 3, 1, 2)
        if images.shape[1] in _CHANNELS:
            return images
    raise LoadingError(
        f"a column of shape {tuple(images.shape)} cannot be taken for images: expected (N, H, W), "
        f"(N, H, W, C) or (N, C, H, W) of 1, 3 or 4 channels. Convert it in transform= instead."
    )


def resize_images(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return images scaled to ``(height, width)``, bilinear with antialiasing, of their dtype."""
    planes = as_nchw(images)
    if tuple(planes.shape[2:]) == size:
        return images
    values = planes if planes.is_floating_point() else planes.float()
    values = F.interpolate(values, size, mode="bilinear", antialias=True)
    if not images.is_floating_point():
        values = values.round_()
    return _as_before(values.to(images.dtype), images)


def crop_images(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return the middle of images, of ``(height, width)``.

    Raises:
        LoadingError: An image is smaller.
    """
    planes = as_nchw(images)
    height, width = planes.shape[2:]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    if top < 0 or left < 0:
        raise LoadingError(
            f"crop={size} is larger than an image of {(height, width)} pixels. Give resize= as "
            f"well, which comes first, or a smaller crop."
        )
    return _as_before(planes[:, :, top : top + size[0], left : left + size[1]], images)


def _as_before(planes: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return ``(N, C, H, W)`` with the dimensions in the order of ``images``."""
    if images.ndim == 3:
        return planes[:, 0]
    return planes.permute(0, 2, 3, 1) if images.shape[3] in _CHANNELS else planes


def _affine(column: torch.Tensor, options: ItemOptions) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift of each channel, float32, that broadcast to the column."""
    mean = torch.tensor(options.mean or (0.0,), dtype=torch.float64)
    std = torch.tensor(options.std or (1.0,), dtype=torch.float64)
    scale, shift = 1 / std, -mean / std
    if column.dtype is torch.uint8:
        scale = scale / 255
    number = max(len(scale), len(shift))
    axis = -1
    if number > 1:
        axes = [axis for axis in (1, -1) if column.ndim > 1 and column.shape[axis] == number]
        if not axes:
            raise LoadingError(
                f"mean and std have {number} numbers, but a column of shape {tuple(column.shape)} "
                f"has no {number} channels. Give one number, or one for each channel."
            )
        axis = axes[0] if options.layout is not None else axes[-1]
    shape = [1] * column.ndim
    shape[axis] = number
    return _constants(tuple(scale.tolist()), tuple(shift.tolist()), tuple(shape), column.device)


@functools.lru_cache(maxsize=64)
def _constants(
    scale: tuple[float, ...],
    shift: tuple[float, ...],
    shape: tuple[int, ...],
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift on a device; a copy for each batch would wait for the device."""
    number = math.prod(shape)
    first, second = (
        torch.tensor(values, dtype=torch.float32).expand(number).reshape(shape).to(device)
        for values in (scale, shift)
    )
    return first, second
