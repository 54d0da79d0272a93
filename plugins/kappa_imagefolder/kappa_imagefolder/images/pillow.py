"""What is done through Pillow: opening an image, decoding it smaller, shrinking it."""

from __future__ import annotations

import contextlib
import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import PIL
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from kappa_imagefolder.errors import UnreadableImageError
from kappa_imagefolder.images.fallback import fast_else_plain
from kappa_imagefolder.images.jpeg_header import scalable_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

ORIENTATION = ExifTags.Base.Orientation

# What turns an image upright, by its orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_OF_FILES = (
    OSError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
_NEVER_OF_FILES = (NameError, ImportError)

_LARGEST_JPEG = 65_500  # pixels on a side that libjpeg encodes


def identity() -> str:
    """Name what Pillow's pixels depend on, besides the bytes."""
    lenient = "-truncated" if ImageFile.LOAD_TRUNCATED_IMAGES else ""
    return f"pillow-{PIL.__version__}{lenient}"


@contextlib.contextmanager
def open_image(data: Any, max_pixels: int | None) -> Iterator[Image.Image]:
    """Open an image, reading only its header; errors while it is open say what is wrong with it.

    Args:
        data: The bytes of an image file.
        max_pixels: The most that it may decode to; None: ``PIL.Image.MAX_IMAGE_PIXELS``.

    Raises:
        UnreadableImageError: It is empty, not an image, damaged, or decodes to more pixels.
    """
    if not len(data):
        raise UnreadableImageError("the file is empty")
    with _opened(io.BytesIO(data), len(data), max_pixels) as image:
        yield image


def check_header(file: BinaryIO, size: int, max_pixels: int | None) -> None:
    """Refuse a file of ``size`` bytes by its header; see :func:`open_image`."""
    with _opened(file, size, max_pixels):
        pass


@contextlib.contextmanager
def _opened(file: BinaryIO, size: int, max_pixels: int | None) -> Iterator[Image.Image]:
    usual = Image.MAX_IMAGE_PIXELS
    try:
        if max_pixels is not None and usual is not None and max_pixels > usual:
            opened = _open_any_size(file)
        else:
            opened = Image.open(file)
        with opened as image:
            check_pixels(image.width, image.height, max_pixels)
            yield image
    except (UnreadableImageError, MemoryError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnreadableImageError(
            f"{error}. If it is meant to be so large, pass ImageFolder(max_pixels=…); for TIFF and "
            "WebP, where Pillow applies its own limit too, raise PIL.Image.MAX_IMAGE_PIXELS where "
            "the image is decoded (in DataLoader workers: in worker_init_fn)"
        ) from error
    except UnidentifiedImageError as error:
        file.seek(0)
        raise UnreadableImageError(
            f"not an image in a format that Pillow knows ({size} bytes, beginning with "
            f"{file.read(8)!r})"
        ) from error
    except Exception as error:  # damaged bytes may make a decoder raise anything …
        if isinstance(error, _NEVER_OF_FILES) and not isinstance(error, UnboundLocalError):
            raise  # … but these
        raise UnreadableImageError(
            f"damaged image ({size} bytes): {type(error).__name__}: {error}"
        ) from error


def is_of_file(error: Exception) -> bool:
    """Return whether the content of a file may make a loader raise this error.

    All else is a mistake in the loader itself, which no replacement of images should hide.
    """
    if isinstance(error, SyntaxError):
        return error.filename is None  # else it is one of Python code, not of Pillow
    return isinstance(error, _OF_FILES)


def _open_any_size(file: BinaryIO) -> Image.Image:
    """Open an image like ``Image.open``, but without the limit set for the whole process."""
    Image.init()
    prefix = file.read(16)
    for name in Image.ID:
        factory, accept = Image.OPEN[name]
        accepted = accept is None or accept(prefix)
        if not accepted or isinstance(accepted, str):  # a str says why not
            continue
        file.seek(0)
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # not this one
            return factory(file, "")
    raise UnidentifiedImageError("no plugin of Pillow accepts it")


def check_pixels(width: int, height: int, max_pixels: int | None) -> None:
    """Refuse an image that decodes to too many pixels; see :func:`open_image`."""
    limit = Image.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    if limit is not None and width * height > limit:
        raise UnreadableImageError(
            f"the image decodes to {width}x{height} pixels, more than the limit of {limit}, which "
            f"protects against decompression bombs. If it is meant to be so large, pass "
            f"ImageFolder(max_pixels={width * height})"
        )


def is_jpeg(image: Image.Image) -> bool:
    """Return whether an image is a JPEG, or several in one file, as some cameras write them."""
    return image.format in ("JPEG", "MPO")


def reduction(width: int, height: int, size_hint: int | None) -> int:
    """Return 8, 4, 2 or 1: the divisor of the size at which to decode a JPEG.

    Args:
        width: Width of the stored image.
        height: Height of the stored image.
        size_hint: The shorter side keeps at least that many pixels; None: no reduction.
    """
    if size_hint is None:
        return 1
    return next((by for by in (8, 4, 2) if min(width, height) >= by * size_hint), 1)


def draft(image: Image.Image, data: Any, size_hint: int | None) -> None:
    """Decode a JPEG at a smaller size, see :func:`reduction`; other images stay as they are.

    Args:
        image: The opened image.
        data: The bytes of its file.
        size_hint: See :func:`reduction`.
    """
    by = reduction(image.width, image.height, size_hint)
    if by > 1 and is_jpeg(image) and scalable_frame(data) is not None:
        image.draft(None, (image.width // by, image.height // by))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return ``image`` converted to RGB, with its ``info`` as ``convert`` leaves it."""
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        del image.info["transparency"]  # convert() drops it too, but with a warning
    return image.convert("RGB")


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image: 1 to 8, where 1 is upright.

    It is 1 where the metadata are broken: cameras and editors write all sorts of them, and the
    pixels are fine.
    """
    try:
        orientation: Any = image.getexif().get(ORIENTATION)
    except Exception:
        return 1
    return int(orientation) if isinstance(orientation, int) and orientation in _TURNS else 1


def find_turn(image: Image.Image) -> Image.Transpose | None:
    """Return what turns an image upright according to its metadata; None if it is."""
    return _TURNS.get(read_orientation(image))


@dataclass(frozen=True)
class Shrink:
    """Re-encodes large images as smaller JPEGs.

    Args:
        longest: Pixels of the longest side; images up to that size stay as they are.
        quality: The JPEG's quality, from 1 to 95.
    """

    longest: int
    quality: int = 90

    def __call__(self, data: bytes, max_pixels: int | None = None) -> bytes:
        """Return the bytes of the smaller image; those given if they are fewer, or no JPEG can be.

        The orientation in its metadata is kept; other metadata are not.

        Raises:
            UnreadableImageError: The bytes are not an image, are damaged, or have too many pixels.
        """
        small = fast_else_plain(
            lambda: self._small(data, max_pixels, drafted=True),
            lambda: self._small(data, max_pixels, drafted=False),
        )
        if small is None:
            return data
        try:
            return min(_encode(*small, self.quality), data, key=len)
        except OSError:  # no JPEG can be made of it
            return data

    def _small(
        self, data: bytes, max_pixels: int | None, *, drafted: bool
    ) -> tuple[Image.Image, int] | None:
        """Return the smaller image and its orientation; None for one that is small already."""
        with open_image(data, max_pixels) as image:
            if max(image.size) <= self.longest or self.longest > _LARGEST_JPEG:
                return None
            if not is_jpeg(image):
                image.load()  # now, because this turns a TIFF upright
            scale = self.longest / max(image.size)
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            if drafted:
                draft(image, data, 2 * min(size))
            pixels = image if image.mode == "L" else to_rgb(image)
            return pixels.resize(size, Image.Resampling.LANCZOS), read_orientation(image)

    @property
    def identity(self) -> str:
        """What the bytes depend on, besides those of the file."""
        return f"shrink-{self.longest}-{self.quality}/{identity()}"


def _encode(image: Image.Image, orientation: int, quality: int) -> bytes:
    file = io.BytesIO()
    options: dict[str, Any] = {"subsampling": 0}  # with it, the same bytes are 2 dB worse
    if orientation != 1:
        options["exif"] = Image.Exif()
        options["exif"][ORIENTATION] = orientation
    image.info = {}
    image.save(file, "JPEG", quality=quality, **options)
    return file.getvalue()
