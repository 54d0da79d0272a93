"""Folders whose images a device may decode."""

from __future__ import annotations

import pytest
from PIL import Image

from kappa_imagefolder.dataset import ImageFolder
from kappacore.datasets import find_item
from support.images import make_image_folder


@pytest.fixture
def folder(tmp_path):
    return make_image_folder(tmp_path / "train")


@pytest.mark.parametrize("options", [{}, {"decode": "numpy"}, {"shrink": 32}])
def test_a_folder_of_jpegs_declares_them(folder, options):
    assert find_item(ImageFolder(folder, **options), "x").raw_format == "jpeg"


@pytest.mark.parametrize(
    "options",
    [
        {"decode": "raw"},
        {"decode": "tensor"},
        {"exif": True},
        {"size_hint": 16},
        {"transform": lambda image: image},
        {"on_error": lambda error: None},
        {"loader": Image.open},
    ],
)
def test_images_that_are_more_than_decoded_are_not_declared(folder, options):
    assert find_item(ImageFolder(folder, **options), "x").raw_format is None


def test_one_file_of_another_kind_is_enough(folder):
    Image.new("RGB", (4, 4)).save(folder / "cat" / "other.png")
    assert find_item(ImageFolder(folder), "x").raw_format is None


def test_a_subclass_that_decodes_otherwise_declares_nothing(folder):
    class Own(ImageFolder):
        def getraw_x(self, idx):
            return b""

        def decode_x(self, raw, ctx=None):
            return None

    assert find_item(Own(folder), "x").raw_format is None
