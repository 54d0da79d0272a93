"""The public API as a type checker sees it: read by mypy, never run."""

from __future__ import annotations

from typing import Any

import kappacore
from kappa_imagefolder import ImageFolder
from kappa_shared import SharedDictDataset


class Squares(kappacore.KDDataset):
    def __len__(self) -> int:
        return 10

    def getitem_x(self, idx: int, ctx: dict[str, Any] | None = None) -> int:
        return idx * idx


def datasets() -> None:
    dataset = kappacore.KDSubset(Squares(), [0, 2])
    both = kappacore.KDConcatDataset([dataset, Squares()])
    random = kappacore.TransformWrapper(both, lambda x: x + 1, item="x")
    samples: kappacore.ModeWrapper = kappacore.ModeWrapper(random, "x index", return_ctx=True)
    length: int = len(samples)
    print(length, samples[0])


def loaders(state: dict[str, Any]) -> None:
    def flip(batch: kappacore.loading.Batch, draw: kappacore.loading.Draw) -> Any:
        flipped = draw.rand() < 0.5
        return batch.replace(x=batch["x"] * flipped)

    with kappacore.Loader(Squares(), "x index", 4, shuffle=True, transform=flip) as loader:
        loader.load_state_dict(state)
        for x, index in loader:
            print(x, index)
        waited: float = loader.stats()[-1].seconds_data
        print(waited)


def wrappers() -> None:
    train, rest = kappacore.train_test_split(Squares(), 0.8, stratified=True, seed=0, label="x")
    for fold, _ in kappacore.k_fold(Squares(), 3, groups=[0, 1] * 5):
        print(kappacore.split(fold, [0.5, 0.5]))
    chosen = kappacore.ClassFilterWrapper(train, valid_classes=[0, "cat"])
    again = kappacore.RepeatWrapper(kappacore.OversamplingWrapper(chosen, "exact"), min_size=100)
    views = kappacore.wrappers.MultiViewWrapper(again, "x", [float, str], seed=0)
    views.set_epoch(1)
    found: kappacore.RepeatWrapper | None = kappacore.find_wrapper(views, kappacore.RepeatWrapper)
    print(found, rest, list(kappacore.iter_wrappers(views)), views.epoch)


def caches() -> kappacore.caching.CacheStats:
    ref: kappacore.plugins.PluginRef = kappacore.backend("shared", max_bytes="1GiB")
    with kappacore.CacheWrapper(Squares(), ref, items=["x"], namespace=kappacore.PRIVATE) as above:
        above.clear()
    with kappacore.CachedDataset([1, 2], "memory", keep=False) as dataset:
        return dataset.stats() - kappacore.caching.CacheStats()


def plugins() -> None:
    @kappacore.register_cache_backend("typed")
    class Typed(kappacore.CacheBackend):
        scope = "process"

        def __init__(self, namespace: str, length: int) -> None:
            self.values: dict[int, bytes] = {}

        def get(self, key: int) -> bytes | None:
            return self.values.get(key)

        def put(self, key: int, value: Any) -> bool:
            self.values[key] = b"".join(value)
            return True

    folder: ImageFolder = ImageFolder("data")
    SharedDictDataset(folder, transform=None).close()
    kappacore.plugins.unregister_cache_backend("typed")
