"""The recipes run, and their pages show them as they are."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from kappacore import plugins
from support.caching import remove_kept
from support.ranks import run_ranks
from support.recipes import EXAMPLES, run_recipe
from support.warm import run_warm

PAGES = EXAMPLES.parent / "docs" / "recipes"
SHOWN = re.compile(r'^```\w+ title="(examples/[^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a recipe in an empty folder; return what it printed."""
    monkeypatch.chdir(tmp_path)

    def run_here(name, *arguments):
        run_recipe(name, monkeypatch, *arguments)
        return capsys.readouterr().out

    return run_here


# ---- pages


def test_every_recipe_is_shown_as_it_is():
    shown = {}
    for page in PAGES.glob("*.md"):
        for name, code in SHOWN.findall(page.read_text(encoding="utf-8")):
            assert name not in shown, f"{name} is shown twice"
            shown[name] = code
    files = {path for path in EXAMPLES.iterdir() if path.is_file()}
    assert set(shown) == {f"examples/{path.name}" for path in files}
    for path in files:
        assert shown[f"examples/{path.name}"] == path.read_text(encoding="utf-8"), path.name


def test_the_list_of_recipes_names_each_page_once():
    index = (PAGES / "index.md").read_text(encoding="utf-8")
    linked = re.findall(r"^\| \[[^\]]+\]\(([\w-]+\.md)\) \|", index, re.MULTILINE)
    assert sorted(linked) == sorted(
        path.name for path in PAGES.glob("*.md") if path.stem != "index"
    )


def test_recipes_are_short():
    for path in EXAMPLES.glob("*.py"):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        assert len(lines) <= 60, path.name


# ---- in this process


def test_a_tenth_for_debugging(run):
    out = run("debug_subset.py")
    assert "percent_filter: [4 0]\nclasswise_percent: [2 2]\nshuffled before: [2 2]\n" in out
    assert out.endswith("4 of 40 images are cached\n")


def test_a_source_plugin(run):
    try:
        assert re.fullmatch(r"40 \(64, 64\) (cat|dog)\n", run("source_plugin.py"))
        source = plugins.find("source", "table")
        assert source.summary.startswith("The images that a CSV file")
    finally:
        plugins.unregister_source("table")


def test_a_wrapper_plugin(run):
    try:
        assert "Thumbnail(size=16) of 40" in run("wrapper_plugin.py")
    finally:
        plugins.unregister_wrapper("thumbnail")


def test_hydra(run):
    pytest.importorskip("hydra")
    sizes = ("batch_size=4", "data.wrappers.1.transform.transforms.0.size=24", "hydra.run.dir=.")
    quiet = ("hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null")
    out = run("hydra_transforms.py", *sizes, *quiet)
    assert out == "10 batches, the last of shape (4, 24, 24, 3)\n"


def test_a_notebook(run, cache_folder):
    try:
        out = run("notebook.py")
    finally:
        plugins.unregister_wrapper("grey")
        kept = remove_kept(cache_folder)
    assert "40 read from the source; 40 stored" in out
    assert "torch.Size([8, 32, 32, 3])" in out
    assert "\nL\n" in out
    assert kept  # for the next kernel


def test_the_tasks_of_a_slurm_job_stage_once_and_share_the_samples(run, monkeypatch, tmp_path):
    run_recipe("photos.py", monkeypatch)["make_photos"]("global/photos")
    out = ""
    for rank in range(4):
        for name, value in {"PROCID": rank, "STEP_NUM_TASKS": 4}.items():
            monkeypatch.setenv(f"SLURM_{name}", str(value))
        out += run("slurm_staging.py", "global/photos", "local/photos")
    assert re.findall(r"copied|found", out) == ["copied", "found", "found", "found"]
    read = [int(index) for part in re.findall(r"read \[(.*)\]", out) for index in part.split(", ")]
    assert sorted(read) == [*range(40)]


def test_the_job_of_slurm_starts_the_program(tmp_path):
    """With an ``srun`` and a ``scontrol`` that print what they are asked."""
    for name in ("srun", "scontrol"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "n[1-2]", "USER": "me"}
    script = EXAMPLES / "slurm_staging.sbatch"
    done = subprocess.run(["bash", "-u", script], env=env, capture_output=True, text=True)
    assert done.stdout == "srun python slurm_staging.py /global/imagenet /tmp/me/imagenet\n"
    assert done.stderr == ""
    assert Path(EXAMPLES, "slurm_staging.py").exists()


# ---- with processes of their own


@pytest.mark.slow
def test_a_stateful_loader(tmp_path):
    done = run_warm(EXAMPLES / "stateful_loader.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "3 batches were left\n"), done.stderr


@pytest.mark.slow
def test_torchrun(tmp_path):
    ranks = run_ranks(EXAMPLES / "train_torchrun.py", cwd=tmp_path)
    # Once in fifty runs a thread of gloo's lets go of a tensor after Python is gone, and aborts
    # (pytorch#179291); all is over by then, as the output shows.
    for done in ranks:
        aborted = "terminate called without an active exception" in done.stderr
        assert done.returncode == 0 or aborted, done.stdout + done.stderr
    printed = "".join(done.stdout for done in ranks)
    trained = re.findall(r"epoch (\d), rank (\d): (\d+) samples", printed)
    assert sorted(trained) == [(e, r, "20") for e in "01" for r in "01"]
    assert "40 reads of 40 files, by both ranks" in printed
