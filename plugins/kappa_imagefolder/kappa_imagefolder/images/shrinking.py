"""Making image files smaller before they are cached: between keeping them and decoding them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

from kappa_imagefolder.images.jpeg import reduction
from kappa_imagefolder.images.orientation import ORIENTATION, read_orientation
from kappa_imagefolder.images.pillow import explained, open_image, pillow_identity, to_rgb

__all__ = ["Shrink"]


@dataclass(frozen=True)
class Shrink:
    """Re-encodes large images as smaller JPEGs.

    Args:
        longest: Pixels of the longest side; images up to that size stay as they are.
        quality: The JPEG's, from 1 to 95.
    """

    longest: int
    quality: int = 90

    def __call__(self, data: bytes, max_pixels: int | None = None) -> bytes:
        """Return the bytes of the smaller image; those given where they are fewer.

        The orientation that its metadata state is kept, other metadata are not.

        Raises:
            UnreadableImageError: The bytes are no image, are damaged, or have too many pixels.
        """
        with explained(data), open_image(data, max_pixels) as image:
            if max(image.size) <= self.longest:
                return data
            if image.format in ("JPEG", "MPO"):
                size = self._fitted(image)
                by = reduction(image.width, image.height, 2 * min(size))
                image.draft(None, (image.width // by, image.height // by))
            else:
                image.load()  # now, because this turns a TIFF upright
                size = self._fitted(image)
            pixels = image if image.mode == "L" else to_rgb(image)
            small = pixels.resize(size, Image.Resampling.LANCZOS)
            orientation = read_orientation(image)
        return min(_encode(small, self.quality, orientation), data, key=len)

    def _fitted(self, image: Image.Image) -> tuple[int, int]:
        scale = self.longest / max(image.size)
        return max(1, round(image.width * scale)), max(1, round(image.height * scale))

    @property
    def identity(self) -> str:
        """What the bytes depend on, beside those of the file."""
        return f"shrink-{self.longest}-{self.quality}/{pillow_identity()}"


def _encode(image: Image.Image, quality: int, orientation: int) -> bytes:
    file = io.BytesIO()
    options: dict[str, Any] = {"subsampling": 0}  # with it, as many bytes are 2 dB worse
    if orientation != 1:
        options["exif"] = Image.Exif()
        options["exif"][ORIENTATION] = orientation
    image.info = {}
    image.save(file, "JPEG", quality=quality, **options)
    return file.getvalue()
