"""The examples of KappaData's README, with nothing but the names of the packages changed."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

import kappacore


@pytest.fixture
def image_paths(tmp_path):
    """Six images in two folders named after their class."""
    generator = np.random.default_rng(0)
    paths = []
    for label in ("0", "1"):
        (tmp_path / label).mkdir()
        for number in range(3):
            path = tmp_path / label / f"{number}.npy"
            np.save(path, generator.integers(0, 256, (8, 12, 3), dtype=np.uint8))
            paths.append(path)
    return paths


loaded = []


def load_image(path):
    loaded.append(path)
    return np.load(path)


def image_path_to_class_label(path):
    return int(path.parent.name)


class MyRandomCrop(torch.nn.Module):
    size = (4, 4)

    def get_params(self, img):
        height, width = self.size
        i = random.randint(0, img.shape[0] - height)
        j = random.randint(0, img.shape[1] - width)
        return i, j, height, width

    def forward(self, img, ctx=None):
        # make random crop
        i, j, h, w = self.get_params(img)
        cropped = img[i : i + h, j : j + w]
        # store parameters
        if ctx is not None:
            ctx["crop_parameters"] = (i, j, h, w)
        return cropped


def test_modular_datasets(image_paths):
    class ImageClassificationDataset(kappacore.KDDataset):
        def __init__(self, image_paths):
            super().__init__()
            self.image_paths = image_paths

        def __len__(self):
            return len(self.image_paths)

        def getitem_x(self, idx, ctx=None):
            return load_image(self.image_paths[idx])

        def getitem_y(self, idx, ctx=None):
            return image_path_to_class_label(self.image_paths[idx])

    loaded.clear()
    ds = ImageClassificationDataset(image_paths=image_paths)
    labels = []
    for y in kappacore.ModeWrapper(ds, mode="y"):
        labels.append(y)  # noqa: PERF402
    assert labels == [0, 0, 0, 1, 1, 1]
    assert loaded == []


def test_augmentation_parameters(image_paths):
    class ImageClassificationDataset(kappacore.KDDataset):
        def __init__(self, image_paths):
            super().__init__()
            self.image_paths = image_paths
            self.random_resized_crop = MyRandomCrop()

        def __len__(self):
            return len(self.image_paths)

        def getitem_x(self, idx, ctx=None):
            img = load_image(self.image_paths[idx])
            return self.random_resized_crop(img, ctx=ctx)

    ds = ImageClassificationDataset(image_paths=image_paths)
    seen = 0
    for x, ctx in kappacore.ModeWrapper(ds, mode="x", return_ctx=True):
        i, j, h, w = ctx["crop_parameters"]
        assert np.array_equal(x, np.load(image_paths[seen])[i : i + h, j : j + w])
        seen += 1
    assert seen == 6
