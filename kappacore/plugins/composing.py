"""Datasets from names: sources, wrappers and modes, in code or from plain data (YAML, JSON, Hydra).

Example::

    dataset = kappacore.build(
        {
            "source": {"use": "imagefolder", "root": "/data/train"},
            "wrappers": [{"use": "cache", "backend": {"use": "shared", "max_bytes": "64GiB"}}],
            "mode": "x class",
        }
    )
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import operator
import re
from collections.abc import Mapping, MutableSequence, Sequence
from typing import TYPE_CHECKING, Any

from kappacore._shown import shown
from kappacore.errors import ConfigError, KappaError
from kappacore.plugins.options import check_options
from kappacore.plugins.plugin_ref import PluginRef
from kappacore.plugins.registry import as_ref, available

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYS = ("source", "wrappers", "mode")
_TARGET = "_target_"


def load_dataset(name: str | Mapping[str, Any] | PluginRef, /, **options: Any) -> Any:
    """Return a source dataset, chosen by name.

    Args:
        name: The name of a source, or ``{"use": name, **options}``.
        **options: The source's options.

    Raises:
        UnknownPluginError: If there is no such source; the message says what to install.
        UnknownOptionError: If the source has no such option.
        BrokenPluginError: If the source cannot be imported or raises, from the cause. Errors of
            kappacore and of the operating system pass unchanged.

    Example::

        dataset = kappacore.load_dataset("imagefolder", root="/data/train")
    """
    if isinstance(name, Mapping):
        name = _instantiate(name, "source")
    return as_ref("source", name, options).open()


def wrap(dataset: Any, name: str | Mapping[str, Any] | PluginRef, /, **options: Any) -> Any:
    """Return ``dataset`` in a wrapper, chosen by name.

    Args:
        dataset: The dataset to wrap.
        name: The name of a wrapper, or ``{"use": name, **options}``.
        **options: The wrapper's options.

    Raises:
        UnknownPluginError: If there is no such wrapper; the message says what to install.
        UnknownOptionError: If the wrapper has no such option.
        BrokenPluginError: If the wrapper cannot be imported or raises, from the cause. Errors of
            kappacore and of the operating system pass unchanged.

    Example::

        dataset = kappacore.wrap(dataset, "cache", items="x", backend="shared")
    """
    if isinstance(name, Mapping):
        name = _instantiate(name, "wrapper")
    return as_ref("wrapper", name, options).open(dataset)


def build(
    config: Mapping[str, Any] | None = None,
    /,
    *,
    source: Any = None,
    wrappers: Sequence[Any] | None = (),
    mode: str | None = None,
) -> Any:
    """Return the dataset that a configuration describes.

    An option ``{"_target_": "package.attribute", ...}``, at any depth, is imported and called with
    the remaining keys. Options that are objects already (from Hydra) are used as they are.

    Args:
        config: ``{"source": ..., "wrappers": [...], "mode": ...}``; or give these as keywords.
        source: The name of a source, ``{"use": name, **options}``, or a dataset.
        wrappers: Names of wrappers or ``{"use": name, **options}``, the innermost first.
        mode: The items of a sample, for :class:`kappacore.ModeWrapper`; without it the dataset is
            returned unwrapped.

    Raises:
        ConfigError: If the configuration is malformed; the message names the key.
        KappaError: If a part cannot be made; the message begins with its key, such as
            ``wrappers[1]`` or ``wrappers[1].valid_classes``.
    """
    if config is not None:
        if source is not None or wrappers or mode is not None:
            raise ConfigError(
                "build() got a config and keywords as well: give source, wrappers and mode either "
                "in the config or as keywords."
            )
        source, wrappers, mode = _read_config(config)
    dataset = _build_source(source)
    for position, wrapper in enumerate(_read_wrappers(wrappers)):
        key = f"wrappers[{position}]"
        choice = _instantiate(wrapper, key)
        with _errors_at(key, choice):
            dataset = as_ref("wrapper", choice).open(dataset)
    if mode is None:
        return dataset
    from kappacore.datasets.mode import ModeWrapper

    with _errors_at("mode"):
        return ModeWrapper(dataset, mode)


def _read_config(config: Any) -> tuple[Any, Any, Any]:
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"config is {shown('', config)}: expected a mapping with the keys {', '.join(_KEYS)}."
        )
    unknown = [key for key in config if key not in _KEYS]
    if unknown:
        raise ConfigError(
            f"{unknown[0]!r} is not a key of a config: expected {', '.join(_KEYS)}. "
            "Options go beside the name they belong to: "
            '{"source": {"use": "imagefolder", "root": ...}}.'
        )
    return config.get("source"), config.get("wrappers"), config.get("mode")


def _build_source(source: Any) -> Any:
    source = _instantiate(source, "source")
    with _errors_at("source", source):
        if source is None:
            raise ConfigError(
                'is missing: expected a name, {"use": name, ...its options} or a dataset. '
                f"There are: {', '.join(available('source')) or 'none'}."
            )
        is_choice = isinstance(source, (str, Mapping, list, tuple, PluginRef))
        if is_choice or not hasattr(type(source), "__getitem__"):
            return as_ref("source", source).open()
        return source


def _read_wrappers(wrappers: Any) -> Sequence[Any]:
    if wrappers is None:
        return ()
    if isinstance(wrappers, (tuple, MutableSequence)):
        return wrappers
    raise ConfigError(
        f"wrappers is {shown('', wrappers)}: expected a list of names or of "
        '{"use": name, ...its options}.'
    )


@contextlib.contextmanager
def _errors_at(key: str, choice: Any = None) -> Iterator[None]:
    """Begin the messages of kappacore's errors with the key in the config.

    A message that begins with the name of an option of ``choice`` gets that option's key.
    """
    try:
        yield
    except KappaError as error:
        if len(error.args) == 1:
            first = re.match(r"\w*", str(error.args[0]))
            if first and isinstance(choice, Mapping) and first[0] in choice:
                key = f"{key}.{first[0]}"
            error.args = (f"{key}: {error.args[0]}",)
        raise


# ---- objects in plain data


def _instantiate(value: Any, key: str) -> Any:
    """Return ``value`` with every ``_target_`` in it imported and called, innermost first.

    Mappings and lists (Hydra's too) are returned as plain dicts and lists, all else unchanged.
    """
    if isinstance(value, Mapping):
        options = {name: _instantiate(item, f"{key}.{name}") for name, item in value.items()}
        return _call(options, key) if _TARGET in options else options
    if type(value) is tuple:
        return tuple(_instantiate(item, f"{key}[{i}]") for i, item in enumerate(value))
    if isinstance(value, MutableSequence) and not isinstance(value, bytearray):
        return [_instantiate(item, f"{key}[{i}]") for i, item in enumerate(value)]
    return value


def _call(options: dict[Any, Any], key: str) -> Any:
    name = options.pop(_TARGET)
    for option in options:
        if not isinstance(option, str) or not option.isidentifier() or option.startswith("_"):
            raise ConfigError(
                f"{key}.{option}: cannot be given to {name}; beside {_TARGET!r} only the names of "
                "its arguments are expected."
            )
    target = _import(name, f"{key}.{_TARGET}")
    with _errors_at(key):
        try:
            check_options(str(name), target, options)
            return target(**options)
        except (KappaError, OSError):
            raise
        except Exception as error:
            raise ConfigError(f"{name} raised {type(error).__name__}: {error}") from error


def _import(name: Any, key: str) -> Any:
    """Import ``package.module.attribute``; `pkgutil.resolve_name` would hide failing imports."""
    parts = name.replace(":", ".").split(".") if isinstance(name, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ConfigError(
            f"{key}: {name!r} names nothing that can be imported; expected 'package.attribute'."
        )
    module_name, *attributes = parts
    try:
        module = importlib.import_module(module_name)
        while len(attributes) > 1 and hasattr(module, "__path__"):
            submodule = f"{module_name}.{attributes[0]}"
            if importlib.util.find_spec(submodule) is None:
                break
            module_name, attributes = submodule, attributes[1:]
            module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == parts[0]:
            raise ConfigError(f"{key}: there is no module {parts[0]!r}; is it installed?") from None
        raise ConfigError(
            f"{key}: importing {module_name} raised {type(error).__name__}: {error}"
        ) from error
    try:
        target = operator.attrgetter(".".join(attributes))(module)
    except AttributeError:
        raise ConfigError(f"{key}: {module_name} has no {'.'.join(attributes)}.") from None
    if not callable(target):
        raise ConfigError(f"{key}: {name} is {target!r}; expected a class or a function.")
    return target
