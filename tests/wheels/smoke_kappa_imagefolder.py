"""The core and kappa-imagefolder: an image folder by name, its files cached while compressed."""

import importlib.util
import tempfile
from pathlib import Path

from PIL import Image

import kappacore

assert importlib.util.find_spec("kappa_shared") is None

with tempfile.TemporaryDirectory() as folder:
    for number, name in enumerate(["cat", "dog"]):
        path = Path(folder, name, "0.png")
        path.parent.mkdir()
        Image.new("RGB", (4, 3), (number, 0, 0)).save(path)
    dataset = kappacore.load_dataset("imagefolder", root=folder)
    dataset = kappacore.wrap(dataset, "cache", items="x", backend="memory")
    for _ in range(2):
        (x, label) = kappacore.ModeWrapper(dataset, "x class")[1]
        assert (x.size, x.getpixel((0, 0)), label) == ((4, 3), (1, 0, 0), 1)
    assert dataset.stats().source_reads == 1
    assert dataset.classes == ["cat", "dog"]
