"""A subclass that overrides ``__getitem__`` alone is read through it in batches too."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils.data import DataLoader

from kappa_imagefolder import CachedImageFolder, ImageFolder
from kappacore.errors import DatasetChangedError
from support.image_trees import make_tree

FILES = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(3)]


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "data", FILES)


@pytest.mark.parametrize("kind", [ImageFolder, CachedImageFolder])
def test_an_override_of_getitem_alone_is_read_by_a_dataloader(root, kind):
    class Sized(kind):
        def __getitem__(self, index: Any) -> Any:
            image, label = super().__getitem__(index)
            return image.size, label, "own"

    options = {"backend": "memory"} if kind is CachedImageFolder else {}
    dataset = Sized(root, **options)
    wanted = [dataset[idx] for idx in range(len(dataset))]
    assert all(sample[2] == "own" for sample in wanted)
    for _ in range(2):
        loader = DataLoader(dataset, 2, collate_fn=list)
        assert [sample for batch in loader for sample in batch] == wanted
    assert list(dataset) == wanted
    dataset.close()


def test_setting_an_attribute_of_the_folder_sets_it_there(root):
    with CachedImageFolder(root, backend="memory") as dataset:
        dataset.classes = ["other"]
        assert dataset.root_dataset.classes == dataset.classes == ["other"]
        dataset.loader = _path
        assert dataset.root_dataset.loader is _path
        assert dataset.classes == ["other"]
        dataset.transform = _path
        assert dataset.root_dataset.transform is None


def test_a_folder_that_changed_below_its_cache_is_an_error(root):
    class Shorter(ImageFolder):
        cut = 0

        def __len__(self) -> int:
            return super().__len__() - self.cut

    with CachedImageFolder(root, backend="memory") as dataset:
        dataset[0]
        dataset.root_dataset.__class__ = Shorter
        Shorter.cut = 1
        with pytest.raises(DatasetChangedError):
            dataset.getitem_x(0)


def _path(path: Any) -> Any:
    return path
