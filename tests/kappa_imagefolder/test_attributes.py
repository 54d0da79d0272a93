"""What is set as on torchvision's ImageFolder is followed by what is read, or refused."""

from __future__ import annotations

import json
import pickle

import pytest

from kappa_imagefolder import (
    CachedImageFolder,
    FixedAttributeError,
    ImageFolder,
    UnreadableImageError,
    pil_loader,
)
from kappacore import PRIVATE, CachedDataset, CacheWrapper, KappaError, ModeWrapper
from kappacore.errors import InvalidOptionError
from support.image_trees import make_tree

FILES = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(3)]


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "data", FILES)


def cached(root, **options):
    return CachedImageFolder(root, backend="memory", **options)


def path_of(path):
    return path


def plus_ten(label):
    return label + 10


@pytest.mark.parametrize("make", [ImageFolder, cached])
def test_samples_that_are_set_are_those_that_are_read(root, make, tmp_path):
    make_tree(tmp_path / "other", ["far.jpg"])
    with make(root) as ds:
        assert len(ds) == 6
        chosen = [ds.samples[4], (str(tmp_path / "other/far.jpg"), 7), ds.samples[0]]
        expected = [ImageFolder(root)[4][0].tobytes(), ImageFolder(root)[0][0].tobytes()]
        ds.samples = chosen
        assert ds.samples == ds.imgs == chosen
        assert ds.targets == [1, 7, 0]
        assert list(ds.getall_class()) == [1, 7, 0]
        assert len(ds) == 3
        for _ in range(2):
            read = list(ds)
            assert [label for _, label in read] == [1, 7, 0]
            assert [read[0][0].tobytes(), read[2][0].tobytes()] == expected
        assert ds[1][0].size == (48, 32)


@pytest.mark.parametrize("make", [ImageFolder, cached])
def test_a_loader_that_is_set_loads(root, make):
    with make(root) as ds:
        ds.loader = path_of
        assert ds.loader is path_of
        for _ in range(2):
            assert list(ds) == ds.samples
        ds.transform = len
        assert ds[0][0] == len(ds.samples[0][0])


@pytest.mark.parametrize("make", [ImageFolder, cached])
def test_a_target_transform_that_is_set_is_applied(root, make):
    with make(root, target_transform=lambda label: -label) as ds:
        assert [label for _, label in ds] == [0, 0, 0, -1, -1, -1]
        assert list(ds.getall_class()) == [0, 0, 0, -1, -1, -1]
        ds.target_transform = plus_ten
        assert ds.target_transform is plus_ten
        assert [ds[0][1], ds[5][1], ds.__getitems__([4])[0][1]] == [10, 11, 11]
        assert list(ds.getall_class()) == [10, 10, 10, 11, 11, 11]
        assert list(ModeWrapper(ds, "class")) == list(ModeWrapper(ds, "y")) == [10] * 3 + [11] * 3
        assert ds.targets == [0, 0, 0, 1, 1, 1]  # as in torchvision
        ds.target_transform = None
        assert ds[5][1] == 1


@pytest.mark.parametrize("make", [ImageFolder, cached])
@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("targets", [7] * 6, "set samples, or change labels with target_transform"),
        ("imgs", [], "set samples"),
        ("transforms", path_of, "set these"),
        ("extensions", (".png",), "pass extensions= when you open the folder"),
        ("index_path", "file", "pass index= when you open the folder"),
        ("n_classes", 3, "set classes"),
        ("find_classes", path_of, "override it in a subclass, or pass classes="),
        ("make_dataset", path_of, "override it in a subclass, or set samples"),
    ],
)
def test_what_reading_would_not_follow_cannot_be_set(root, make, name, value, instead):
    with make(root) as ds:
        before = getattr(ds, name)
        with pytest.raises(
            FixedAttributeError, match=rf"^{name} of \w+ cannot be set, .*{instead}"
        ):
            setattr(ds, name, value)
        assert getattr(ds, name) == before
        with pytest.raises(AttributeError):
            setattr(ds, name, value)


def test_a_subclass_for_torchvision_that_sets_all_three_works(root):
    class Half(ImageFolder):
        def __init__(self, root):
            super().__init__(root)
            self.samples = self.samples[::2]
            self.imgs = self.samples
            self.targets = [label for _, label in self.samples]

    assert Half(root).targets == [0, 0, 1]


@pytest.mark.parametrize("name", ["samples", "loader"])
def test_after_the_first_read_a_cached_folder_refuses(root, name):
    value = path_of if name == "loader" else []
    with cached(root) as ds:
        ds[0]
        with pytest.raises(
            FixedAttributeError, match=rf"{name} .* Set {name} before the first rea"
        ):
            setattr(ds, name, value)
        assert len(list(ds)) == 6
    with cached(root) as ds:
        reader = ModeWrapper(ds, "x")  # has found its way to the files already
        with pytest.raises(FixedAttributeError):
            setattr(ds, name, value)
        assert len(list(reader)) == 6


@pytest.mark.parametrize("value", [3, [("a", -1)], [("a",)], [(None, 0)]])
def test_samples_that_make_no_sense_are_refused_and_change_nothing(root, value):
    for make in (ImageFolder, cached):
        with make(root) as ds:
            with pytest.raises(
                InvalidOptionError, match=r"samples must be a list of \(path, label"
            ):
                ds.samples = value
            assert len(list(ds)) == 6


@pytest.mark.parametrize(
    ("wrap", "fixed", "free"),
    [
        (lambda ds: CacheWrapper(ds, "memory"), ["loader", "samples", "root"], "transform"),
        (lambda ds: CacheWrapper(ds, "memory", form="decoded"), ["transform", "loader"], None),
        (lambda ds: CacheWrapper(ds, "memory", items="class"), ["target_transform"], None),
        (
            lambda ds: CachedDataset(ds, "memory"),
            ["transform", "target_transform", "samples"],
            None,
        ),
    ],
)
def test_below_a_cache_what_it_keeps_cannot_be_changed(root, wrap, fixed, free):
    ds = ImageFolder(root)
    with wrap(ds) as cache:
        for owner in (ds, cache):
            for name in fixed:
                if name == "transform" and isinstance(owner, CachedDataset):
                    continue  # it has one of its own
                value = ds.samples[:2] if name == "samples" else path_of
                with pytest.raises(FixedAttributeError, match=f"{name} .* a cache has been opened"):
                    setattr(owner, name, value)
        if free is not None:
            setattr(cache, free, lambda image: "transformed")
            assert list(ModeWrapper(cache, "x")) == ["transformed"] * 6


def test_a_cached_folder_does_not_move_to_other_files(root, tmp_path):
    with cached(root) as ds:
        with pytest.raises(FixedAttributeError, match="root of ImageFolder can no longer be set"):
            ds.root = str(tmp_path)
        assert len(list(ds)) == 6


def test_a_change_that_the_cache_refuses_leaves_it_as_it_was(root):
    with cached(root, form="raw") as ds:
        with pytest.raises(KappaError):
            ds.loader = path_of  # what it returns has no raw form
        assert ds.loader is pil_loader
        assert ds[0][0].size == (48, 32)


def test_an_image_of_an_unknown_class_is_named_by_its_number(root):
    ds = ImageFolder(root)
    ds.samples = [(str(root / "gone.jpg"), 7)]
    with pytest.raises(UnreadableImageError, match="cannot load image 0 of class number 7, '"):
        ds[0]


@pytest.mark.parametrize("options", [{"namespace": PRIVATE}, {"namespace": "n"}])
def test_a_cached_folder_still_goes_to_workers_by_spawn(root, options):
    with cached(root, **options) as ds:
        copy = pickle.loads(pickle.dumps(ds))
        assert len(list(copy)) == 6
        copy.close()


def test_what_was_set_reaches_workers(root):
    with cached(root) as ds:
        ds.samples = ds.samples[:2]
        ds.target_transform = plus_ten
        copy = pickle.loads(pickle.dumps(ds))
        assert [label for _, label in copy] == [10, 10]
        copy.close()


@pytest.mark.parametrize("make", [ImageFolder, cached])
def test_transforms_are_both_as_one(root, make):
    with make(root) as ds:
        assert ds.transforms is None
        assert json.loads(json.dumps(ds.targets)) == [0, 0, 0, 1, 1, 1]
        assert ds.targets is ds.targets
        ds.target_transform = plus_ten
        assert ds.transforms("image", 1) == ("image", 11)
        ds.transform = len
        assert ds.transforms("image", 1) == (5, 11)
        assert (ds.transforms.transform, ds.transforms.target_transform) == (len, plus_ten)


@pytest.mark.parametrize("kind", [ImageFolder, CachedImageFolder])
def test_the_wrapper_for_transforms_v2_is_told_that_it_is_not_needed(kind):
    wrapper = type(
        "VisionDatasetTVTensorWrapper",
        (),
        {"__module__": "torchvision.tv_tensors._dataset_wrapper"},
    )
    with pytest.raises(TypeError, match=rf"own datasets, and {kind.__name__} needs no wrapping"):
        type(f"Wrapped{kind.__name__}", (wrapper, kind), {})  # as torchvision does
