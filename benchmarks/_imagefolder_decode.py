"""Decoding photos, and what `shrink` costs in their quality."""

from __future__ import annotations

import io
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks._timing import best_of, table
from kappa_imagefolder.images.loaders import FileLoader
from kappa_imagefolder.images.pillow import Shrink

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 256


def mosaic(images: list[Image.Image], rows: int = 4) -> Image.Image:
    """Put photos together to one of the size that a camera has."""
    width, height = min(image.size for image in images)
    whole = Image.new("RGB", (rows * width, rows * height))
    for number in range(rows * rows):
        image = images[number % len(images)]
        if number % 3:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        whole.paste(image, (number % rows * width, number // rows * height))
    return whole


def encoded(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def decoding(images: list[Image.Image], rounds: int) -> None:
    decoders = {
        "Pillow → PIL image": FileLoader("pil"),
        "Pillow → array": FileLoader("numpy", jpeg="pillow"),
        "Pillow → tensor": FileLoader("tensor", jpeg="pillow"),
    }
    if find_spec("simplejpeg") is None:
        print("simplejpeg is not installed (`make bench` does it): no times of it.")
    else:
        decoders["simplejpeg → array"] = FileLoader("numpy")
        decoders["simplejpeg → tensor"] = FileLoader("tensor")
    for name, files in {
        "photos": [encoded(image) for image in images],
        "photos of a camera's size": [encoded(mosaic(images))],
    }.items():
        sizes = sorted({Image.open(io.BytesIO(data)).size for data in files})
        case = (
            f"Decoding {name}, {sizes[0][0]}x{sizes[0][1]} pixels, "
            f"{sum(map(len, files)) // len(files) // 1000} KB"
        )
        ways: dict[str, Callable[[], Any]] = {}
        for what, decoder in decoders.items():
            small = FileLoader(decoder.kind, size_hint=SIZE, jpeg=decoder.jpeg)
            ways[what] = partial(decode_all, decoder, files)
            if reduces(files[0]):
                ways[f"{what}, size_hint={SIZE}"] = partial(decode_all, small, files)
        times = best_of(ways, 5 * rounds)
        table(case, {what: seconds / len(files) for what, seconds in times.items()})


def reduces(data: bytes) -> bool:
    small = FileLoader("pil", size_hint=SIZE).decode(data)
    return bool(small.size != FileLoader("pil").decode(data).size)


def decode_all(decoder: FileLoader, files: list[bytes]) -> None:
    for data in files:
        decoder.decode(data)


def quality(images: list[Image.Image]) -> None:
    """Print what `shrink` costs, compared with resizing without a JPEG."""
    data = [encoded(mosaic(images))]
    decoder = FileLoader("pil")
    print("What shrink costs in quality, against resizing alone; camera-sized photos")
    for longest in (256, 512):
        for of in (75, 90, 95):
            small = [Shrink(longest, of)(each) for each in data]
            noise = []
            for each, whole in zip(small, data, strict=True):
                found = decoder.decode(each)
                resized = decoder.decode(whole).resize(found.size, Image.Resampling.LANCZOS)
                difference = np.asarray(found).astype(float) - np.asarray(resized)
                noise.append(float(np.mean(difference**2)))
            decibel = 10 * np.log10(255**2 / np.mean(noise))
            size = sum(map(len, small)) / len(small)
            print(f"  shrink=({longest}, {of}){size / 1000:10.1f} KB{decibel:8.1f} dB PSNR")
