"""Every Python example in README and docs runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.images import make_image_folder
from support.warm import run_warm

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "docs/**/*.md", "plugins/*/README.md", "examples/*/README.md")
    for path in ROOT.glob(pattern)
)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(page: str) -> list[str]:
    return PYTHON.findall((ROOT / page).read_text(encoding="utf-8"))


def test_the_readme_has_examples():
    assert len(examples("README.md")) >= 5


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
