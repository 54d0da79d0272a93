"""JPEGs that decoders take for others: no header ends the process, and valid files are read."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from kappa_imagefolder import UnreadableImageError
from kappa_imagefolder.images import loaders
from kappa_imagefolder.images.jpeg_header import scalable_frame
from kappa_imagefolder.images.loaders import FileLoader
from kappa_imagefolder.images.pillow import Shrink
from support.image_trees import picture
from support.jpegs import lossless_jpeg, sampled_jpeg

FUZZ = Path(__file__).with_name("fuzz_headers.py")


@pytest.mark.slow
def test_no_header_ends_the_process():
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", FUZZ, "--count", "250"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pil", "numpy", "tensor"])
def test_a_lossless_jpeg_is_never_decoded_smaller(kind):
    pixels = np.asarray(picture(size=(256, 256)))
    code = (
        "import sys, numpy as np; from kappa_imagefolder.images.loaders import FileLoader\n"
        f"decode = FileLoader({kind!r}, size_hint=32).decode\n"
        "data = sys.stdin.buffer.read()\n"
        "for _ in range(5): pixels = np.asarray(decode(data))\n"
        "sys.stdout.buffer.write(pixels.tobytes())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], input=lossless_jpeg(pixels), capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:].decode()
    expected = pixels.transpose(2, 0, 1) if kind == "tensor" else pixels
    assert run.stdout == expected.tobytes()


def encoded(mode="RGB", **options):
    file = io.BytesIO()
    picture().convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_usual_jpegs_can_be_decoded_smaller(mode, progressive):
    data = encoded(mode, progressive=progressive, exif=Image.Exif(), comment="a comment")
    components = {"RGB": 3, "L": 1, "CMYK": 4}[mode]
    for form in (data, memoryview(data), data[:2] + b"\xff" + data[2:]):
        assert scalable_frame(form) == (48, 32, components)


@pytest.mark.parametrize(
    "change",
    [
        lambda data, frame: data[: frame + 1] + b"\xc3" + data[frame + 2 :],  # lossless
        lambda data, frame: data[: frame + 1] + b"\xc5" + data[frame + 2 :],  # hierarchical
        lambda data, frame: data[: frame + 4] + b"\x0c" + data[frame + 5 :],  # of 12 bits
        lambda data, frame: data[: frame + 9] + b"\x04" + data[frame + 10 :],  # too short for it
        lambda data, frame: data[: frame + 5] + b"\0\0" + data[frame + 7 :],  # of no height
        lambda data, frame: data[:frame] + b"\0" + data[frame:],  # filth between segments
        lambda data, frame: data[:frame] + b"\xff\xfe\0\1" + data[frame:],
        lambda data, frame: data[:frame] + b"\xff\xd8" + data[frame:],
        lambda data, frame: data[: frame + 12],
        lambda data, frame: data[:3],
        lambda data, frame: b"",
        lambda data, frame: b"\x89PNG" + data[4:],
    ],
)
def test_all_else_is_decoded_whole(change):
    data = encoded()
    assert scalable_frame(change(data, data.index(b"\xff\xc0"))) is None


def test_a_jpeg_of_four_components_becomes_an_array_through_pillow():
    data = encoded("CMYK", quality=95)
    assert np.array_equal(FileLoader("numpy").decode(data), FileLoader("pil").decode(data))


# ---- what the fast ways cannot read, the plain way reads


LOSSLESS = lossless_jpeg(np.asarray(picture(size=(64, 48))))
SAMPLED = [sampled_jpeg((across, down)) for across in (1, 2, 3, 4) for down in (1, 2, 3, 4)]
SAMPLED += [sampled_jpeg((2, 2), (2, 1), (2, 1)), sampled_jpeg((2, 1), (1, 1), (2, 1))]


@pytest.mark.parametrize("options", [{}, {"size_hint": 4}, {"exif": True}, {"shrink": Shrink(20)}])
@pytest.mark.parametrize("kind", ["pil", "numpy", "tensor"])
def test_what_pillow_reads_is_read_with_every_option(tmp_path, kind, options):
    read = 0
    for data in (LOSSLESS, *SAMPLED):
        (tmp_path / "a.jpg").write_bytes(data)
        try:
            with Image.open(tmp_path / "a.jpg") as image:
                whole = np.asarray(image.convert("RGB"))
        except OSError:  # more blocks in a unit than libjpeg takes
            continue
        read += 1
        found = np.asarray(FileLoader(kind, **options)(tmp_path / "a.jpg"))
        if not options:
            found = found.transpose(1, 2, 0) if kind == "tensor" else found
            assert np.abs(found.astype(int) - whole).max() <= 2
        assert found.size
    assert read > 10


@pytest.mark.parametrize("error", [KeyError, ValueError, RuntimeError, OSError, AssertionError])
@pytest.mark.parametrize("kind", ["pil", "numpy"])
def test_any_failure_of_a_fast_way_is_followed_by_the_plain_one(monkeypatch, kind, error):
    def fail(*args, **options):
        raise error("of the fast way")

    data = encoded()
    expected = np.asarray(FileLoader("pil").decode(data))
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", fail)
    if loaders.simplejpeg is not None:
        monkeypatch.setattr(loaders.simplejpeg, "decode_jpeg", fail)
    assert np.array_equal(FileLoader(kind, size_hint=4).decode(data), expected)
    assert Image.open(io.BytesIO(Shrink(20)(data))).size == (20, 13)
    with pytest.raises(UnreadableImageError, match="damaged image") as caught:
        FileLoader(kind, size_hint=4).decode(data[:-200])
    assert "fast" not in str(caught.value)


def test_a_shrink_larger_than_any_jpeg_leaves_the_file_as_it_is():
    file = io.BytesIO()
    Image.new("RGB", (70_000, 2)).save(file, "PNG")
    assert Shrink(66_000)(file.getvalue()) == file.getvalue()
    file = io.BytesIO()
    picture(size=(66_001, 3)).save(file, "TIFF")
    assert Image.open(io.BytesIO(Shrink(65_000)(file.getvalue()))).size == (65_000, 3)
