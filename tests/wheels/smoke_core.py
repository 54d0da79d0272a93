"""The core alone: a dataset, its items, and the cache in memory."""

import importlib.metadata
import importlib.util

import kappacore
from kappacore.cli.new_plugin import contents_of, names_of
from kappacore.errors import UnknownPluginError


class Squares(kappacore.KDDataset):
    reads = 0

    def __len__(self):
        return 10

    def getitem_x(self, idx, ctx=None):
        Squares.reads += 1
        return idx * idx

    def getitem_class(self, idx, ctx=None):
        return idx % 2


assert importlib.util.find_spec("kappa_shared") is None
assert importlib.util.find_spec("kappa_imagefolder") is None
assert importlib.metadata.version("kappacore") == kappacore.__version__

with kappacore.wrap(Squares(), "cache", items="x") as dataset:  # "auto" is memory here
    samples = kappacore.ModeWrapper(dataset, "x class")
    assert Squares.reads == 0  # opening a cache reads no sample
    assert list(samples) == list(samples) == [(i * i, i % 2) for i in range(10)]
    assert dataset.stats().source_reads == 10

try:
    kappacore.backend("shared")
except UnknownPluginError as error:
    assert "pip install kappa-shared" in str(error)
else:
    raise AssertionError("an uninstalled backend was found")

for kind in ("backend", "wrapper", "source", "device"):  # the templates are in the wheel
    assert "pyproject.toml" in contents_of(names_of("kappa-acme", kind), kind)
