"""Objects by name: what a worker process that starts afresh can import, and what it cannot."""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path
from typing import Any


def name_of(value: Any) -> str:
    """Return ``"module:qualified.name"`` of an object, or a description if it has no name.

    The main script is always ``__main__``, also in spawned workers, which know it as
    ``__mp_main__``.
    """
    name = getattr(value, "__qualname__", None)
    module = getattr(value, "__module__", None)
    if name is None or module is None:
        return f"<{type(value).__qualname__} object>"
    return f"{'__main__' if module == '__mp_main__' else module}:{name}"


def resolve(name: str) -> Any:
    """Return the object that ``"module:qualified.name"`` names, or None if there is none."""
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError):  # ValueError: not a name, as of a local class
        return None


def why_not_importable(value: Any) -> str:
    """Return why another process cannot import ``value`` by its name, or an empty string."""
    module, _, name = name_of(value).partition(":")
    if not name:
        return f"a {type(value).__qualname__} object has no name that could be imported"
    if name.endswith("<lambda>"):
        return "it is a lambda, which has no name that could be imported"
    if "<locals>" in name:
        return f"{name} is defined inside a function, where no import can reach it"
    if module == "__main__":
        main = sys.modules["__main__"]
        file = getattr(main, "__file__", None)
        if file is None or not Path(file).is_file():  # of a script read from a pipe: "<stdin>"
            return (
                f"{name} is defined in an interactive session or a notebook, which workers cannot "
                "import"
            )
        if main.__spec__ is not None and main.__spec__.name.endswith("__main__"):
            return f"{name} is defined in the __main__.py of a package, which workers do not run"
    elif not _can_be_found(module):
        return f"its module {module!r} is not on the import path"
    found = resolve(f"{module}:{name}")
    if found is not value:
        return f"{module}.{name} is now {found!r}, not the object that was registered"
    return ""


def _can_be_found(module: str) -> bool:
    """Ask the import system again: a module that is loaded here may have no file."""
    if module in sys.builtin_module_names:
        return True
    package, _, _ = module.rpartition(".")
    path = getattr(sys.modules.get(package), "__path__", None) if package else None
    return any(finder.find_spec(module, path) is not None for finder in sys.meta_path)
