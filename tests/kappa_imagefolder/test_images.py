"""What the item x is: the bytes of a file, decoded or loaded as asked, then transformed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import ImageOps

from kappa_imagefolder import ImageFolder, numpy_loader, pil_loader, raw_image_loader, tensor_loader
from kappacore.errors import InvalidOptionError
from support.image_trees import make_tree

FILES = ["cat/1.jpg", "cat/2.png", "dog/3.jpg", "dog/deep/4.jpg", "eel/5.jpg"]


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "data", FILES)


def test_the_raw_form_is_the_file_byte_for_byte(root):
    ds = ImageFolder(root)
    for idx, name in enumerate(FILES):
        raw = ds.getraw_x(idx)
        assert type(raw) is bytes
        assert raw == (root / name).read_bytes()
        assert ds.decode_x(raw).tobytes() == ds.getitem_x(idx).tobytes()


def test_decode_raw_gives_the_bytes_of_the_file(root):
    ds = ImageFolder(root, decode="raw")
    assert ds[1] == ((root / "cat/2.png").read_bytes(), 0)


def test_decode_numpy_and_tensor_give_the_pixels(root):
    image = np.asarray(ImageFolder(root)[3][0])
    assert np.array_equal(ImageFolder(root, decode="numpy")[3][0], image)
    tensor = ImageFolder(root, decode="tensor")[3][0]
    assert torch.equal(tensor, torch.from_numpy(image.copy()).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("decode", "loader"),
    [
        ("pil", pil_loader),
        ("raw", raw_image_loader),
        ("numpy", numpy_loader),
        ("tensor", tensor_loader),
    ],
)
def test_a_loader_of_the_package_is_the_same_as_naming_it(root, decode, loader):
    named, given = ImageFolder(root, decode=decode), ImageFolder(root, loader=loader)
    assert named.loader is given.loader is loader
    assert given.getraw_x(0) == named.getraw_x(0)
    assert given.fingerprint("x") == named.fingerprint("x")
    assert type(given[0][0]) is type(named[0][0])


def test_an_own_loader_gets_the_path_and_has_no_raw_form(root):
    ds = ImageFolder(
        root, loader=lambda path: ("loaded", path), transform=lambda x: (*x, "changed")
    )
    assert ds[0] == (("loaded", str(root / "cat/1.jpg"), "changed"), 0)
    assert ds.getraw_x is None
    assert not ds._kd_item("x").has_raw


def test_the_loader_can_be_replaced(root):
    ds = ImageFolder(root)
    assert ds[0][0].mode == "RGB"
    ds.loader = raw_image_loader
    assert ds[0][0] == (root / "cat/1.jpg").read_bytes()
    ds.loader = str.upper
    assert ds[0][0] == str(root / "cat/1.jpg").upper()
    with pytest.raises(InvalidOptionError, match="loader must be a function that takes a path"):
        ds.loader = "pil"


def test_transform_comes_after_decoding_and_target_transform_changes_labels(root):
    ds = ImageFolder(root, transform=ImageOps.invert, target_transform="class {}".format)
    plain = ImageFolder(root)
    assert ds[2][0].tobytes() == ImageOps.invert(plain[2][0]).tobytes()
    assert ds.decode_x(ds.getraw_x(2)).tobytes() == ds[2][0].tobytes()
    assert ds.getraw_x(2) == plain.getraw_x(2)
    assert ds[2][1] == ds.getitem_class(2) == ds.getitem_y(2) == "class 1"
    assert ds.getall_class() == ds.getall_y() == [f"class {label}" for label in plain.targets]
    assert ds.targets == [0, 0, 1, 1, 2]  # as in torchvision


def test_transforms_can_be_set_later(root):
    ds = ImageFolder(root)
    ds.transform = lambda image: image.size
    ds.target_transform = lambda label: -label
    assert ds[4] == ((48, 32), -2)
