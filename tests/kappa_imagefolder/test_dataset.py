"""The items and attributes of an ImageFolder, and what it says when used wrongly."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from kappa_imagefolder import (
    ImageFolder,
    UnreadableImageError,
    numpy_loader,
    pil_loader,
    raw_image_loader,
    tensor_loader,
)
from kappacore import (
    IndexOutOfRangeError,
    InvalidIndexError,
    InvalidOptionError,
    KDSubset,
    ModeWrapper,
    load_dataset,
)
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
    assert str(error.value) == f"index {index} is out of range: ImageFolder has 5 entries"
    with pytest.raises(IndexOutOfRangeError, match="out of range"):
        ImageFolder(root).__getitems__([0, index])


def test_an_index_that_is_no_integer_is_refused(root):
    with pytest.raises(
        InvalidIndexError, match=r"ImageFolder takes an integer as index, got slice"
    ):
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


def test_attributes_that_would_not_change_the_samples_cannot_be_set(root):
    ds = ImageFolder(root)
    for name in ("samples", "imgs", "targets"):
        with pytest.raises(AttributeError):
            setattr(ds, name, [])


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


# ---- errors


def break_file(path, how):
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("this is no image")
    else:
        path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "No such file or directory"),
        ("empty", "the file is empty"),
        ("text", "not an image in a format that Pillow knows"),
        ("truncated", "damaged image"),
    ],
)
def test_an_unreadable_image_is_named_by_index_class_path_and_cause(root, how, reason):
    break_file(root / "dog/3.jpg", how)
    ds = ImageFolder(root) if how != "missing" else None
    if ds is None:
        (root / "dog/3.jpg").symlink_to(root / "nowhere")  # listed, but leads nowhere
        ds = ImageFolder(root)
    place = rf"^cannot load image 2 of class 'dog', '{root}/dog/3\.jpg': {reason}"
    reads = [lambda: ds[2], lambda: ds.__getitems__([0, 2]), lambda: ModeWrapper(ds, "x")[2]]
    if how in ("missing", "empty"):
        reads.append(lambda: ds.getraw_x(2))
    for read in reads:
        with pytest.raises(UnreadableImageError, match=place):
            read()
    assert [ds[idx][1] for idx in (0, 1, 3, 4)] == [0, 0, 1, 2]  # nothing has shifted


def test_the_cause_is_kept(root):
    break_file(root / "dog/3.jpg", "text")
    with pytest.raises(UnreadableImageError) as error:
        ImageFolder(root)[2]
    assert type(error.value.__cause__).__name__ == "UnidentifiedImageError"


def test_what_an_own_loader_raises_is_reported_with_the_image(root):
    def loader(path):
        raise IndexError("list index out of range")

    ds = ImageFolder(root, loader=loader)
    message = (
        f"cannot load image 0 of class 'cat', '{root}/cat/1.jpg': "
        "IndexError: list index out of range"
    )
    with pytest.raises(UnreadableImageError) as error:
        ds[0]
    assert str(error.value) == message
    assert isinstance(error.value.__cause__, IndexError)
    with pytest.raises(UnreadableImageError):  # an IndexError would end the loop without a word
        list(ds)


def test_an_index_error_of_a_transform_does_not_end_a_loop(root):
    def transform(image):
        raise IndexError("in the transform")

    with pytest.raises(IndexError, match="in the transform"):
        list(ImageFolder(root, transform=transform))


def test_bytes_that_cannot_be_decoded_are_an_error(root):
    with pytest.raises(UnreadableImageError, match="not an image in a format"):
        ImageFolder(root).decode_x(b"nonsense")


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
            "extensions and is_valid_file both say which files are images; pass one of them",
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
