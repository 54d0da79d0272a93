"""Whether a worker that starts afresh can import what was registered in this process."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kappacore.errors import BrokenPluginError, KappaError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOVE = (
    "Define it at the top level of a module (a .py file) and register it there, or let the "
    "workers be forked (multiprocessing_context='fork'), which sends nothing."
)


def target_of(value: Any) -> str:
    """Return ``"module:qualified name"`` of an object, or a description of one without a name."""
    name = getattr(value, "__qualname__", None)
    module = getattr(value, "__module__", None)
    if name is None or module is None:
        return f"<{type(value).__qualname__} object>"
    # What the script defines is in __mp_main__ when a worker of a worker looks at it.
    return f"{'__main__' if module == '__mp_main__' else module}:{name}"


def require_importable(what: str, value: Any) -> None:
    """Raise BrokenPluginError if another process cannot import ``value`` by its name."""
    why = _why_not(value)
    if why:
        raise BrokenPluginError(f"{what} cannot be sent to another process: {why}. {_MOVE}")


def _why_not(value: Any) -> str:
    module, _, name = target_of(value).partition(":")
    if not name:
        return f"a {type(value).__qualname__} object has no name that could be imported"
    if name.endswith("<lambda>"):
        return "it is a lambda, which has no name that could be imported"
    if "<locals>" in name:
        return f"{name} is defined inside a function, where no import can reach it"
    if module == "__main__":
        if not _main_is_a_file():
            return (
                f"{name} is defined in an interactive session or a notebook, which workers cannot "
                "import"
            )
        if _main_is_of_a_package():
            return f"{name} is defined in the __main__.py of a package, which workers do not run"
    elif not _can_be_found(module):
        return f"its module {module!r} is not on the import path"
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not value:
        return f"{module}.{name} is now {found!r}, not the object that was registered"
    return ""


def _main_is_a_file() -> bool:
    file = getattr(sys.modules["__main__"], "__file__", None)
    return file is not None and Path(file).is_file()  # a script read from a pipe is "<stdin>"


def _main_is_of_a_package() -> bool:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.endswith("__main__")


def _can_be_found(module: str) -> bool:
    """Ask the import system anew, since a module that is loaded here may have no file."""
    if module in sys.builtin_module_names:
        return True
    package, _, _ = module.rpartition(".")
    path = getattr(sys.modules.get(package), "__path__", None) if package else None
    return any(finder.find_spec(module, path) is not None for finder in sys.meta_path)


def require_picklable(what: str, options: Mapping[str, Any]) -> None:
    """Raise BrokenPluginError that names the first option that another process cannot get."""
    for name, value in options.items():
        try:
            _try_pickle(value)
        except KappaError:  # noqa: PERF203 - a ref among the options has said it already
            raise
        except Exception as error:
            raise BrokenPluginError(
                f"{what} cannot be sent to another process: its option {name!r} is a "
                f"{type(value).__qualname__} that does not pickle ({error}). Give a plain value, "
                "or let the workers be forked (multiprocessing_context='fork')."
            ) from error


def _try_pickle(value: Any) -> None:
    try:
        pickle.dumps(value)
    except KappaError:
        raise
    except Exception:
        from multiprocessing.reduction import ForkingPickler

        ForkingPickler.dumps(value)  # knows what may be sent only while a process is starting
