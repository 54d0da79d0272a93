"""Subclasses that choose the classes or the files themselves, as with torchvision's."""

from __future__ import annotations

import pytest

from kappa_imagefolder import EmptyClassError, ImageFolder, pil_loader
from kappa_imagefolder.files.scan import IMG_EXTENSIONS
from kappacore import KappaError
from kappacore.errors import InvalidOptionError
from support.image_trees import make_tree, names


def test_find_classes_can_choose_and_number_the_folders(tmp_path):
    make_tree(tmp_path, ["a/1.jpg", "b/2.jpg", "c/3.jpg"])

    class Chosen(ImageFolder):
        def find_classes(self, directory):
            assert directory == str(tmp_path)
            return ["letters", "b"], {"c": 0, "b": 1, "a": 0}

    ds = Chosen(tmp_path)
    assert ds.classes == ["letters", "b"]
    assert names(ds, tmp_path) == [("a/1.jpg", 0), ("b/2.jpg", 1), ("c/3.jpg", 0)]


def test_find_classes_can_make_one_class_of_the_whole_root(tmp_path):
    make_tree(tmp_path, ["1.jpg", "deep/2.jpg"])
    (tmp_path / "deep" / "back").symlink_to(tmp_path)

    class Flat(ImageFolder):
        def find_classes(self, directory):
            return ["all"], {"": 0}

    assert Flat(tmp_path).samples == [(f"{tmp_path}/1.jpg", 0), (f"{tmp_path}/deep/2.jpg", 0)]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "find_classes returned no class for "),
        (
            {"x": "zero"},
            "find_classes must give every class an integer .* got 'zero' for class 'x'",
        ),
        ({"x": -1}, "got -1 for class 'x'"),
        ({"x": 2**40}, "from 0 to 2147483647, got 1099511627776"),
    ],
)
def test_what_find_classes_gives_is_checked(tmp_path, mapping, message):
    make_tree(tmp_path, ["x/a.jpg"])

    class Odd(ImageFolder):
        def find_classes(self, directory):
            return list(mapping), mapping

    with pytest.raises(KappaError, match=message):
        Odd(tmp_path)


def test_a_class_that_only_find_classes_knows_is_empty(tmp_path):
    make_tree(tmp_path, ["x/a.jpg"])

    class Wishful(ImageFolder):
        def find_classes(self, directory):
            return ["x", "y"], {"x": 0, "y": 1}

    with pytest.raises(EmptyClassError, match=r"1 of the 2 classes in .* have no image: 'y'"):
        Wishful(tmp_path)


def test_make_dataset_can_choose_among_the_files(tmp_path):
    make_tree(tmp_path / "root", ["x/a.jpg", "x/b.jpg", "y/c.jpg"])
    make_tree(tmp_path / "other", ["d.jpg"])

    class Chosen(ImageFolder):
        @staticmethod
        def make_dataset(directory, class_to_idx, **options):
            found = ImageFolder.make_dataset(directory, class_to_idx, **options)
            return [found[2], found[0], (str(tmp_path / "other/d.jpg"), 1)]

    ds = Chosen(tmp_path / "root")
    assert ds.samples == [
        (f"{tmp_path}/root/y/c.jpg", 1),
        (f"{tmp_path}/root/x/a.jpg", 0),
        (f"{tmp_path}/other/d.jpg", 1),
    ]
    assert ds[2][0].tobytes() == pil_loader(tmp_path / "other/d.jpg").tobytes()
    assert ds.fingerprint("x") is not None
    with pytest.raises(
        InvalidOptionError, match=r"an index cannot tell whether Chosen.make_dataset would"
    ):
        Chosen(tmp_path / "root", index=True)


def test_the_methods_are_called_as_torchvision_calls_them(tmp_path):
    root = make_tree(tmp_path, ["x/a.jpg", "y/b.jpg"])
    calls = []

    class Noting(ImageFolder):
        def find_classes(self, *args, **options):
            calls.append((args, options))
            return super().find_classes(*args, **options)

        def make_dataset(self, *args, **options):
            calls.append((args, options))
            return (sample for sample in ImageFolder.make_dataset(*args, **options))

    assert Noting(root, allow_empty=True).samples == ImageFolder(root).samples
    options = {
        "class_to_idx": {"x": 0, "y": 1},
        "extensions": IMG_EXTENSIONS,
        "is_valid_file": None,
        "allow_empty": True,
    }
    assert calls == [((str(root),), {}), ((str(root),), options)]


def test_make_dataset_can_be_called_by_itself(tmp_path):
    root = make_tree(tmp_path, ["x/a.jpg", "x/b.png", "y/c.jpg"])
    make, numbers = ImageFolder.make_dataset, {"x": 0, "y": 1}
    expected = [(f"{root}/x/a.jpg", 0), (f"{root}/y/c.jpg", 1)]
    for endings in ((".jpg",), [".JPG"], ".jpg"):
        assert make(directory=root, class_to_idx=numbers, extensions=endings) == expected
    everything = make(str(root), numbers, (".jpg", ".png"))
    assert make(root, numbers, is_valid_file=lambda path: path.endswith("g")) == everything
    with pytest.raises(EmptyClassError):
        make(root, numbers, extensions=".png")
    assert len(make(root, numbers, extensions=".png", allow_empty=True)) == 1
    for wrong in ({}, {"extensions": ".jpg", "is_valid_file": str}):
        with pytest.raises(ValueError, match=r"extensions .* is_valid_file"):
            make(root, numbers, **wrong)
    with pytest.raises(ValueError, match="class_to_idx must be what find_classes returned"):
        make(root, None, extensions=".jpg")


@pytest.mark.parametrize("samples", [None, [3], [("a",)], [("a", "b")], [("a", -1)], [(None, 0)]])
def test_what_make_dataset_gives_is_checked(tmp_path, samples):
    root = make_tree(tmp_path, ["x/a.jpg"])

    class Odd(ImageFolder):
        @staticmethod
        def make_dataset(directory, **options):
            return samples

    with pytest.raises(InvalidOptionError, match=r"make_dataset must return a list of \(path, lab"):
        Odd(root)
