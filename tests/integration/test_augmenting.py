"""Augmenting whole batches with libraries that draw by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kappacore


class Images(kappacore.KDDataset):
    def __len__(self):
        return 12

    def getitem_x(self, idx):
        return np.full((8, 8, 3), 20 * idx, np.uint8)

    def getitem_class(self, idx):
        return idx % 3


def epoch(transform, **options):
    items = {"x": {"dtype": torch.float32, "layout": "channels_first"}}
    loader = kappacore.Loader(
        Images(), "x class", 4, items=items, transform=transform, return_ctx=True, **options
    )
    return list(loader)


def test_kornias_parameters_come_back_in_the_ctx():
    kornia = pytest.importorskip("kornia.augmentation")
    flip = kornia.RandomHorizontalFlip(p=0.5)

    def augment(batch, draw):
        with draw.seeded():
            x = flip(batch["x"])
        draw.params["kornia"] = dict(flip._params)
        return batch.replace(x=x)

    first, second = epoch(augment), epoch(augment)
    for (batch, ctx), (again, same) in zip(first, second, strict=True):
        assert ctx["kornia"]["batch_prob"].shape == (4,)
        assert torch.equal(ctx["kornia"]["batch_prob"], same["kornia"]["batch_prob"])
        assert torch.equal(batch["x"], again["x"])


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_torchvisions_mixes(name):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    mix = getattr(v2, name)(num_classes=3)

    def augment(batch, draw):
        with draw.seeded():
            return batch.replace(**dict(zip(("x", "class"), mix(*batch), strict=True)))

    first, second = epoch(augment), epoch(augment)
    for (batch, _), (again, _) in zip(first, second, strict=True):
        assert batch["class"].shape == (4, 3)
        torch.testing.assert_close(batch["class"].sum(1), torch.ones(4))
        assert torch.equal(batch["x"], again["x"])
