"""Loaders: functions that take a path, and the decoders that turn a file's bytes into a value.

Each loader here is "read the file, then decode the bytes"; keeping the two apart is what lets a
cache hold the compressed bytes and decode on the way out. Pixels are those of
``PIL.Image.open(path).convert("RGB")``, as in torchvision.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from kappa_imagefolder.errors import UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

__all__ = [
    "DECODERS",
    "LOADERS",
    "decode_numpy",
    "decode_pil",
    "decode_raw",
    "decode_tensor",
    "loader_name",
    "numpy_loader",
    "pil_loader",
    "raw_image_folder_sample_to_pil_sample",
    "raw_image_loader",
    "read_file",
    "tensor_loader",
]

_PLAIN = (str, bytes, int, float, bool)

T = TypeVar("T")
Label = TypeVar("Label")


# ---- decoders: a file's bytes → a value


def decode_raw(data: bytes) -> bytes:
    """Return the bytes as they are."""
    return data


def decode_pil(data: bytes) -> Image.Image:
    """Decode a compressed image.

    Args:
        data: The bytes of an image file.

    Returns:
        The image in mode ``RGB``, whatever mode it is stored in.

    Raises:
        UnreadableImageError: The bytes are no image, are damaged, or decode to more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS`` allows.
    """
    if not len(data):
        raise UnreadableImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_size(image)
            if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
                del image.info["transparency"]  # convert() drops it too, but warns of it first
            pixels: Image.Image = image.convert("RGB")
            # What is no plain value (a fraction of TIFF, a text of PNG) could not be cached.
            pixels.info = {key: v for key, v in pixels.info.items() if type(v) in _PLAIN}
            return pixels
    except (UnreadableImageError, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"{error}. {_BOMB_HINT}") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            f"not an image in a format that Pillow knows ({len(data)} bytes, beginning with "
            f"{bytes(data[:8])!r})"
        ) from error
    except Exception as error:  # a decoder fails on damaged bytes with whatever it runs into
        raise UnreadableImageError(
            f"damaged image ({len(data)} bytes): {type(error).__name__}: {error}"
        ) from error


def decode_numpy(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode to an array of ``uint8`` with shape ``(H, W, 3)``; raises as :func:`decode_pil`."""
    return np.array(decode_pil(data))


def decode_tensor(data: bytes) -> torch.Tensor:
    """Decode to a tensor of ``uint8`` with shape ``(3, H, W)``; raises as :func:`decode_pil`."""
    import torch

    return torch.from_numpy(decode_numpy(data)).permute(2, 0, 1).contiguous()


_BOMB_HINT = (
    "If it is meant to be so large, raise PIL.Image.MAX_IMAGE_PIXELS where the image is decoded "
    "(in DataLoader workers: in worker_init_fn)"
)


def _check_size(image: Image.Image) -> None:
    """Refuse what Pillow would only warn of (once, in a worker's output)."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise UnreadableImageError(
            f"the image decodes to {image.width}x{image.height} pixels, more than the limit of "
            f"{limit}, which protects against decompression bombs. {_BOMB_HINT}"
        )


# ---- loaders: a path → a value


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file that must hold some.

    Raises:
        UnreadableImageError: It cannot be read or is empty; says why, not which file.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - called for every sample
            data = file.read()
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    if not data:
        raise UnreadableImageError("the file is empty")
    return data


def raw_image_loader(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of an image file as they are: compressed, to be decoded after a cache.

    Raises:
        UnreadableImageError: The file cannot be read or is empty.
    """
    return _load(path, decode_raw)


def pil_loader(path: str | os.PathLike[str]) -> Image.Image:
    """Load an image file as a PIL image in mode ``RGB``, with the pixels of torchvision's loader.

    Raises:
        UnreadableImageError: The file cannot be read or decoded.
    """
    return _load(path, decode_pil)


def numpy_loader(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Load an image file as ``uint8`` of shape ``(H, W, 3)``; raises as :func:`pil_loader`."""
    return _load(path, decode_numpy)


def tensor_loader(path: str | os.PathLike[str]) -> torch.Tensor:
    """Load an image file as ``uint8`` of shape ``(3, H, W)``; raises as :func:`pil_loader`."""
    return _load(path, decode_tensor)


def _load(path: str | os.PathLike[str], decode: Callable[[bytes], T]) -> T:
    try:
        return decode(read_file(path))
    except UnreadableImageError as error:
        raise UnreadableImageError(f"cannot load {os.fspath(path)!r}: {error}") from error.__cause__


def loader_name(loader: Callable[[str], Any]) -> str | None:
    """Return the name in :data:`LOADERS` of a loader from here; None for any other."""
    return next((name for name, known in LOADERS.items() if known is loader), None)


def raw_image_folder_sample_to_pil_sample(
    sample: tuple[bytes, Label],
) -> tuple[Image.Image, Label]:
    """Decode the image of a raw sample; a ``transform`` for a cache of raw samples.

    Args:
        sample: ``(bytes of an image file, label)``.

    Returns:
        ``(PIL image in mode RGB, label)``.
    """
    data, label = sample
    return decode_pil(data), label


#: The loaders by the name that ``ImageFolder(decode=…)`` takes.
LOADERS: dict[str, Callable[[str], Any]] = {
    "pil": pil_loader,
    "raw": raw_image_loader,
    "numpy": numpy_loader,
    "tensor": tensor_loader,
}
#: What each of them does with the bytes of the file.
DECODERS: dict[str, Callable[[bytes], Any]] = {
    "pil": decode_pil,
    "raw": decode_raw,
    "numpy": decode_numpy,
    "tensor": decode_tensor,
}
