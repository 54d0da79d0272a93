"""Objects in plain data: ``{"_target_": "package.attribute", **options}`` becomes what it names."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, MutableSequence
from typing import Any

from kappacore.errors import ConfigError, KappaError
from kappacore.plugins.options import check_options

_TARGET = "_target_"


def instantiate(value: Any, place: str) -> Any:
    """Return ``value`` with every ``_target_`` in it imported and called, innermost first.

    Mappings and lists (Hydra's too) come back as plain dicts and lists, everything else as it is.

    Args:
        value: What a YAML or JSON file gives, or any object.
        place: Where it stands in the config, for messages.

    Raises:
        ConfigError: If a target cannot be imported, called, or has no such option.
    """
    if isinstance(value, Mapping):
        options = {key: instantiate(item, f"{place}.{key}") for key, item in value.items()}
        return _call(options, place) if _TARGET in options else options
    if type(value) is tuple:
        return tuple(instantiate(item, f"{place}[{i}]") for i, item in enumerate(value))
    if isinstance(value, MutableSequence) and not isinstance(value, bytearray):
        return [instantiate(item, f"{place}[{i}]") for i, item in enumerate(value)]
    return value


def _call(options: dict[Any, Any], place: str) -> Any:
    name = options.pop(_TARGET)
    for key in options:
        if not isinstance(key, str) or not key.isidentifier() or key.startswith("_"):
            raise ConfigError(
                f"{place}.{key}: cannot be given to {name}; beside {_TARGET!r} only the names of "
                "its arguments are expected."
            )
    target = _locate(name, f"{place}.{_TARGET}")
    try:
        check_options(str(name), target, options)
        return target(**options)
    except (KappaError, OSError) as error:
        if isinstance(error, KappaError) and len(error.args) == 1:
            error.args = (f"{place}: {error.args[0]}",)
        raise
    except Exception as error:
        raise ConfigError(f"{place}: {name} raised {type(error).__name__}: {error}") from error


def _locate(name: Any, place: str) -> Any:
    """Import ``package.module.attribute``, trying the longest module first."""
    parts = name.replace(":", ".").split(".") if isinstance(name, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ConfigError(
            f"{place}: {name!r} names nothing that can be imported; expected 'package.attribute'."
        )
    for split in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:split])
        try:
            value: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
                continue  # no such module: perhaps it is a class inside a shorter one
            raise ConfigError(f"{place}: importing {module_name} failed: {error}") from error
        except Exception as error:
            raise ConfigError(
                f"{place}: importing {module_name} raised {type(error).__name__}: {error}"
            ) from error
        for part in parts[split:]:
            if not hasattr(value, part):
                raise ConfigError(f"{place}: {module_name} has no {'.'.join(parts[split:])}.")
            value = getattr(value, part)
        if not callable(value):
            raise ConfigError(f"{place}: {name} is {value!r}; expected a class or a function.")
        return value
    raise ConfigError(f"{place}: there is no module {parts[0]!r}; is it installed?")
