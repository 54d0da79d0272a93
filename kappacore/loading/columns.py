"""From the values of an item to one column of a batch, in memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data._utils.collate import collate, default_collate_fn_map

from kappacore.errors import LoadingError, NotUniformError
from kappacore.loading.convert import crop_images, resize_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.loading.options import ItemOptions

__all__ = ["Jagged", "as_column", "collate_values", "plain_tensor", "refuse_jagged"]


class Jagged(NamedTuple):
    """Values of different lengths: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    ``torch.nested.nested_tensor_from_jagged(*jagged)`` is the same as a nested tensor.

    Attributes:
        values: All rows joined, of shape ``(total, …)``.
        offsets: Where each begins, int64 of shape ``(N + 1,)``.
    """

    values: torch.Tensor
    offsets: torch.Tensor


def as_column(
    values: Sequence[Any], options: ItemOptions, name: str, indices: Sequence[int]
) -> Any:
    """Return the values of an item as one column.

    Args:
        values: One of each row: numbers, arrays, tensors, images, or containers of them.
        options: What is to be done with the item.
        name: The item's name, for messages.
        indices: The rows' indices in the dataset, for messages.

    Raises:
        NotUniformError: Arrays have different shapes, and ``options`` do not say what to do.
        LoadingError: The values cannot be collated.
    """
    values = [as_plain(value) for value in values]
    if options.ragged is not None:
        tensors = [plain_tensor(value) for value in values]
        return _jagged(tensors, name) if options.ragged == "jagged" else _padded(tensors)
    shapes = [tuple(value.shape) for value in values if hasattr(value, "shape")]
    if len(set(shapes)) > 1 and len(shapes) == len(values):
        if options.size is None:
            raise NotUniformError(_not_uniform(shapes, name, indices))
        values = [_one_size(plain_tensor(value), options) for value in values]
    try:
        return collate_values(values)
    except (TypeError, RuntimeError, KeyError) as error:
        raise LoadingError(
            f"item {name!r} of samples {_some(indices)} cannot be put into one batch: {error}. "
            f"Pass collate_fn=, a function of a list of samples, or leave the item out of the mode."
        ) from error


def as_plain(value: Any) -> Any:
    """Return an image of PIL as an array ``(H, W, C)``; anything else as it is."""
    pil = sys.modules.get("PIL.Image")
    return image_array(value) if pil is not None and isinstance(value, pil.Image) else value


def image_array(image: Any) -> np.ndarray[Any, Any]:
    """Return an image of PIL as an array ``(H, W, C)``."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def collate_values(values: Sequence[Any]) -> Any:
    """Return what ``default_collate`` makes of values, images of PIL included."""
    functions: dict[Any, Any] = {np.ndarray: _collate_arrays, **_others}
    pil = sys.modules.get("PIL.Image")
    if pil is not None:
        functions[pil.Image] = _collate_images
    return collate(list(values), collate_fn_map=functions)


def _collate_arrays(arrays: Sequence[Any], **_: Any) -> torch.Tensor:
    """Collate arrays, which may be read-only: torch warns of a tensor over such."""
    return torch.from_numpy(np.stack(arrays))


def _collate_images(images: Sequence[Any], **_: Any) -> torch.Tensor:
    return torch.from_numpy(np.stack(list(map(image_array, images))))


_others = {kind: how for kind, how in default_collate_fn_map.items() if kind is not np.ndarray}


def plain_tensor(value: Any) -> torch.Tensor:
    """Return an image of PIL, an array or a tensor as a tensor."""
    value = as_plain(value)
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))


def _one_size(image: torch.Tensor, options: ItemOptions) -> torch.Tensor:
    """Return one image resized or cropped, so that all are of one size."""
    images = image[None]
    if options.resize is not None:
        images = resize_images(images, options.resize)
    if options.crop is not None:
        images = crop_images(images, options.crop)
    return images[0]


def refuse_jagged(name: str) -> None:
    """Raise NotUniformError: an item's values differ in more than their first dimension."""
    raise NotUniformError(
        f"item {name!r}: ragged='jagged' joins arrays that differ in their first dimension alone. "
        f"For single numbers leave it out; for images give 'resize', 'crop' or ragged='pad'."
    )


def _jagged(tensors: list[torch.Tensor], name: str) -> Jagged:
    if tensors[0].ndim == 0 or len({tensor.shape[1:] for tensor in tensors}) > 1:
        refuse_jagged(name)
    lengths = torch.tensor([0, *map(len, tensors)])
    return Jagged(torch.cat(tensors), lengths.cumsum(0))


def _padded(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return tensors of different sizes as one, with zeros behind the smaller ones."""
    shape = np.max([tuple(tensor.shape) for tensor in tensors], axis=0).astype(int).tolist()
    padded = tensors[0].new_zeros((len(tensors), *shape))
    for row, tensor in zip(padded, tensors, strict=True):
        row[tuple(slice(size) for size in tensor.shape)] = tensor
    return padded


def _not_uniform(shapes: list[tuple[int, ...]], name: str, indices: Sequence[int]) -> str:
    other = next(number for number, shape in enumerate(shapes) if shape != shapes[0])
    return (
        f"item {name!r} has the shape {shapes[0]} in sample {indices[0]}, but {shapes[other]} in "
        f"sample {indices[other]}; a batch needs one. For images give items={{{name!r}: "
        f"{{'resize': (256, 256)}}}} or 'crop'; for boxes or tokens {{'ragged': 'jagged'}} (values "
        f"and offsets) or {{'ragged': 'pad'}} (zeros behind); or make them equal in a wrapper."
    )


def _some(indices: Sequence[int]) -> str:
    shown = ", ".join(map(str, indices[:8]))
    return f"{shown}, …" if len(indices) > 8 else shown
