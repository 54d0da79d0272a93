"""Public names that are imported on first use (PEP 562).

A package lists its public names once, in its stub (``__init__.pyi``), where type checkers read
them. At run time the same lines tell where each name is defined::

    from .caching.datasets import CachedDataset as CachedDataset
"""

from __future__ import annotations

import functools
import importlib
import sys

TYPE_CHECKING = False  # importing typing would take longer than all the rest of kappacore
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def lazy_names(module: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a module whose names are in its stub.

    Args:
        module: The module's ``__name__``.
    """

    def load(name: str) -> Any:
        homes = stub_names(module)
        if name == "__all__":
            return sorted(name for name, home in homes.items() if home != module)
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if home == module:
            return importlib.import_module(f"{module}.{name}")
        value = getattr(importlib.import_module(home), name)
        setattr(sys.modules[module], name, value)
        return value

    return load, lambda: sorted({*vars(sys.modules[module]), *stub_names(module)})


@functools.cache
def stub_names(module: str) -> dict[str, str]:
    """Return the public names in a module's stub, each with the module that defines it.

    Submodules (``from . import errors as errors``) have the package itself.
    """
    import ast
    import pkgutil

    loaded = importlib.import_module(module)
    package = loaded.__package__ or ""
    stub = (loaded.__file__ or "").replace("\\", "/").rpartition("/")[2] + "i"
    names: dict[str, str] = {}
    for line in ast.parse(pkgutil.get_data(package, stub) or b"").body:
        if isinstance(line, ast.ImportFrom):
            home = package if line.module is None else f"{package}.{line.module}"
            names |= {alias.name: home for alias in line.names}
    return names
