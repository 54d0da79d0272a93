"""Files that are made smaller before a cache keeps them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFile

from kappa_imagefolder import ImageFolder, UnreadableImageError
from kappa_imagefolder.images.pillow import Shrink
from kappacore import CacheWrapper, ModeWrapper
from kappacore.errors import InvalidOptionError
from support.image_trees import picture


def smooth(width, height):
    """A picture that is worth compressing."""
    return picture(size=(12, 9)).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data" / "x"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth(640, 480).save(folder / "large.jpg", quality=95)
    smooth(300, 900).save(folder / "tall.png")
    smooth(100, 80).save(folder / "small.jpg")
    smooth(640, 480).save(folder / "turned.jpg", exif=exif, quality=95)
    return tmp_path / "data"


def opened(data):
    return Image.open(io.BytesIO(data))


def test_large_images_become_smaller_jpegs_and_small_ones_stay(root):
    plain, ds = ImageFolder(root), ImageFolder(root, shrink=(256, 90))
    sizes = {}
    for idx, (path, _) in enumerate(ds.samples):
        raw = ds.getraw_x(idx)
        sizes[path.rsplit("/", 1)[1]] = opened(raw).size
        if path.endswith("small.jpg"):
            assert raw == plain.getraw_x(idx)
            continue
        assert opened(raw).format == "JPEG"
        assert len(raw) < len(plain.getraw_x(idx))
        expected = plain[idx][0].resize(opened(raw).size, Image.Resampling.BOX)
        difference = np.asarray(ds[idx][0]).astype(int) - np.asarray(expected)
        assert np.abs(difference).mean() < 3
        assert ds.decode_x(raw).tobytes() == ds[idx][0].tobytes()
    assert sizes == {
        "large.jpg": (256, 192),
        "small.jpg": (100, 80),
        "tall.png": (85, 256),
        "turned.jpg": (256, 192),
    }


def test_the_orientation_is_kept(root):
    assert ImageFolder(root, shrink=256)[3][0].size == (256, 192)
    assert ImageFolder(root, shrink=256, exif=True)[3][0].size == (192, 256)
    keys = {"turned.jpg": 6, "large.jpg": None}
    for idx, (path, _) in enumerate(ImageFolder(root).samples):
        name = path.rsplit("/", 1)[1]
        if name in keys:
            exif = opened(ImageFolder(root, shrink=256).getraw_x(idx)).getexif()
            assert exif.get(0x0112) == keys[name]


def test_a_cache_keeps_the_small_bytes_and_reads_each_file_once(root):
    ds = ImageFolder(root, shrink=256)
    small = sum(len(ds.getraw_x(idx)) for idx in range(4))
    with CacheWrapper(ds, "memory") as cached:
        for _ in range(2):
            images = [image.tobytes() for image in ModeWrapper(cached, "x")]
        stats = cached.stats()
        assert images == [image.tobytes() for image, _ in ds]
    assert (stats.source_reads, stats.hits) == (4, 4)
    assert small <= stats.bytes_read < small + 4 * 1000


def test_bytes_that_would_not_get_fewer_stay():
    file = io.BytesIO()
    smooth(300, 200).save(file, "JPEG", quality=5)
    data = file.getvalue()
    assert Shrink(290, quality=95)(data) is data


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1", "I;16", "LA"])
def test_every_mode_can_be_shrunk(mode):
    file = io.BytesIO()
    image = smooth(400, 300)
    image = image.convert("L").convert(mode) if mode in ("I;16", "LA") else image.convert(mode)
    image.save(file, "TIFF")
    whole = opened(file.getvalue()).convert("RGB")
    small = opened(Shrink(100)(file.getvalue())).convert("RGB")
    assert small.size == (100, 75)
    expected = np.asarray(whole.resize((100, 75), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(np.asarray(small) - expected).mean() < 12


def test_grey_images_stay_grey():
    file = io.BytesIO()
    smooth(400, 300).convert("L").save(file, "PNG")
    assert opened(Shrink(100)(file.getvalue())).mode == "L"


def test_an_extreme_shape_keeps_a_pixel():
    file = io.BytesIO()
    Image.new("RGB", (2000, 1)).save(file, "BMP")
    assert opened(Shrink(100)(file.getvalue())).size == (100, 1)


def test_what_was_shrunk_is_identified_as_such(root):
    identities = {
        ImageFolder(root, shrink=shrink).fingerprint("x", raw=raw)
        for shrink in (None, 256, (256, 80), 300)
        for raw in (True, False)
    }
    assert len(identities) == 8
    same = ImageFolder(root, shrink=(256, 90), exif=True, size_hint=64).fingerprint("x", raw=True)
    assert same in identities
    assert ImageFolder(root, shrink=[256, 90]).fingerprint("x") in identities


def test_what_pillow_makes_of_half_an_image_is_not_taken_for_the_whole(root, monkeypatch):
    (root / "x/large.jpg").write_bytes((root / "x/large.jpg").read_bytes()[:-200])
    strict = ImageFolder(root, shrink=256)
    before = {raw: strict.fingerprint("x", raw=raw) for raw in (False, True)}
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    lenient = ImageFolder(root, shrink=256)
    assert lenient.getraw_x(0)  # the half that is there, grey below
    for raw, found in before.items():
        assert lenient.fingerprint("x", raw=raw) != found
    plain = ImageFolder(root).fingerprint("x", raw=True)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    assert ImageFolder(root).fingerprint("x", raw=True) == plain  # the bytes of the files


def test_an_image_that_cannot_be_shrunk_is_named(root):
    path = root / "x/large.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    ds = ImageFolder(root, shrink=256)
    for read in (lambda: ds[0], lambda: ds.getraw_x(0)):
        with pytest.raises(UnreadableImageError, match=rf"image 0 of class 'x', '{path}': damaged"):
            read()


def test_a_bomb_is_not_shrunk(root):
    with pytest.raises(UnreadableImageError, match="more than the limit of 1000"):
        ImageFolder(root, shrink=256, max_pixels=1000).getraw_x(0)


@pytest.mark.parametrize("shrink", [0, -5, "256", (256, 0), (256, 99), (256, 90, 1), (), 2.5, True])
def test_a_shrink_that_makes_no_sense_is_refused(root, shrink):
    with pytest.raises(InvalidOptionError, match=r"shrink must be the pixels of the longest side"):
        ImageFolder(root, shrink=shrink)
