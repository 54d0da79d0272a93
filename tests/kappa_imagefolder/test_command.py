"""``python -m kappa_imagefolder``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kappa_imagefolder
from kappa_imagefolder import ImageFolder
from support.image_trees import make_tree
from support.warm import run_warm


def run(*arguments):
    return run_warm(Path(kappa_imagefolder.__file__).with_name("__main__.py"), *arguments)


@pytest.mark.slow
def test_it_makes_the_index_that_opens_the_folder(tmp_path):
    root = make_tree(tmp_path / "data", ["1/a.jpg", "10/b.png", "2/c.jpg"])
    (root / "bare").mkdir()
    done = run("index", root)
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = root.glob(".kappa_imagefolder-*.index")
    assert done.stdout.startswith(f"3 images in 4 classes: {path} ({path.stat().st_size:,} bytes")
    ds = ImageFolder(root, index=True, index_check="trust", allow_empty=True)
    assert ds.index_path == str(path)

    done = run("index", root, "--json", "--output", tmp_path / "x", "--extensions", ".jpg",
               "--class-order", "natural")  # fmt: skip
    about = json.loads(done.stdout)
    assert (about["index"], about["images"], about["classes"]) == (str(tmp_path / "x"), 2, 4)
    ds = ImageFolder(
        root, index=tmp_path / "x", extensions=".jpg", class_order="natural", allow_empty=True
    )
    assert ds.classes == ["1", "2", "10", "bare"]


@pytest.mark.slow
def test_a_name_that_is_not_utf8_can_be_shown(tmp_path, monkeypatch):
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    try:
        make_tree(root, ["1/a.jpg"])
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")  # as in most locales
    command = [sys.executable, "-m", "kappa_imagefolder", "index", root]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"/caf\udce9/.kappa_imagefolder-" in done.stdout


@pytest.mark.slow
def test_what_cannot_be_done_is_reported(tmp_path):
    done = run("index", tmp_path / "missing")
    assert done.returncode == 1
    assert done.stderr.startswith(f"kappa_imagefolder: the image folder '{tmp_path}/missing' does")
    make_tree(tmp_path, ["x/a.jpg"])
    done = run("index", tmp_path, "--output", tmp_path / "no" / "x")
    assert done.returncode == 1
    assert "cannot write an index" in done.stderr
    assert run().returncode == 2
