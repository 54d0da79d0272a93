"""What images carry beside their pixels is what torchvision's loader leaves in ``info``."""

from __future__ import annotations

import warnings

import pytest
from PIL import Image, ImageOps, PngImagePlugin

from kappa_imagefolder import ImageFolder, pil_loader
from kappacore import CacheWrapper, ModeWrapper
from support.image_trees import picture


def with_texts():
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "me")
    texts.add_itxt("Title", "größe", "de", "Titel")
    return texts


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


SAVED = {
    "rgb.png": (lambda: picture(), {"transparency": (200, 100, 3)}),
    "grey.png": (lambda: picture().convert("L"), {"transparency": 100, "dpi": (72, 72)}),
    "palette.png": (lambda: picture().quantize(16), {"transparency": 3}),
    "alphas.png": (lambda: picture().quantize(16), {"transparency": bytes(range(16))}),
    "texts.png": (lambda: picture(), {"pnginfo": with_texts()}),
    "rational.tif": (lambda: picture(), {"dpi": (72.5, 300)}),
    "pages.tif": (lambda: picture(), {"save_all": True, "append_images": [picture(2)]}),
    "usual.jpg": (lambda: picture(), {"dpi": (72, 72), "comment": b"c", "icc_profile": b"123"}),
    "turned.jpg": (lambda: picture(), {"exif": turned()}),
    "moving.webp": (lambda: picture(), {"save_all": True, "append_images": [picture(2)]}),
    "misnamed.jpg": (lambda: picture().quantize(16), {"format": "GIF", "transparency": 3}),
    "icon.jpg": (lambda: picture(), {"format": "ICO"}),
    "two.jpg": (
        lambda: picture(),
        {"format": "MPO", "save_all": True, "append_images": [picture(2)]},
    ),
}
#: What a cache of decoded images loses: values of types of Pillow's own.
OF_PILLOW = {"texts.png": {"Title"}, "rational.tif": {"dpi"}}


@pytest.fixture(params=SAVED)
def path(request, tmp_path):
    make, options = SAVED[request.param]
    (tmp_path / "x").mkdir()
    make().save(tmp_path / "x" / request.param, **options)
    return tmp_path / "x" / request.param


def as_torchvision_loads(path):
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of transparent palettes
        return Image.open(file).convert("RGB")


def assert_same(found, expected, lost=()):
    assert found.info == {key: v for key, v in expected.info.items() if key not in lost}
    for change in (
        ImageOps.exif_transpose,
        lambda image: image.convert("RGBA"),
        lambda image: image.convert("LA"),
    ):
        one, other = change(found.copy()), change(expected.copy())
        assert (one.size, one.tobytes()) == (other.size, other.tobytes())


def test_info_is_that_of_torchvisions_loader(path):
    expected = as_torchvision_loads(path)
    assert_same(pil_loader(path), expected)
    assert_same(ImageFolder(path.parents[1])[0][0], expected)
    with CacheWrapper(ImageFolder(path.parents[1]), "memory") as raw:
        for _ in range(2):
            assert_same(ModeWrapper(raw, "x")[0], expected)


def test_a_cache_of_decoded_images_keeps_info(path):
    expected = as_torchvision_loads(path)
    lost = OF_PILLOW.get(path.name, ())
    with CacheWrapper(ImageFolder(path.parents[1]), "memory", form="decoded") as decoded:
        images = ModeWrapper(decoded, "x")
        for _ in range(2):
            found = images[0]
        assert_same(found, expected, lost)
