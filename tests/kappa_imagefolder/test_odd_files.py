"""Files that are no images at all: huge, endless, pipes; each is refused without being read."""

from __future__ import annotations

import os
import tracemalloc

import pytest
from PIL import Image

from kappa_imagefolder import ImageFolder, UnreadableImageError, raw_image_loader
from kappa_imagefolder.images.reading import LARGE, read_file
from kappacore import CacheWrapper, ModeWrapper
from kappacore.errors import InvalidOptionError
from support.image_trees import make_tree

HUGE = 700_000_000


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "data", ["a/1.jpg", "a/2.jpg"])


def read_all(ds):
    """Return what is said of each image that cannot be read, and the most memory that it took."""
    said = []
    tracemalloc.start()
    for read in (lambda: ds[0], lambda: ds.getraw_x(0), lambda: ds.__getitems__([0])):
        with pytest.raises(
            UnreadableImageError, match=r"image 0 of class 'a', .*0\.jpg'"
        ) as caught:
            read()
        said.append(str(caught.value))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return said, peak


def write_sparse(path, beginning=b""):
    with path.open("wb") as file:
        file.write(beginning)
        file.truncate(HUGE)


def test_a_huge_file_that_is_no_image_is_refused_by_its_header(root):
    write_sparse(root / "a/0.jpg")
    for options in ({}, {"decode": "numpy"}, {"shrink": 20}, {"decode": "raw", "shrink": 20}):
        said, peak = read_all(ImageFolder(root, **options))
        assert all("not an image in a format that Pillow knows (700000000 bytes" in e for e in said)
        assert peak < 10_000_000


def test_a_huge_file_does_not_keep_a_cache_from_opening(root):
    write_sparse(root / "a/0.jpg")
    tracemalloc.start()
    for how in ("sampled", "sizes", "content"):
        with CacheWrapper(ImageFolder(root, fingerprint=how), "memory", max_bytes=10**6) as cached:
            assert ModeWrapper(cached, "x")[1].size == (48, 32)
    assert tracemalloc.get_traced_memory()[1] < HUGE / 10  # the cache's own memory included
    tracemalloc.stop()


@pytest.mark.slow
def test_a_huge_image_of_too_many_pixels_is_refused_by_its_header(root):
    Image.new("1", (20_000, 20_000)).save(root / "a/0.bmp")
    with (root / "a/0.bmp").open("rb") as file:
        write_sparse(root / "a/0.jpg", file.read(100))
    (root / "a/0.bmp").unlink()
    said, peak = read_all(ImageFolder(root))
    assert all("decompression bomb" in each for each in said)
    assert peak < 10_000_000


def test_a_large_image_is_read_as_any_other(root):
    with (root / "a/1.jpg").open("ab") as file:
        file.truncate(LARGE + 1)
    assert ImageFolder(root)[0][0].size == (48, 32)
    assert len(ImageFolder(root).getraw_x(0)) == LARGE + 1
    assert len(raw_image_loader(root / "a/1.jpg")) == LARGE + 1


def test_a_limit_on_bytes_refuses_before_reading(root):
    write_sparse(root / "a/0.jpg")
    for limit in (10**6, "1MB"):
        for decode in ("pil", "raw"):
            said, peak = read_all(ImageFolder(root, decode=decode, max_bytes_per_file=limit))
            assert all("700000000 bytes, more than max_bytes_per_file=1000000" in e for e in said)
            assert peak < 10_000_000
    size = (root / "a/1.jpg").stat().st_size
    assert ImageFolder(root, max_bytes_per_file=size)[1][0].size == (48, 32)
    with pytest.raises(UnreadableImageError, match=f"more than max_bytes_per_file={size - 1}"):
        ImageFolder(root, max_bytes_per_file=size - 1)[1]
    found = ImageFolder(root, max_bytes_per_file=None).fingerprint("x", raw=True)
    assert ImageFolder(root, max_bytes_per_file=HUGE).fingerprint("x", raw=True) == found


@pytest.mark.parametrize("limit", [0, -1, 0.5, "many", True])
def test_a_limit_that_makes_no_sense_is_refused(root, limit):
    with pytest.raises(InvalidOptionError, match=r"max_bytes_per_file=.* is not a size"):
        ImageFolder(root, max_bytes_per_file=limit)


@pytest.mark.parametrize(
    ("target", "kind"),
    [("/dev/zero", "a device"), ("/dev/null", "a device"), ("pipe", "a pipe"), (".", "a folder")],
)
@pytest.mark.parametrize("decode", ["pil", "raw"])
def test_what_is_no_regular_file_is_refused_at_once(root, target, kind, decode):
    if target == "pipe":
        os.mkfifo(root / "a/0.jpg")
    elif target == ".":
        (root / "a/0.jpg").write_bytes(b"x")
    else:
        (root / "a/0.jpg").symlink_to(target)
    ds = ImageFolder(root, decode=decode)
    if target == ".":
        (root / "a/0.jpg").unlink()
        (root / "a/0.jpg").mkdir()
    said, peak = read_all(ds)
    assert all(f"it is {kind}, not a regular file" in each for each in said)
    assert peak < 10_000_000
    assert ds.fingerprint("x", raw=True) == ds.fingerprint("x", raw=True)


def test_a_file_without_a_size_is_read_to_its_end():
    assert read_file("/proc/self/stat").split()[0] == str(os.getpid()).encode()
    with pytest.raises(UnreadableImageError, match="more than max_bytes_per_file=10"):
        read_file("/proc/self/stat", 10)
