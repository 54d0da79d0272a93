"""EXIF orientation: how an image has to be turned to be upright."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["ORIENTATION", "read_orientation", "turn_array", "turn_image"]

#: The EXIF tag.
ORIENTATION = 0x0112

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_orientation(image: Image.Image) -> int:
    """Return the orientation that an image's metadata states: 1 to 8.

    It is 1, for upright, where the metadata are broken: cameras and editors write all sorts of
    them, and the pixels are fine.
    """
    try:
        stated: Any = image.getexif().get(ORIENTATION)
    except Exception:
        return 1
    return int(stated) if isinstance(stated, int) and stated in _TURNS else 1


def turn_image(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image upright."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def turn_array(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Return the pixels, of shape ``(H, W, 3)``, upright; a view."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    return pixels
