"""``decode="device"``: stored JPEGs that a device decodes, or the CPU in its place."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import kappacore
from kappacore import plugins
from kappacore.datasets import KDDataset
from kappacore.errors import InvalidOptionError
from support.numbers import BatchNumbers, Numbers
from support.standin_device import StandIn


class Files(KDDataset):
    """JPEGs, of which every fifth has another size."""

    raw_formats = {"x": "jpeg"}  # noqa: RUF012 - as authors write it

    def __init__(self, sizes=((40, 48), (40, 48))):
        self.sizes = sizes

    def __len__(self):
        return 12

    def getraw_x(self, idx):
        image = Image.new("RGB", self.sizes[idx % 5 == 0], (20 * idx, 100, 200 - 10 * idx))
        out = io.BytesIO()
        image.save(out, "JPEG")
        return out.getvalue()

    def decode_x(self, raw):
        return Image.open(io.BytesIO(raw))


class Decoding(StandIn):
    """Decodes with Pillow all but the third file; one too bright, to be told from the CPU's."""

    def decode(self, files):
        self._note("decode")
        images = [np.array(Image.open(io.BytesIO(bytes(file.tolist())))) for file in files]
        found = [torch.from_numpy(image).clamp(max=254) + 1 for image in images]
        return [None if row == 2 else image for row, image in enumerate(found)]


@pytest.fixture(autouse=True)
def _decoding():
    plugins.register_device("decoding", Decoding)
    yield
    plugins.unregister_device("decoding")


def pixels(dataset, more=1):
    images = [
        np.array(image).astype(int) for image in kappacore.ModeWrapper(dataset, "x")[range(12)]
    ]
    return [np.minimum(image, 254) + (more if row != 2 else 0) for row, image in enumerate(images)]


def loaded(dataset, device="decoding", **options):
    items = {"x": {"decode": "device", **options}}
    with kappacore.Loader(dataset, "x", 12, device=device, items=items) as loader:
        (batch,) = loader
        return batch


@pytest.mark.parametrize("filled", [None, 0, 5, 12])
def test_the_device_decodes_what_it_can(filled):
    dataset = Files()
    if filled is not None:
        dataset = kappacore.CacheWrapper(dataset, "memory", namespace="files")
        kappacore.ModeWrapper(dataset, "x")[:filled]
    assert np.array_equal(loaded(dataset).numpy(), np.stack(pixels(Files())))


def test_a_device_that_decodes_nothing_leaves_it_to_the_cpu():
    assert np.array_equal(loaded(Files(), "cpu").numpy(), np.stack(pixels(Files(), more=0)))


@pytest.mark.parametrize("options", [{"resize": (20, 20)}, {"crop": (20, 30)}])
def test_images_of_several_sizes_become_one(options):
    found = loaded(Files(((40, 48), (60, 32))), **options)
    assert found.shape == (12, *next(iter(options.values())), 3)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda ds: kappacore.KDSubset(ds, range(12)),
        lambda ds: kappacore.RepeatWrapper(ds, 1),
        lambda ds: kappacore.KDConcatDataset(
            [kappacore.KDSubset(ds, range(6)), kappacore.KDSubset(ds, range(6, 12))]
        ),
    ],
)
def test_what_chooses_samples_keeps_the_declaration(wrap):
    ds = wrap(kappacore.CacheWrapper(Files(), "memory", namespace="files"))
    assert np.array_equal(loaded(ds).numpy(), np.stack(pixels(Files())))


class Brighter(Files):
    """Decodes to something else, and declares nothing."""

    def getraw_x(self, idx):
        return super().getraw_x(idx)

    def decode_x(self, raw):
        return super().decode_x(raw)


@pytest.mark.parametrize(
    ("dataset", "why"),
    [
        (Numbers(12), "it has no stored form"),
        (BatchNumbers(12), "nothing says that its stored form is that"),
        (Brighter(), "nothing says that its stored form is that"),
        (kappacore.TransformWrapper(Files(), np.array), "it has no stored form"),
        (
            kappacore.CacheWrapper(Files(), "memory", form="decoded", namespace="decoded"),
            "it has no stored form",
        ),
    ],
)
def test_what_is_no_plain_jpeg_is_refused(dataset, why):
    with pytest.raises(InvalidOptionError, match=f"of item 'x' {why}.*raw_formats = "):
        loaded(dataset)


def test_another_stored_form_is_named():
    class Tiffs(Files):
        raw_formats = {"x": "tiff"}  # noqa: RUF012

        def getitem_x(self, idx):
            return idx

        getraw_x, decode_x = Files.getraw_x, Files.decode_x

    with pytest.raises(InvalidOptionError, match="its stored form is 'tiff'"):
        loaded(Tiffs())
