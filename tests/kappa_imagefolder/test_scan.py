"""Which files an ImageFolder finds, in which order, and what it says of folders it cannot use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pytest

from kappa_imagefolder import (
    EmptyClassError,
    ImageFolder,
    NoClassesError,
    RootNotFolderError,
    RootNotFoundError,
    UnreadableFolderError,
    pil_loader,
)
from kappacore import InvalidOptionError, KappaError
from support.image_trees import make_tree, picture, relative


def names(ds: ImageFolder, root: Path) -> list[tuple[str, int]]:
    return relative(ds.samples, root)


def test_classes_are_the_folders_in_lexicographic_order(tmp_path):
    make_tree(tmp_path, ["10/a.jpg", "2/a.jpg", "1/a.jpg", "Zebra/a.jpg", "ant/a.jpg"])
    ds = ImageFolder(tmp_path)
    assert ds.classes == ["1", "10", "2", "Zebra", "ant"]
    assert ds.class_to_idx == {"1": 0, "10": 1, "2": 2, "Zebra": 3, "ant": 4}
    assert ds.n_classes == 5
    assert ds.targets == [0, 1, 2, 3, 4]


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


def test_empty_classes_are_an_error_unless_allowed(tmp_path):
    make_tree(tmp_path, ["full/a.jpg"])
    (tmp_path / "bare").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("no image")
    with pytest.raises(EmptyClassError) as error:
        ImageFolder(tmp_path)
    assert isinstance(error.value, FileNotFoundError)
    assert re.fullmatch(
        rf"2 of the 3 classes in '{tmp_path}' have no image: 'bare', 'text' \(files ending with "
        r"\.jpg, .*\.webp\)\. Remove these folders, or pass allow_empty=True",
        str(error.value),
    )
    ds = ImageFolder(tmp_path, allow_empty=True)
    assert ds.classes == ["bare", "full", "text"]
    assert names(ds, tmp_path) == [("full/a.jpg", 1)]


def test_a_dataset_without_any_image_is_empty_if_allowed(tmp_path):
    (tmp_path / "bare").mkdir()
    ds = ImageFolder(tmp_path, allow_empty=True)
    assert len(ds) == 0
    assert ds.samples == []
    assert list(ds) == []
    assert ds.getall_class().tolist() == []
    assert ds.fingerprint("x")


def test_the_error_about_many_empty_classes_stays_short(tmp_path):
    for number in range(25):
        (tmp_path / f"c{number:02}").mkdir()
    with pytest.raises(EmptyClassError, match=r"25 of the 25 .*'c09' and 15 more \(files"):
        ImageFolder(tmp_path)


def test_a_root_that_does_not_exist_says_so(tmp_path):
    with pytest.raises(RootNotFoundError) as error:
        ImageFolder(tmp_path / "missing")
    assert isinstance(error.value, FileNotFoundError)
    assert isinstance(error.value, KappaError)
    assert f"the image folder '{tmp_path}/missing' does not exist (looked from " in str(error.value)
    assert "one subfolder per class" in str(error.value)


def test_a_root_that_is_a_file_says_so(tmp_path):
    make_tree(tmp_path, ["a.jpg"])
    with pytest.raises(RootNotFolderError, match=r"a\.jpg' is a file; give the folder") as error:
        ImageFolder(tmp_path / "a.jpg")
    assert isinstance(error.value, NotADirectoryError)
    with pytest.raises(RootNotFoundError, match="does not exist"):
        ImageFolder(tmp_path / "a.jpg" / "train")


def test_a_root_without_class_folders_says_what_is_expected(tmp_path):
    make_tree(tmp_path, ["a.jpg", "b.jpg"])
    with pytest.raises(NoClassesError) as error:
        ImageFolder(tmp_path)
    assert isinstance(error.value, FileNotFoundError)
    assert str(error.value) == (
        f"the image folder '{tmp_path}' holds no class folder (2 files directly in it); images are "
        f"expected in one subfolder per class, such as '{tmp_path}/cat/1.jpg'"
    )


def test_a_folder_that_cannot_be_listed_is_an_error_not_a_gap(tmp_path):
    make_tree(tmp_path, ["x/a.jpg"])
    # a folder whose path is longer than the system can open; works for root too
    deep = os.open(tmp_path / "x", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=deep)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    with pytest.raises(UnreadableFolderError) as error:
        ImageFolder(tmp_path)
    assert isinstance(error.value, OSError)
    assert re.match(
        rf"cannot list the folder '{tmp_path}/x/ddd.*': File name too", str(error.value)
    )
    assert "nothing was loaded" in str(error.value)
    assert isinstance(error.value.__cause__, OSError)


@pytest.mark.parametrize("root", [None, 3, b"/data"])
def test_a_root_that_is_no_path_is_refused(root):
    with pytest.raises(InvalidOptionError, match=r"root must be the path of a folder .*, got "):
        ImageFolder(root)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "find_classes gave no class for "),
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


def test_make_dataset_can_choose_among_the_files(tmp_path):
    make_tree(tmp_path / "root", ["x/a.jpg", "x/b.jpg", "y/c.jpg"])
    make_tree(tmp_path / "other", ["d.jpg"])

    class Chosen(ImageFolder):
        @staticmethod
        def make_dataset(directory, class_to_idx, extensions=None, *args):
            found = ImageFolder.make_dataset(directory, class_to_idx, extensions, *args)
            return [found[2], found[0], (str(tmp_path / "other/d.jpg"), 1)]

    ds = Chosen(tmp_path / "root")
    assert ds.samples == [
        (f"{tmp_path}/root/y/c.jpg", 1),
        (f"{tmp_path}/root/x/a.jpg", 0),
        (f"{tmp_path}/other/d.jpg", 1),
    ]
    assert ds[2][0].tobytes() == pil_loader(tmp_path / "other/d.jpg").tobytes()
    assert ds.fingerprint("x") is not None
    with pytest.raises(InvalidOptionError, match=r"Chosen has a make_dataset of its own"):
        Chosen(tmp_path / "root", index=True)


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


def test_a_scan_that_takes_long_shows_how_far_it_is(tmp_path):
    make_tree(tmp_path / "data", ["x/a.jpg", "y/b.jpg", "z/c.jpg"])
    code = (
        "import sys; from kappa_imagefolder import progress, scan\n"
        "progress.DELAY = float(sys.argv[2])\n"
        "classes, shown = {'x': 0, 'y': 1, 'z': 2}, sys.argv[3] == 'True'\n"
        "found = scan.scan(sys.argv[1], classes, scan.Rules(), progress=shown)\n"
        "print(len(found.listing.labels), 'images')\n"
    )
    for delay, shown, rank in ((0, True, "0"), (0, False, "0"), (0, True, "1"), (60, True, "0")):
        output = on_a_terminal([sys.executable, "-c", code, str(tmp_path / "data"), str(delay),
                                str(shown)], {"RANK": rank})  # fmt: skip
        expected = delay == 0 and shown and rank == "0"
        assert "3 images" in output
        assert ("Scanning" in output) == expected


def on_a_terminal(command, environment):
    """Return what a command writes when its output is a terminal."""
    main, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))  # a bar needs some room
    with subprocess.Popen(
        command, stdin=end, stdout=end, stderr=end, env={**os.environ, **environment}
    ) as process:
        os.close(end)
        output = b""
        with contextlib.suppress(OSError):  # the end of a terminal is an error
            while chunk := os.read(main, 4096):
                output += chunk
        process.wait()
    os.close(main)
    return output.decode()
