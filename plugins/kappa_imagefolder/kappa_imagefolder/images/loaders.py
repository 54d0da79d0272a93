"""Loaders: functions that take a path and return what is in the file there.

Each one reads the file, then decodes its bytes. The two steps are separate so that a cache can keep
the compressed bytes and decode them on the way out.
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

    from kappa_imagefolder.images.pillow import Shrink

Label = TypeVar("Label")
AnyPath = str | os.PathLike[str]


def read_file(path: AnyPath) -> bytes:
    """Return the bytes of a file that must not be empty.

    Raises:
        UnreadableImageError: It cannot be read or is empty; the message does not name the file.
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
        shrink: Applied first to the bytes of the file.
    """

    decoder: Decoder
    shrink: Shrink | None = None

    def read(self, path: AnyPath) -> bytes:
        """Return the bytes to keep; raises the errors of :func:`read_file` and ``Shrink``."""
        data = read_file(path)
        return data if self.shrink is None else self.shrink(data, self.decoder.max_pixels)

    def __call__(self, path: AnyPath) -> Any:
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
        """What the bytes to keep depend on, besides those of the file; empty for nothing."""
        return "" if self.shrink is None else f"/{self.shrink.identity}"

    @property
    def identity(self) -> str:
        """What the value depends on, besides the bytes of the file."""
        decoded = "" if self.decoder.kind == "raw" else f"/{self.decoder.identity}"
        return self.stored_identity + decoded


#: Loads an image file as a PIL image in mode ``RGB``, with the pixels of torchvision's loader.
pil_loader: Callable[[AnyPath], Image.Image] = FileLoader(Decoder("pil"))
#: Loads the bytes of an image file as they are: compressed, to be decoded after a cache.
raw_image_loader: Callable[[AnyPath], bytes] = FileLoader(Decoder("raw"))
#: Loads an image file as ``uint8`` of shape ``(H, W, 3)``.
numpy_loader: Callable[[AnyPath], npt.NDArray[np.uint8]] = FileLoader(Decoder("numpy"))
#: Loads an image file as ``uint8`` of shape ``(3, H, W)``.
tensor_loader: Callable[[AnyPath], torch.Tensor] = FileLoader(Decoder("tensor"))

#: Each loader above by itself, to find it by an equal one.
LOADERS = {each: each for each in (pil_loader, raw_image_loader, numpy_loader, tensor_loader)}


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
