"""An image folder and its cache in one."""

from __future__ import annotations

import pickle
import shutil

import pytest
from PIL import ImageOps
from torch.utils.data import DataLoader

from kappa_imagefolder import CachedImageFolder, ImageFolder
from kappacore import ModeWrapper
from kappacore.errors import IndexOutOfRangeError, InvalidOptionError, UnknownOptionError
from support.image_trees import make_tree

FILES = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(3)]


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "data", FILES)


def content(samples):
    return [(image.tobytes(), label) for image, label in samples]


def test_it_gives_the_folders_samples_and_reads_each_file_once(root):
    plain = ImageFolder(root)
    expected = content(plain)
    with CachedImageFolder(root, backend="memory") as ds:
        assert len(ds) == 6
        assert content(ds) == expected
        shutil.rmtree(root)
        assert content(ds) == expected
        assert content([ds[0], ds[-1]]) == [expected[0], expected[-1]]
        assert content(ds.__getitems__([4, 4, 1])) == [expected[i] for i in (4, 4, 1)]
        assert content(ModeWrapper(ds, "x class")) == expected
        assert ds.stats().source_reads == 6
        assert ds.classes == ["cat", "dog"]
        assert ds.targets == plain.targets
        assert ds.samples == plain.samples
        with pytest.raises(IndexOutOfRangeError, match="for CachedImageFolder of 6 samples"):
            ds[6]


@pytest.mark.parametrize("options", [{}, {"decode": "numpy", "form": "decoded"}])
def test_a_transform_comes_after_the_cache_and_can_be_set(root, options):
    calls = []

    def transform(image):
        calls.append(image)
        return len(calls)

    with CachedImageFolder(root, transform, backend="memory", **options) as ds:
        assert [ds[0][0], ds[0][0], ds[1][0]] == [1, 2, 3]
        assert ds.is_random
        assert list(ModeWrapper(ds, "x")) == [4, 5, 6, 7, 8, 9]
        ds.transform = lambda image: "other"
        assert ds[0] == ("other", 0)
        ds.transform = None
        assert type(ds[0][0]) is type(calls[0])
        assert not ds.is_random


def test_a_transform_may_leave_what_it_drew_in_the_ctx(root):
    def crop(image, ctx=None):
        if ctx is not None:
            ctx["crop"] = image.size
        return image

    with CachedImageFolder(root, crop, backend="memory") as ds:
        (_, label), ctx = ModeWrapper(ds, "x class", return_ctx=True)[0]
        assert (label, ctx["crop"]) == (0, (48, 32))


def test_options_go_to_the_folder_and_to_the_cache(root):
    with CachedImageFolder(
        root, backend="memory", decode="numpy", shrink=24, max_bytes="1MB", namespace="six"
    ) as ds:
        assert ds[0][0].shape == (16, 24, 3)
        assert "six" in ds.explain()
    expected = r"no option 'shrik'\. .* The folder takes: root, .*shrink, .*progress\.$"
    with pytest.raises(UnknownOptionError, match=expected):
        CachedImageFolder(root, backend="memory", shrik=3)
    with pytest.raises(InvalidOptionError, match="transform must be a function of one value"):
        CachedImageFolder(root, "crop", backend="memory")


@pytest.mark.slow
def test_workers_share_one_cache(root):
    pytest.importorskip("kappa_shared")
    with CachedImageFolder(root, ImageOps.invert, backend="shared") as ds:
        loader = DataLoader(ds, batch_size=2, num_workers=2, collate_fn=list)
        epochs = [content(sample for batch in loader for sample in batch) for _ in range(2)]
        assert ds.stats().source_reads == 6
        copy = pickle.loads(pickle.dumps(ds))
        assert content(copy) == epochs[0] == epochs[1]
        copy.close()
    plain = [(ImageOps.invert(image).tobytes(), label) for image, label in ImageFolder(root)]
    assert epochs[0] == plain
