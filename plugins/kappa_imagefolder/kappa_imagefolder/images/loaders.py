"""Loaders: functions that take a path and return what is in the file there.

Each loader here is "read the file, then decode the bytes"; keeping the two apart is what lets a
cache hold the compressed bytes and decode on the way out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from kappa_imagefolder.errors import UnreadableImageError
from kappa_imagefolder.images.decoding import Decoder

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    import torch
    from PIL import Image

    from kappa_imagefolder.images.shrinking import Shrink

__all__ = [
    "FileLoader",
    "file_loader",
    "named_loader",
    "numpy_loader",
    "pil_loader",
    "raw_image_folder_sample_to_pil_sample",
    "raw_image_loader",
    "read_file",
    "tensor_loader",
]

Label = TypeVar("Label")


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


@dataclass(frozen=True)
class FileLoader:
    """Path → value, in two steps: the bytes to keep, and what they are decoded to.

    Args:
        decoder: Bytes → value.
        shrink: Applied to the bytes of the file first.
    """

    decoder: Decoder
    shrink: Shrink | None = None

    def read(self, path: str | os.PathLike[str]) -> bytes:
        """Return the bytes to keep; raises as :func:`read_file` and ``Shrink``."""
        data = read_file(path)
        return data if self.shrink is None else self.shrink(data, self.decoder.max_pixels)

    def __call__(self, path: str | os.PathLike[str]) -> Any:
        """Load an image file.

        Raises:
            UnreadableImageError: The file cannot be read or decoded.
        """
        try:
            return self.decoder(self.read(path))
        except UnreadableImageError as error:
            raise UnreadableImageError(
                f"cannot load {os.fspath(path)!r}: {error}"
            ) from error.__cause__

    @property
    def stored_identity(self) -> str:
        """What the bytes to keep depend on, beside those of the file; empty if on nothing."""
        return "" if self.shrink is None else f"/{self.shrink.identity}"

    @property
    def identity(self) -> str:
        """What the value depends on, beside the bytes of the file."""
        decoded = "" if self.decoder.kind == "raw" else f"/{self.decoder.identity}"
        return self.stored_identity + decoded


def raw_image_loader(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of an image file as they are: compressed, to be decoded after a cache.

    Raises:
        UnreadableImageError: The file cannot be read or is empty.
    """
    data: bytes = _LOADERS[raw_image_loader](path)
    return data


def pil_loader(path: str | os.PathLike[str]) -> Image.Image:
    """Load an image file as a PIL image in mode ``RGB``, with the pixels of torchvision's loader.

    Raises:
        UnreadableImageError: The file cannot be read or decoded.
    """
    image: Image.Image = _LOADERS[pil_loader](path)
    return image


def numpy_loader(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Load an image file as ``uint8`` of shape ``(H, W, 3)``; raises as :func:`pil_loader`."""
    pixels: npt.NDArray[np.uint8] = _LOADERS[numpy_loader](path)
    return pixels


def tensor_loader(path: str | os.PathLike[str]) -> torch.Tensor:
    """Load an image file as ``uint8`` of shape ``(3, H, W)``; raises as :func:`pil_loader`."""
    pixels: torch.Tensor = _LOADERS[tensor_loader](path)
    return pixels


_LOADERS: dict[Callable[..., Any], FileLoader] = {
    pil_loader: FileLoader(Decoder("pil")),
    raw_image_loader: FileLoader(Decoder("raw")),
    numpy_loader: FileLoader(Decoder("numpy")),
    tensor_loader: FileLoader(Decoder("tensor")),
}


def file_loader(loader: Callable[[str], Any]) -> FileLoader | None:
    """Return what a loader of this package does in two steps; None for any other."""
    if isinstance(loader, FileLoader):
        return loader
    return next((known for name, known in _LOADERS.items() if name is loader), None)


def named_loader(loader: FileLoader) -> Callable[[str], Any]:
    """Return the function of this module that does what ``loader`` does; else itself."""
    return next((name for name, known in _LOADERS.items() if known == loader), loader)


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
    return Decoder("pil")(data), label
