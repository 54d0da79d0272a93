"""PIL images."""

from __future__ import annotations

import importlib
import io
from typing import Any

import pytest

from kappacore.caching.codec import Codec, default_codec
from kappacore.errors import UncacheableValueError
from support.codec_values import assert_identical, there_and_back

Image = pytest.importorskip("PIL.Image")
PngInfo = importlib.import_module("PIL.PngImagePlugin").PngInfo
PngImageFile = importlib.import_module("PIL.PngImagePlugin").PngImageFile
IFDRational = importlib.import_module("PIL.TiffImagePlugin").IFDRational


def encode_file(image: Any) -> bytes:
    image.fp.seek(0)
    return bytes(image.fp.read())


def decode_file(data: bytes) -> Any:
    return Image.open(io.BytesIO(data))


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


# ---- what Image.open returns


def opened(image: Any, file_format: str, **options: Any) -> Any:
    """Return an image as its file is opened: not decoded yet."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return Image.open(buffer)


def files() -> dict[str, tuple[Any, str, dict[str, Any]]]:
    colors = pattern("RGB", (20, 30))
    few = colors.quantize(20)
    return {
        "png": (colors, "PNG", {"dpi": (72, 72)}),
        "png of a palette": (few, "PNG", {}),
        "png with one transparent color": (few, "PNG", {"transparency": 3}),
        "png with alpha per color": (few, "PNG", {"transparency": bytes(range(20))}),
        "gray png with a transparent level": (pattern("L"), "PNG", {"transparency": 7}),
        "png with a transparent color": (colors, "PNG", {"transparency": (1, 2, 3)}),
        "png of bits": (colors.convert("1"), "PNG", {}),
        "png with alpha": (pattern("LA"), "PNG", {}),
        "jpeg": (colors, "JPEG", {"dpi": (300, 300)}),
        "cmyk jpeg": (pattern("CMYK"), "JPEG", {}),
        "gif": (few, "GIF", {"transparency": 2}),
        "tiff": (colors, "TIFF", {}),
        "tiff of floats": (pattern("F"), "TIFF", {}),
        "bmp": (few, "BMP", {}),
        "ppm": (colors, "PPM", {}),
        "mpo": (colors, "MPO", {"save_all": True, "append_images": [colors]}),
        "ico": (pattern("RGBA", (32, 32)), "ICO", {}),
    }


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("name", files())
def test_opened_files_come_back_as_the_plain_images_they_are(name: str) -> None:
    image, file_format, options = files()[name]
    back = there_and_back(opened(image, file_format, **options))
    plain = opened(image, file_format, **options).copy()
    assert_same_image(plain, back)
    for copy in (True, False):
        nested = {"x": [opened(image, file_format, **options)]}
        assert_same_image(plain, there_and_back(nested, copy=copy)["x"][0])
    assert back.convert("RGBA").tobytes() == plain.convert("RGBA").tobytes()


def test_what_pillow_notes_in_its_own_types_is_dropped_and_the_rest_of_info_kept() -> None:
    notes = PngInfo()
    notes.add_itxt("Title", "Grüße", "de")
    notes.add_text("Author", "me")
    image = opened(pattern("RGB"), "PNG", pnginfo=notes, dpi=(72, 72))
    image.load()
    kept = {key: value for key, value in image.info.items() if key != "Title"}
    assert len(kept) == len(image.info) - 1
    for same in (image, image.copy(), image.convert("L")):
        assert_identical(there_and_back(same).info, kept)
    image.info["more"] = [IFDRational(1, 3), {"nested": IFDRational(1, 3)}]
    image.info["handle"] = object()  # in a file's info: by Pillow or a plugin of it
    assert_identical(there_and_back(image).info, kept)
    tiff = opened(pattern("RGB"), "TIFF", dpi=(72.5, 1 / 3))
    assert there_and_back(tiff).info.keys() == tiff.info.keys() - {"dpi"}
    plain = pattern("L")
    plain.info = {"dpi": (IFDRational(1, 3), 2), "note": "x"}
    assert there_and_back(plain).info == {"note": "x"}


def exif_of(image: Any) -> Any:
    exif = image.getexif()
    return {tag: value for tag, value in exif.items() if tag != 0x8769}, exif.get_ifd(0x8769)


def test_exif_data_is_kept_as_it_was_set() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    for file_format in ("JPEG", "PNG", "WEBP"):
        image = opened(pattern("RGB"), file_format, exif=exif)
        assert_identical(there_and_back(image).info["exif"], image.info["exif"])
        assert exif_of(image) == exif_of(there_and_back(image))  # read, and not changed
        assert_identical(there_and_back(image).info["exif"], image.info["exif"])
        image.getexif()[0x0112] = 3
        assert exif_of(there_and_back(image)) == exif_of(image)
        del image.getexif()[0x0112]
        assert 0x0112 not in there_and_back(image).getexif()
        image.getexif().get_ifd(0x8769)[0x9003] = "2021:01:01 00:00:00"
        assert exif_of(there_and_back(image)) == exif_of(image)
    plain = pattern("RGB")
    plain.getexif()
    assert there_and_back(plain).info == {}
    plain.getexif()[0x0112] = 8
    assert there_and_back(plain).getexif()[0x0112] == 8
    assert plain.info == {}


def test_a_file_that_cannot_be_decoded_is_refused_with_the_reason() -> None:
    buffer = io.BytesIO()
    pattern("RGB", (200, 200)).save(buffer, "JPEG")
    image = Image.open(io.BytesIO(buffer.getvalue()[: len(buffer.getvalue()) // 2]))
    with pytest.raises(UncacheableValueError, match=r"sample\[0\] cannot .* its file .*truncated"):
        default_codec().encode([image], 0)


def test_a_type_that_is_registered_is_kept_as_such() -> None:
    codec = Codec()
    codec.register_type(PngImageFile, encode_file, decode_file, name="png")
    image = opened(pattern("RGB"), "PNG")
    back = codec.decode(b"".join(codec.encode(image, 0)), 0)
    assert type(back) is PngImageFile


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
