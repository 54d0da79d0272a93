"""The items and attributes of an ImageFolder."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from kappa_imagefolder import ImageFolder
from kappacore import KDSubset, ModeWrapper, load_dataset
from kappacore.errors import IndexOutOfRangeError, InvalidIndexError
from support.image_trees import make_tree

FILES = ["cat/1.jpg", "cat/2.png", "dog/3.jpg", "dog/deep/4.jpg", "eel/5.jpg"]


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "data", FILES)


def pixels(path):
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def test_indexing_gives_image_and_class(root):
    ds = ImageFolder(root)
    assert len(ds) == 5
    for idx, (name, label) in enumerate(zip(FILES, [0, 0, 1, 1, 2], strict=True)):
        image, found = ds[idx]
        assert image.mode == "RGB"
        assert image.tobytes() == pixels(root / name)
        assert found == label
        assert type(found) is int


def test_negative_indices_count_from_the_end_and_numpy_integers_work(root):
    ds = ImageFolder(root)
    assert ds[-1][1] == 2
    assert ds[-5][0].tobytes() == ds[0][0].tobytes()
    assert ds[np.int64(2)][1] == 1
    assert ds[torch.tensor(2)][1] == 1


@pytest.mark.parametrize("index", [5, -6])
def test_an_index_past_the_end_says_how_many_images_there_are(root, index):
    with pytest.raises(IndexOutOfRangeError) as error:
        ImageFolder(root)[index]
    assert isinstance(error.value, IndexError)
    message = f"index {index} is out of range for ImageFolder of 5 samples (0 to 4)."
    assert str(error.value) == message
    with pytest.raises(IndexOutOfRangeError, match="out of range"):
        ImageFolder(root).__getitems__([0, index])


def test_an_index_that_is_no_integer_is_refused(root):
    with pytest.raises(InvalidIndexError, match=r"^ImageFolder is indexed by integers; got slice"):
        ImageFolder(root)[0:2]


def test_iterating_gives_every_sample_once(root):
    assert [label for _, label in ImageFolder(root)] == [0, 0, 1, 1, 2]


def test_a_batch_gives_the_same_as_single_samples(root):
    ds = ImageFolder(root, decode="raw")
    assert ds.__getitems__([3, 0, -1, 3]) == [ds[3], ds[0], ds[4], ds[3]]


def test_every_item_can_be_read_alone(root):
    ds = ImageFolder(root)
    image, label, y, path, index = ModeWrapper(ds, "x class y path index")[2]
    assert image.tobytes() == pixels(root / "dog/3.jpg")
    assert (label, y, path, index) == (1, 1, str(root / "dog/3.jpg"), 2)
    assert list(ModeWrapper(ds, "path")) == [str(root / name) for name in FILES]


def test_labels_and_paths_are_read_without_opening_a_file(root):
    ds = ImageFolder(root)
    for name in FILES:
        (root / name).unlink()
    assert ds.getall_class().tolist() == [0, 0, 1, 1, 2]
    assert ds.getall_y().tolist() == [0, 0, 1, 1, 2]
    assert ds.getall_class().dtype == np.int64
    assert list(ModeWrapper(ds, "class")) == [0, 0, 1, 1, 2]
    assert type(ds.getitem_y(3)) is int
    assert ds.getall_path() == [str(root / name) for name in FILES]
    assert ds.targets == [0, 0, 1, 1, 2]
    assert ds.samples == ds.imgs == list(zip(ds.getall_path(), ds.targets, strict=True))


def test_a_column_of_labels_can_be_changed_without_harm(root):
    ds = ImageFolder(root)
    ds.getall_class()[:] = 9
    assert ds.getall_class().tolist() == [0, 0, 1, 1, 2]


def test_attributes_that_would_not_change_the_samples_cannot_be_set(root):
    ds = ImageFolder(root)
    for name in ("imgs", "targets"):
        with pytest.raises(AttributeError):
            setattr(ds, name, [9])


def test_subclasses_that_override_an_item_are_read_through_it(root):
    class Renamed(ImageFolder):
        def getitem_class(self, idx, ctx=None):
            return self.classes[super().getitem_class(idx)]

    class Sizes(ImageFolder):
        def getitems_x(self, indices, ctxs=None):
            return [f"batch of {len(indices)}"] * len(indices)

    assert Renamed(root)[2][1] == "dog"
    assert ModeWrapper(Renamed(root), "y")[2] == "dog"
    assert list(Renamed(root).getall_y()) == ["cat", "cat", "dog", "dog", "eel"]
    assert Sizes(root)[2] == ("batch of 1", 1)
    assert Sizes(root).__getitems__([0, 1]) == [("batch of 2", 0)] * 2


def test_a_subset_maps_the_attributes(root):
    subset = KDSubset(ImageFolder(root), [4, 0])
    assert subset.classes == ["cat", "dog", "eel"]
    assert list(subset.targets) == [2, 0]
    assert list(subset.samples) == [(str(root / "eel/5.jpg"), 2), (str(root / "cat/1.jpg"), 0)]


def test_it_is_found_by_name(root):
    ds = load_dataset("imagefolder", root=str(root), decode="raw")
    assert type(ds) is ImageFolder
    assert ds[0] == ((root / "cat/1.jpg").read_bytes(), 0)


def test_it_survives_pickling_and_copying_after_use(root):
    ds = ImageFolder(root, transform=ImageOps.invert)
    before = ds[3][0].tobytes()
    for other in (pickle.loads(pickle.dumps(ds)), copy.copy(ds), copy.deepcopy(ds)):
        assert other[3][0].tobytes() == before
        assert other.samples == ds.samples
        other.transform = None
        assert other[3][0].tobytes() == pixels(root / "dog/deep/4.jpg")
    assert ds[3][0].tobytes() == before


def test_it_is_shown_by_root_and_size(root):
    assert repr(ImageFolder(root)) == f"ImageFolder('{root}', 5 images, 3 classes)"
