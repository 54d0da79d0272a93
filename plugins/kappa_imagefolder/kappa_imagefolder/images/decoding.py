"""From the bytes of an image file to a value.

Pixels are those of ``PIL.Image.open(path).convert("RGB")``, as in torchvision. Options that change
them are part of the identity of decoded images.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from kappa_imagefolder.images import pillow

if TYPE_CHECKING:
    from types import ModuleType

#: What images can be decoded to.
KINDS = ("pil", "raw", "numpy", "tensor")
#: What decodes JPEGs to arrays.
JPEG_DECODERS = ("auto", "pillow")

_EXIF_INFO = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_JPEG_BEGINNING = b"\xff\xd8\xff"
#: Colours that every decoder turns into the same RGB; CMYK is not among them.
_JPEG_COLOURS = ("YCbCr", "Gray", "RGB")


@functools.cache
def simplejpeg() -> ModuleType | None:
    """Return the module; None where it is not installed (``kappa-imagefolder[fast]``)."""
    try:
        import simplejpeg as module
    except ImportError:
        return None
    found: ModuleType = module
    return found


@dataclass(frozen=True)
class Decoder:
    """Turns the bytes of an image file into a value.

    Args:
        kind: One of :data:`KINDS`.
        size_hint: Decode a large JPEG at 1/2, 1/4 or 1/8 of its size, such that its shorter side
            keeps at least that many pixels.
        exif: Turn the image upright according to its metadata.
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
            UnreadableImageError: The bytes are not an image, are damaged, or have too many pixels.
        """
        if self.kind == "raw":
            return data
        if self.kind == "pil":
            return self._to_pil(data)
        pixels = self._to_array(data)
        if self.kind == "numpy":
            return pixels
        import torch

        # Transposed by numpy: torch would start threads for it in every process that decodes.
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    @property
    def identity(self) -> str:
        """What its values depend on, besides the bytes."""
        if self.kind == "raw":
            return "raw"
        parts = [self.kind, pillow.identity()]
        if module := self._simplejpeg:
            parts.append(f"simplejpeg-{module.__version__}")
        if self.size_hint is not None:
            parts.append(f"size_hint-{self.size_hint}")
        if self.exif:
            parts.append("exif")
        return "/".join(parts)

    @property
    def _simplejpeg(self) -> ModuleType | None:
        return simplejpeg() if self.kind in ("numpy", "tensor") and self.jpeg == "auto" else None

    def _to_pil(self, data: Any) -> Image.Image:
        with pillow.open_image(data, self.max_pixels) as image:
            pillow.draft(image, self.size_hint)
            pixels = pillow.to_rgb(image)
            if self.exif:  # read only now: Pillow turns TIFFs itself when it decodes them
                turn = pillow.find_turn(image)
                pixels = pixels if turn is None else pixels.transpose(turn)
                for key in _EXIF_INFO:  # else another library would turn it again
                    pixels.info.pop(key, None)
            return pixels

    def _to_array(self, data: Any) -> npt.NDArray[np.uint8]:
        pixels = self._by_simplejpeg(data)
        if pixels is None:
            return np.array(self._to_pil(data))
        if self.exif:
            with pillow.open_image(data, self.max_pixels) as image:
                turn = pillow.find_turn(image)
            if turn is not None:  # by Pillow, in half the time that numpy takes
                return np.array(Image.fromarray(pixels).transpose(turn))
        return pixels

    def _by_simplejpeg(self, data: Any) -> npt.NDArray[np.uint8] | None:
        """Return the pixels; None where Pillow is to decode or to refuse the file."""
        module = self._simplejpeg
        if module is None or bytes(data[: len(_JPEG_BEGINNING)]) != _JPEG_BEGINNING:
            return None
        try:
            height, width, colours, _ = module.decode_jpeg_header(data)
        except ValueError:
            return None
        if colours not in _JPEG_COLOURS:
            return None
        pillow.check_pixels(width, height, self.max_pixels)
        by = pillow.reduction(width, height, self.size_hint)
        least = {"min_height": -(-height // by), "min_width": -(-width // by)} if by > 1 else {}
        try:
            pixels: npt.NDArray[np.uint8] = module.decode_jpeg(data, "RGB", **least)
        except ValueError:
            return None
        return pixels
