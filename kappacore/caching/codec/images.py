"""PIL images. Imported only once Pillow is in use or a stored value holds an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from kappacore.caching.codec.reading import READERS
from kappacore.caching.codec.writing import WRITERS, Refusal

if TYPE_CHECKING:
    from kappacore.caching.codec.reading import Reader
    from kappacore.caching.codec.writing import Writer

#: mode -> bits per pixel as `Image.tobytes` writes them
_MODES = {
    "1": 1, "L": 8, "P": 8, "LA": 16, "La": 16, "PA": 16, "RGB": 24, "YCbCr": 24, "LAB": 24,
    "HSV": 24, "RGBA": 32, "RGBa": 32, "RGBX": 32, "CMYK": 32, "I": 32, "F": 32, "I;16": 16,
    "I;16L": 16, "I;16B": 16,
}  # fmt: skip
_PALETTES = ("RGB", "RGBA", "CMYK")


def _size_in_bytes(mode: str, width: int, height: int) -> int:
    return (width * _MODES[mode] + 7) // 8 * height


def _write_image(writer: Writer, image: Image.Image) -> None:
    """Write mode, size, pixels, palette and `info`."""
    if image.mode not in _MODES:
        raise Refusal(f"images of mode {image.mode} are not supported; use image.convert")
    width, height = image.size
    if width * height == 0:
        raise Refusal("it is an image without pixels")
    image.load()  # gives a palette that was just set its final form
    palette_mode, palette = None, None
    if image.mode in ("P", "PA") and image.palette is not None:
        palette_mode = image.palette.mode
        palette = bytes(image.getpalette(palette_mode) or ()).decode("latin-1")
    writer.check_size(_size_in_bytes(image.mode, width, height))
    data = image.tobytes()
    writer.enter(image, 1)
    writer.put("I", image.mode, width, height, palette_mode, palette)
    writer.operands += (writer.put_blob(data), len(data))
    writer.write_part(image, ".info", image.info)
    writer.depth -= 1


def _read_image(reader: Reader) -> Image.Image:
    mode, width, height = reader.text(), reader.count(), reader.count()
    palette_mode, palette = reader.operand(), reader.operand()
    data = reader.blob()
    if mode not in _MODES or width * height == 0:
        raise ValueError(f"there is no image of mode {mode!r} and size {width}, {height}")
    if len(data) != _size_in_bytes(mode, width, height):
        raise ValueError("an image has the wrong number of bytes")
    image = Image.frombytes(mode, (width, height), data)
    if palette_mode is not None:
        colors = palette.encode("latin-1") if type(palette) is str else b""
        if palette_mode not in _PALETTES or len(colors) > 256 * len(palette_mode):
            raise ValueError("an image has a malformed palette")
        if colors:
            image.putpalette(colors, palette_mode)
            image.load()
    reader.enter()
    info = reader.read_copy()
    reader.depth -= 1
    if type(info) is not dict:
        raise ValueError("the info of an image is a dict")
    image.info = info
    return image


WRITERS[Image.Image] = _write_image
READERS["I"] = _read_image
