"""Recipes with large neighbours run as they stand."""

from __future__ import annotations

import re

import pytest

from support.recipes import run_recipe

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the neighbours


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a recipe in an empty folder; return what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))

    def run_here(name, *arguments):
        run_recipe(name, monkeypatch, *arguments)
        return capsys.readouterr().out

    return run_here


def test_accelerate_goes_on_in_the_middle_of_an_epoch(run):
    pytest.importorskip("accelerate")
    whole = run("train_accelerate.py", "photos").splitlines()
    assert len(whole) == 20
    assert run("train_accelerate.py", "photos", "state").splitlines() == whole[13:]


def test_hugging_face(run):
    out = run("hugging_face.py")
    assert out.startswith("{(8, 64, 64, 3)} ['cat', 'dog'] 8\n")
    assert "32 read from the source; 32 stored" in out


def test_kornia(run):
    pytest.importorskip("kornia")
    assert re.fullmatch(r"40 images from 0\.\d\d to 1\.00\n", run("kornia_batches.py"))
