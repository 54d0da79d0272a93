"""Opening an image by Pillow, within a limit of its own, and with errors that say what is wrong."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import TYPE_CHECKING, Any

import PIL
from PIL import Image, ImageFile, UnidentifiedImageError

from kappa_imagefolder.errors import UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_pixels", "explained", "open_image", "pillow_identity", "to_rgb"]

_PLAIN = (str, bytes, int, float, bool)


def pillow_identity() -> str:
    """Name what Pillow's pixels depend on, beside the bytes."""
    lenient = "-truncated" if ImageFile.LOAD_TRUNCATED_IMAGES else ""
    return f"pillow-{PIL.__version__}{lenient}"


@contextlib.contextmanager
def explained(data: Any) -> Iterator[None]:
    """Turn whatever Pillow raises for ``data`` into an error that says what is wrong with it."""
    try:
        yield
    except (UnreadableImageError, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnreadableImageError(
            f"{error}. If it is meant to be so large, pass ImageFolder(max_pixels=…); for TIFF and "
            "WebP, where Pillow has its own say, raise PIL.Image.MAX_IMAGE_PIXELS where the image "
            "is decoded (in DataLoader workers: in worker_init_fn)"
        ) from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            f"not an image in a format that Pillow knows ({len(data)} bytes, beginning with "
            f"{bytes(data[:8])!r})"
        ) from error
    except Exception as error:  # a decoder fails on damaged bytes with whatever it runs into
        raise UnreadableImageError(
            f"damaged image ({len(data)} bytes): {type(error).__name__}: {error}"
        ) from error


def open_image(data: Any, max_pixels: int | None) -> Image.Image:
    """Open an image, reading no more than its header.

    Args:
        data: The bytes of an image file.
        max_pixels: The most that it may decode to; None: ``PIL.Image.MAX_IMAGE_PIXELS``.

    Raises:
        UnreadableImageError: It is empty, or decodes to more pixels.
    """
    if not len(data):
        raise UnreadableImageError("the file is empty")
    usual = Image.MAX_IMAGE_PIXELS
    if max_pixels is not None and usual is not None and max_pixels > usual:
        image = _open_any_size(data)
    else:
        image = Image.open(io.BytesIO(data))
    check_pixels(image.width, image.height, max_pixels)
    return image


def check_pixels(width: int, height: int, max_pixels: int | None) -> None:
    """Refuse an image that decodes to too many pixels; see :func:`open_image`."""
    limit = Image.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    if limit is not None and width * height > limit:
        raise UnreadableImageError(
            f"the image decodes to {width}x{height} pixels, more than the limit of {limit}, which "
            f"protects against decompression bombs. If it is meant to be so large, pass "
            f"ImageFolder(max_pixels={width * height})"
        )


def _open_any_size(data: Any) -> Image.Image:
    """Do what ``Image.open`` does, without the limit that it has for the whole process."""
    Image.init()
    prefix = bytes(data[:16])
    for name in Image.ID:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(prefix) is not True:
            continue
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # not this one
            return factory(io.BytesIO(data), "")
    raise UnidentifiedImageError("no plugin of Pillow accepts it")


def to_rgb(image: Image.Image) -> Image.Image:
    """Return ``image`` converted to RGB, with what a cache can keep of its info."""
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        del image.info["transparency"]  # convert() drops it too, but warns of it first
    pixels = image.convert("RGB")
    # What is no plain value (a fraction of TIFF, a text of PNG) could not be cached.
    pixels.info = {key: v for key, v in pixels.info.items() if type(v) in _PLAIN}
    return pixels
