"""Arguments of an ImageFolder that make no sense are refused."""

from __future__ import annotations

import pytest

from kappa_imagefolder import ImageFolder
from kappacore.errors import InvalidOptionError
from support.image_trees import make_tree

FILES = ["cat/1.jpg", "cat/2.png", "dog/3.jpg", "dog/deep/4.jpg", "eel/5.jpg"]


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "data", FILES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decode": "jpeg"}, r"decode must be one of 'pil', 'raw', 'numpy', 'tensor', got 'jpeg'"),
        ({"decode": None}, r"decode must be one of .*, got None"),
        (
            {"fingerprint": "mtime"},
            r"fingerprint must be one of 'sampled', 'sizes', 'content', got",
        ),
        ({"loader": "pil"}, r"loader must be a function that takes a path, got 'pil' \(str\)"),
        (
            {"loader": str, "decode": "raw"},
            r"decode='raw' chooses a loader, and loader=.* pass one",
        ),
        (
            {"extensions": ".jpg", "is_valid_file": str},
            "extensions and is_valid_file both choose the files; pass one of them",
        ),
        ({"is_valid_file": ".jpg"}, r"is_valid_file must be a function .*, got '\.jpg'"),
        ({"extensions": ()}, r"extensions must name at least one ending .*, got \(\)"),
        ({"extensions": 3}, r"extensions must name at least one ending .*, got 3"),
        ({"extensions": [".jpg", ""]}, r"extensions must name at least one ending .*, got"),
    ],
)
def test_options_that_make_no_sense_are_refused(root, options, message):
    with pytest.raises(InvalidOptionError, match=message):
        ImageFolder(root, **options)
