"""PIL images. Imported only once Pillow is in use or a stored value holds an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image, ImageFile

from kappacore.caching.codec.reading import READERS
from kappacore.caching.codec.writing import PLAIN_WRITERS, WRITERS, Refusal

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
#: Types of entries of `info` that need no second look.
_PLAIN = {type(None), bool, int, float, str, bytes}


def _size_in_bytes(mode: str, width: int, height: int) -> int:
    return (width * _MODES[mode] + 7) // 8 * height


def _write_image(writer: Writer, image: Image.Image) -> None:
    _write(writer, image, opened=False)


def _write_opened(writer: Writer, image: ImageFile.ImageFile) -> None:
    """Write an image that ``Image.open`` returned, at its current frame, as a plain image."""
    try:
        image.load()
    except Exception as error:  # whatever decoders raise
        raise Refusal(f"its file cannot be decoded ({error!r})") from error
    _write(writer, image, opened=True)


def _write(writer: Writer, image: Image.Image, *, opened: bool) -> None:
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
    writer.write_part(image, ".info", _info_of(writer, image, opened=opened))
    writer.depth -= 1


def _info_of(writer: Writer, image: Image.Image, *, opened: bool) -> dict[Any, Any]:
    """Return the entries of `info` that are part of the value, with EXIF data that was changed.

    Dropped are entries that the codec cannot keep and that Pillow has set: all such entries of an
    opened file, and objects of Pillow's own types (`iTXt`, `IFDRational`).
    """
    info = image.info
    if getattr(image, "_exif", None) is not None:  # getexif() was called
        info = _with_exif(image)
    if _PLAIN.issuperset(map(type, info.values())):
        return info
    try:
        writer.write_apart(info)
    except Refusal as refusal:
        if not (opened or _is_pillows(refusal.value)):
            refusal.add_step(image, ".info")
            raise
        return {key: info[key] for key in info if _is_kept(writer, image, {key: info[key]}, opened)}
    return info


def _is_kept(writer: Writer, image: Image.Image, entry: dict[Any, Any], opened: bool) -> bool:
    """Return whether an entry of `info` can be kept; False if it may be dropped."""
    try:
        writer.write_apart(entry)
    except Refusal as refusal:
        if opened or _is_pillows(refusal.value):
            return False
        refusal.add_step(image, ".info")
        raise
    return True


def _is_pillows(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "PIL"


def _with_exif(image: Image.Image) -> dict[Any, Any]:
    """Return `info`, with the EXIF data of ``getexif()`` if they were changed since."""
    exif = image.getexif()
    bare = Image.Image()
    bare.info = image.info
    before = bare.getexif()
    same = all(exif.get_ifd(tag) == before.get_ifd(tag) for tag in list(exif._ifds))
    tags = dict(before)
    if hasattr(image, "tag_v2"):  # the tags of a TIFF file say how the file is laid out
        for tag, value in image.tag_v2.items():
            tags[tag] = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    if same and dict(exif) == tags:
        return image.info
    try:
        return {**image.info, "exif": exif.tobytes()}
    except Exception as error:
        raise Refusal(f"its EXIF data cannot be written ({error!r})") from error


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
PLAIN_WRITERS[ImageFile.ImageFile] = _write_opened
READERS["I"] = _read_image
