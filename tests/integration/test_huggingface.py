"""Hugging Face datasets, below and above kappacore."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image, ImageOps
from torch.utils.data import ConcatDataset, DataLoader, Subset

import kappacore
from kappacore.errors import DatasetChangedError, NamespaceMismatchError
from support.caching import remove_kept
from support.warm import run_warm


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


CHANGES = {
    "set_format": lambda flowers: flowers.set_format("numpy"),
    "columns": lambda flowers: flowers.set_format(None, columns=["x"]),
    "set_transform": lambda flowers: flowers.set_transform(lambda batch: {"x": batch["x"]}),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_a_format_set_on_the_dataset_inside_is_an_error_at_the_next_read(flowers, backend, change):
    change = CHANGES[change]
    around = {
        "the dataset": lambda: kappacore.CachedDataset(flowers, backend),
        "a subset": lambda: kappacore.CachedDataset(Subset(flowers, range(20)), backend),
        "concatenated": lambda: kappacore.CachedDataset(ConcatDataset([flowers, [1]]), backend),
        "through it": lambda: kappacore.CachedDataset(flowers, backend),
    }
    for name, make in around.items():
        flowers.reset_format()
        with make() as ds:
            assert ds[1] == ds[1] == {"x": [1, 2], "label": 1}
            change(ds if name == "through it" else flowers)
            reads = [
                lambda ds=ds: ds[1],
                lambda ds=ds: ds[2],
                lambda ds=ds: ds.__getitems__([1, 2]),
                lambda ds=ds: ds.prefill(progress=False),
            ]
            if (name, backend) == ("the dataset", "shared"):
                loader = DataLoader(ds, num_workers=1, collate_fn=list)
                reads.append(lambda loader=loader: next(iter(loader)))
            for read in reads:
                with pytest.raises(DatasetChangedError, match="format of its Dataset changed"):
                    read()
    flowers.reset_format()
    items = kappacore.as_kd(flowers, items={"x": "x", "class": "label"})
    with kappacore.CacheWrapper(items, backend) as ds:
        mode = kappacore.ModeWrapper(ds, "x class")
        assert mode[1] == ([1, 2], 1)
        change(flowers)
        with pytest.raises(DatasetChangedError, match="format of its Dataset changed"):
            mode[1]


# ---- images

SIZE = (9, 6)
FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})


def picture(number, size=SIZE):
    count = size[0] * size[1] * 3
    pixels = bytes((number * 31 + place * 7) % 256 for place in range(count))
    return Image.frombytes("RGB", size, pixels)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    return exif


def picture_files(folder):
    """Write images of several formats and modes, some to be turned; return their paths."""
    folder.mkdir(exist_ok=True)
    images = {
        "a.png": (picture(0), {}),
        "b.jpg": (picture(1), {"exif": turned(), "quality": 95}),
        "c.png": (picture(2).quantize(9), {"transparency": 2}),
        "d.png": (picture(3).convert("L"), {"exif": turned()}),
        "e.tiff": (picture(4), {"dpi": (72.5, 72.5)}),
        "f.jpg": (picture(6).convert("CMYK"), {}),
    }
    for name, (image, options) in images.items():
        image.save(folder / name, **options)
    return [str(folder / name) for name in images]


def behind_paths(folder):
    paths = picture_files(folder)
    columns = {"image": paths, "label": list(range(len(paths)))}
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def in_bytes(folder):
    paths = picture_files(folder)
    values = [{"bytes": Path(path).read_bytes(), "path": None} for path in paths]
    values.append({"bytes": Path(paths[0]).read_bytes(), "path": "gone.png"})
    values.append(None)
    columns = {"image": values, "label": list(range(len(values)))}
    return datasets.Dataset.from_dict(columns, features=FEATURES)


PICTURES = {"bytes": in_bytes, "paths": behind_paths}


@pytest.fixture(params=PICTURES)
def pictures(request, tmp_path):
    """A dataset with a column of images."""
    return PICTURES[request.param](tmp_path / "images")


def assert_same_picture(one, other):
    if other is None:
        assert one is None
        return
    assert (one.mode, one.size) == (other.mode, other.size)
    assert one.tobytes() == other.tobytes()
    assert one.getpalette() == other.getpalette()
    assert one.info.get("transparency") == other.info.get("transparency")
    assert dict(one.getexif()) == dict(other.getexif()) or hasattr(other, "tag_v2")


def as_items(dataset):
    return kappacore.as_kd(dataset, items={"x": "image", "class": "label"})


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_whole_samples_with_images_come_back(pictures, backend):
    with kappacore.CachedDataset(pictures, backend) as ds:
        for _ in range(2):
            for index in range(len(pictures)):
                sample = ds[index]
                assert sample["label"] == index
                assert_same_picture(sample["image"], pictures[index]["image"])
        assert ds.stats().hits >= len(pictures)


@pytest.mark.parametrize("copy", [True, False])
def test_an_image_column_is_cached_as_its_bytes(pictures, copy):
    with kappacore.CacheWrapper(as_items(pictures), "shared", copy=copy) as ds:
        stored = pictures.cast_column("image", datasets.Image(decode=False))
        for _ in range(2):
            for index, (x, label) in enumerate(kappacore.ModeWrapper(ds, "x class")):
                expected = pictures[index]["image"]
                assert label == index
                assert type(x) is type(expected)
                assert_same_picture(x, expected)
                if expected is not None:
                    value = stored[index]["image"]
                    data = value["bytes"] or Path(value["path"]).read_bytes()
                    assert bytes(ds.getraw_x(index)) == data
        assert ds.stats().source_reads == len(pictures)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_decode_the_bytes(pictures, workers):
    with kappacore.CacheWrapper(as_items(pictures), "shared") as ds:
        for _ in range(2):
            loader = DataLoader(
                kappacore.ModeWrapper(ds, "class x"), 3, num_workers=workers, collate_fn=list
            )
            found = [pair for batch in loader for pair in batch]
            assert [label for label, _ in found] == list(range(len(pictures)))
            for label, x in found:
                assert_same_picture(x, pictures[label]["image"])


def test_a_mode_that_the_column_asks_for_is_that_of_the_image(tmp_path):
    gray = behind_paths(tmp_path / "images").cast_column("image", datasets.Image(mode="L"))
    with kappacore.CacheWrapper(as_items(gray), "memory") as ds:
        for _ in range(2):
            for index in range(len(gray)):
                assert ds.getitem_x(index).mode == "L"
                assert_same_picture(ds.getitem_x(index), gray[index]["image"])


def test_a_label_is_read_without_its_image(tmp_path):
    pictures = behind_paths(tmp_path / "images")
    ds = as_items(pictures)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    assert list(kappacore.ModeWrapper(ds, "class")) == list(range(len(pictures)))
    with pytest.raises(FileNotFoundError):
        ds.getraw_x(0)


def invert(batch):
    return {**batch, "image": [ImageOps.invert(image.convert("RGB")) for image in batch["image"]]}


class Upside(datasets.Dataset):
    """A dataset of a class that changes samples."""

    def __getitem__(self, key):
        sample = super().__getitem__(key)
        if isinstance(key, int):
            sample["image"] = ImageOps.flip(sample["image"].convert("RGB"))
        return sample

    __getitems__ = None


def upside(dataset):
    return Upside(dataset.data, info=dataset.info, fingerprint=dataset._fingerprint)


CHANGED = {
    "transform": lambda dataset: dataset.with_transform(invert),
    "map": lambda dataset: dataset.map(invert, batched=True, batch_size=1),
    "subclass": upside,
    "select": lambda dataset: dataset.select([3, 1]),
    "shuffle": lambda dataset: dataset.shuffle(seed=0),
    "undecoded": lambda dataset: dataset.cast_column("image", datasets.Image(decode=False)),
}


@pytest.mark.parametrize("change", CHANGED)
def test_samples_of_a_changed_dataset_are_its_own(folder, change):
    plain = behind_paths(folder)
    changed = CHANGED[change](plain)
    with (
        kappacore.CachedDataset(plain, "shared", keep=True) as before,
        kappacore.CacheWrapper(as_items(plain), "shared", keep=True) as items_before,
    ):
        list(before)
        list(kappacore.ModeWrapper(items_before, "x"))
    for _ in range(2):
        with (
            kappacore.CachedDataset(changed, "shared", keep=True, namespace=f"{change}-s") as ds,
            kappacore.CacheWrapper(
                as_items(changed), "shared", keep=True, namespace=f"{change}-x"
            ) as items,
        ):
            for index in range(len(changed)):
                for image in (ds[index]["image"], items.getitem_x(index)):
                    expected = changed[index]["image"]
                    if isinstance(expected, dict):
                        assert image == expected
                    else:
                        assert_same_picture(image, expected)


@pytest.mark.parametrize("change", [CHANGED["transform"], upside], ids=["transform", "subclass"])
def test_a_changed_dataset_is_never_served_what_was_kept_of_another(folder, change):
    plain = behind_paths(folder)
    with kappacore.CachedDataset(plain, "shared", keep=True) as ds:
        list(ds)
    changed = change(plain)
    try:
        with kappacore.CachedDataset(changed, "shared", keep=True) as ds:
            found = [ds[index]["image"] for index in range(len(changed))]
    except NamespaceMismatchError:
        return
    for index, image in enumerate(found):
        assert_same_picture(image, changed[index]["image"])


@pytest.mark.parametrize("form", ["numpy", "torch", "python"])
def test_formatted_samples_come_back_with_their_types(tmp_path, form):
    paths = picture_files(tmp_path / "images")[:1] * 4
    columns = {"image": paths, "label": [0, 1, 2, 3], "box": [[1.0, 2.0]] * 4}
    features = datasets.Features(
        {**FEATURES, "box": datasets.Sequence(datasets.Value("float32"), length=2)}
    )
    dataset = datasets.Dataset.from_dict(columns, features=features)
    dataset.set_format(form)
    with kappacore.CachedDataset(dataset, "shared", namespace=form) as ds:
        for _ in range(2):
            for index in range(4):
                assert_same_fields(ds[index], dataset[index])
    with kappacore.CacheWrapper(as_items(dataset), "shared", namespace=f"{form}-x") as ds:
        for _ in range(2):
            assert_same_fields({"x": ds.getitem_x(2)}, {"x": dataset[2]["image"]})


def assert_same_fields(one, other):
    assert one.keys() == other.keys()
    for key, value in other.items():
        if isinstance(value, Image.Image):
            assert_same_picture(one[key], value)
        else:
            assert type(one[key]) is type(value)
            assert np.array_equal(one[key], value)


RUN = """
import sys
from pathlib import Path
import datasets, kappacore
from PIL import ImageOps

def transform(batch):
    change = {change}
    return {{**batch, "image": [change(image.convert("RGB")) for image in batch["image"]]}}

features = datasets.Features({{"image": datasets.Image(), "label": datasets.Value("int64")}})
paths = sorted(map(str, Path(sys.argv[1]).glob("*.png")))
columns = {{"image": paths, "label": range(len(paths))}}
dataset = datasets.Dataset.from_dict(columns, features=features)
if {transformed}:
    dataset = dataset.with_transform(transform)

def read(make, get):
    try:
        with make() as cached:
            for index in range(len(dataset)):
                image, expected = get(cached, index), dataset[index]["image"]
                same = (image.mode, image.tobytes()) == (expected.mode, expected.tobytes())
                if not same:
                    return "stale"
            return f"read {{cached.stats().source_reads}}"
    except kappacore.errors.NamespaceMismatchError:
        return "refused"

items = kappacore.as_kd(dataset, items={{"x": "image", "class": "label"}})
print(read(lambda: kappacore.CachedDataset(dataset, "shared", keep=True),
           lambda cached, index: cached[index]["image"]))
print(read(lambda: kappacore.CacheWrapper(items, "shared", keep=True),
           lambda cached, index: cached.getitem_x(index)))
"""


def run(folder, change=None):
    """Return what a run says of whole samples, and of an item, read through kept caches."""
    script = folder.with_name("run.py")
    script.write_text(RUN.format(change=change, transformed=change is not None), encoding="utf-8")
    done = run_warm(script, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def folder(tmp_path, cache_folder):
    """A folder of images; what runs have kept of them is removed afterwards."""
    picture_files(tmp_path / "images")
    yield tmp_path / "images"
    remove_kept(cache_folder)


def test_a_second_run_reads_no_image_again(folder):
    run(folder)
    assert run(folder) == ["read 0", "read 0"]


def test_a_second_run_notices_that_the_files_behind_the_paths_are_others(folder):
    run(folder)
    for number, path in enumerate(folder.glob("*.png")):
        picture(100 + number).save(path)
    assert set(run(folder)) <= {"refused", "read 3"}


def test_a_second_run_notices_that_a_transform_was_edited(folder):
    run(folder, "ImageOps.invert")
    assert set(run(folder, "ImageOps.flip")) <= {"refused", "read 3"}
