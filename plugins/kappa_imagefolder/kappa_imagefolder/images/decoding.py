"""Decoders: from the bytes of an image file to a value.

Pixels are those of ``PIL.Image.open(path).convert("RGB")``, as in torchvision. What changes them is
chosen, and part of what identifies decoded images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kappa_imagefolder.images.jpeg import decode_jpeg, reduction, simplejpeg_version
from kappa_imagefolder.images.orientation import read_orientation, turn_array, turn_image
from kappa_imagefolder.images.pillow import (
    check_pixels,
    explained,
    open_image,
    pillow_identity,
    to_rgb,
)

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["JPEG_DECODERS", "KINDS", "Decoder"]

#: What images can be decoded to.
KINDS = ("pil", "raw", "numpy", "tensor")
#: What decodes JPEGs to arrays.
JPEG_DECODERS = ("auto", "pillow")

_EXIF_INFO = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")


@dataclass(frozen=True)
class Decoder:
    """Turns the bytes of an image file into a value.

    Args:
        kind: One of :data:`KINDS`.
        size_hint: Decode a large JPEG at 1/2, 1/4 or 1/8 of its size, such that its shorter side
            keeps at least that many pixels.
        exif: Turn the image upright as its metadata say.
        max_pixels: The most pixels that an image may have; None: ``PIL.Image.MAX_IMAGE_PIXELS``.
        jpeg: ``"auto"``: JPEGs become arrays through simplejpeg where it is installed, else
            through Pillow; ``"pillow"``: always through Pillow.
    """

    kind: str = "pil"
    size_hint: int | None = None
    exif: bool = False
    max_pixels: int | None = None
    jpeg: str = "auto"

    def __call__(self, data: Any) -> Any:
        """Decode.

        Args:
            data: The bytes of an image file.

        Returns:
            By ``kind``: a PIL image in mode ``RGB``; the bytes; ``uint8`` of shape ``(H, W, 3)``;
            a tensor of ``uint8`` of shape ``(3, H, W)``.

        Raises:
            UnreadableImageError: The bytes are no image, are damaged, or have too many pixels.
        """
        if self.kind == "raw":
            return data
        if self.kind == "pil":
            return self._to_pil(data)
        pixels = self._to_array(data)
        if self.kind == "numpy":
            return pixels
        import torch

        # By numpy: torch would start threads for this, in every process that decodes.
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    @property
    def identity(self) -> str:
        """What its values depend on, beside the bytes."""
        if self.kind == "raw":
            return "raw"
        parts = [self.kind, pillow_identity()]
        if self._is_fast:
            parts.append(f"simplejpeg-{simplejpeg_version()}")
        if self.size_hint is not None:
            parts.append(f"size_hint-{self.size_hint}")
        if self.exif:
            parts.append("exif")
        return "/".join(parts)

    @property
    def _is_fast(self) -> bool:
        return (
            self.kind in ("numpy", "tensor")
            and self.jpeg == "auto"
            and simplejpeg_version() is not None
        )

    def _to_pil(self, data: Any) -> Image.Image:
        with explained(data), open_image(data, self.max_pixels) as image:
            if self.size_hint is not None and image.format in ("JPEG", "MPO"):
                by = reduction(image.width, image.height, self.size_hint)
                if by > 1:
                    image.draft(None, (image.width // by, image.height // by))
            pixels = to_rgb(image)
            if self.exif:  # read now: Pillow has turned TIFFs by itself
                pixels = turn_image(pixels, read_orientation(image))
                for key in _EXIF_INFO:  # else somebody else turns it again
                    pixels.info.pop(key, None)
            return pixels

    def _to_array(self, data: Any) -> npt.NDArray[np.uint8]:
        pixels = decode_jpeg(data, self.size_hint, self._check_size) if self._is_fast else None
        if pixels is None:
            return np.array(self._to_pil(data))
        if self.exif:
            with explained(data), open_image(data, self.max_pixels) as image:
                pixels = turn_array(pixels, read_orientation(image))
        return np.ascontiguousarray(pixels)

    def _check_size(self, width: int, height: int) -> None:
        check_pixels(width, height, self.max_pixels)
