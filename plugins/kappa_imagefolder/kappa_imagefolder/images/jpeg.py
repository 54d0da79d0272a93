"""JPEGs to arrays through simplejpeg, where it is installed (``kappa-imagefolder[fast]``)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import numpy as np
    import numpy.typing as npt

__all__ = ["decode_jpeg", "reduction", "simplejpeg_version"]

_BEGINNING = b"\xff\xd8\xff"
#: Colours that every decoder turns into the same RGB; CMYK is not among them.
_COLOURS = ("YCbCr", "Gray", "RGB")


@functools.cache
def _simplejpeg() -> ModuleType | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    found: ModuleType = simplejpeg
    return found


def simplejpeg_version() -> str | None:
    """Return the version of simplejpeg; None where it is not installed."""
    found = _simplejpeg()
    return None if found is None else str(found.__version__)


def reduction(width: int, height: int, size_hint: int | None) -> int:
    """Return 8, 4, 2 or 1: by how much a JPEG can be decoded smaller.

    Args:
        width: Of the stored image.
        height: Of the stored image.
        size_hint: The shorter side keeps at least that many pixels; None: no reduction.
    """
    if size_hint is None:
        return 1
    return next((by for by in (8, 4, 2) if min(width, height) >= by * size_hint), 1)


def decode_jpeg(
    data: Any, size_hint: int | None, check_size: Callable[[int, int], None]
) -> npt.NDArray[np.uint8] | None:
    """Decode a JPEG.

    Args:
        data: The bytes of an image file.
        size_hint: See :func:`reduction`.
        check_size: Called with width and height before anything is decoded; raises for too large
            an image.

    Returns:
        ``uint8`` of shape ``(H, W, 3)``; None where this is for Pillow to decode or to refuse.
    """
    simplejpeg = _simplejpeg()
    if simplejpeg is None or bytes(data[: len(_BEGINNING)]) != _BEGINNING:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colours not in _COLOURS:
        return None
    check_size(width, height)
    by = reduction(width, height, size_hint)
    least = {"min_height": -(-height // by), "min_width": -(-width // by)} if by > 1 else {}
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", **least)
    except ValueError:
        return None
    return pixels
