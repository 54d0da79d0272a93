"""PIL images."""

from __future__ import annotations

import io
from typing import Any

import pytest

from kappacore.caching.codec import default_codec
from kappacore.errors import UncacheableValueError
from support.codec_values import assert_identical, there_and_back

Image = pytest.importorskip("PIL.Image")

MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "La",
         "RGBa", "RGBX", "I;16", "I;16L", "I;16B"]  # fmt: skip


def pattern(mode: str, size: tuple[int, int] = (13, 7)) -> Any:
    """Return an image whose pixels all differ where the mode lets them."""
    blank = Image.new(mode, size)
    count = len(blank.tobytes())
    return Image.frombytes(mode, size, bytes(i * 7 % 256 for i in range(count)))


def assert_same_image(left: Any, right: Any) -> None:
    assert type(left) is type(right) is Image.Image
    assert (left.mode, left.size) == (right.mode, right.size)
    assert left.tobytes() == right.tobytes()
    assert left.getpalette(None) == right.getpalette(None)
    assert_identical(left.info, right.info)
    if left.palette is not None:
        assert left.palette.mode == right.palette.mode
        if left.palette.palette:  # older versions of Pillow fill it in when it is asked for
            assert bytes(left.palette.palette) == bytes(right.palette.palette)
            assert left.palette.colors == right.palette.colors


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_comes_back_pixel_by_pixel(mode: str) -> None:
    image = pattern(mode)
    assert_same_image(image, there_and_back(image))
    assert_same_image(image, there_and_back({"x": (image, 3)})["x"][0])
    assert_same_image(image, there_and_back([image], copy=False)[0])


def palettes() -> dict[str, Any]:
    colors = pattern("RGB", (20, 30))
    short, with_alpha, cmyk = (Image.new("P", (3, 3), 1) for _ in range(3))
    short.putpalette([1, 2, 3, 4, 5, 6])
    with_alpha.putpalette(bytes(range(12)), "RGBA")
    cmyk.putpalette(bytes(range(16)), "CMYK")
    transparent = Image.new("P", (3, 3), 1)
    transparent.putpalette([1, 2, 3, 4, 5, 6])
    transparent.info["transparency"] = 1
    return {
        "quantized": colors.quantize(7),
        "web": colors.convert("P"),
        "quantized with alpha": pattern("RGBA", (20, 30)).quantize(5),
        "with alpha channel": pattern("RGBA").convert("PA"),
        "short": short,
        "with alpha": with_alpha,
        "cmyk": cmyk,
        "transparent color": transparent,
        "empty": Image.new("P", (3, 3)),
    }


@pytest.mark.parametrize("name", palettes())
def test_palettes_are_kept(name: str) -> None:
    image = palettes()[name]
    back = there_and_back(image)
    assert_same_image(image, back)
    if image.palette.mode != "CMYK":
        assert back.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


def test_info_is_kept() -> None:
    image = pattern("RGB")
    image.info = {"dpi": (72.0, 72), "exif": b"Exif\0" * 30, "icc_profile": b"p" * 3, "loop": 0}
    for options in ({}, {"copy": False}):
        assert_same_image(image, there_and_back(image, **options))


def test_a_decoded_file_comes_back_once_it_is_a_plain_image() -> None:
    for file_format in ("JPEG", "PNG", "GIF", "TIFF", "BMP"):
        buffer = io.BytesIO()
        pattern("RGB").convert("P" if file_format == "GIF" else "RGB").save(buffer, file_format)
        opened = Image.open(buffer)
        with pytest.raises(UncacheableValueError, match="Convert it to a plain Image"):
            default_codec().encode([opened], 0)
        assert_same_image(opened.copy(), there_and_back(opened.copy()))
        assert_same_image(opened.convert("RGB"), there_and_back(opened.convert("RGB")))


def test_a_decoded_image_is_writable_and_independent() -> None:
    stored = bytearray(b"".join(default_codec().encode(pattern("RGB"), 7)))
    before = bytes(stored)
    image = default_codec().decode(stored, 7, copy=False)
    image.putpixel((0, 0), (9, 9, 9))
    image.paste((1, 2, 3), (2, 2, 5, 5))
    assert bytes(stored) == before
    stored[:] = bytes(len(stored))
    assert image.getpixel((0, 0)) == (9, 9, 9)


def test_what_cannot_be_kept_is_refused() -> None:
    codec = default_codec()
    with pytest.raises(UncacheableValueError, match=r"sample\[0\] cannot .* without pixels"):
        codec.encode([Image.new("RGB", (0, 5))], 0)
    image = pattern("L")
    image.info["maker"] = object()
    with pytest.raises(UncacheableValueError, match=r'sample\["x"\].info\["maker"\] cannot'):
        codec.encode({"x": image}, 0)
    image.info = {"me": [image]}
    with pytest.raises(UncacheableValueError, match="cannot be cached: it contains itself"):
        codec.encode(image, 0)
