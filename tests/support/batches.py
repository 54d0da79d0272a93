"""What tests of batches need: items of every kind that stacks, and what a batch of them is."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from kappacore.datasets import KDDataset, find_item
from kappacore.datasets.indexing import check_indices


def _numbers(idx: int, shape: tuple[int, ...], dtype: str = "|u1") -> np.ndarray[Any, Any]:
    return np.random.default_rng(idx).integers(0, 100, shape).astype(dtype)


def _image(idx: int, mode: str, size: tuple[int, int] = (5, 3)) -> Image.Image:
    if mode == "1":
        return Image.fromarray(_numbers(idx, size[::-1]) > 50)
    bands = {"L": (), "P": (), "RGB": (3,), "RGBA": (4,), "F": (), "I;16": ()}[mode]
    dtype = {"F": "<f4", "I;16": "<u2"}.get(mode, "|u1")
    pixels = _numbers(idx, (*size[::-1], *bands), dtype)
    if mode != "P":
        return Image.fromarray(pixels)
    image = Image.fromarray(pixels)
    image.putpalette(bytes(range(256)) * 3)
    image.info["comment"] = "x" * (idx % 5)
    return image


def _channels_last(idx: int) -> torch.Tensor:
    tensor = torch.from_numpy(_numbers(idx, (2, 3, 4, 5), "<f4"))
    return tensor.contiguous(memory_format=torch.channels_last)


UNIFORM = {
    "bytes": lambda idx: _numbers(idx, (8, 8, 3)),
    "odd": lambda idx: _numbers(idx, (7,)),
    "floats": lambda idx: _numbers(idx, (4, 3), "<f4"),
    "swapped": lambda idx: _numbers(idx, (5,), ">i4"),
    "complex": lambda idx: _numbers(idx, (3,), "<c16"),
    "bools": lambda idx: _numbers(idx, (9,)) > 50,
    "fortran": lambda idx: np.asfortranarray(_numbers(idx, (4, 6), "<i8")),
    "mixed_orders": lambda idx: [np.asarray, np.asfortranarray][idx % 2](_numbers(idx, (4, 6))),
    "zero_d": lambda idx: np.array(idx, "<i2"),
    "empty": lambda idx: np.zeros((0, 3), "<f8"),
    "integer": lambda idx: idx * 3 - 5,
    "boolean": lambda idx: idx % 3 == 0,
    "real": lambda idx: idx / 7,
    "scalar": lambda idx: np.float32(idx / 3),
    "tensor": lambda idx: torch.from_numpy(_numbers(idx, (3, 4), "<f4")),
    "bfloat16": lambda idx: torch.arange(5).to(torch.bfloat16) + idx,
    "tensor_bools": lambda idx: torch.from_numpy(_numbers(idx, (3,)) > 50),
    "tensor_0_d": lambda idx: torch.tensor(idx),
    "transposed": lambda idx: torch.from_numpy(_numbers(idx, (4, 3), "<f4")).T,
    "channels_last": _channels_last,
    **{f"image_{mode[0]}{len(mode)}": partial(_image, mode=mode)
       for mode in ("L", "RGB", "RGBA", "P", "F", "I;16", "1")},
}  # fmt: skip

RAGGED = {
    "boxes": lambda idx: torch.full((idx % 5, 4), float(idx)),
    "tokens": lambda idx: np.arange(idx * 7 % 11, dtype=np.int64),
    "sizes": lambda idx: _image(idx, "RGB", (1 + idx % 4, 2 + idx % 3)),
    "large": lambda idx: _numbers(idx, (40 + idx, 200)),
    "wide_fortran": lambda idx: np.asfortranarray(_numbers(idx, (2 + idx % 3, 3), "<f4")),
}


class Items(KDDataset):
    """Samples with an item of every kind; reads are counted."""

    def __init__(self, length: int, start: int = 0) -> None:
        self.length, self.start = length, start
        self.reads = 0

    def __len__(self) -> int:
        return self.length


def _method(make: Any) -> Any:
    def getitem(self: Items, idx: int) -> Any:
        self.reads += 1
        return make(self.start + idx)

    return getitem


for _name, _make in {**UNIFORM, **RAGGED}.items():
    setattr(Items, f"getitem_{_name}", _method(_make))


def read_batch(
    dataset: KDDataset, name: str, indices: Any, out: Any = None, ctxs: Any = None
) -> Any:
    """Return an item of a batch, stacked."""
    return find_item(dataset, name).get_stacked(_array(dataset, indices), out, ctxs)


def read_ragged(dataset: KDDataset, name: str, indices: Any) -> Any:
    """Return an item of a batch, its values one after another."""
    return find_item(dataset, name).get_ragged(_array(dataset, indices))


def locate_batch(dataset: KDDataset, name: str, indices: Any) -> Any:
    """Return where an item of a batch lies in a cache's memory."""
    return find_item(dataset, name).locate_batch(_array(dataset, indices))


def _array(dataset: KDDataset, indices: Any) -> Any:
    return check_indices(indices, len(dataset), type(dataset).__name__)


def expected(values: list[Any]) -> Any:
    """Return what a batch of values should be."""
    if isinstance(values[0], torch.Tensor):
        return torch.stack(values)
    if isinstance(values[0], Image.Image):
        height, width = values[0].height, values[0].width
        return np.stack([np.asarray(value).reshape(height, width, -1) for value in values])
    return np.stack([np.asarray(value) for value in values])


def equal(batch: Any, wanted: Any) -> bool:
    """Return whether a batch is of the same type, shape, dtype and numbers."""
    same = type(batch) is type(wanted) and batch.dtype == wanted.dtype
    if not same or tuple(batch.shape) != tuple(wanted.shape):
        return False
    if isinstance(batch, torch.Tensor):
        return torch.equal(batch, wanted)
    return bool((batch == wanted).all())
