"""The same trees through torchvision's ImageFolder, where it is installed."""

from __future__ import annotations

import os
import warnings

import pytest

from kappa_imagefolder import CachedImageFolder, ImageFolder, pil_loader
from support.image_trees import make_tree, picture

datasets = pytest.importorskip("torchvision.datasets")

TREES = {
    "plain": ["cat/1.jpg", "cat/2.png", "dog/3.JPG", "dog/4.webp"],
    "numbers": ["1/10.jpg", "10/2.jpg", "2/1.jpg", "B/a.jpg", "a/a.jpg", "ä/ö.jpg"],
    "nested": ["x/a/c/1.jpg", "x/a-b/2.jpg", "x/a/3.jpg", "x/a b/4.jpg", "x/z.jpg", "x/B.jpg"],
    "hidden": [".git/a.jpg", "x/._a.jpg", "x/.h/b.jpg", "x/album.jpg/c.jpg"],
    "strays": ["stray.jpg", "x/a.jpg", "x/a.jpg.bmp"],
}


def assert_same(ours, theirs):
    assert ours.classes == theirs.classes
    assert ours.class_to_idx == theirs.class_to_idx
    assert ours.samples == theirs.samples
    assert ours.imgs == theirs.imgs
    assert ours.targets == theirs.targets
    assert ours.extensions == theirs.extensions
    assert len(ours) == len(theirs)
    for idx in range(len(theirs)):
        image, label = ours[idx]
        expected_image, expected_label = theirs[idx]
        assert image.mode == expected_image.mode
        assert image.tobytes() == expected_image.tobytes()
        assert (type(label), label) == (type(expected_label), expected_label)


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("form", [str, "{}/".format])
def test_the_same_tree_gives_the_same_dataset(tmp_path, tree, form):
    make_tree(tmp_path, TREES[tree])
    (tmp_path / "readme.txt").touch()
    root = form(tmp_path)
    assert_same(ImageFolder(root), datasets.ImageFolder(root))


def test_links_are_followed_alike(tmp_path):
    make_tree(tmp_path, ["store/dogs/1.jpg", "root/cat/2.jpg"])
    (tmp_path / "root/dog").symlink_to(tmp_path / "store/dogs")
    (tmp_path / "root/cat/more").symlink_to(tmp_path / "store")
    assert_same(ImageFolder(tmp_path / "root"), datasets.ImageFolder(tmp_path / "root"))


def test_names_that_are_not_utf8_are_alike(tmp_path):
    make_tree(tmp_path, ["x/é.jpg"])
    try:
        picture().save(os.fsdecode(os.fsencode(tmp_path) + b"/x/caf\xe9.jpg"))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert_same(ImageFolder(tmp_path), datasets.ImageFolder(tmp_path))


def test_options_mean_the_same(tmp_path):
    make_tree(tmp_path, [*TREES["plain"], "eel/1.jpg"])
    (tmp_path / "fox").mkdir()
    for options in (
        {"allow_empty": True},
        {"allow_empty": True, "is_valid_file": lambda path: path.endswith("1.jpg")},
        {"allow_empty": True, "transform": lambda image: image.rotate(90, expand=True)},
        {"allow_empty": True, "target_transform": lambda label: label + 7},
        {"allow_empty": True, "loader": lambda path: pil_loader(path).convert("L")},
    ):
        assert_same(ImageFolder(tmp_path, **options), datasets.ImageFolder(tmp_path, **options))


def test_overridden_methods_mean_the_same(tmp_path):
    make_tree(tmp_path, TREES["nested"] + TREES["plain"])

    def overriding(base):
        class Chosen(base):
            def find_classes(self, directory):
                return ["x", "pets"], {"x": 0, "cat": 1, "dog": 1}

            @staticmethod
            def make_dataset(*args, **kwargs):
                return base.make_dataset(*args, **kwargs)[::2]

        return Chosen

    assert_same(overriding(ImageFolder)(tmp_path), overriding(datasets.ImageFolder)(tmp_path))


@pytest.mark.parametrize("names", [[], ["stray.jpg"], ["x/a.jpg", "y/a.txt"]])
def test_the_same_builtin_error_for_what_cannot_be_used(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for folder in (ImageFolder, datasets.ImageFolder):
        with pytest.raises(FileNotFoundError):
            folder(tmp_path)
        with pytest.raises(FileNotFoundError):
            folder(tmp_path / "missing")


def test_pixels_are_the_same_in_every_mode(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    for mode in ("1", "L", "P", "RGB", "CMYK"):
        picture().convert(mode).save(folder / f"{mode}.tif")
    for mode in ("LA", "RGBA", "I;16"):
        picture().convert("L").convert(mode).save(folder / f"{mode}.png")
    picture().quantize(16).save(folder / "transparent.png", transparency=bytes(range(16)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision lets Pillow warn of transparent palettes
        assert_same(ImageFolder(tmp_path), datasets.ImageFolder(tmp_path))


def contents(ds):
    return [(image.tobytes(), label) for image, label in (ds[idx] for idx in range(len(ds)))]


def test_what_is_set_is_followed_alike(tmp_path):
    make_tree(tmp_path, TREES["plain"])
    for name, change in {
        "samples": lambda ds: ds.samples[1:3],
        "loader": lambda ds: lambda path: pil_loader(path).rotate(90, expand=True),
        "transform": lambda ds: lambda image: image.rotate(90, expand=True),
        "target_transform": lambda ds: lambda label: label + 10,
    }.items():
        theirs = datasets.ImageFolder(tmp_path)
        setattr(theirs, name, change(theirs))
        ours = ImageFolder(tmp_path)
        with CachedImageFolder(tmp_path, backend="memory") as cached:
            for ds in (ours, cached):
                setattr(ds, name, change(ds))
                assert getattr(ds, name) is not None
                assert len(ds) == len(theirs)
                for _ in range(2):
                    assert contents(ds) == contents(theirs)


def test_make_dataset_is_called_alike(tmp_path):
    make_tree(tmp_path, TREES["nested"])

    def noting(base, calls):
        class Noting(base):
            def find_classes(self, *args, **options):
                calls.append((args, options))
                return super().find_classes(*args, **options)

            def make_dataset(self, *args, **options):
                calls.append((args, options))
                return base.make_dataset(*args, **options)

        return Noting

    ours, theirs = [], []
    noting(ImageFolder, ours)(str(tmp_path), allow_empty=True)
    noting(datasets.ImageFolder, theirs)(str(tmp_path), allow_empty=True)
    assert ours == theirs


def test_info_and_what_is_made_of_it_are_the_same(tmp_path):
    (tmp_path / "x").mkdir()
    picture().save(tmp_path / "x/colour.png", transparency=(200, 100, 3))
    picture().convert("L").save(tmp_path / "x/grey.png", transparency=100, dpi=(72, 72))
    picture().quantize(16).save(tmp_path / "x/palette.png", transparency=3)
    picture().save(tmp_path / "x/a.tif", dpi=(72.5, 300))
    picture().save(tmp_path / "x/b.jpg", dpi=(72, 72), comment=b"c")
    ours, theirs = ImageFolder(tmp_path), datasets.ImageFolder(tmp_path)
    assert len(ours) == 5
    for idx in range(5):
        assert ours[idx][0].info == theirs[idx][0].info
        assert ours[idx][0].convert("RGBA").tobytes() == theirs[idx][0].convert("RGBA").tobytes()


def test_transforms_are_alike(tmp_path):
    make_tree(tmp_path, TREES["plain"])
    for options in ({}, {"transform": len}, {"transform": len, "target_transform": str}):
        ours, theirs = ImageFolder(tmp_path, **options), datasets.ImageFolder(tmp_path, **options)
        assert (ours.transforms is None) == (theirs.transforms is None)
        if options:
            assert ours.transforms("image", 1) == theirs.transforms("image", 1)


@pytest.mark.parametrize("kind", [ImageFolder, CachedImageFolder])
def test_the_wrapper_for_transforms_v2_says_why_it_is_not_needed(tmp_path, kind):
    make_tree(tmp_path, TREES["plain"])
    options = {} if kind is ImageFolder else {"backend": "memory"}
    with kind(tmp_path, **options) as ds:
        with pytest.raises(
            TypeError, match=rf"own datasets, and {kind.__name__} needs no wrapping"
        ):
            datasets.wrap_dataset_for_transforms_v2(ds)
        assert ds.transform is None
        assert len(ds) == 4


def test_transforms_v2_take_images_as_they_are(tmp_path):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    make_tree(tmp_path, TREES["plain"])
    transform = v2.Compose([v2.ToImage(), v2.Resize((8, 8))])
    assert ImageFolder(tmp_path, transform)[0][0].shape == (3, 8, 8)
    with CachedImageFolder(tmp_path, transform, backend="memory") as cached:
        assert cached[0][0].shape == (3, 8, 8)
