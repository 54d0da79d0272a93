"""What may change the pixels: decoders, smaller sizes, orientation; and limits on how many."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from kappa_imagefolder import ImageFolder, UnreadableImageError
from kappa_imagefolder.images.loaders import FileLoader, simplejpeg
from kappacore import CacheWrapper, ModeWrapper
from kappacore.errors import InvalidOptionError
from support.image_trees import picture

ARRAYS = ["numpy", "tensor"]


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_array(value):
    return value.permute(1, 2, 0).numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def with_orientation(kind="JPEG", orientation=6, size=(48, 32)):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(size=size), kind, exif=exif)


# ---- simplejpeg


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_fast_decoding_gives_the_same_picture(kind, mode, subsampling):
    pytest.importorskip("simplejpeg")
    options = {} if mode == "L" else {"subsampling": subsampling}
    data = encoded(picture(size=(83, 61)).convert(mode), quality=90, **options)
    expected = as_array(FileLoader("pil").decode(data)).astype(int)
    for jpeg in ("auto", "pillow"):
        pixels = as_array(FileLoader(kind, jpeg=jpeg).decode(data))
        # decoders may round differently
        assert np.abs(pixels - expected).max() <= (2 if jpeg == "auto" else 0)


def test_arrays_can_be_changed_and_outlive_the_bytes():
    data = encoded(picture())
    pixels = FileLoader("numpy").decode(memoryview(data))
    pixels[:] = 0
    assert FileLoader("numpy").decode(data).max() > 0


@pytest.mark.parametrize("jpeg", ["auto", "pillow"])
@pytest.mark.parametrize("cut", [100, 0.5])
def test_a_truncated_jpeg_is_an_error_of_every_decoder(jpeg, cut):
    data = encoded(picture(size=(480, 320)))
    data = data[: int(cut * len(data)) if cut < 1 else cut]
    for kind in ("pil", *ARRAYS):
        with pytest.raises(UnreadableImageError, match=r"damaged image|not an image"):
            FileLoader(kind, jpeg=jpeg).decode(data)


def test_what_is_no_jpeg_is_decoded_by_pillow():
    for kind in ("PNG", "WEBP", "BMP", "TIFF", "PPM"):
        data = encoded(picture(), kind)
        assert np.array_equal(
            FileLoader("numpy").decode(data), as_array(FileLoader("pil").decode(data))
        )


def test_arrays_are_identified_by_what_decodes_them():
    def identity(kind, **options):
        return FileLoader(kind, **options).identity

    assert identity("numpy", jpeg="pillow") == identity("numpy").split("/simplejpeg")[0]
    assert ("simplejpeg" in identity("numpy")) == (simplejpeg is not None)
    assert "simplejpeg" not in identity("pil")


# ---- size_hint


def jpeg_of(width, height):
    return encoded(picture(size=(width, height)), quality=95)


@pytest.mark.slow
@pytest.mark.parametrize("jpeg", ["auto", "pillow"])
@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 64), (64, 64)),
        ((127, 200), (127, 200)),  # half of it would be below the hint
        ((128, 200), (64, 100)),
        ((129, 201), (65, 101)),
        ((255, 300), (128, 150)),
        ((256, 300), (64, 75)),
        ((1000, 515), (125, 65)),
        ((2000, 2001), (250, 251)),  # never less than an eighth
    ],
)
def test_large_jpegs_are_decoded_smaller(size, expected, jpeg):
    data = jpeg_of(*size)
    whole = FileLoader("pil").decode(data)
    small = whole.resize(expected, Image.Resampling.BOX)
    for kind in ("pil", *ARRAYS):
        image = as_array(FileLoader(kind, size_hint=64, jpeg=jpeg).decode(data))
        assert image.shape == (expected[1], expected[0], 3)
        assert np.abs(image.astype(int) - as_array(small)).mean() < 6


def test_other_formats_keep_their_size():
    for kind in ("PNG", "WEBP", "TIFF"):
        image = FileLoader("pil", size_hint=64).decode(encoded(picture(size=(300, 300)), kind))
        assert image.size == (300, 300)


# ---- exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_images_are_turned_upright_if_asked_to(kind, orientation):
    options = {"lossless": True} if kind == "WEBP" else {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(), kind, exif=exif, **options)
    stored = Image.open(io.BytesIO(data)).convert("RGB")
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert (upright.tobytes() != stored.tobytes()) == (orientation != 1)
    for decode in ("pil", *ARRAYS):
        assert np.array_equal(as_array(FileLoader(decode).decode(data)), as_array(stored))
        turned = as_array(FileLoader(decode, exif=True).decode(data))
        assert np.array_equal(turned, as_array(upright))


def test_an_image_that_was_turned_does_not_say_so_again():
    image = FileLoader("pil", exif=True).decode(with_orientation())
    assert image.size == (32, 48)
    assert ImageOps.exif_transpose(image).size == (32, 48)
    assert FileLoader("pil").decode(with_orientation()).getexif()[0x0112] == 6


def test_a_tiff_is_turned_once():
    data = with_orientation("TIFF")  # Pillow turns these by itself
    for exif in (False, True):
        assert FileLoader("pil", exif=exif).decode(data).size == (32, 48)


@pytest.mark.parametrize(
    "broken",
    [
        lambda data: data.replace(b"Exif\0\0MM", b"Exif\0\0XX"),
        lambda data: data.replace(b"Exif\0\0II", b"Exif\0\0XX"),
        lambda data: data.replace(b"Exif\0\0", b"Exix\0\0"),
        lambda data: b"\xff\xd8\xff\xe1\x00\x0cExif\0\0MM\0*" + data[2:],
        lambda data: b"\xff\xd8\xff\xe1\x00\x12Exif\0\0MM\0*\0\0\0\xff\xff\xff" + data[2:],
        lambda data: data.replace(b"\x01\x12\0\x03", b"\x01\x12\0\x07"),  # bytes, not a number
        lambda data: data.replace(
            b"\x01\x12\0\x03\0\0\0\x01\0\x06", b"\x01\x12\0\x03\0\0\0\x01\0\x63"
        ),
    ],
    ids=["order", "order2", "name", "cut", "nowhere", "type", "value"],
)
def test_broken_metadata_do_not_hide_an_image(broken):
    data = broken(with_orientation())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of some
        for decode in ("pil", *ARRAYS):
            pixels = as_array(FileLoader(decode, exif=True).decode(data))
            assert pixels.shape in ((32, 48, 3), (48, 32, 3))


def test_an_orientation_that_does_not_exist_is_none():
    for orientation in (0, 9, 99):
        data = with_orientation(orientation=orientation)
        assert FileLoader("pil", exif=True).decode(data).size == (48, 32)


# ---- bombs


@pytest.mark.parametrize("kind", ["pil", *ARRAYS])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_each_decoder_has_its_own_limit(kind, form):
    data = encoded(picture(), form)
    assert as_array(FileLoader(kind, max_pixels=48 * 32).decode(data)).shape == (32, 48, 3)
    message = (
        r"the image decodes to 48x32 pixels, more than the limit of 1535, .* bombs\. .* pass "
        r"ImageFolder\(max_pixels=1536\)"
    )
    with pytest.raises(UnreadableImageError, match=message):
        FileLoader(kind, max_pixels=48 * 32 - 1).decode(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "PPM"])
def test_a_limit_may_be_higher_than_pillows_which_stays(form, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = encoded(picture(), form)
    expected = None
    for kind in ("pil", *ARRAYS):
        pixels = as_array(FileLoader(kind, max_pixels=2000).decode(data))
        assert expected is None or np.abs(pixels.astype(int) - expected).max() <= 2
        expected = pixels.astype(int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(UnreadableImageError, match=r"pass ImageFolder\(max_pixels="):
                FileLoader(kind).decode(data)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(UnreadableImageError, match="not an image in a format that Pillow knows"):
        FileLoader("pil", max_pixels=2000).decode(b"nonsense, of some length")


def test_decoders_with_other_limits_run_side_by_side():
    data = encoded(picture())
    found = []

    def run(limit, fits):
        for _ in range(50):
            with contextlib.suppress(UnreadableImageError):
                FileLoader("pil", max_pixels=limit).decode(data)
                found.append(fits)

    threads = [threading.Thread(target=run, args=case) for case in ((10, False), (10**9, True))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 50


# ---- in a folder


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "large.jpg").write_bytes(jpeg_of(256, 300))
    (folder / "turned.jpg").write_bytes(with_orientation())
    return tmp_path


OPTIONS = [{"size_hint": 64}, {"exif": True}, {"jpeg_decoder": "pillow"}, {"max_pixels": 100_000}]


@pytest.mark.parametrize("decode", ["pil", *ARRAYS])
@pytest.mark.parametrize("options", OPTIONS)
def test_options_apply_with_and_without_a_cache(root, decode, options):
    expected = FileLoader(
        decode, **{{"jpeg_decoder": "jpeg"}.get(key, key): v for key, v in options.items()}
    )
    ds = ImageFolder(root, decode=decode, **options)
    with CacheWrapper(ImageFolder(root, decode=decode, **options), "memory") as cached:
        for idx, name in enumerate(("large", "turned")):
            path = str(root / "x" / f"{name}.jpg")
            value = as_array(expected.decode((root / "x" / f"{name}.jpg").read_bytes()))
            for found in (ds[idx][0], ds.loader(path), ModeWrapper(cached, "x")[idx]):
                assert np.array_equal(as_array(found), value)


def test_what_changes_the_pixels_is_part_of_the_identity_of_decoded_images_only(root):
    plain = ImageFolder(root, decode="numpy")
    fingerprints = {plain.fingerprint("x")}
    for options in ({"size_hint": 64}, {"size_hint": 65}, {"exif": True}):
        ds = ImageFolder(root, decode="numpy", **options)
        assert ds.fingerprint("x", raw=True) == plain.fingerprint("x", raw=True)
        fingerprints.add(ds.fingerprint("x"))
    assert len(fingerprints) == 4
    limited = ImageFolder(root, decode="numpy", max_pixels=10**6)
    assert limited.fingerprint("x") == plain.fingerprint("x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size_hint": 0}, "size_hint must be a number of pixels of the shorter side, or None"),
        ({"size_hint": "big"}, "size_hint must be a number of pixels .* got 'big'"),
        ({"max_pixels": -1}, "max_pixels must be a number of pixels, or None; got -1"),
        ({"max_pixels": True}, "max_pixels must be a number of pixels, or None; got True"),
        ({"exif": "yes"}, "exif must be True or False, got 'yes'"),
        ({"jpeg_decoder": "turbo"}, "jpeg_decoder must be one of 'auto', 'pillow', got 'turbo'"),
        ({"exif": True, "loader": str}, "exif, .* are for the loaders of this package, .* decode="),
        ({"transform": 3}, r"transform must be a function of one value, got 3 \(int\)"),
        ({"target_transform": "x"}, r"target_transform must be a function of one value, got 'x'"),
    ],
)
def test_options_that_make_no_sense_are_refused(root, options, message):
    with pytest.raises(InvalidOptionError, match=message):
        ImageFolder(root, **options)


def test_a_loader_of_the_package_takes_the_options_too(root):
    from kappa_imagefolder import numpy_loader

    ds = ImageFolder(root, loader=numpy_loader, size_hint=64)
    assert ds[0][0].shape == (75, 64, 3)
    again = ImageFolder(root, loader=ds.loader)
    assert again[0][0].shape == (75, 64, 3)
    assert again.fingerprint("x") == ds.fingerprint("x")
