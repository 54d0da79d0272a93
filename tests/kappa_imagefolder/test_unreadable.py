"""What is said of an image that cannot be loaded: which one it is, and why."""

from __future__ import annotations

import pytest

from kappa_imagefolder import ImageFolder, UnreadableImageError
from kappacore import ModeWrapper
from support.image_trees import make_tree

FILES = ["cat/1.jpg", "cat/2.png", "dog/3.jpg", "dog/deep/4.jpg", "eel/5.jpg"]


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "data", FILES)


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
    message = rf"^cannot load image 2 of class 'dog', '{root}/dog/3\.jpg': {reason}"
    reads = [lambda: ds[2], lambda: ds.__getitems__([0, 2]), lambda: ModeWrapper(ds, "x")[2]]
    if how in ("missing", "empty"):
        reads.append(lambda: ds.getraw_x(2))
    for read in reads:
        with pytest.raises(UnreadableImageError, match=message):
            read()
    assert [ds[idx][1] for idx in (0, 1, 3, 4)] == [0, 0, 1, 2]  # nothing has shifted


def test_the_cause_is_kept(root):
    break_file(root / "dog/3.jpg", "text")
    with pytest.raises(UnreadableImageError) as error:
        ImageFolder(root)[2]
    assert type(error.value.__cause__).__name__ == "UnidentifiedImageError"


def test_what_an_own_loader_raises_is_reported_with_the_image(root):
    def loader(path):
        raise ValueError("not of this size")

    ds = ImageFolder(root, loader=loader)
    message = (
        f"cannot load image 0 of class 'cat', '{root}/cat/1.jpg': ValueError: not of this size"
    )
    with pytest.raises(UnreadableImageError) as error:
        ds[0]
    assert str(error.value) == message
    assert isinstance(error.value.__cause__, ValueError)


def test_an_index_error_of_an_own_loader_does_not_end_a_loop(root):
    def loader(path):
        raise IndexError("list index out of range")

    with pytest.raises(IndexError, match="list index out of range"):
        list(ImageFolder(root, loader=loader))


def test_an_index_error_of_a_transform_does_not_end_a_loop(root):
    def transform(image):
        raise IndexError("in the transform")

    with pytest.raises(IndexError, match="in the transform"):
        list(ImageFolder(root, transform=transform))


def test_bytes_that_cannot_be_decoded_are_an_error(root):
    with pytest.raises(UnreadableImageError, match="not an image in a format"):
        ImageFolder(root).decode_x(b"nonsense")
