"""Hugging Face datasets, below and above kappacore."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from torch.utils.data import DataLoader

import kappacore


@pytest.fixture
def flowers(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    columns = {"x": [[number, number + 1] for number in range(40)], "label": [0, 1] * 20}
    return datasets.Dataset.from_dict(columns)


def test_items_and_labels_are_those_of_the_columns(flowers):
    ds = kappacore.as_kd(flowers, items={"x": "x", "class": "label"}, labels=flowers["label"])
    assert list(kappacore.ModeWrapper(ds, "x class"))[3] == ([3, 4], 1)
    kept = kappacore.ClassFilterWrapper(ds, valid_classes=[1])
    assert [x[0] for x in kappacore.ModeWrapper(kept, "x")] == list(range(1, 40, 2))


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_samples_are_the_datasets(flowers, workers):
    with kappacore.CachedDataset(flowers, "shared", namespace="flowers") as ds:
        for _ in range(2):
            loader = DataLoader(ds, batch_size=7, num_workers=workers, collate_fn=list)
            found = [sample for batch in loader for sample in batch]
            assert found == [flowers[index] for index in range(40)]
        assert ds.stats().hits >= 40


def test_a_mapped_dataset_is_another_one(flowers):
    doubled = flowers.map(lambda row: {"x": np.multiply(row["x"], 2).tolist()})
    with kappacore.CachedDataset(flowers, "shared") as one:
        assert one[5]["x"] == [5, 6]
        with kappacore.CachedDataset(doubled, "shared") as other:
            assert other[5]["x"] == [10, 12]
            assert one[5]["x"] == [5, 6]
