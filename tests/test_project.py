"""What contributors and workflows are told to run exists, and versions stand in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    "path", [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *WORKFLOWS], ids=lambda path: path.name
)
def test_every_make_target_exists(path):
    text = path.read_text(encoding="utf-8").replace("${{ matrix.versions }}", "oldest")
    named = re.findall(r"(?:`|run: |\$ )make ([a-z-]+)", text)
    if matrix := re.search(r"target: \[(.*)\]", text):
        named += matrix[1].split(", ")
    assert named
    assert set(named) <= TARGETS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_do_little_and_pin_what_they_use(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])


def test_pythons_of_the_matrix_are_those_that_are_supported():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    pythons = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    oldest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert pythons == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    assert oldest[1] == pythons[0]


def test_the_version_stands_in_one_file():
    projects = [ROOT / "pyproject.toml", *(ROOT / "plugins").glob("*/pyproject.toml")]
    assert len(projects) == 5
    for project in projects:
        text = project.read_text(encoding="utf-8")
        assert 'dynamic = ["version"]' in text
        (path,) = re.findall(r'\[tool\.hatch\.version\]\npath = "(.*?)"', text)
        assert (project.parent / path).resolve() == ROOT / "kappacore" / "__init__.py"
