"""Image folders behind a cache: every file is read once, and stays compressed in it."""

from __future__ import annotations

import shutil

import pytest
from PIL import ImageOps

import kappacore
from kappa_imagefolder import (
    ImageFolder,
    raw_image_folder_sample_to_pil_sample,
    raw_image_loader,
)
from kappacore import CachedDataset, CacheWrapper, ModeWrapper
from support.image_trees import make_tree

FILES = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(4)]


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "data", FILES)


@pytest.mark.parametrize("form", [None, "raw"])
def test_a_cache_keeps_the_bytes_and_gives_the_same_pixels(root, form):
    plain = ImageFolder(root)
    expected = [(image.tobytes(), label) for image, label in plain]
    size = sum((root / name).stat().st_size for name in FILES)
    with CacheWrapper(ImageFolder(root), "memory", form=form) as cached:
        samples = ModeWrapper(cached, "x class")
        first = [(image.tobytes(), label) for image, label in samples]
        assert cached.stats().source_reads == len(FILES)
        shutil.rmtree(root)  # from here on there is only the cache
        second = [(image.tobytes(), label) for image, label in samples]
        stats = cached.stats()
    assert first == second == expected
    assert (stats.source_reads, stats.misses, stats.hits) == (8, 8, 8)
    assert size <= stats.bytes_read < len(FILES) * 48 * 32 * 3  # files in the cache, not pixels


def test_transforms_run_after_a_raw_cache(root):
    ds = ImageFolder(root, transform=ImageOps.invert)
    with CacheWrapper(ds, "memory") as cached:
        samples = ModeWrapper(cached, "x")
        assert samples[0].tobytes() == ds[0][0].tobytes()
        ds.transform = ImageOps.flip
        shutil.rmtree(root)
        image = ImageOps.flip(raw_image_folder_sample_to_pil_sample((cached.getraw_x(0), 0))[0])
        assert samples[0].tobytes() == image.tobytes()


def test_decoded_arrays_can_be_cached(root):
    ds = ImageFolder(root, decode="numpy")
    expected = [ds[idx][0] for idx in range(len(ds))]
    with CacheWrapper(ds, "memory", form="decoded") as cached:
        samples = ModeWrapper(cached, "x")
        list(samples)
        shutil.rmtree(root)
        assert all((samples[idx] == expected[idx]).all() for idx in range(len(ds)))


def raw_cache(backend, ds):
    if backend == "memory":
        return CachedDataset(ds, "memory", transform=raw_image_folder_sample_to_pil_sample)
    kappa_shared = pytest.importorskip("kappa_shared")
    return kappa_shared.SharedDictDataset(ds, transform=raw_image_folder_sample_to_pil_sample)


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_a_dataset_of_ones_own_around_raw_samples(root, backend):
    """The way in which users of KappaData cache an image folder."""

    class CachedImageFolder(kappacore.KDDataset):
        def __init__(self, root, transform=None):
            super().__init__()
            self.ds = ImageFolder(root, transform=None, loader=raw_image_loader)
            self.cached_ds = raw_cache(backend, self.ds)
            self.transform = transform

        def __len__(self):
            return len(self.ds)

        def getitem_x(self, idx, ctx=None):
            x, _ = self.cached_ds[idx]
            if self.transform is not None:
                x = self.transform(x)
            return x

    expected = [ImageOps.invert(image).tobytes() for image, _ in ImageFolder(root)]
    ds = CachedImageFolder(root, transform=ImageOps.invert)
    with ds.cached_ds:
        images = ModeWrapper(ds, "x")
        assert [image.tobytes() for image in images] == expected
        shutil.rmtree(root)
        assert [image.tobytes() for image in images] == expected
        stats = ds.cached_ds.stats()
    assert (stats.source_reads, stats.hits) == (8, 8)
