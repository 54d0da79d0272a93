"""Which files an ImageFolder finds, and in which order."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kappa_imagefolder import ImageFolder
from kappacore.errors import InvalidOptionError
from support.image_trees import make_tree, names, picture


def test_classes_are_the_folders_in_lexicographic_order(tmp_path):
    make_tree(tmp_path, ["10/a.jpg", "2/a.jpg", "1/a.jpg", "Zebra/a.jpg", "ant/a.jpg"])
    ds = ImageFolder(tmp_path)
    assert ds.classes == ["1", "10", "2", "Zebra", "ant"]
    assert ds.class_to_idx == {"1": 0, "10": 1, "2": 2, "Zebra": 3, "ant": 4}
    assert ds.n_classes == 5
    assert ds.targets == [0, 1, 2, 3, 4]


def test_classes_may_come_in_natural_order(tmp_path):
    make_tree(tmp_path, ["10/a.jpg", "2/a.jpg", "1/a.jpg", "b/a.jpg", "n10x/a.jpg", "n9/a.jpg"])
    ds = ImageFolder(tmp_path, class_order="natural")
    assert ds.classes == ["1", "2", "10", "b", "n9", "n10x"]
    assert ds.targets == [0, 1, 2, 3, 4, 5]
    assert [name for name, _ in names(ds, tmp_path)] == [f"{name}/a.jpg" for name in ds.classes]
    assert ds.class_to_idx["10"] == 2
    assert ds.fingerprint("x") != ImageFolder(tmp_path).fingerprint("x")
    with pytest.raises(InvalidOptionError, match="class_order must be one of 'lexicographic', "):
        ImageFolder(tmp_path, class_order="numeric")


def test_names_of_classes_that_differ_in_zeros_keep_an_order(tmp_path):
    make_tree(tmp_path, ["01/a.jpg", "1/a.jpg", "001/a.jpg", "1b/a.jpg", "a/a.jpg"])
    assert ImageFolder(tmp_path, class_order="natural").classes == ["001", "01", "1", "1b", "a"]


def test_files_come_by_folder_and_then_by_name(tmp_path):
    # folders are ordered as strings, so "a-b" lies between "a" and "a/c"
    make_tree(
        tmp_path,
        ["x/a/c/1.jpg", "x/a-b/2.jpg", "x/a/3.jpg", "x/z.jpg", "x/10.jpg", "x/2.jpg", "w/1.jpg"],
    )
    assert names(ImageFolder(tmp_path), tmp_path) == [
        ("w/1.jpg", 0),
        ("x/10.jpg", 1),
        ("x/2.jpg", 1),
        ("x/z.jpg", 1),
        ("x/a/3.jpg", 1),
        ("x/a-b/2.jpg", 1),
        ("x/a/c/1.jpg", 1),
    ]


def test_endings_count_in_any_case_and_other_files_do_not_count(tmp_path):
    make_tree(tmp_path, ["x/a.JPG", "x/b.jpeg", "x/c.PNG", "x/d.Tiff", "x/e.webp", "x/f.bmp"])
    for name in ("notes.txt", "g.gif", "jpg", "h.jpg.part"):
        (tmp_path / "x" / name).write_bytes(b"no image")
    assert [name for name, _ in names(ImageFolder(tmp_path), tmp_path)] == [
        "x/a.JPG",
        "x/b.jpeg",
        "x/c.PNG",
        "x/d.Tiff",
        "x/e.webp",
        "x/f.bmp",
    ]


@pytest.mark.parametrize("extensions", [".png", (".png",), [".PNG"]])
def test_own_extensions_replace_the_usual_ones(tmp_path, extensions):
    make_tree(tmp_path, ["x/a.jpg", "x/b.png", "x/c.Png"])
    ds = ImageFolder(tmp_path, extensions=extensions)
    assert names(ds, tmp_path) == [("x/b.png", 0), ("x/c.Png", 0)]
    assert ds.extensions == (".png",)


def test_is_valid_file_decides_by_the_path(tmp_path):
    make_tree(tmp_path, ["x/a.jpg", "x/b.jpg", "y/c.jpg"])
    seen = []

    def is_valid(path: str) -> bool:
        seen.append(path)
        return not path.endswith("a.jpg")

    ds = ImageFolder(tmp_path, is_valid_file=is_valid)
    assert names(ds, tmp_path) == [("x/b.jpg", 0), ("y/c.jpg", 1)]
    assert ds.extensions is None
    assert seen == [str(tmp_path / name) for name in ("x/a.jpg", "x/b.jpg", "y/c.jpg")]


def test_hidden_files_and_folders_count_as_in_torchvision(tmp_path):
    make_tree(tmp_path, [".git/a.jpg", "x/._a.jpg", "x/.hidden/b.jpg"])
    assert names(ImageFolder(tmp_path), tmp_path) == [
        (".git/a.jpg", 0),
        ("x/._a.jpg", 1),
        ("x/.hidden/b.jpg", 1),
    ]


def test_files_outside_a_class_folder_are_left_out(tmp_path):
    make_tree(tmp_path, ["stray.jpg", "x/a.jpg"])
    ds = ImageFolder(tmp_path)
    assert ds.classes == ["x"]
    assert names(ds, tmp_path) == [("x/a.jpg", 0)]


def test_a_folder_that_is_named_like_an_image_is_a_folder(tmp_path):
    make_tree(tmp_path, ["x/album.jpg/a.jpg"])
    assert names(ImageFolder(tmp_path), tmp_path) == [("x/album.jpg/a.jpg", 0)]


def test_names_that_are_not_utf8_are_kept_byte_for_byte(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    file = folder + b"/gr\xfc\xdf.jpg"
    try:
        Path(os.fsdecode(folder)).mkdir()
        picture().save(os.fsdecode(file))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    make_tree(tmp_path, ["größe/ä.jpg"])
    ds = ImageFolder(tmp_path)
    assert ds.classes == [os.fsdecode(b"caf\xe9"), "größe"]
    assert [os.fsencode(path) for path, _ in ds.samples] == [
        file,
        os.fsencode(tmp_path / "größe" / "ä.jpg"),
    ]
    assert ds.getitem_path(0) == os.fsdecode(file)
    assert ds[0][0].tobytes() == ds.loader(os.fsdecode(file)).tobytes()


@pytest.mark.parametrize("form", ["{}", "{}/", "path"])
def test_sample_paths_begin_with_the_root_as_given(tmp_path, form):
    make_tree(tmp_path, ["x/a.jpg"])
    root = tmp_path if form == "path" else form.format(tmp_path)
    assert ImageFolder(root).samples == [(f"{tmp_path}/x/a.jpg", 0)]


def test_a_tilde_in_the_root_is_expanded(tmp_path, monkeypatch):
    make_tree(tmp_path, ["data/x/a.jpg"])
    monkeypatch.setenv("HOME", str(tmp_path))
    ds = ImageFolder("~/data")
    assert ds.root == f"{tmp_path}/data"
    assert ds.samples == [(f"{tmp_path}/data/x/a.jpg", 0)]


@pytest.mark.slow
def test_listing_asks_no_file_for_its_state(tmp_path):
    """Names in a folder that may be listed but not entered can be read; a stat would fail."""
    root = Path(tempfile.mkdtemp(prefix="kappa-imagefolder-test-"))
    make_tree(root, [f"x/{number}.jpg" for number in range(5)])
    root.chmod(0o755)
    (root / "x").chmod(0o444)
    code = (
        "import os, sys; from kappa_imagefolder import ImageFolder\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "ds = ImageFolder(sys.argv[1])\n"
        "try:\n    os.stat(ds.samples[0][0])\n"
        "except PermissionError:\n    print(len(ds))\n"
    )
    command = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    (root / "x").chmod(0o755)
    shutil.rmtree(root)
    assert done.stdout == "5\n", done.stdout + done.stderr
