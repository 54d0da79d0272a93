"""Every Python example in README and docs runs as it stands; the other blocks say what they are."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kappacore.cli import make_parser
from support.images import make_image_folder
from support.warm import run_warm

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "docs/**/*.md", "plugins/*/README.md", "examples/*/README.md")
    for path in ROOT.glob(pattern)
)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^( *)```([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)

GUARD = 'if __name__ == "__main__":'  # of examples that start processes
FORKSERVER = "    import multiprocessing; multiprocessing.set_start_method('forkserver')"


def examples(page: str, guarded: bool = False) -> list[str]:
    found = PYTHON.findall((ROOT / page).read_text(encoding="utf-8"))
    return [example for example in found if (GUARD in example) == guarded]


def test_the_readme_has_examples():
    guarded = examples("README.md", guarded=True)
    assert len(guarded) == 1  # the one that trains
    assert len(examples("README.md") + guarded) >= 5


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_every_block_says_what_it_is_so_that_examples_are_found(page):
    """Blocks with a title show files of examples/: see tests/examples/test_recipes.py."""
    for indent, language, block in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if language == "python":
            assert indent == ""  # as PYTHON has it
        elif language == "console":
            assert block.startswith(("$ ", "> "))  # of a shell, of redis-cli
            for command in re.findall(r"^\$ kappacore (.*)$", block, re.MULTILINE):
                make_parser().parse_args(shlex.split(command, comments=True))
        elif language == "yaml":
            assert yaml.safe_load(block)
        else:
            assert language in ("text", "toml") or " title=" in language


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)])
def test_examples_run(page, tmp_path):
    """Each page in one process, each example with names of its own, in a folder with data/train."""
    make_image_folder(tmp_path / "data" / "train")
    script = tmp_path / "examples.py"
    lines = ["import warnings", "warnings.simplefilter('error', DeprecationWarning)"]
    lines += [f"exec({example!r}, {{'__name__': '__main__'}})" for example in examples(page)]
    script.write_text("\n".join(lines), encoding="utf-8")
    done = run_warm(script, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if examples(page, guarded=True)])
def test_examples_that_start_processes_run_as_files(page, tmp_path):
    """By forkserver, which Python 3.14 takes if nobody chooses: a worker imports the file."""
    make_image_folder(tmp_path / "data" / "train")
    for number, example in enumerate(examples(page, guarded=True)):
        script = tmp_path / f"example_{number}.py"
        lines = example.splitlines()
        at = next(place for place, line in enumerate(lines) if line.startswith(GUARD))
        script.write_text("\n".join([*lines[: at + 1], FORKSERVER, *lines[at + 1 :]]), "utf-8")
        done = subprocess.run(
            [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=250
        )
        assert done.returncode == 0, done.stdout + done.stderr
