"""Images that cannot be loaded: what the error carries, and what may take their place."""

from __future__ import annotations

import pickle
import struct

import pytest
from PIL import Image, UnidentifiedImageError
from torch.utils.data import DataLoader

from kappa_imagefolder import (
    ImageFolder,
    ImageMemoryError,
    UnreadableImageError,
    raw_image_loader,
)
from kappacore import CacheWrapper, ModeWrapper
from kappacore.errors import InvalidOptionError
from support.image_trees import make_tree

FILES = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(3)]
BROKEN = {1: "empty", 3: "truncated", 4: "gone"}


@pytest.fixture
def root(tmp_path):
    """A folder in which three of six images cannot be loaded, each for another reason."""
    root = make_tree(tmp_path / "data", FILES)
    (root / FILES[1]).write_bytes(b"")
    (root / FILES[3]).write_bytes((root / FILES[3]).read_bytes()[:-200])
    (root / FILES[4]).unlink()
    (root / FILES[4]).symlink_to(root / "nowhere")
    return root


def grey(error):
    return Image.new("RGB", (48, 32), (128, 128, 128))


def is_grey(image):
    return image.getcolors(10**6) == [(48 * 32, (128, 128, 128))]


def test_an_error_carries_path_index_class_and_cause(root):
    ds = ImageFolder(root)
    causes = {1: type(None), 3: OSError, 4: FileNotFoundError}
    for idx, cause in causes.items():
        with pytest.raises(UnreadableImageError) as caught:
            ds[idx]
        error = caught.value
        assert (error.index, error.path) == (idx, str(root / FILES[idx]))
        assert error.class_name == FILES[idx][:3]
        assert type(error.__cause__) is cause
        for part in (f"image {idx} ", f"class '{FILES[idx][:3]}'", str(root / FILES[idx])):
            assert part in str(error)
        sent = pickle.loads(pickle.dumps(error))
        assert (str(sent), sent.index) == (str(error), idx)


@pytest.mark.parametrize("decode", ["pil", "raw"])
def test_a_function_may_give_a_replacement_and_no_index_shifts(root, decode):
    seen = []

    def replace(error):
        seen.append((error.index, error.class_name))
        return ("instead of", error.path)

    ds = ImageFolder(root, decode=decode, on_error=replace)
    plain = ImageFolder(root, decode=decode)
    samples = list(ds)
    assert [label for _, label in samples] == [0, 0, 0, 1, 1, 1]
    broken = [1, 4] if decode == "raw" else [1, 3, 4]
    for idx, (image, _) in enumerate(samples):
        expected = ("instead of", str(root / FILES[idx])) if idx in broken else plain[idx][0]
        assert image == expected
    assert seen == [(idx, FILES[idx][:3]) for idx in broken]
    assert ds.__getitems__([4, 0])[0][0] == samples[4][0]


def test_a_replacement_is_transformed_as_an_image_would_be(root):
    ds = ImageFolder(root, transform=lambda image: image.size, on_error=grey)
    assert [size for size, _ in ds] == [(48, 32)] * 6


def test_what_an_own_loader_raises_may_be_replaced(root):
    def loader(path):
        raise ValueError(path[-5:])

    ds = ImageFolder(root, loader=loader, on_error=lambda error: error.__cause__.args)
    assert [x for x, _ in ds] == [(name[-5:],) for name in FILES]


def test_what_the_function_raises_is_raised(root):
    def stop(error):
        raise RuntimeError("enough") from error

    with pytest.raises(RuntimeError, match="enough"):
        ImageFolder(root, on_error=stop)[1]


def test_workers_replace_too(root):
    loader = DataLoader(ImageFolder(root, on_error=grey), num_workers=2, collate_fn=list)
    images = [image for batch in loader for image, _ in batch]
    assert [is_grey(image) for image in images] == [idx in BROKEN for idx in range(6)]


@pytest.mark.parametrize("shrink", [None, 40])
def test_a_raw_cache_asks_anew_for_what_could_not_be_loaded(root, shrink):
    """Neither the replacement nor the failure is kept in the image's place."""
    ds = ImageFolder(root, on_error=grey, shrink=shrink)
    with CacheWrapper(ds, "memory", check=False) as cached:
        cached.prefill(progress=False)
        images = ModeWrapper(cached, "x")
        for _ in range(2):
            assert [is_grey(image) for image in images] == [idx in BROKEN for idx in range(6)]
        make_tree(root, FILES)  # the storage is back
        mended = [image.tobytes() for image in images]
    plain = ImageFolder(root, shrink=shrink)
    kept = 3  # as it was when it was cached: damaged; the file is read in its place
    assert mended[kept] == plain[kept][0].tobytes()
    assert mended == [image.tobytes() for image, _ in plain]


def test_replaced_images_are_never_taken_for_those_of_the_files(root):
    ds = ImageFolder(root, on_error=grey)
    assert ds.fingerprint("x") is None
    assert ds.sample_fingerprint() is None
    assert ds.fingerprint("x", raw=True) is not None
    raw = ImageFolder(root, on_error=grey, loader=raw_image_loader)
    assert raw.fingerprint("x") is None


def test_mended_files_are_other_content(root):
    before = {
        how: ImageFolder(root, fingerprint=how, on_error=grey).fingerprint("x", raw=True)
        for how in ("sampled", "sizes", "content")
    }
    make_tree(root, FILES)
    for how, found in before.items():
        ds = ImageFolder(root, fingerprint=how, on_error=grey)
        assert ds.fingerprint("x", raw=True) != found


@pytest.mark.parametrize("on_error", [None, "skip", 0])
def test_an_on_error_that_makes_no_sense_is_refused(root, on_error):
    with pytest.raises(InvalidOptionError, match=r"on_error must be 'raise', or a function that"):
        ImageFolder(root, on_error=on_error)


class NotOursError(Exception):
    """Of a loader's own."""


@pytest.mark.parametrize(
    "error",
    [
        NameError("no such name"),
        UnboundLocalError("not bound"),
        AttributeError("no such attribute"),
        TypeError("of another type"),
        IndexError("out of range"),
        KeyError("key"),
        ImportError("no such module"),
        AssertionError("wrong"),
        RuntimeError("no"),
        ZeroDivisionError("by zero"),
        NotImplementedError("not yet"),
        SyntaxError("invalid syntax", ("loader.py", 3, 1, "x ==")),
        NotOursError("own"),
    ],
)
def test_a_mistake_in_an_own_loader_is_not_taken_for_a_bad_image(root, error):
    def loader(path):
        raise error

    for options in ({}, {"on_error": grey}):
        ds = ImageFolder(root, loader=loader, **options)
        for read in (lambda ds=ds: ds[0], lambda ds=ds: list(ds)):
            with pytest.raises(type(error)) as caught:
                read()
            assert caught.value is error
    assert "while loading image 0" in "".join(
        getattr(error, "__notes__", ["while loading image 0"])
    )


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("gone"),
        TimeoutError("too slow"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        ValueError("bad header"),
        EOFError("too short"),
        struct.error("too short"),
        SyntaxError("not a TIFF file"),
        UnidentifiedImageError("what"),
        Image.DecompressionBombError("bomb"),
        Image.DecompressionBombWarning("bomb"),
        UnreadableImageError("of the loader's own"),
    ],
)
def test_what_a_file_can_cause_may_be_replaced(root, error):
    def loader(path):
        raise error

    assert is_grey(ImageFolder(root, loader=loader, on_error=grey)[0][0])
    with pytest.raises(UnreadableImageError, match=r"image 0 of class 'cat', .*0\.jpg': "):
        ImageFolder(root, loader=loader)[0]


def test_a_mistake_below_pillow_is_not_taken_for_a_damaged_image(root, monkeypatch):
    def broken(*args):
        raise NameError("of a plugin")

    monkeypatch.setattr(Image.Image, "convert", broken)
    with pytest.raises(NameError, match="of a plugin"):
        ImageFolder(root, on_error=grey)[0]


@pytest.mark.parametrize("options", [{}, {"on_error": grey}])
def test_too_little_memory_names_the_image_and_is_no_reason_to_replace_it(root, options):
    def loader(path):
        raise MemoryError("of 4 TiB")

    with pytest.raises(
        ImageMemoryError, match=r"not enough memory for image 5 of class 'dog', .*2\.jpg"
    ):
        ImageFolder(root, loader=loader, **options)[5]
    with pytest.raises(MemoryError) as caught:
        ImageFolder(root, loader=loader, **options)[5]
    assert (caught.value.index, caught.value.path) == (5, str(root / FILES[5]))
    assert caught.value.class_name == "dog"
