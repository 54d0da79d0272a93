"""An index is for the options, classes and names that it was made with."""

from __future__ import annotations

import os
import time

import pytest

from kappa_imagefolder import EmptyClassError, ImageFolder
from kappacore.errors import InvalidOptionError
from support.image_indices import CHECKS, assert_same, index_in
from support.image_trees import make_tree, picture


def test_other_options_have_an_index_of_their_own(root):
    class Dogs(ImageFolder):
        def find_classes(self, directory):
            return ["dog"], {"dog": 0}

    make_tree(root, ["2/a.jpg", "10/a.jpg"])
    time.sleep(0.02)
    for _ in range(2):
        for options in ({}, {"extensions": ".jpg"}, {"class_order": "natural"}):
            assert_same(ImageFolder(root, index=True, **options), ImageFolder(root, **options))
        assert_same(Dogs(root, index=True, index_check="trust"), Dogs(root))
    assert len(index_in(root)) == 4


def test_an_own_find_classes_is_asked_even_on_trust(root):
    chosen = ["cat"]

    class Chosen(ImageFolder):
        def find_classes(self, directory):
            return chosen, {name: idx for idx, name in enumerate(chosen)}

    assert Chosen(root, index=True, index_check="trust").classes == ["cat"]
    chosen = ["dog"]
    ds = Chosen(root, index=True, index_check="trust")
    assert ds.classes == ["dog"]
    assert len(ds) == 2


@pytest.mark.parametrize("check", CHECKS)
def test_an_empty_class_is_an_error_by_the_index_too(root, check):
    (root / "bare").mkdir()
    for _ in range(2):
        with pytest.raises(EmptyClassError, match=r"1 of the 3 classes .* have no image: 'bare'"):
            ImageFolder(root, index=True, index_check=check)
        ds = ImageFolder(root, index=True, index_check=check, allow_empty=True)
        assert ds.classes == ["bare", "cat", "dog"]


def test_a_folder_without_any_image_has_an_index(tmp_path):
    (tmp_path / "data" / "x").mkdir(parents=True)
    for _ in range(2):
        assert ImageFolder(tmp_path / "data", allow_empty=True, index=True).samples == []


def test_names_that_are_not_utf8_are_kept(tmp_path):
    folder = tmp_path / "data" / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir(parents=True)
        picture().save(folder / os.fsdecode(b"gr\xfc.jpg"))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    for _ in range(2):
        assert_same(ImageFolder(tmp_path / "data", index=True), ImageFolder(tmp_path / "data"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": 3}, "index must be True, False or the path of an index file, got 3"),
        ({"index": None}, "index must be True, False or the path of an index file, got None"),
        ({"index": True, "is_valid_file": str}, "an index cannot tell whether is_valid_file"),
        ({"index_check": "mtime"}, "index_check must be one of 'trust', 'dirs', 'full', got"),
    ],
)
def test_options_that_make_no_sense_are_refused(root, options, message):
    with pytest.raises(InvalidOptionError, match=message):
        ImageFolder(root, **options)
