"""Running the recipes in ``examples/`` as their users do, in a folder of their own."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

__all__ = ["EXAMPLES", "run_recipe"]

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_recipe(
    name: str, monkeypatch: pytest.MonkeyPatch, *arguments: object, as_main: bool = True
) -> dict[str, Any]:
    """Run a file of ``examples/`` in this process; return its names.

    Args:
        name: The file's name.
        monkeypatch: Takes back what a program finds when it starts.
        *arguments: Those of the command line.
        as_main: False: only define the names.
    """
    script = EXAMPLES / name
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
    monkeypatch.syspath_prepend(EXAMPLES)
    return runpy.run_path(str(script), run_name="__main__" if as_main else script.stem)
