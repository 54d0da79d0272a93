"""Options about which folders and files count: hidden ones, given classes, empty classes."""

from __future__ import annotations

import logging

import pytest

from kappa_imagefolder import (
    CachedImageFolder,
    ClassesDifferError,
    EmptyClassError,
    ImageFolder,
    UnreadableImageError,
)
from kappa_imagefolder.__main__ import main
from kappacore.errors import InvalidOptionError
from support.image_trees import make_tree, names

FILES = ["cat/1.jpg", "cat/deep/2.jpg", "dog/3.jpg"]
HIDDEN = ["cat/._1.jpg", "cat/.DS_Store", ".ipynb_checkpoints/1-checkpoint.txt", ".git/config"]
HIDDEN += ["__MACOSX/cat/._1.jpg", "dog/.ipynb_checkpoints/3-checkpoint.jpg", "dog/__MACOSX/4.jpg"]


@pytest.fixture
def root(tmp_path):
    root = make_tree(tmp_path / "data", FILES)
    for name in HIDDEN:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    return root


# ---- hidden files


@pytest.mark.parametrize(
    "options", [{}, {"is_valid_file": lambda path: path.endswith("g")}, {"index": True}]
)
def test_hidden_files_and_folders_are_left_out_if_asked_to(root, options):
    expected = [("cat/1.jpg", 0), ("cat/deep/2.jpg", 0), ("dog/3.jpg", 1)]
    for _ in range(2):
        ds = ImageFolder(root, ignore_hidden=True, **options)
        assert ds.classes == ["cat", "dog"]
        assert names(ds, root) == expected
        assert len(list(ds)) == 3
    with CachedImageFolder(root, ignore_hidden=True, backend="memory") as cached:
        assert len(list(cached)) == 3


def test_hidden_files_count_as_in_torchvision_if_not_asked_to(root):
    ds = ImageFolder(root, allow_empty=True)
    assert ds.classes == [".git", ".ipynb_checkpoints", "__MACOSX", "cat", "dog"]
    assert len(ds) == 7


def test_the_errors_that_hidden_files_cause_name_the_option(root):
    message = (
        r"have no image: '\.git', '\.ipynb_checkpoints' .* pass ignore_hidden=True .* allow_em"
    )
    with pytest.raises(EmptyClassError, match=message):
        ImageFolder(root)
    ds = ImageFolder(root, allow_empty=True)
    at = [path.rsplit("/", 1)[1] for path, _ in ds.samples].index("._1.jpg")
    with pytest.raises(
        UnreadableImageError, match=r"no.* image in a .*; ignore_hidden=True leaves"
    ):
        ds[at]
    (root / "cat/1.jpg").write_bytes(b"no image")
    (root / "empty").mkdir()
    with pytest.raises(UnreadableImageError) as caught:
        ImageFolder(root, ignore_hidden=True, allow_empty=True)[0]
    assert "ignore_hidden" not in str(caught.value)
    with pytest.raises(EmptyClassError) as caught:
        ImageFolder(root, ignore_hidden=True)
    assert "ignore_hidden" not in str(caught.value)


def test_a_root_that_is_hidden_itself_is_no_matter(tmp_path):
    root = make_tree(tmp_path / ".cache/__MACOSX", FILES)
    (root / "cat/1.jpg").write_bytes(b"no image")
    ds = ImageFolder(root, ignore_hidden=True)
    assert len(ds) == 3
    with pytest.raises(UnreadableImageError) as caught:
        ds[0]
    assert "ignore_hidden" not in str(caught.value)


def test_an_index_is_for_one_way_alone(root, tmp_path, caplog):
    index = tmp_path / "index"
    for check in ("dirs", "trust", "full"):
        for ignore, length in ((True, 3), (False, 7), (False, 7), (True, 3)):
            ds = ImageFolder(
                root, allow_empty=True, ignore_hidden=ignore, index=index, index_check=check
            )
            assert len(ds) == length
    for ignore in (True, False):
        ImageFolder(root, allow_empty=True, ignore_hidden=ignore, index=True)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for ignore, length in ((True, 3), (False, 7)):
            ds = ImageFolder(
                root, allow_empty=True, ignore_hidden=ignore, index=True, index_check="trust"
            )
            assert len(ds) == length
    assert not caplog.records  # each has an index of its own
    assert main(["index", str(root), "--ignore-hidden", "--output", str(tmp_path / "other")]) == 0
    ds = ImageFolder(root, ignore_hidden=True, index=tmp_path / "other", index_check="trust")
    assert len(ds) == 3


def test_ignore_hidden_is_checked(root):
    with pytest.raises(InvalidOptionError, match="ignore_hidden must be True or False, got 'yes'"):
        ImageFolder(root, ignore_hidden="yes")

    class Own(ImageFolder):
        @staticmethod
        def make_dataset(directory, **options):
            return []

    with pytest.raises(InvalidOptionError, match=r"ignore_hidden=True and Own\.make_dataset both"):
        Own(root, ignore_hidden=True)


# ---- given classes


def test_train_and_val_have_the_same_numbers(tmp_path):
    train = ImageFolder(make_tree(tmp_path / "train", ["a/1.jpg", "b/1.jpg", "c/1.jpg"]))
    root = make_tree(tmp_path / "val", ["c/1.jpg", "a/1.jpg"])
    val = ImageFolder(root, classes=train.classes, allow_empty=True)
    assert (val.classes, val.class_to_idx) == (train.classes, train.class_to_idx)
    assert val.targets == [0, 2]
    assert val.n_classes == 3
    given = ImageFolder(root, classes=("c", "a"))
    assert given.class_to_idx == {"c": 0, "a": 1}
    assert names(given, root) == [("a/1.jpg", 1), ("c/1.jpg", 0)]
    for check in ("dirs", "trust", "full"):
        for _ in range(2):
            ds = ImageFolder(
                root, classes=train.classes, allow_empty=True, index=True, index_check=check
            )
            assert ds.targets == [0, 2]
    assert ImageFolder(root, index=True).targets == [0, 1]
    with CachedImageFolder(root, classes=["c", "a"], backend="memory") as cached:
        assert [label for _, label in cached] == [1, 0]


def test_an_error_names_the_difference(tmp_path):
    root = make_tree(tmp_path / "val", ["c/1.jpg", "d/1.jpg", ".h/1.jpg"])
    with pytest.raises(ClassesDifferError) as caught:
        ImageFolder(root, classes=["a", "b", "c"])
    message = str(caught.value)
    for part in (repr(str(root)), "it has '.h', 'd', which", "it lacks 'a', 'b' (allow_empty=True"):
        assert part in message
    assert "ignore_hidden=True" in message
    with pytest.raises(
        ClassesDifferError, match=r"it has 'd', which classes= does not name"
    ) as caught:
        ImageFolder(root, classes=["a", "c"], allow_empty=True, ignore_hidden=True)
    assert "lacks" not in str(caught.value)
    with pytest.raises(
        ValueError, match=r"given, so the numbers of classes would differ: it lacks 'a'"
    ):
        ImageFolder(root, classes=["d", "c", "a"], ignore_hidden=True)


@pytest.mark.parametrize("index", [False, True])
def test_a_class_that_comes_later_is_noticed(tmp_path, index):
    root = make_tree(tmp_path / "val", ["a/1.jpg"])
    options = {"classes": ["a"], "index": index, "index_check": "trust"}
    assert len(ImageFolder(root, **options)) == 1
    make_tree(root, ["b/1.jpg"])
    with pytest.raises(ClassesDifferError, match="it has 'b'"):
        ImageFolder(root, **options)


@pytest.mark.parametrize("classes", ["abc", [], [1, 2], {"a": 0}, 3, ["a", "b", "a"]])
def test_classes_that_make_no_sense_are_refused(tmp_path, classes):
    root = make_tree(tmp_path, ["a/1.jpg"])
    with pytest.raises(
        InvalidOptionError, match=r"^classes must (be the names|name each class once)"
    ):
        ImageFolder(root, classes=classes)

    class Own(ImageFolder):
        def find_classes(self, directory):
            return ["a"], {"a": 0}

    with pytest.raises(InvalidOptionError, match=r"classes= and Own\.find_classes both choose"):
        Own(root, classes=["a"])


# ---- empty classes


def test_a_folder_without_any_image_may_be_opened(tmp_path):
    (tmp_path / "data/a").mkdir(parents=True)
    for options in ({}, {"index": True}, {"classes": ["a", "b"]}):
        ds = ImageFolder(tmp_path / "data", allow_empty=True, **options)
        assert (len(ds), list(ds), ds.samples, ds.targets, ds.classes[0]) == (0, [], [], [], "a")
    with CachedImageFolder(tmp_path / "data", allow_empty=True, backend="memory") as cached:
        assert list(cached) == []
