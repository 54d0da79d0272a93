"""Hugging Face datasets: a column of images, cached as its compressed bytes."""

import sys

import datasets
from photos import make_photos

import kappacore


def main(root: str = "photos") -> None:
    """Read a dataset of the library in batches."""
    paths = sorted(make_photos(root).glob("*/*.jpg"))
    columns = {"image": list(map(str, paths)), "label": [path.parent.name for path in paths]}
    flowers = datasets.Dataset.from_dict(columns)  # or load_dataset("food101", split="train")
    flowers = flowers.cast_column("image", datasets.Image()).class_encode_column("label")

    # Columns become items. Labels are read as a whole column, without an image.
    ds = kappacore.as_kd(flowers, {"x": "image", "class": "label"}, labels=flowers["label"])
    train, test = kappacore.train_test_split(ds, 0.8, stratified=True, seed=0)

    # The library's fingerprint names the content: a mapped or filtered dataset is another one.
    with kappacore.wrap(train, "cache", items="x", backend="shared") as train:
        for _ in range(2):
            with kappacore.Loader(train, "x class", 8, shuffle=True) as loader:
                shapes = {tuple(x.shape) for x, _ in loader}
        print(shapes, flowers.features["label"].names, len(test))
        print(train.stats())


if __name__ == "__main__":
    main(*sys.argv[1:])
