"""Loaders and decoders give the pixels of Pillow, and errors that name the file and the cause."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from kappa_imagefolder import (
    UnreadableImageError,
    numpy_loader,
    pil_loader,
    raw_image_folder_sample_to_pil_sample,
    raw_image_loader,
    tensor_loader,
)
from kappa_imagefolder.images.loaders import FileLoader
from support.image_trees import picture


def expected(path):
    with Image.open(path) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of palettes with transparency
        return image.convert("RGB")


def with_palette_and_transparency(path):
    image = picture().quantize(16)
    image.save(path, transparency=bytes(range(0, 160, 10)))


def sixteen_bit(path):
    Image.fromarray((np.arange(48 * 32).reshape(32, 48) * 40).astype(np.uint16)).save(path)


def with_orientation(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(path, exif=exif)


KINDS = {
    "jpeg.jpg": lambda path: picture().save(path),
    "grey.jpg": lambda path: picture().convert("L").save(path),
    "cmyk.jpg": lambda path: picture().convert("CMYK").save(path),
    "rotated.jpg": with_orientation,
    "rgba.png": lambda path: picture().convert("RGBA").save(path),
    "grey_alpha.png": lambda path: picture().convert("LA").save(path),
    "palette.png": with_palette_and_transparency,
    "one_transparent.png": lambda path: picture().quantize(16).save(path, transparency=3),
    "sixteen.png": sixteen_bit,
    "sixteen.tif": sixteen_bit,
    "bits.bmp": lambda path: picture().convert("1").save(path),
    "animated.webp": lambda path: picture(1).save(
        path, save_all=True, append_images=[picture(2)], lossless=True
    ),
    "ppm.ppm": lambda path: picture().save(path),
    "lied_about.jpg": lambda path: picture().save(path, format="PNG"),
}


@pytest.mark.parametrize("name", KINDS)
def test_pixels_are_those_of_pillow_converted_to_rgb(tmp_path, name):
    path = tmp_path / name
    KINDS[name](path)
    image = pil_loader(path)
    assert image.mode == "RGB"
    assert image.size == (48, 32)
    assert image.tobytes() == expected(path).tobytes()
    assert np.ptp(np.asarray(image)) > 100  # a picture, not one colour


def test_arrays_and_tensors_hold_the_same_pixels(tmp_path):
    path = str(tmp_path / "a.jpg")
    picture(3).save(path)
    pixels = np.asarray(expected(path))
    array, tensor = numpy_loader(path), tensor_loader(path)
    assert array.dtype == np.uint8
    assert array.shape == (32, 48, 3)
    assert np.array_equal(array, pixels)
    assert array.flags.writeable
    assert tensor.dtype == torch.uint8
    assert tensor.shape == (3, 32, 48)
    assert tensor.is_contiguous()
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), pixels)


def test_the_raw_loader_gives_the_file_byte_for_byte(tmp_path):
    path = tmp_path / "a.jpg"
    picture().save(path)
    assert raw_image_loader(path) == path.read_bytes()
    assert raw_image_loader(str(path)) == path.read_bytes()


def test_a_raw_sample_becomes_a_pil_sample(tmp_path):
    path = tmp_path / "a.jpg"
    picture().save(path)
    image, label = raw_image_folder_sample_to_pil_sample((raw_image_loader(path), 7))
    assert image.tobytes() == expected(path).tobytes()
    assert label == 7


def test_a_view_of_the_bytes_decodes_as_well():
    data = io.BytesIO()
    picture().save(data, "JPEG")
    assert (
        FileLoader("pil").decode(data.getbuffer()).tobytes()
        == FileLoader("pil").decode(data.getvalue()).tobytes()
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (
            b"hello, world",
            r"not an image in a format that Pillow knows \(12 bytes, .*b'hello, w'\)",
        ),
        ("half.jpg", r"damaged image \(\d+ bytes\): OSError: .*truncated"),
        ("half.png", r"damaged image \(\d+ bytes\): "),
        ("half.tif", r"damaged image \(\d+ bytes\): |not an image"),
        ("half.webp", r"damaged image \(\d+ bytes\): |not an image"),
    ],
)
def test_a_file_that_is_no_whole_image_says_which_and_why(tmp_path, data, reason):
    path = tmp_path / (data if isinstance(data, str) else "a.jpg")
    if isinstance(data, str):
        picture(size=(480, 320)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=rf"cannot load '{path}': ({reason})") as error:
        pil_loader(path)
    assert isinstance(error.value, OSError)
    if data:
        assert isinstance(error.value.__cause__, Exception)


def test_a_file_that_is_gone_says_so(tmp_path):
    for loader in (raw_image_loader, pil_loader):
        with pytest.raises(UnreadableImageError, match=r"gone\.jpg': No such file") as error:
            loader(tmp_path / "gone.jpg")
        assert isinstance(error.value.__cause__, FileNotFoundError)


def test_an_empty_file_is_an_error_of_the_raw_loader_too(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UnreadableImageError, match=r"a\.jpg': the file is empty"):
        raw_image_loader(tmp_path / "a.jpg")


def png_that_claims(width, height):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


@pytest.mark.parametrize("side", [10_000, 60_000])
@pytest.mark.parametrize("warn", ["ignore", "error"])
def test_a_decompression_bomb_is_an_error_that_names_the_limit(tmp_path, side, warn):
    """10,000 squared is what Pillow only warns of, 60,000 squared what it refuses."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(side, side))
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter(warn)
        filters = list(warnings.filters)
        with pytest.raises(UnreadableImageError) as error:
            pil_loader(path)
        assert warnings.filters == filters
    assert limit == Image.MAX_IMAGE_PIXELS
    message = str(error.value)
    assert f"cannot load '{path}'" in message
    assert "decompression bomb" in message
    assert "pixels" in message
    assert "pass ImageFolder(max_pixels=" in message


def test_a_raised_limit_lets_large_images_through(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    picture().save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(
            UnreadableImageError, match=r"48x32 pixels, more than the limit of 1000"
        ):
            pil_loader(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert pil_loader(path).size == (48, 32)
