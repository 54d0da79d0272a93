"""Image columns of Hugging Face datasets, read as compressed bytes."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class ImageColumn:
    """One image column, as it is stored: the bytes of image files.

    Args:
        dataset: A ``datasets.Dataset``.
        key: The name of the column.
        feature: The column's ``datasets.Image``.
    """

    def __init__(self, dataset: Any, key: str, feature: Any):
        self._key = key
        self._feature = feature
        undecoded = type(feature)(mode=feature.mode, decode=False)
        self._stored = dataset.select_columns([key]).cast_column(key, undecoded)

    def read(self, indices: Sequence[int]) -> list[bytes | None]:
        """Return the bytes of images, those of files behind paths too; None where there is none."""
        return [self._bytes_of(value) for value in self._stored[list(indices)][self._key]]

    def decode(self, data: bytes | memoryview | None) -> Any:
        """Return the image that the dataset makes of the bytes: EXIF orientation, mode and all."""
        if data is None:
            return None
        return self._feature.decode_example({"bytes": bytes(data), "path": None})

    def _bytes_of(self, value: dict[str, Any] | None) -> bytes | None:
        if value is None:
            return None
        data, path = value["bytes"], value["path"]
        if data is not None:
            return bytes(data)
        if path is None:
            self._feature.decode_example(value)  # raises: there is no image
        if "://" not in path:
            return Path(path).read_bytes()
        xopen = import_module("datasets.utils.file_utils").xopen
        with xopen(path, "rb") as file:
            return bytes(file.read())


class ImageColumns:
    """The image columns of a dataset that decodes them and changes samples in no other way.

    Args:
        dataset: A ``datasets.Dataset``.
        features: The ``datasets.Image`` of each image column.
    """

    def __init__(self, dataset: Any, features: dict[str, Any]):
        self.fingerprint = dataset._fingerprint
        self.columns = {key: ImageColumn(dataset, key, value) for key, value in features.items()}
        #: the dataset without them, for reading a label and no image
        self.others = dataset.remove_columns(list(features))


def find_image_columns(dataset: Any, known: ImageColumns | None) -> ImageColumns | None:
    """Return the image columns of a Hugging Face dataset; None for any other dataset.

    Args:
        dataset: Any dataset.
        known: What was found before; it is used again unless the dataset has changed.
    """
    library = sys.modules.get("datasets.arrow_dataset")  # many projects have a "datasets" as well
    # Not a subclass, which may change samples; not a format, which returns other types.
    if library is None or type(dataset) is not library.Dataset:
        return None
    if known is not None and known.fingerprint == dataset._fingerprint:
        return known
    if dataset.format["type"] is not None or set(dataset.format["columns"]) != {*dataset.features}:
        return None
    kind = import_module("datasets").Image
    features = {
        key: feature
        for key, feature in dataset.features.items()
        if type(feature) is kind and feature.decode
    }
    return ImageColumns(dataset, features) if features else None
