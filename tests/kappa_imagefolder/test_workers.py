"""An ImageFolder in the workers of a DataLoader."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from kappa_imagefolder import ImageFolder, UnreadableImageError
from kappacore import ModeWrapper
from support.image_trees import make_tree
from support.workers import workers

FILES = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(4)]


@pytest.mark.parametrize("start", ["fork", "forkserver"])
def test_workers_load_the_same_batches(tmp_path, start):
    ds = ImageFolder(make_tree(tmp_path, FILES), decode="tensor")
    loader = DataLoader(ds, batch_size=3, **workers(start))
    images, labels = zip(*loader, strict=True)
    assert torch.equal(torch.cat(images), torch.stack([ds[idx][0] for idx in range(8)]))
    assert torch.cat(labels).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_workers_load_items_through_a_mode(tmp_path):
    ds = ImageFolder(make_tree(tmp_path, FILES))
    mode = ModeWrapper(ds, "path class")
    loader = DataLoader(mode, batch_size=4, num_workers=2, collate_fn=list)
    assert [sample for batch in loader for sample in batch] == ds.samples


def test_the_error_of_a_worker_names_the_image(tmp_path):
    make_tree(tmp_path, FILES)
    (tmp_path / FILES[5]).write_bytes(b"broken")
    loader = DataLoader(ImageFolder(tmp_path, decode="tensor"), num_workers=2)
    with pytest.raises(UnreadableImageError, match=rf"image 5 of class 'dog', '{tmp_path}/dog/1"):
        list(loader)
