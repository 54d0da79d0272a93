"""Puts the checked-in fake distributions on the path, for this process or for a child."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kappacore import plugins

if TYPE_CHECKING:
    from collections.abc import Iterator

FAKES = Path(__file__).parents[1] / "kappacore" / "fake_distributions"
_UNREGISTER = {
    "backend": plugins.unregister_cache_backend,
    "wrapper": plugins.unregister_wrapper,
    "source": plugins.unregister_source,
    "device": plugins.unregister_device,
}


def folders(*names: str) -> list[str]:
    """Return the folders of fake distributions, as entries of ``sys.path``."""
    paths = [FAKES / name for name in names]
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(path)
    return [str(path) for path in paths]


@contextlib.contextmanager
def installed(*names: str) -> Iterator[None]:
    """Have fake distributions installed, and nothing registered in code that was not before."""
    before = list(sys.path)
    sys.path[:0] = folders(*names)
    plugins.refresh()
    try:
        yield
    finally:
        sys.path[:] = before
        for name in [name for name in sys.modules if name.startswith("fake_")]:
            del sys.modules[name]
        for info in plugins.all_plugins():
            if not info.distribution:
                _UNREGISTER[info.kind](info.name)
        plugins.refresh()


def run_python(
    *arguments: str,
    fakes: tuple[str, ...] = (),
    path: tuple[Path, ...] = (),
    stdin: str | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a child Python, with fake distributions installed and further paths and environment."""
    paths = [*map(str, path), *folders(*fakes), os.environ.get("PYTHONPATH", "")]
    inherited = {key: text for key, text in os.environ.items() if not key.startswith("KAPPACORE_")}
    return subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env={**inherited, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
        check=False,
        timeout=250,
    )
